"""`embcli align`."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from embcli.commands._mapping import MapName, NewCollection, Storage
from embcli.commands._mapping import apply as apply_map
from embcli.errors import UsageError
from embcli.options import (
    COLLECTION,
    COMMON,
    DB,
    CollectionName,
    Db,
    Out,
    OutputFormat,
    Quiet,
    Where,
    complete_collection,
    complete_map,
    example,
)
from embcli.output import Column, Output, SkippedLog, plain

PANEL = "Work"
ORDER = 17
EXAMPLE = "embcli align fit --source hashed --target default --name upgrade"
FITTING = "Fitting"
COMPATIBILITY = "Backward compatibility"

METHOD = Column("method", "method")
VALUE = Column("value", "value", right=True)
SCORES = (
    Column("retrieval", "retrieval"),
    Column("P@1", "P@1", right=True),
    Column("P@5", "P@5", right=True),
    Column("P@10", "P@10", right=True),
    Column("MRR", "MRR", right=True),
    Column("sources", "n", right=True),
)


def short(value: float | None) -> str:
    """Show a figure with three digits: many columns have to fit."""
    return "" if value is None else f"{value:.3f}"


COMPATIBLE = (
    Column("retrieval", "by", width=4),
    Column("measure", "measure", width=10),
    Column("new_to_old", "new→old", right=True, show=short),
    Column("old_to_old", "old→old", right=True, show=short),
    Column("new_to_new", "new→new", right=True, show=short),
    Column("update_gain", "gain", right=True, show=short),
    Column("outcomes", "+/=/−", right=True),
    Column("p_sign", "p", right=True, show="{:.1g}".format),
)
LOSERS = (
    Column("query_id", "query"),
    Column("new_to_old", "new→old", right=True),
    Column("old_to_old", "old→old", right=True),
    Column("difference", "diff.", right=True),
    Column("query", "text", share=3),
)
DISTANCES = (
    Column("measure", "measure"),
    Column("value", "value", right=True),
    Column("meaning", "what it says", wrap=True),
    Column("records", "n", right=True, show="{:,}".format),
)

app = typer.Typer(
    help="Fit maps between the spaces of two collections, measure them, apply them.",
    epilog=example(EXAMPLE),
    no_args_is_help=True,
)


def complete_method() -> list[str]:
    """Offer the methods there are."""
    from embcli.core.alignment import METHODS

    return ["auto", *METHODS]


def complete_named_method() -> list[str]:
    """Offer the methods that have a name."""
    return complete_method()[1:]


Source = Annotated[
    str,
    typer.Option(
        "--source",
        "-s",
        help="The collection whose vectors are mapped: queries, or what is to be upgraded.",
        autocompletion=complete_collection,
    ),
]
Target = Annotated[
    str,
    typer.Option(
        "--target",
        "-t",
        help="The collection to whose space they are mapped.",
        autocompletion=complete_collection,
    ),
]
Pairs = Annotated[
    str,
    typer.Option(
        "--pairs",
        "-p",
        metavar="FILE|ids|texts|none",
        help="What belongs together: a file with a source and a target a line, by id or text, "
        "divided by a tab or as in MUSE's dictionaries by a space; the ids or the texts that both "
        "collections have; or nothing, for methods that need no pairs.",
    ),
]
DbB = Annotated[Path | None, typer.Option("--db-b", help="The store of the target, if another.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything drawn at random.")]
Holdout = Annotated[
    float,
    typer.Option(
        "--holdout",
        min=0,
        help="Share of the sources that is kept aside to measure with (2,000 at most; of fewer "
        "than 500, up to five shares in turn).",
    ),
]
Refine = Annotated[
    Literal["mutual", "self-learning"] | None,
    typer.Option(
        "--refine",
        help="With the map find more pairs and fit again, round by round: pairs that are mutual "
        "nearest by CSLS (MUSE), or drawn with growing certainty (VecMap).",
        rich_help_panel=FITTING,
    ),
]
Rounds = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        min=1,
        help="Most rounds of --refine; by default as many as help.",
        rich_help_panel=FITTING,
    ),
]
Robust = Annotated[
    bool,
    typer.Option(
        "--robust", help="Find wrong pairs and fit without them.", rich_help_panel=FITTING
    ),
]
Select = Annotated[
    int | None,
    typer.Option(
        "--select",
        min=1,
        help="Fit to so many sources only, chosen to cover them all; see embcli align select.",
        rich_help_panel=FITTING,
    ),
]


@app.command(epilog=example(EXAMPLE))
def fit(
    source: Source,
    target: Target,
    name: Annotated[str, typer.Option("--name", "-n", help="What to call the map.")],
    pairs: Pairs = "ids",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-M",
            help="How to fit; 'embcli align methods' lists them. By default the one of several "
            "that does best on held-out pairs.",
            autocompletion=complete_method,
            rich_help_panel=FITTING,
        ),
    ] = "auto",
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-O",
            metavar="NAME=VALUE",
            help="Tell the method; may be given several times.",
            rich_help_panel=FITTING,
        ),
    ] = None,
    refine: Refine = None,
    rounds: Rounds = None,
    robust: Robust = False,
    select: Select = None,
    holdout: Holdout = 0.1,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a map of that name.")] = False,
    db: Db = DB,
    db_b: DbB = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Fit a map between the spaces of two collections, and keep it in the store.

    A row per method tried and way of retrieving (nearest neighbour, CSLS): how well sources that
    were held out find their targets among all. The map that is kept is fitted to all pairs.
    """
    from embcli.pipelines.align import fit as fit_map
    from embcli.pipelines.align_plan import Plan

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    plan = Plan(
        method=method,
        options=_options(option),
        refine=refine,
        rounds=rounds,
        robust=robust,
        select=select,
        holdout=holdout,
        seed=seed,
    )
    with output.progress("methods tried") as advance:
        fitted = fit_map(
            source,
            target,
            name,
            plan,
            pairs=pairs,
            db=db,
            db_b=db_b,
            replace=force,
            note=output.note,
            on_problem=skipped,
            advance=advance,
        )
    skipped.close()
    if output.format == "ids":
        output.rows([{"name": name}], (), id="name")
    else:
        output.rows(fitted.rows, (METHOD, *SCORES), id="method")
    kept = fitted.map
    sides = "both sides are mapped" if kept.two_sided else f"into the space of {target!r}"
    output.summary(f"map {name!r} by {kept.method}: {source!r} → {target!r}, {sides}")
    raise typer.Exit(skipped.exit_code)


@app.command(epilog=example("embcli align compare -s hashed -t default -M procrustes -M cca"))
def compare(
    source: Source,
    target: Target,
    pairs: Pairs = "ids",
    test: Annotated[
        str | None,
        typer.Option(
            "--test",
            metavar="FILE|ids|texts",
            help="Measure with these pairs; by default a share of --pairs is held out.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-M",
            help="Only these; may be given several times.",
            autocompletion=complete_named_method,
            rich_help_panel=FITTING,
        ),
    ] = None,
    refine: Refine = None,
    rounds: Rounds = None,
    robust: Robust = False,
    select: Select = None,
    holdout: Holdout = 0.1,
    seed: Seed = 0,
    db: Db = DB,
    db_b: DbB = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Fit by several methods to the same pairs, and measure them with the same sources.

    A row per method and way of retrieving, as 'embcli align fit' shows; "none" compares vectors as
    they are. Nothing is kept. With many components, structure and mlp take minutes.
    """
    from embcli.pipelines.align import compare as compare_methods
    from embcli.pipelines.align_plan import Plan

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    plan = Plan(
        refine=refine, rounds=rounds, robust=robust, select=select, holdout=holdout, seed=seed
    )
    with output.progress("methods tried") as advance:
        rows = compare_methods(
            source,
            target,
            method or (),
            plan,
            pairs=pairs,
            test=test,
            db=db,
            db_b=db_b,
            note=output.note,
            on_problem=skipped,
            advance=advance,
        )
    skipped.close()
    columns = (METHOD, *SCORES, Column("seconds", "s", right=True))
    output.rows(rows, columns, id="method")
    raise typer.Exit(skipped.exit_code)


@app.command("eval", epilog=example("embcli align eval upgrade --pairs ids"))
def eval_(
    name: Annotated[str, typer.Argument(metavar="MAP", help="A map.", autocompletion=complete_map)],
    pairs: Pairs = "ids",
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            "-s",
            help="A collection in the space of the map's source; by default the one it was "
            "fitted to.",
            autocompletion=complete_collection,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            help="The same for its target. All its records are candidates.",
            autocompletion=complete_collection,
        ),
    ] = None,
    geometry: Annotated[
        bool, typer.Option("--geometry", help="Show what the map does to angles and hubs instead.")
    ] = False,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="Queries that the new model encodes, to search the old one's collection with.",
            rich_help_panel=COMPATIBILITY,
        ),
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(
            "--qrels",
            metavar="FILE",
            help="Judgments of what is relevant to them, as BEIR or TREC have them.",
            rich_help_panel=COMPATIBILITY,
        ),
    ] = None,
    old: Annotated[
        str | None,
        typer.Option(
            "--old",
            help="The old model's collection; by default the map's target.",
            autocompletion=complete_collection,
            rich_help_panel=COMPATIBILITY,
        ),
    ] = None,
    new: Annotated[
        str | None,
        typer.Option(
            "--new",
            help="The same records encoded by the new model, for what that would give.",
            autocompletion=complete_collection,
            rich_help_panel=COMPATIBILITY,
        ),
    ] = None,
    losers: Annotated[
        int | None,
        typer.Option(
            "--losers",
            metavar="N",
            min=1,
            help="Show the N queries that lose most by nDCG@10 instead.",
            rich_help_panel=COMPATIBILITY,
        ),
    ] = None,
    db: Db = DB,
    db_b: DbB = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Measure a map by pairs: how well sources find their targets among all.

    A row per way of retrieving: nearest neighbour (nn), inverted softmax at the temperature that
    suits the pairs fitted to (isf), CSLS with ten neighbours (csls). Any target that a source is
    paired with counts; P@k is the share of sources that find one among the k best, MRR the mean of
    1/rank of the best. Sources and targets that the collections do not have are left out, and
    counted.

    With --geometry, rather how far the map is from a rotation, how much it changes cosines within
    the source, and how uneven neighbours are (hubness: skewness of k-occurrences, share of vectors
    that are nobody's neighbour).

    With --queries and --qrels, how well queries of a new model find records in the collection of
    an old one, against both models by themselves: whether the map makes them backward compatible
    (no worse than old queries), how much of the gain of encoding anew it gives, queries won and
    lost with the p-value of the sign test.
    """
    from embcli.pipelines.align_eval import evaluate, evaluate_compatibility

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    if (queries is None) != (qrels is None):
        raise UsageError("--queries and --qrels go together")
    if queries is not None and (geometry or source or target or pairs != "ids"):
        raise UsageError("--queries: collections are named by --old and --new; no --pairs")
    if queries is not None and qrels is not None:
        report = evaluate_compatibility(
            name,
            old,
            queries=queries,
            judgments=qrels,
            new=new,
            db=db,
            db_new=db_b,
            note=output.note,
            on_problem=skipped,
        )
        skipped.close()
        if losers is not None:
            output.rows(report.losers(losers), LOSERS, id="query_id")
        else:
            rows = report.rows()
            if output.format == "table":
                counts = ("wins", "ties", "losses")
                rows = [
                    {**row, "outcomes": "/".join(str(row[key]) for key in counts)} for row in rows
                ]
            output.rows(rows, COMPATIBLE, id="measure")
            verdict = "is" if report.compatible else "is not"
            output.summary(f"the new model {verdict} backward compatible through {name!r}")
        raise typer.Exit(skipped.exit_code)
    if old or new or losers:
        raise UsageError("--old, --new and --losers need --queries and --qrels")
    rows = evaluate(
        name,
        pairs,
        source=source,
        target=target,
        geometry=geometry,
        db=db,
        db_b=db_b,
        note=output.note,
        on_problem=skipped,
    )
    skipped.close()
    if geometry:
        output.rows(rows, (Column("measure", "measure"), VALUE), id="measure")
    else:
        output.rows(rows, SCORES, id="retrieval")
    raise typer.Exit(skipped.exit_code)


@app.command(epilog=example("embcli align select -c default -k 100"))
def select(
    top: Annotated[
        int,
        typer.Option(
            "--top", "-k", min=1, help="How many records to choose.", rich_help_panel=COMMON
        ),
    ] = 100,
    seed: Seed = 0,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Choose which records to find partners for, where pairs are yet to be made.

    Those that cover the collection: every record is near to one that is chosen. The first are
    the most worth.
    """
    from embcli.pipelines.align import choose

    output = Output(format, out, quiet)
    rows = choose(collection, top, seed=seed, db=db, note=output.note)
    columns = Column("rank", "#", right=True), Column("id", "id"), Column("text", "text", share=3)
    output.rows(rows, columns)


@app.command(epilog=example("embcli align apply upgrade -c hashed --to upgraded"))
def apply(
    name: MapName,
    to: NewCollection,
    where: Where = None,
    storage: Storage = None,
    side: Annotated[
        Literal["source", "target"] | None,
        typer.Option(
            help="Which side of the map to apply, where both are in the space of one model, as "
            "texts of two languages; by default the source's, unless the map was fitted to this "
            "collection as its target."
        ),
    ] = None,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Write what a map makes of a collection into a new one.

    Texts, metadata and chunks are copied. An application that was interrupted is completed by the
    same command, which also brings in what has changed since; what is there is passed over, and
    what was deleted from the source stays.
    """
    # Before NumPy is imported: a second thread would take CPU time and save none.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    apply_map(
        name,
        collection,
        to,
        db,
        format,
        out,
        quiet,
        where=where,
        storage=storage,
        side=side,
    )


@app.command(epilog=example("embcli align distance default hashed"))
def distance(
    a: Annotated[
        str,
        typer.Argument(metavar="A", help="A collection.", autocompletion=complete_collection),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="Another one, with records of the same ids.",
            autocompletion=complete_collection,
        ),
    ],
    measure: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            help="cka, cka-debiased, rsa, rsa-pearson, neighbours, eigenvectors or "
            "gromov-wasserstein; may be given several times. By default all of them.",
        ),
    ] = None,
    neighbours: Annotated[
        int,
        typer.Option("--neighbours", metavar="K", min=1, help="How many nearest to look at."),
    ] = 10,
    sample: Annotated[
        int,
        typer.Option(
            "--sample",
            metavar="N",
            min=5,
            max=10_000,
            help="Of more records than this, measures that compare each with every other get so "
            "many; Gromov–Wasserstein gets 500 at most, CKA gets all.",
        ),
    ] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the sample.")] = 0,
    db: Db = DB,
    db_b: Annotated[
        Path | None, typer.Option("--db-b", help="The store of B, if it is another.")
    ] = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Tell how alike two spaces are, by the records that both collections have.

    No map is fitted, and dimensions may differ: what is compared is how the same records lie to
    each other.
    """
    from embcli.pipelines.align_distance import align_distance

    output = Output(format, out, quiet)
    with output.progress("measures") as advance:
        figures = align_distance(
            a,
            b,
            measures=measure or (),
            neighbours=neighbours,
            sample=sample,
            seed=seed,
            db=db,
            db_b=db_b,
            note=output.note,
            advance=advance,
        )
    output.rows(map(asdict, figures), DISTANCES, id="measure")


@app.command(epilog=example("embcli align methods"))
def methods(format: OutputFormat = None, out: Out = None, quiet: Quiet = False) -> None:
    """List the methods of fitting, and what --option can tell them."""
    from embcli.core.alignment import METHODS

    rows: list[dict[str, Any]] = [
        {
            "method": method.name,
            "summary": method.summary,
            "pairs": method.paired,
            "options": {key: value for key, value in method.options.items() if key != "seed"},
        }
        for method in METHODS.values()
    ]
    output = Output(format, out, quiet)
    if output.format == "table":
        for row in rows:
            row["options"] = ", ".join(f"{k}={plain(v)}" for k, v in row["options"].items())
    columns = (
        METHOD,
        Column("summary", "what it is", wrap=True, share=2),
        Column("pairs", "pairs"),
        Column("options", "options", wrap=True, share=2),
    )
    output.rows(rows, columns, id="method")


def _options(given: list[str] | None) -> dict[str, str]:
    parsed = {}
    for item in given or ():
        name, mark, value = item.partition("=")
        if not (mark and name and value):
            raise UsageError(f"--option {item}: expected NAME=VALUE")
        parsed[name] = value
    return parsed
