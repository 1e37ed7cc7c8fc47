"""`embcli eval`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from embcli.options import (
    COLLECTION,
    COMMON,
    DB,
    MODEL,
    Alpha,
    CollectionName,
    Db,
    Device,
    Exact,
    Fusion,
    Hybrid,
    Lexical,
    Mmr,
    Model,
    Out,
    OutputFormat,
    Prf,
    Prompt,
    PromptName,
    Quiet,
    Relevant,
    TrustRemoteCode,
    Via,
    Where,
    complete_collection,
    example,
)
from embcli.output import Column, Output, SkippedLog, plain

PANEL = "Work"
ORDER = 13
EXAMPLE = "embcli eval retrieval examples/beir"
RUNS = "Runs and their comparison"


def small(value: float | None) -> str:
    """Show a p-value: 0.012, 3e-07."""
    return "" if value is None else f"{value:.2g}"


COLUMNS = (
    Column("measure", "measure"),
    Column("value", "mean", right=True),
    Column("queries", "n", right=True),
)
COMPARED = (
    Column("against", "other", right=True),
    Column("difference", "diff.", right=True),
    Column("outcomes", "+/=/−", right=True),
    Column("p_t", "p (t)", right=True, show=small),
    Column("p_randomization", "p (rand.)", right=True, show=small),
)
WORDS = (
    Column("set", "set", width=19),
    Column("section", "section", width=28),
    Column("measure", "measure"),
    Column("value", "value", right=True),
    Column("covered", "n", right=True, show=str),
    Column("missing", "left out", right=True, show=str),
)

app = typer.Typer(
    help="Measure how good results are.", epilog=example(EXAMPLE), no_args_is_help=True
)


@app.command(epilog=example(EXAMPLE))
def retrieval(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="BEIR_DIR",
            help="A folder in BEIR's layout: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv.",
        ),
    ],
    split: Annotated[str, typer.Option(help="Which judgments: those in qrels/SPLIT.tsv.")] = "test",
    qrels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Judgments in another file, as BEIR or TREC have them."),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="A measure as ir-measures writes it, such as Success@5 or P(rel=2)@10; may be "
            "given several times. By default nDCG@10, AP@100, RR@10, R@100 and P@10.",
        ),
    ] = None,
    per_query: Annotated[
        bool, typer.Option("--per-query", help="Show every query's figures before the means.")
    ] = False,
    ignore_identical_ids: Annotated[
        bool,
        typer.Option(
            "--ignore-identical-ids",
            help="Leave out the document whose id is that of the query, as is usual for sets whose "
            "queries are documents (ArguAna, Quora).",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first line that cannot be read.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write what was found as a TREC run.", rich_help_panel=RUNS
        ),
    ] = None,
    from_run: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Evaluate this TREC run; search nothing.", rich_help_panel=RUNS
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Compare with this TREC run: differences and whether they are significant, by "
            "paired t-test and randomization test.",
            rich_help_panel=RUNS,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the randomization test.", rich_help_panel=RUNS)
    ] = 0,
    threshold: Annotated[
        float | None, typer.Option("--threshold", "-t", help="Least cosine.")
    ] = None,
    where: Where = None,
    exact: Exact = None,
    lexical: Lexical = False,
    hybrid: Hybrid = False,
    fusion: Fusion = None,
    alpha: Alpha = None,
    prf: Prf = None,
    mmr: Mmr = None,
    relevant: Relevant = False,
    prompt: Prompt = None,
    prompt_name: PromptName = None,
    trust_remote_code: TrustRemoteCode = False,
    via: Via = None,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Neither look queries up in the store nor keep them there.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            "-k",
            min=1,
            help="How many results per query; by default 100, or as many as the measures look at.",
            rich_help_panel=COMMON,
        ),
    ] = None,
    db: Db = DB,
    collection: Annotated[
        str | None,
        typer.Option(
            "--collection",
            "-c",
            help="The collection to search; by default it has the name of the folder. The corpus "
            "is encoded into it if it does not exist, or if a model is named.",
            autocompletion=complete_collection,
            rich_help_panel=COMMON,
        ),
    ] = None,
    model: Model = None,
    device: Device = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Measure a search by queries whose relevant documents are known.

    A row per measure: its mean over all queries with judgments; finding nothing counts as 0.

    The corpus is encoded first, unless a collection is there already.
    """
    from embcli.pipelines.encode import Listeners
    from embcli.pipelines.evaluate import MEASURES, evaluate_retrieval
    from embcli.pipelines.queries import QueryOptions
    from embcli.pipelines.ranking import Ranking

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    # What `search` takes and has nothing to do with the queries, the model and the collection.
    ranking = Ranking.of(
        lexical=lexical,
        hybrid=hybrid,
        fusion=fusion,
        alpha=alpha,
        prf=prf,
        mmr=mmr,
        relevant=relevant,
    )
    searching = {"threshold": threshold, "where": where, "exact": exact, "ranking": ranking}
    with output.progress("records") as advance:
        figures = evaluate_retrieval(
            folder,
            split=split,
            judgments=qrels,
            measures=measure or MEASURES,
            k=top,
            db=db,
            collection=collection,
            options=QueryOptions(
                model=model,
                device=device,
                prompt=prompt,
                prompt_name=prompt_name,
                trust_remote_code=trust_remote_code,
                cache=not no_cache,
                via=tuple(via or ()),
            ),
            searching=searching,
            ignore_identical_ids=ignore_identical_ids,
            run=run,
            from_run=from_run,
            against=against,
            seed=seed,
            strict=strict,
            listeners=Listeners(output.note, skipped, advance),
        )
    skipped.close()
    columns = list(COLUMNS)
    rows = [figure.row() for figure in figures]
    if against is not None:
        columns += COMPARED
        counts = sorted({row["permutations"] for row in rows})
        of = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
        output.note(f"randomization tests of {of} permutations, seed {seed}")
    if per_query:
        columns.insert(0, Column("query_id", "query"))
        rows = [row for figure in figures for row in figure.rows_per_query()]
    if output.format == "table" and against is not None:
        outcomes = ("wins", "ties", "losses")
        rows = [{**row, "outcomes": "/".join(plain(row[key]) for key in outcomes)} for row in rows]
    output.rows(rows, columns, id="query_id" if per_query else "measure")
    raise typer.Exit(skipped.exit_code)


@app.command(epilog=example("embcli eval words examples/pairs.tsv"))
def words(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Analogies as in questions-words.txt, or tables of a word, another word and how "
            "similar they are, as WordSim-353 and SimLex-999.",
        ),
    ],
    method: Annotated[
        Literal["3cosadd", "3cosmul", "both"],
        typer.Option("--method", help="How to answer analogies; see embcli analogy."),
    ] = "3cosadd",
    restrict: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Use only so many words, the first ones; by default all of them, and each may "
            "be the answer.",
        ),
    ] = None,
    ignore_case: Annotated[
        bool,
        typer.Option(
            "--ignore-case",
            "-i",
            help="Words that differ in case only are one, with the vector of the first.",
        ),
    ] = False,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Measure vectors of words by analogies, and by how similar people find words.

    Questions and pairs with a word that the collection does not have are left out, and counted.
    Words are found by id. For similarities, Spearman's correlation with the cosines.
    """
    from embcli.core.analogy import METHODS
    from embcli.pipelines.evaluate_words import evaluate_words

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    figures = evaluate_words(
        files,
        db=db,
        collection=collection,
        methods=METHODS if method == "both" else (method,),
        restrict=restrict,
        ignore_case=ignore_case,
        problem=skipped,
        note=output.note,
    )
    skipped.close()
    output.rows((figure.row() for figure in figures), WORDS, id="set")
    raise typer.Exit(skipped.exit_code)
