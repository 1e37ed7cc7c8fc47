"""`embcli debias`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embcli.commands._mapping import MEASURED, MapName, NewCollection, Storage, short
from embcli.commands._mapping import apply as apply_map
from embcli.errors import UsageError
from embcli.options import (
    COLLECTION,
    DB,
    CollectionName,
    Db,
    Out,
    OutputFormat,
    Quiet,
    Where,
    complete_collection,
    example,
)
from embcli.output import Column, Output, SkippedLog

if TYPE_CHECKING:
    from embcli.formats.bias_spec import BiasSpec

PANEL = "Work"
ORDER = 18
EXAMPLE = "embcli debias measure --spec gender"
WORDS = "Words"
KEPT = "What was kept"


FIGURES = (
    Column("measure", "measure"),
    Column("set", "of", wrap=True, share=2),
    Column("value", "value", right=True, show=short),
    Column("p_value", "p", right=True, show=lambda value: "" if value is None else f"{value:.2g}"),
    Column("meaning", "what it says", wrap=True, share=3),
)
LEANINGS = (
    Column("word", "word", share=1),
    Column("group", "side"),
    Column("projection", "projection", right=True, show=short),
    Column("neutral", "neutral"),
    Column("cosine", "cosine", right=True, show=short),
    Column("indirect_bias", "indirect bias", right=True, show=short),
)
CHANGES = (
    Column("measure", "measure"),
    Column("set", "of", wrap=True, share=1),
    Column("before", "before", right=True, show=short),
    Column("after", "after", right=True, show=short),
    Column("verdict", "verdict", wrap=True, share=1),
)
app = typer.Typer(
    help="Measure bias in a space, take it out, and show what changed.",
    epilog=example(EXAMPLE),
    no_args_is_help=True,
)


def complete_method() -> list[str]:
    """Offer the methods there are."""
    from embcli.pipelines.debias_plan import METHODS

    return list(METHODS)


def complete_measure() -> list[str]:
    """Offer the measures there are."""
    from embcli.pipelines.debias_subject import MEASURES

    return list(MEASURES)


def complete_spec() -> list[str]:
    """Offer the specs that are built in."""
    from embcli.formats.bias_spec import specs

    return list(specs())


Spec = Annotated[
    str | None,
    typer.Option(
        "--spec",
        "-s",
        metavar="NAME|FILE.json",
        help="The words that tell what the bias is: built in ('embcli debias specs' lists them), "
        "or a file of your own.",
        autocompletion=complete_spec,
    ),
]
PairsFile = Annotated[
    str | None,
    typer.Option(
        "--pairs",
        "-p",
        metavar="FILE",
        help="Definitional pairs instead, one a line, divided by a tab; the first words are one "
        "group.",
    ),
]
Template = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="TEXT",
        help="Encode words within a sentence, {} standing for the word (SEAT); several times for "
        "several sentences.",
        rich_help_panel=WORDS,
    ),
]
IgnoreCase = Annotated[
    bool,
    typer.Option(
        "--ignore-case",
        "-i",
        help="Where no word is written as in the spec, take the first that differs in case only.",
        rich_help_panel=WORDS,
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="Where words are encoded, as PyTorch names it: cpu, cuda, mps."),
]
Components = Annotated[
    int, typer.Option("--components", min=1, help="Dimensions of the bias subspace.")
]
Measure = Annotated[
    list[str] | None,
    typer.Option(
        "--measure",
        "-M",
        help="Only these: subspace, ripa, weat, mac, rnsb, rnd, lipstick; several times for "
        "several.",
        autocompletion=complete_measure,
    ),
]
Strictness = Annotated[
    float, typer.Option("--strictness", min=0, help="The exponent c of direct bias.")
]
Ddof = Annotated[
    int,
    typer.Option(
        "--ddof",
        min=0,
        max=1,
        help="Of the standard deviation in WEAT's effect size: 1 as Caliskan et al. printed them, "
        "0 as WEFE gives them.",
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        "--samples",
        min=1,
        help="Partitions drawn, without replacement, for WEAT's p-value where there are too many "
        "to count them all.",
    ),
]
Biased = Annotated[
    int,
    typer.Option(
        "--biased",
        min=1,
        help="The most biased records of each side that a classifier is to tell apart.",
    ),
]
Restrict = Annotated[
    int | None,
    typer.Option(
        "--restrict",
        min=2,
        help="Take them from so many records only, the first ones.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything drawn at random.")]


def read_bias(spec: str | None, pairs: str | None, skipped: SkippedLog) -> "BiasSpec":
    """Read the words that say what the bias is.

    Raises
    ------
    UsageError
        Both a spec and a file of pairs are given.
    InputError
    """
    from embcli.formats.bias_spec import read_pairs_spec, read_spec

    if pairs is None:
        return read_spec(spec or "gender")
    if spec is not None:
        raise UsageError("give either --spec or --pairs")
    found, problems = read_pairs_spec(pairs)
    for problem in problems:
        skipped(problem)
    return found


def in_short(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave the components behind the first to the other formats."""
    return [row for row in rows if row["measure"] != "explained variance" or row["set"] == "PC1"]


@app.command("measure", epilog=example(EXAMPLE))
def measure(
    collection: CollectionName = COLLECTION,
    spec: Spec = None,
    pairs: PairsFile = None,
    measures: Measure = None,
    components: Components = 1,
    strictness: Strictness = 1.0,
    ddof: Ddof = 1,
    samples: Samples = 100_000,
    biased: Biased = 2500,
    restrict: Restrict = None,
    seed: Seed = 0,
    template: Template = None,
    ignore_case: IgnoreCase = False,
    device: Device = None,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Measure the bias of a space by every published measure that the words allow.

    Words are looked up by id where vectors of words were imported, and encoded by the collection's
    model where it has one. Of --spec gender unless another is given:

    the variance that definitional pairs have along each principal component, direct and indirect
    bias of word lists (Bolukbasi et al. 2016), RIPA, WEAT with exact p-values where partitions can
    be counted, MAC, RNSB and RND; and whether the most biased records can still be told apart by
    clusters, classifiers and neighbours (Gonen & Goldberg 2019), which shows bias that a projection
    hides rather than removes. A table shows the first component alone; other formats have all, and
    how many words each figure is made of.
    """
    from embcli.pipelines.debias_measure import measure as measure_bias
    from embcli.pipelines.debias_subject import Settings, Way
    from embcli.pipelines.queries import QueryOptions

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    figures = measure_bias(
        read_bias(spec, pairs, skipped),
        Settings(
            tuple(measures or ()), components, strictness, ddof, samples, biased, restrict, seed
        ),
        Way(tuple(template or ()), ignore_case, QueryOptions(device=device)),
        collection=collection,
        db=db,
        note=output.note,
    )
    skipped.close()
    rows = [figure.row() for figure in figures]
    if output.format == "table":  # narrower than all of it
        rows = [row | {"meaning": f"{row['meaning']} ({row['detail']})"} for row in in_short(rows)]
    output.rows(rows, FIGURES, id="measure")
    raise typer.Exit(skipped.exit_code)


@app.command("words", epilog=example("embcli debias words --spec gender -k 5"))
def words(
    collection: CollectionName = COLLECTION,
    spec: Spec = None,
    pairs: PairsFile = None,
    list_: Annotated[
        str | None,
        typer.Option(
            "--list",
            "-l",
            help="A list of the spec, by default its first one; or 'records', the collection's "
            "own.",
        ),
    ] = None,
    k: Annotated[
        int, typer.Option("--top", "-k", min=1, help="How many words of either side.")
    ] = 10,
    all_: Annotated[bool, typer.Option("--all", "-a", help="All of them.")] = False,
    other: Annotated[
        str | None,
        typer.Option(
            "--with", metavar="WORD", help="Show how similar they are to it, and indirect bias."
        ),
    ] = None,
    template: Template = None,
    ignore_case: IgnoreCase = False,
    device: Device = None,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Show which words lie farthest on either side of a bias direction.

    A projection is the cosine with the direction. Indirect bias (Bolukbasi et al. 2016) is the
    share of the similarity of two words that is due to the direction.
    """
    from embcli.pipelines.debias_extremes import extremes
    from embcli.pipelines.debias_subject import Way
    from embcli.pipelines.queries import QueryOptions

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    found = extremes(
        read_bias(spec, pairs, skipped),
        list_,
        None if all_ else k,
        other=other,
        way=Way(tuple(template or ()), ignore_case, QueryOptions(device=device)),
        collection=collection,
        db=db,
        note=output.note,
    )
    skipped.close()
    columns = LEANINGS if other is not None else LEANINGS[:4]
    output.rows((leaning.row() for leaning in found), columns, id="word")
    raise typer.Exit(skipped.exit_code)


@app.command(epilog=example("embcli debias fit --name fair --spec gender"))
def fit(
    name: Annotated[str, typer.Option("--name", "-n", help="What to call the map.")],
    collection: CollectionName = COLLECTION,
    spec: Spec = None,
    pairs: PairsFile = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            "-l",
            metavar="FIELD",
            help="A field of the metadata: vectors shall not tell its values apart.",
        ),
    ] = None,
    away: Annotated[
        list[str] | None,
        typer.Option(
            "--away",
            metavar="TEXT",
            help="Project onto the complement of what these texts span; several times for several.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-M",
            help="'embcli debias methods' lists them. By default hard with words, leace with "
            "--label, projection with --away.",
            autocompletion=complete_method,
        ),
    ] = None,
    components: Components = 1,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength", min=0, help="The λ of soft, 0.2 by default: higher takes more out."
        ),
    ] = None,
    directions: Annotated[
        int | None,
        typer.Option(
            "--directions",
            min=1,
            help="Most directions that inlp takes out; by default until held-out accuracy is at "
            "chance.",
        ),
    ] = None,
    biased: Annotated[
        int,
        typer.Option(
            "--biased",
            min=1,
            help="With words, inlp and leace take so many of the most biased records of each "
            "side for two classes.",
        ),
    ] = 2500,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a map of that name.")] = False,
    ignore_case: IgnoreCase = False,
    device: Device = None,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Fit a map that takes a bias or an attribute out of a space, and keep it in the store.

    Say what to take out by words (--spec gender, or --pairs), by a field of the records' metadata
    (--label), or by texts (--away). Nothing changes until 'embcli debias apply' writes a new
    collection, or 'embcli search --via' takes the map. Shown is what was measured before and after:
    direct bias along the former subspace, the accuracy of a linear probe on records that were held
    out, and how much vectors change. 'embcli debias report' shows what that leaves.
    """
    from embcli.pipelines.debias_fit import fit as fit_map
    from embcli.pipelines.debias_plan import Plan
    from embcli.pipelines.queries import QueryOptions

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    by_words = spec is not None or pairs is not None
    plan = Plan(
        method,
        read_bias(spec, pairs, skipped) if by_words else None,
        label,
        tuple(away or ()),
        components,
        strength,
        directions,
        biased,
        seed,
    )
    fitted = fit_map(
        collection,
        name,
        plan,
        db=db,
        ignore_case=ignore_case,
        options=QueryOptions(device=device),
        replace=force,
        note=output.note,
    )
    skipped.close()
    if output.format == "ids":
        output.rows([{"name": name}], (), id="name")
    else:
        output.rows(fitted.rows, MEASURED, id="measure")
    output.summary(
        f"map {name!r} by {fitted.map.method}; to use it: embcli debias apply {name} -c "
        f"{collection} --to NEW"
    )
    raise typer.Exit(skipped.exit_code)


@app.command(epilog=example("embcli debias apply fair --to unbiased"))
def apply(
    name: MapName,
    to: NewCollection,
    collection: CollectionName = COLLECTION,
    where: Where = None,
    storage: Storage = None,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Write what a map makes of a collection into a new one; the original stays as it is.

    Texts, metadata, sources and chunks are copied. The same command completes a run that was
    interrupted. Queries of the new collection are encoded, and mapped as its records were.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from embcli.pipelines.debias_fit import check_debiasing

    check_debiasing(name, db)
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
        command="debias apply",
    )


@app.command(epilog=example("embcli debias report default unbiased --figure bias.png"))
def report(
    before: Annotated[
        str, typer.Argument(help="A collection.", autocompletion=complete_collection)
    ],
    after: Annotated[
        str,
        typer.Argument(
            help="Another one with the same ids: what was made of it.",
            autocompletion=complete_collection,
        ),
    ],
    spec: Spec = None,
    pairs: PairsFile = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure",
            metavar="FILE",
            help="Draw the spec's first list along the bias direction, before and after: .png, "
            ".svg or .pdf.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a figure that is there.")] = False,
    word_set: Annotated[
        list[Path] | None,
        typer.Option(
            "--word-set",
            metavar="FILE",
            help="Analogies or similarities of words, as 'embcli eval words' takes; several times "
            "for several.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            "-l",
            metavar="FIELD",
            help="A field of the metadata whose values a linear probe is to tell apart.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries", metavar="FILE", help="Queries to search both with.", rich_help_panel=KEPT
        ),
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(
            "--qrels",
            metavar="FILE",
            help="Judgments of what is relevant to them, as BEIR or TREC have them.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Compare the neighbours of so many records, drawn at random; by default of all.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    measures: Measure = None,
    components: Components = 1,
    strictness: Strictness = 1.0,
    ddof: Ddof = 1,
    samples: Samples = 100_000,
    biased: Biased = 2500,
    restrict: Restrict = None,
    seed: Seed = 0,
    template: Template = None,
    ignore_case: IgnoreCase = False,
    device: Device = None,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Measure two collections side by side: what is left of a bias, and what else was lost.

    Every measure of 'embcli debias measure' on both. The subspace is found anew in either, and
    direct bias is also measured along the former one; classifiers and clusters are asked for the
    records that were most biased before, those held out of fitting; without --spec, the words or
    the label that the map was fitted to decide. Then what was kept: the ten nearest neighbours of
    every record, and what --word-set, --label, --queries and --qrels ask for.
    """
    from embcli.pipelines.debias_report import report as report_on
    from embcli.pipelines.debias_subject import Settings, Way
    from embcli.pipelines.queries import QueryOptions

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    with output.progress("records compared") as advance:
        found = report_on(
            before,
            after,
            read_bias(spec, pairs, skipped) if spec or pairs else None,
            Settings(
                tuple(measures or ()), components, strictness, ddof, samples, biased, restrict, seed
            ),
            Way(tuple(template or ()), ignore_case, QueryOptions(device=device)),
            figure=figure,
            force=force,
            kept={
                "words": word_set or (),
                "label": label,
                "queries": queries,
                "judgments": qrels,
                "sample": sample,
            },
            db=db,
            note=output.note,
            problem=skipped,
            advance=advance,
        )
    skipped.close()
    rows = [change.row() for change in found.changes]
    output.rows(in_short(rows) if output.format == "table" else rows, CHANGES, id="measure")
    if found.verdict:
        output.summary(found.verdict)
    raise typer.Exit(skipped.exit_code)


@app.command(epilog=example("embcli debias methods"))
def methods(
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """List the ways to take a bias out, with what each takes it from."""
    from embcli.pipelines.debias_plan import METHODS

    rows = [
        {"name": method.name, "summary": method.summary, "takes": ", ".join(method.takes)}
        for method in METHODS.values()
    ]
    columns = (
        Column("name", "method"),
        Column("takes", "takes"),
        Column("summary", "how", wrap=True),
    )
    Output(format, out, quiet).rows(rows, columns, id="name")


@app.command(epilog=example("embcli debias specs"))
def specs(
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """List the built-in lists of words that tell what a bias is."""
    from embcli.formats.bias_spec import specs as built_in

    rows = [{"name": name, "words": summary} for name, summary in built_in().items()]
    columns = (Column("name", "spec"), Column("words", "what is in it", wrap=True))
    Output(format, out, quiet).rows(rows, columns, id="name")
