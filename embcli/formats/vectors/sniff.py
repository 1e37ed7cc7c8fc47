"""Which format a file of vectors has, by its content, and by its name where that says nothing."""

import json
import os
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

from embcli.errors import InputError
from embcli.formats import tabular
from embcli.formats.inputs import COMPRESSIONS, Source
from embcli.formats.source import open_source
from embcli.formats.vectors.text_blocks import is_number
from embcli.formats.vectors.word_vectors import first_lines, parse_header
from embcli.store.database import APPLICATION_ID

_MAGIC = {
    b"\x93NUMPY": "npy",
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow",  # a stream begins with the mark of a message
    b"\x89HDF\r\n\x1a\n": "hdf5",
}
_SQLITE = b"SQLite format 3\0"
_ZIP = b"PK\x03\x04"
_FASTTEXT = (793712314).to_bytes(4, "little")
_PICKLE = tuple(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5))
_ENDINGS = {
    ".vec": "word2vec",
    ".w2v": "word2vec",
    ".glove": "glove",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
}
_TEXT_CONTROLS = frozenset(b"\t\n\v\f\r")


def sniff(path: str | os.PathLike[str]) -> str:
    """Find out the format of a file of vectors.

    Raises
    ------
    InputError
        It is empty or unknown, or of a format that is not read; the message says what to do.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise InputError(f"{name}: cannot be opened ({error.strerror})") from error
    if not head:
        raise InputError(f"{name}: the file is empty")
    for magic, format in _MAGIC.items():
        if head.startswith(magic):
            return format
    if head.startswith(_SQLITE):
        return _database(name, head)
    if head.startswith(_ZIP):
        return _archive(name)
    if head.startswith(b"Ix") and b"\0" in head[:64]:
        return "faiss"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < os.path.getsize(path):
        return "safetensors"
    if head.startswith(_FASTTEXT):
        raise InputError(
            f"{name}: fastText's .bin is not read here, its .vec is",
            hint="fasttext print-word-vectors model.bin < words.txt > model.vec",
        )
    if head.startswith(_PICKLE):
        raise InputError(
            f"{name}: this is a pickle, which is not opened, because that can run code",
            hint="in gensim: vectors.save_word2vec_format('vectors.bin', binary=True)",
        )
    return _text(name)


def _database(name: str, head: bytes) -> str:
    if int.from_bytes(head[68:72], "big") == APPLICATION_ID:
        return "embcli"
    try:
        with closing(sqlite3.connect(f"{Path(name).absolute().as_uri()}?mode=ro", uri=True)) as db:
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    except (sqlite3.Error, ValueError) as error:
        raise InputError(f"{name}: a damaged SQLite file ({error})") from error
    if {"collections", "embeddings"} <= tables:
        return "llm"
    raise InputError(f"{name}: an SQLite file, but neither llm's embeddings nor an embcli store")


def _archive(name: str) -> str:
    try:
        with zipfile.ZipFile(name) as archive:
            members = archive.namelist()
    except Exception as error:  # damage makes it stumble over anything
        raise InputError(f"{name}: a damaged archive ({error})") from error
    if members and all(member.endswith(".npy") for member in members):
        return "npz"
    raise InputError(f"{name}: an archive, not one of NumPy's arrays", hint=f"unzip {name}")


def _text(name: str) -> str:
    with open_source(Source(name, Path(name))) as stream:
        first, _, rest = stream.sample.partition(b"\n")
        if (header := parse_header(first)) is not None:
            return "word2vec-binary" if _is_binary(rest, header[1]) else "word2vec"
        lines = first_lines(stream, 100)
    sample = b"\n".join([*lines, b""])
    first = lines[0]
    if sample.lstrip()[:1] == b"{":
        return "jsonl"
    if sample.lstrip()[:1] == b"[" and _begins_json(sample):
        raise InputError(f"{name}: one JSON array; expected an object a line", hint="jq -c '.[]'")
    tabbed = first.split(b"\t")
    if len(tabbed) > 1 and all(map(is_number, tabbed)):
        return "projector"
    if len(tabbed) > 2 and all(map(is_number, tabbed[1:])):
        return "glove"
    spaced = first.split(b" ")
    if len(spaced) > 2 and all(map(is_number, spaced[-2:])) and b"," not in first:
        return "glove"
    delimiter = tabular.sniff_delimiter(sample.decode("utf-8", "replace"))
    if delimiter.encode() in first and b"\0" not in sample:
        return "csv"
    stem, suffix = os.path.splitext(name.lower())
    if suffix in COMPRESSIONS:
        suffix = os.path.splitext(stem)[1]
    if suffix in _ENDINGS and b"\0" not in sample:
        return _ENDINGS[suffix]
    raise InputError(
        f"{name}: the format cannot be told from its content", hint="--input-format NAME"
    )


def _is_binary(rest: bytes, dim: int) -> bool:
    """Whether what follows a header is not a word and numbers in decimals."""
    line, end, _ = rest.partition(b"\n")
    fields = line.split()[1 : 1 + dim]
    if not end:
        fields = fields[:-1]  # which the end of the sample may have cut
    if fields and all(map(is_number, fields)):
        return False
    return any(byte >= 0x80 or (byte < 32 and byte not in _TEXT_CONTROLS) for byte in line)


def _begins_json(sample: bytes) -> bool:
    """Whether a sample that begins with a bracket is JSON rather than a word in brackets."""
    try:
        json.loads(sample.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return sample.lstrip()[1:].lstrip()[:1] in (b"{", b"[")
    return True
