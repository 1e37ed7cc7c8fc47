"""`embcli search`."""

import os
from functools import partial
from typing import Annotated, Any

import typer

from embcli.config import DEFAULT_DB, names_server
from embcli.errors import NothingFoundError, UsageError
from embcli.options import (
    COLLECTION,
    COMPOSING,
    MODEL,
    RANKING,
    Alpha,
    CollectionName,
    DbOrUrl,
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
    Top,
    TrustRemoteCode,
    Via,
    Where,
)
from embcli.output import Column, Output, pairs, plain, shortened, whole

PANEL = "Work"
ORDER = 11
EXAMPLE = 'embcli search "vaccine against smallpox" -k 3'
COLUMNS = (
    Column("rank", "#", right=True, show=str),
    Column("score", "score", right=True),
    Column("id", "id", width=28),
    Column("text", "text", share=1),
)
RELEVANCE = Column("relevance", "relevance", right=True, show="{:.2f}".format)


def place(source: str, explanation: dict[str, Any]) -> str:
    """Show where a hit stands by one way: 0.5213 (3)."""
    rank, score = (explanation[source][key] for key in ("rank", "score"))
    return "" if score is None else f"{plain(score)} ({'–' if rank is None else rank})"


def matches(explanation: dict[str, Any]) -> str:
    """Show what each token of the query has found: cat → cats 0.83, sat → sits 0.71."""
    return ", ".join(
        f"{plain(row['token'])} → {plain(row['match'])} {row['cosine']:.2f}"
        for row in explanation["dense"]["tokens"]
    )


def command(
    query: Annotated[
        str | None,
        typer.Argument(help="What to look for; - reads a query per line from standard input."),
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="ID", help="Look for records like this one.")
    ] = None,
    like_file: Annotated[
        str | None,
        typer.Option(
            "--like-file", metavar="FILE", help="Look for records like this picture or text."
        ),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="Many queries at once: a JSON Lines file with _id or id and text, or a text "
            "file with a query per line; - for standard input.",
        ),
    ] = None,
    top: Top = 10,
    threshold: Annotated[
        float | None, typer.Option("--threshold", "-t", help="Least cosine.")
    ] = None,
    where: Where = None,
    exact: Exact = None,
    plus: Annotated[
        list[str] | None,
        typer.Option(
            "--plus",
            metavar="TEXT",
            help="Add this to the query: a text, @ID of a record or @FILE, with a weight after a "
            "colon if it is not 1, as in 'at night:0.5'. May be given several times.",
            rich_help_panel=COMPOSING,
        ),
    ] = None,
    minus: Annotated[
        list[str] | None,
        typer.Option(
            "--minus",
            metavar="TEXT",
            help="Take this away from the query, likewise.",
            rich_help_panel=COMPOSING,
        ),
    ] = None,
    direction: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--direction",
            metavar="FROM TO",
            help="Move the query as far as it is from one text to another; a weight goes behind "
            "the second.",
            rich_help_panel=COMPOSING,
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--given",
            metavar="TEXT",
            help="Compare only in the respect in which examples differ: texts, @ID, or @FILE with "
            "one a line. Give several, best a dozen.",
            rich_help_panel=COMPOSING,
        ),
    ] = None,
    lexical: Lexical = False,
    hybrid: Hybrid = False,
    fusion: Fusion = None,
    alpha: Alpha = None,
    prf: Prf = None,
    mmr: Mmr = None,
    relevant: Relevant = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Show where each hit stands by each way.", rich_help_panel=RANKING
        ),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Show whole texts and metadata in the table.")
    ] = False,
    width: Annotated[
        int | None,
        typer.Option("--width", min=1, help="Cut texts in the table to this many characters."),
    ] = None,
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
    db: DbOrUrl = DEFAULT_DB,
    collection: CollectionName = COLLECTION,
    model: Model = None,
    device: Device = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Find the records nearest in meaning to a query.

    The scores are cosines and ties go by id. The results are exact; in large collections they may
    come through compact codes, see embcli compress, unless --exact insists. Filters work inside the
    search: the best K of the records that pass are found, not those of the best K that pass.

    With --via the collection is searched by another model, through a map between the two: embcli
    align fit makes them. --like then names a record of a collection at the other end.

    With the URL of a server as --db, what was pushed there is searched, through the server's index
    unless --exact insists.

    With --lexical scores are BM25, with --hybrid a weighted mean of both, and --threshold is not
    for them. --mmr and --relevant choose among the 100 best, or twice K, and leave the scores as
    they are.
    """
    if sum(option is not None for option in (query, like, like_file, queries)) != 1:
        raise UsageError("give one of QUERY, --like ID, --like-file FILE and --queries FILE")
    if queries is None:
        # Before NumPy is imported: products this small only lose by being shared among threads.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from embcli.pipelines.queries import QueryOptions
    from embcli.pipelines.search import read_queries, search

    asked: dict[str, Any] = {
        "lexical": lexical, "hybrid": hybrid, "fusion": fusion, "alpha": alpha, "prf": prf,
        "mmr": mmr, "explain": explain, "relevant": relevant,
    }  # fmt: skip
    ranking = None
    if any(value is not None and value is not False for value in asked.values()):
        from embcli.pipelines.ranking import Ranking

        ranking = Ranking.of(**asked)
    composition = None
    if plus or minus or direction or given:
        from embcli.pipelines.composition import Composition

        composition = Composition(
            plus=tuple(plus or ()),
            minus=tuple(minus or ()),
            direction=direction,
            given=tuple(given or ()),
        )
    output = Output(format, out, quiet)
    source = "-" if query == "-" else queries
    named = read_queries(source) if source is not None else None
    common: dict[str, Any] = {
        "like": like, "like_file": like_file, "collection": collection, "note": output.note,
        "k": top, "threshold": threshold, "where": where, "exact": exact,
        "options": QueryOptions(
            model=model,
            device=device,
            prompt=prompt,
            prompt_name=prompt_name,
            trust_remote_code=trust_remote_code,
            cache=not no_cache,
            via=tuple(via or ()),
        ),
    }  # fmt: skip
    texts = query if named is None else [text for _, text in named]
    if names_server(db):
        from embcli.pipelines.server_search import check_asked, search_server

        composing = {"plus": plus, "minus": minus, "direction": direction, "given": given}
        only_here = asked | composing | {"via": via, "coded": exact is False}
        check_asked({f"--{name}": value for name, value in only_here.items()})
        results = search_server(texts, url=db, **common)
    else:
        results = search(texts, db=db, ranking=ranking, composition=composition, **common)
    columns = list(COLUMNS)
    if full:
        columns[3:] = [
            Column("text", "text", share=3, wrap=True, show=whole),
            Column("meta", "metadata", share=1, wrap=True, show=pairs),
        ]
    elif width is not None:
        columns[3] = Column("text", "text", show=lambda text: shortened(plain(text), width))
    if named is None:
        rows = [hit.row() for hit in results[0]]
    else:
        columns.insert(0, Column("query_id", "query"))
        rows = [
            {"query_id": id, "query": text, **hit.row()}
            for (id, text), hits in zip(named, results, strict=True)
            for hit in hits
        ]
    if relevant:
        columns.insert(columns.index(COLUMNS[1]) + 1, RELEVANCE)
    if explain and rows:
        at = columns.index(COLUMNS[1]) + 1
        columns[at:at] = [
            Column("explain", source, right=True, show=partial(place, source))
            for source in rows[0]["explain"]
        ]
        if "tokens" in rows[0]["explain"].get("dense", {}):
            columns.append(Column("explain", "matches", share=1, wrap=True, show=matches))
    if output.format == "table" and not full:
        rows = [{**row, "text": row["chunk"]["text"]} if "chunk" in row else row for row in rows]
    output.rows(rows, columns)
    if not rows:
        where_to = "on the server" if names_server(db) else f"in collection {collection!r}"
        raise NothingFoundError(f"nothing found {where_to}")
