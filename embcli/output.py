"""The only writer to stdout and stderr."""

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from embcli.errors import EmbcliError, InputError, UsageError
from embcli.formats import Problem
from embcli.options import Format

Row = Mapping[str, Any]

_WIDTH_IN_FILES = 120


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    key : str
        Of the row's value.
    title : str
    right : bool
        Align to the right, as numbers are.
    wrap : bool
        Break long values over lines instead of cutting them.
    width : int, optional
        Most characters.
    share : int, optional
        Weight in dividing the width of the terminal; as wide as its values if None.
    show : callable
        Turns the value into text.
    """

    key: str
    title: str
    right: bool = False
    wrap: bool = False
    width: int | None = None
    share: int | None = None
    show: Callable[[Any], str] = lambda value: plain(value)


@dataclass(frozen=True)
class Table:
    """Rows to be shown to a person."""

    rows: Iterable[Row]
    columns: Sequence[Column]
    title: str | None = None


class Output:
    """Where a command's results and remarks go.

    Parameters
    ----------
    format : Format, optional
        By default what the ending of `out` says, else a table on a terminal, else ndjson.
    out : Path, optional
        A file instead of stdout; it appears only when it is complete.
    quiet : bool
        No notes, no progress, no summary. Warnings and errors are always shown.
    """

    def __init__(
        self, format: Format | None = None, out: Path | None = None, quiet: bool = False
    ) -> None:
        self._out = out
        # Before anything is computed or kept that could then not be written.
        if out is not None and not out.resolve().parent.is_dir():
            raise UsageError(f"cannot write {out} (No such file or directory)")
        self.quiet = quiet
        self.format = format or _format_of(out)

    def rows(self, rows: Iterable[Row], columns: Sequence[Column], id: str = "id") -> None:
        """Write results.

        Parameters
        ----------
        rows : iterable of mapping
            Machine formats write every key, in the order of the first row.
        columns : sequence of Column
            For the table.
        id : str
            The key whose value the format ``ids`` writes.
        """
        if self.format is Format.table:
            self.tables([Table(rows, columns)])
            return
        with self._stream() as stream:
            if self.format is Format.ids:
                for row in rows:
                    stream.write(_LINE_END.sub(_visible, str(row[id])) + "\n")
            else:
                _WRITERS[self.format](stream, rows)

    def facts(self, row: Row) -> None:
        """Write all that is known of one thing that has a ``name``; as a table a fact a line."""
        if self.format != "table":
            self.rows([row], (), id="name")
            return
        shown = [
            {"fact": key, "value": pairs(value) if isinstance(value, dict) else plain(value)}
            for key, value in row.items()
        ]
        self.tables([Table(shown, (Column("fact", "fact"), Column("value", "value", wrap=True)))])

    def tables(self, tables: Iterable["Table"]) -> None:
        """Write one or more tables, whatever the format; empty ones are left out."""
        with self._stream() as stream:
            for table in tables:
                _write_table(stream, table)

    @contextmanager
    def _stream(self) -> Iterator[TextIO]:
        try:
            if self._out is None:
                yield sys.stdout
                sys.stdout.flush()
            elif self._out.exists() and not self._out.is_file():
                with self._out.open("w", encoding="utf-8", newline="") as stream:
                    yield stream  # a device, a pipe: nothing to be replaced
            else:
                with _complete_file(self._out.resolve()) as stream:
                    yield stream
        except BrokenPipeError:
            raise
        except OSError as error:
            name = "the results" if self._out is None else self._out
            raise UsageError(f"cannot write {name} ({error.strerror})") from error

    def flush(self) -> None:
        """Let what was written so far be read."""
        sys.stdout.flush()

    def note(self, message: str) -> None:
        """Say something worth knowing."""
        if not self.quiet:
            to_stderr(f"note: {message}")

    def summary(self, message: str) -> None:
        """Say what was done."""
        if not self.quiet:
            to_stderr(message)

    @contextmanager
    def progress(self, unit: str) -> Iterator[Callable[[int, int, int], None]]:
        """Show a progress bar on stderr while the block runs, if stderr is a terminal.

        Yields
        ------
        advance : callable
            Takes how much is done, how much there is in all (0 if unknown), and how many
            `unit` that is.
        """
        if self.quiet or not sys.stderr.isatty():
            yield lambda done, total, count: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            BarColumn(),
            TextColumn("{task.fields[count]:,} " + unit),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None, count=0, rate="")

            def advance(done: int, total: int, count: int) -> None:
                elapsed = bar.tasks[0].elapsed or 0
                rate = f"{count / elapsed:,.0f}/s" if elapsed else ""
                bar.update(task, completed=done, total=total or None, count=count, rate=rate)

            yield advance


@contextmanager
def _complete_file(path: Path) -> Iterator[TextIO]:
    """Write a file that appears when it is complete."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class SkippedLog:
    """Reports skipped records on stderr: the first ten by name, the others by number."""

    _shown = 10

    def __init__(self) -> None:
        self._count = self._unnamed = 0
        self.exit_code = 0

    def __call__(self, problem: Problem) -> None:
        """Take note of a record that was skipped."""
        self._count += 1
        if problem.kind == "malformed":
            self.exit_code = InputError.exit_code
        if self._count <= self._shown:
            to_stderr(f"skipped: {problem}")

    def more(self, skipped: int, malformed: int) -> None:
        """Take note of records that were skipped and are not named."""
        self._unnamed += skipped
        if malformed:
            self.exit_code = InputError.exit_code

    def close(self) -> None:
        """Say how many more there were."""
        more = max(self._count - self._shown, 0) + self._unnamed
        if more:
            to_stderr(f"skipped: {more:,} more")


def to_stderr(message: str) -> None:
    """Write one line to stderr, whatever characters are in it, if anybody listens."""
    with suppress(OSError):
        sys.stderr.write(f"{printable(message)}\n")
        sys.stderr.flush()


def report_error(error: EmbcliError) -> None:
    """Say on one line what went wrong and what to do."""
    hint = f"; try: {error.hint}" if error.hint else ""
    to_stderr(f"error: {error.message}{hint}")


def printable(text: str) -> str:
    """Make text safe for a terminal: control and direction characters are shown, not obeyed."""
    return _UNSAFE.sub(_visible, text)


def plain(value: Any) -> str:
    """Show a value in a cell of a table, on one line."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return printable(" ".join(_cell(value).split()))


def short(value: Any) -> str:
    """Show a figure with four digits behind the point at most; large ones with fewer."""
    if not isinstance(value, float):
        return plain(value)
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4f}"


def shortened(text: str, width: int) -> str:
    """Cut a text to a number of characters, the last of which then says so."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def whole(text: str) -> str:
    """Show a text as it is, over as many lines as it has."""
    return "\n".join(map(printable, text.splitlines()))


def pairs(value: Row) -> str:
    """Show an object: year: 2020, tags: ["a", "b"]."""
    return printable(", ".join(f"{key}: {_cell(item) or 'null'}" for key, item in value.items()))


def ending(name: str) -> str:
    """Show a path by its last two parts, and any other name as it is: …/minilm/model."""
    parts = Path(name).parts
    return f"…/{'/'.join(parts[-2:])}" if os.path.isabs(name) and len(parts) > 3 else plain(name)


def moment(time: str) -> str:
    """Show a time to the minute: 2026-11-20 16:05."""
    return time[:16].replace("T", " ")


def size(count: int) -> str:
    """Show a number of bytes: 1.5 MiB."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(max(count.bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{count / 1024**power:.{min(power, 1)}f} {units[power]}"


def _format_of(out: Path | None) -> Format:
    if out is not None:
        endings = {".json": Format.json, ".csv": Format.csv, ".tsv": Format.tsv}
        return endings.get(out.suffix.lower(), Format.ndjson)
    return Format.table if sys.stdout.isatty() else Format.ndjson


def _write_json(stream: TextIO, rows: Iterable[Row]) -> None:
    separator = "["
    for row in rows:
        stream.write(f"{separator}\n  {_json(row)}")
        separator = ","
    stream.write("[]\n" if separator == "[" else "\n]\n")


def _write_ndjson(stream: TextIO, rows: Iterable[Row]) -> None:
    for row in rows:
        stream.write(f"{_json(row)}\n")


def _write_csv(stream: TextIO, rows: Iterable[Row]) -> None:
    plain = csv.writer(stream, lineterminator="\n")
    # Before Python 3.13 the writer leaves a lone CR unquoted, which readers take for a line end.
    quoting = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for number, row in enumerate(rows):
        if number == 0:
            plain.writerow(row.keys())
        cells = [_cell(value) for value in row.values()]
        (quoting if any("\r" in cell for cell in cells) else plain).writerow(cells)


def _write_tsv(stream: TextIO, rows: Iterable[Row]) -> None:
    for number, row in enumerate(rows):
        if number == 0:
            stream.write("\t".join(row) + "\n")
        stream.write("\t".join(_escaped(_cell(value)) for value in row.values()) + "\n")


_WRITERS = {
    Format.json: _write_json,
    Format.ndjson: _write_ndjson,
    Format.csv: _write_csv,
    Format.tsv: _write_tsv,
}


def _write_table(stream: TextIO, table: Table) -> None:
    import rich.table
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.text import Text

    grid = rich.table.Table(
        title=None if table.title is None else Text(printable(table.title)),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        header_style="bold",
        expand=any(column.share for column in table.columns),
    )
    for column in table.columns:
        grid.add_column(
            Text(printable(column.title)),
            justify="right" if column.right else "left",
            overflow="fold" if column.wrap else "ellipsis",
            no_wrap=not column.wrap,
            max_width=column.width,
            ratio=column.share,
        )
    for row in table.rows:
        # Whatever a column makes of its values: nothing in them is obeyed by the terminal.
        cells = (column.show(row[column.key]).split("\n") for column in table.columns)
        grid.add_row(*(Text("\n".join(map(printable, lines))) for lines in cells))
    if grid.row_count:
        width = None if stream is sys.stdout else _WIDTH_IN_FILES
        Console(file=stream, width=width, highlight=False).print(grid)


def _json(row: Row) -> str:
    # What a terminal obeys can only be in strings, where another spelling means the same.
    text = json.dumps(row, ensure_ascii=False)
    return text if text.isascii() and "\x7f" not in text else _UNSAFE_IN_JSON.sub(_as_json, text)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _escaped(text: str) -> str:
    """Keep a value in its cell and on its line."""
    return _CELL_END.sub(_visible, text)


_DIRECTIONS = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_UNSAFE = re.compile(f"[\x00-\x08\x0a-\x1f\x7f-\x9f{_DIRECTIONS}\ud800-\udfff]")
_UNSAFE_IN_JSON = re.compile(f"[\x7f-\x9f{_DIRECTIONS}]")
_CELL_END = re.compile(r"[\\\t\n\r]")
_LINE_END = re.compile(r"[\n\r]")


def _visible(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()


def _as_json(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def read_ids() -> list[str]:
    """Read ids from standard input, a line each."""
    return [line for line in sys.stdin.read().split("\n") if line] if sys.stdin else []
