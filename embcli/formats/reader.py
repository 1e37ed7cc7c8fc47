"""Reading records: files in, `Record` s and `Problem` s out, one at a time."""

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from embcli.errors import InputError, UnreadableError, UsageError
from embcli.formats import Item, Problem, ReadOptions, images, json_stream, jsonl, tabular, text
from embcli.formats.fields import ID_NAMES, TEXT_NAMES, map_fields
from embcli.formats.inputs import IMAGE, Source
from embcli.formats.source import ByteStream, open_source
from embcli.store.records import Record

if TYPE_CHECKING:
    from embcli.formats.parquet import Table

PARQUET = "parquet"
FORMATS = ("jsonl", "json", "csv", "tsv", "text", PARQUET)
_ITEMS_LOOKED_AT = 100
_MOST_HELD = 10_000


class Reader:
    """Reads records from sources, in order, never more than a file's beginning ahead.

    Parameters
    ----------
    sources : iterable of Source
    options : ReadOptions
    note : callable
        Told what was found out about each file.
    all_or_nothing : bool
        Raise `UnreadableError` where a file cannot be read, which is a problem like others if
        False.

    Attributes
    ----------
    bytes_read : int
        How far it has come, in bytes on disk.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        options: ReadOptions | None = None,
        note: Callable[[str], None] = lambda message: None,
        *,
        all_or_nothing: bool = False,
    ) -> None:
        self._sources = list(sources)
        self._options = options or ReadOptions()
        self._note = note
        self._all_or_nothing = all_or_nothing
        self._noted: set[str] = set()
        self._finished = 0
        self._stream: ByteStream | None = None
        if self._options.format not in (None, *FORMATS):
            raise UsageError(
                f"no input format {self._options.format!r} (there are: {', '.join(FORMATS)})"
            )

    @property
    def bytes_read(self) -> int:
        """How far it has come, in bytes on disk."""
        return self._finished + (self._stream.position if self._stream else 0)

    def __iter__(self) -> Generator[Record | Problem, None, None]:
        for source in self._sources:
            if source.path and source.format == IMAGE:
                yield images.read(source.path, source.name)
                self._finished += source.size
                continue
            line = 1
            try:
                for result in self._read_file(source):
                    line = _line(result) + 1
                    yield result
            except InputError as error:
                if self._all_or_nothing and isinstance(error, UnreadableError):
                    raise
                hint = f" ({error.hint})" if error.hint else ""
                yield Problem(source.name, line, f"{error.message}{hint}")
            finally:
                self._stream = None
            self._finished += source.size

    def _read_file(self, source: Source) -> Iterator[Record | Problem]:
        of = self._options
        if (of.format or source.format) == PARQUET:
            with closing(self.open_table(source)) as table:
                yield from self.records(source.name, PARQUET, table.items())
            return
        with open_source(source, of.encoding, of.max_record_bytes, of.size_option) as stream:
            self._stream = stream
            yield from self.read(source, stream)

    def open_table(self, source: Source) -> "Table":
        """Open a Parquet file, and say what of it is left out."""
        from embcli.formats.parquet import Table

        table = Table(source)
        if table.left_out:
            self.say(source.name, f"left out: {', '.join(table.left_out)}")
        return table

    def read(self, source: Source, stream: ByteStream) -> Iterator[Record | Problem]:
        """Read one open source."""
        kind = self._options.format or detect_format(source.format, stream)
        yield from self.records(source.name, kind, self.items(kind, stream))

    def records(
        self, name: str, kind: str, items: Iterator[Item | Problem]
    ) -> Iterator[Record | Problem]:
        """Make records of what the reader of a format gives."""
        looked = yield from look_at(items)
        fields = map_fields(looked.sample, self._options)
        if fields.note:
            self.say(name, fields.note)
        if fields.guessed and kind in ("csv", "tsv") and self._options.header:
            self.say(name, "if the first row is data and no header: --no-header")
        line = same_line = 0
        for item in chain(looked.head, items):
            if isinstance(item, Problem):
                yield item
                continue
            same_line = same_line + 1 if item.line == line else 1
            line = item.line
            place = f"{name}:{line}" + (f".{same_line}" if same_line > 1 else "")
            if kind == "text" and self._options.per == "file":
                place = name
            yield fields.record(item, name, place)
        if looked.failure:
            raise looked.failure

    def items(self, kind: str, stream: ByteStream) -> Iterator[Item | Problem]:
        """Choose what reads a format."""
        if kind == PARQUET:
            raise InputError("Parquet is not read here", hint="JSON Lines of its rows")
        if kind == "jsonl":
            return jsonl.read(stream)
        if kind == "json":
            return json_stream.read(stream)
        if kind == "text":
            read = text.read_whole if self._options.per == "file" else text.read_lines
            return read(stream)
        delimiter = self._options.delimiter
        if delimiter is None and kind == "tsv":
            delimiter = "\t"
        return tabular.read(stream, delimiter=delimiter, header=self._options.header)

    def say(self, name: str, found: str) -> None:
        """Note what was found, once for all files of a directory that are alike."""
        if found not in self._noted:
            self._noted.add(found)
            self._note(f"{name}: {found}")


@dataclass(frozen=True)
class Looked:
    """The beginning of what the reader of a format gives.

    `sample` are the items among it; `failure` is to be told after what came before it.
    """

    head: list[Item | Problem]
    sample: list[Item]
    failure: InputError | None


def look_at(items: Iterator[Item | Problem]) -> Generator[Problem, None, Looked]:
    """Take as many items as are looked at to find out which fields are what.

    Problems are handed on where they are too many to be held.
    """
    head: list[Item | Problem] = []
    sample: list[Item] = []
    try:
        for item in items:
            head.append(item)
            if isinstance(item, Item):
                sample.append(item)
            if len(sample) == _ITEMS_LOOKED_AT or (sample and len(head) == _MOST_HELD):
                break
            if len(head) == _MOST_HELD:
                yield from (held for held in head if isinstance(held, Problem))
                head.clear()
    except InputError as error:
        return Looked(head, sample, error)
    return Looked(head, sample, None)


def detect_format(named: str | None, stream: ByteStream) -> str:
    """Find out the format of a stream from its name and its beginning.

    Parameters
    ----------
    named : str or None
        What the file's name says, if anything.
    stream : ByteStream
    """
    if named not in (None, "json"):
        return named
    sample = stream.sample.decode(stream.encoding, "replace").lstrip()
    first, _, rest = sample.partition("\n")
    if sample.startswith("{") and _is_json(first) and (named is None or rest.lstrip()[:1] == "{"):
        return "jsonl"
    if named == "json":
        return "json"
    if sample.startswith("{"):
        return "json" if first.rstrip() == "{" or sample[1:].lstrip()[:1] == '"' else "text"
    if sample.startswith("["):
        return "json" if sample[1:].lstrip()[:1] in '{"[]' else "text"
    return _detect_table(first, stream) or "text"


def has_header(stream: ByteStream, kind: str) -> bool:
    """Whether the first row of a table has a name that people give to texts or ids."""
    sample = stream.sample.decode(stream.encoding, "replace")
    delimiter = "\t" if kind == "tsv" else tabular.sniff_delimiter(sample)
    names = sample.partition("\n")[0].split(delimiter)
    return bool({name.strip().strip('"').lower() for name in names} & {*TEXT_NAMES, *ID_NAMES})


def _detect_table(first: str, stream: ByteStream) -> str | None:
    """Recognise a table by its header."""
    delimiter = tabular.sniff_delimiter(stream.sample.decode(stream.encoding, "replace"))
    kind = "tsv" if delimiter == "\t" else "csv"
    return kind if delimiter in first and has_header(stream, kind) else None


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _line(result: Record | Problem) -> int:
    if isinstance(result, Problem):
        return result.line
    return int(result.source.rpartition(":")[2])
