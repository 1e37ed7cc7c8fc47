"""Readers and writers of file formats.

A format's reader turns a `ByteStream` into `Item` s, one per record, and `Problem` s, one per
place it could not read. `reader.py` puts them together: files, formats, fields, records.
"""

from dataclasses import dataclass
from typing import Any, Literal

# Of a line, a row or a JSON value: what goes beyond is not held in memory.
MAX_RECORD_BYTES = 1 << 26


@dataclass(frozen=True)
class Item:
    """One record as its format gives it: a text or a set of fields, and its line.

    `key` is the record's name where the format has one (the keys of a JSON object).
    """

    value: str | dict[str, Any]
    line: int
    key: str | None = None


@dataclass(frozen=True)
class Problem:
    """A record, or the rest of a file, that was not read.

    `kind` is "empty" for a record that is well formed but has no text; it has an `id`. It is
    "repeated" for a vector whose id was read before.
    """

    source: str
    line: int
    message: str
    kind: Literal["malformed", "empty", "repeated"] = "malformed"
    id: str | None = None

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return f"{place}: {self.message}"


@dataclass(frozen=True)
class ReadOptions:
    """How to read input files; None means to find out.

    Attributes
    ----------
    format : {"jsonl", "json", "csv", "tsv", "text"}, optional
    encoding : str, optional
        UTF-8 unless a byte order mark says otherwise.
    header : bool
        Whether the first row of a CSV or TSV file names its columns.
    delimiter : str, optional
        Between the fields of a CSV file.
    per : {"line", "file"}
        What a record is in a text file.
    text_fields : tuple of str
        Fields that make the text, joined by line breaks.
    id_field : str, optional
    line_ids : bool
        Name records ``file:line`` even if they have an id field.
    meta_fields : tuple of str, optional
        Fields to keep as metadata; all others if None.
    max_record_bytes : int
        What is larger is passed over, and never in memory as a whole.
    size_option : str
        The option that sets it, if there is one, to be named in messages.
    """

    format: str | None = None
    encoding: str | None = None
    header: bool = True
    delimiter: str | None = None
    per: Literal["line", "file"] = "line"
    text_fields: tuple[str, ...] = ()
    id_field: str | None = None
    line_ids: bool = False
    meta_fields: tuple[str, ...] | None = None
    max_record_bytes: int = MAX_RECORD_BYTES
    size_option: str = ""


def too_large(what: str, most: int, option: str = "") -> str:
    """Say that something is larger than a record may be, and which option would let it."""
    return f"{what} is larger than {most:,} bytes{f' ({option})' if option else ''}"
