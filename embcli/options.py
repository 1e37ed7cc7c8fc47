"""Options shared by several commands, declared once."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from embcli.config import DB_VARIABLE, DEFAULT_COLLECTION, DEFAULT_DB, names_server
from embcli.errors import UsageError

# A letter alone is a drive.
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)

COMMON = "Common options"
READING = "Reading the input"
MODEL = "The model"
RANKING = "Ranking"
COMPOSING = "Composing the query"


class Format(StrEnum):
    """How results are written."""

    table = "table"
    json = "json"
    ndjson = "ndjson"
    csv = "csv"
    tsv = "tsv"
    ids = "ids"


def example(line: str) -> str:
    """Format the example that ends a command's help."""
    return f"Example:  [bold]{line.replace('[', chr(92) + '[')}[/bold]"


def complete_collection(ctx: Any) -> list[str]:
    """Offer the collections of the store named on the command line so far."""
    from embcli.errors import EmbcliError
    from embcli.store import Store

    try:
        with Store(ctx.params.get("db") or DEFAULT_DB, readonly=True) as store:
            return [info.name for info in store.collections()]
    except EmbcliError:
        return []


def complete_map(ctx: Any) -> list[str]:
    """Offer the maps of the store named on the command line so far."""
    from embcli.errors import EmbcliError
    from embcli.store import Store

    try:
        with Store(ctx.params.get("db") or DEFAULT_DB, readonly=True) as store:
            return [ends.name for ends in store.maps.ends()]
    except EmbcliError:
        return []


def complete_model() -> list[str]:
    """Offer the models there are."""
    from embcli.encoders import MODELS
    from embcli.encoders.model_files import cached_models

    return [*MODELS, *(name for name, _ in cached_models())]


def complete_vector_format() -> list[str]:
    """Offer the formats of files of vectors that can be written."""
    from embcli.formats.vectors import WRITERS

    return [*WRITERS]


def _is_file(db: Path) -> Path:
    """Refuse what is on a server, where a store is needed."""
    _is_known(str(db))
    if names_server(db):
        given = os.environ.get(DB_VARIABLE) == str(db) or names_server(os.environ.get(DB_VARIABLE))
        raise UsageError(
            f"a store is needed here, and {DB_VARIABLE if given else '--db'} names a server",
            hint="--db FILE; embcli pull URL -c NAME --db FILE puts a collection into a store",
        )
    return db


def _is_known(db: str) -> str:
    """Refuse URLs of what is neither a store nor a server that there is an adapter for."""
    if _URL.match(db) and not names_server(db):
        from embcli.servers import without_password

        raise UsageError(
            f"{without_password(db)}: this is no store, and no server that embcli knows",
            hint="postgresql://... or milvus://..., or the path of a file",
        )
    return db


Db = Annotated[
    Path,
    typer.Option(
        "--db", "-d",
        readable=False,  # the store itself says what is wrong with a file
        help="The store, an SQLite file.",
        envvar=DB_VARIABLE,
        callback=_is_file,
        rich_help_panel=COMMON,
    ),
]  # fmt: skip
DB = Path(DEFAULT_DB)

DbOrUrl = Annotated[
    str,
    typer.Option(
        "--db", "-d",
        help="The store, an SQLite file; or the URL of a server, see embcli push.",
        envvar=DB_VARIABLE,
        callback=_is_known,
        rich_help_panel=COMMON,
    ),
]  # fmt: skip

Url = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        help="postgresql://USER@HOST/DATABASE?table=NAME, or milvus://HOST:PORT/COLLECTION; "
        "without a name the collection is called there as it is here.",
        show_default=False,
    ),
]

CollectionName = Annotated[
    str,
    typer.Option(
        "--collection", "-c",
        help="The collection in the store.",
        autocompletion=complete_collection,
        rich_help_panel=COMMON,
    ),
]  # fmt: skip
COLLECTION = DEFAULT_COLLECTION

Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m",
        help="The model: a name that 'embcli models' lists, a directory, an id on the Hugging Face "
        "hub, or words:COLLECTION for word vectors in the store; by default the collection's own, "
        "or 'static' for a new one.",
        autocompletion=complete_model,
        rich_help_panel=COMMON,
    ),
]  # fmt: skip

Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Where to compute: cuda, cuda:1, mps, cpu, or several separated by commas; by "
        "default the best there is.",
        rich_help_panel=COMMON,
    ),
]

Prompt = Annotated[
    str | None,
    typer.Option("--prompt", help="Put this before every text.", rich_help_panel=MODEL),
]

PromptName = Annotated[
    str | None,
    typer.Option(
        "--prompt-name",
        metavar="NAME",
        help="Put the model's own prompt of this name before every text.",
        rich_help_panel=MODEL,
    ),
]

TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run code that comes with the model.",
        rich_help_panel=MODEL,
    ),
]

Via = Annotated[
    list[str] | None,
    typer.Option(
        "--via",
        metavar="MAP",
        help="Go through this map, from another model to the collection; give several for a "
        "chain. Without it, --model finds the way if there is only one.",
        autocompletion=complete_map,
        rich_help_panel=MODEL,
    ),
]

Top = Annotated[
    int, typer.Option("--top", "-k", min=1, help="How many results.", rich_help_panel=COMMON)
]

OutputFormat = Annotated[
    Format | None,
    typer.Option(
        "--format", "-f",
        help="How to write results: by default a table on a terminal, ndjson elsewhere.",
        rich_help_panel=COMMON,
    ),
]  # fmt: skip

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o",
        help="Write results to this file; its ending tells the format.",
        rich_help_panel=COMMON,
    ),
]  # fmt: skip

Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="No notes, no progress, no summary.", rich_help_panel=COMMON
    ),
]

VectorFormat = Annotated[
    str | None,
    typer.Option(
        "--format", "-f",
        metavar="FORMAT",
        help="Instead of what the ending of the file says: npy, npz, safetensors, jsonl, csv, "
        "projector, word2vec, word2vec-binary, glove, parquet, arrow, hdf5, faiss, llm or embcli.",
        autocompletion=complete_vector_format,
    ),
]  # fmt: skip

Where = Annotated[
    str | None,
    typer.Option(
        "--where", "-w",
        metavar="CONDITION",
        help="Only records whose metadata meet this, as 'category = \"sport\" and year >= 2020'.",
    ),
]  # fmt: skip

Lexical = Annotated[
    bool,
    typer.Option(
        "--lexical", help="Rank by the query's words (BM25); no model.", rich_help_panel=RANKING
    ),
]

Hybrid = Annotated[
    bool,
    typer.Option("--hybrid", help="Rank by meaning and words together.", rich_help_panel=RANKING),
]

Fusion = Annotated[
    Literal["convex", "tm2c2", "rrf"] | None,
    typer.Option(
        "--fusion",
        help="How --hybrid puts both together: a weighted mean of scores (convex, the default; "
        "tm2c2, as published) or reciprocal ranks (rrf).",
        rich_help_panel=RANKING,
    ),
]

Alpha = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        min=0,
        max=1,
        help="Weight of meaning in --hybrid; by default .75, of the built-in models .6, with "
        "tm2c2 .8, with rrf .5.",
        rich_help_panel=RANKING,
    ),
]

Prf = Annotated[
    str | None,
    typer.Option(
        "--prf",
        metavar="OPTIONS",
        help="Search again with the query moved towards the first results: k=3,alpha=0.7 or "
        "k=10,alpha=0.8,method=clusters,clusters=3,keep=2.",
        rich_help_panel=RANKING,
    ),
]

Mmr = Annotated[
    float | None,
    typer.Option(
        "--mmr",
        metavar="LAMBDA",
        min=0,
        max=1,
        help="Results unlike each other: 1 is relevance alone, 0 difference alone.",
        rich_help_panel=RANKING,
    ),
]

Relevant = Annotated[
    bool,
    typer.Option(
        "--relevant",
        help="End the list where relevance ends, and show the probabilities of it; see embcli "
        "calibrate.",
        rich_help_panel=RANKING,
    ),
]

Exact = Annotated[
    bool | None,
    typer.Option(
        "--exact/--coded",
        help="Insist on comparing with every vector, however many there are, or on going through "
        "the compact codes of the collection, however many queries there are.",
        show_default=False,
    ),
]

Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        max=2**32 - 1,  # what libraries take
        help="Of everything drawn at random.",
    ),
]
