"""Parquet as input of texts: a record per row."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from embcli.errors import EmbcliError, InputError, UnreadableError
from embcli.formats import Item
from embcli.formats.inputs import COMPRESSIONS, Source
from embcli.formats.source import open_bytes

_ROWS_AT_ONCE = 1024


class Table:
    """An open Parquet file, whose rows are items.

    Columns of bytes, and of vectors of floats, are no metadata and left out.

    Parameters
    ----------
    source : Source
        A file.

    Attributes
    ----------
    rows : int
    left_out : list of str

    Raises
    ------
    InputError
        It cannot be read, or is no Parquet.
    ModelError
        pyarrow is not installed.
    """

    def __init__(self, source: Source) -> None:
        from embcli.formats.vectors import require

        parquet = require("pyarrow.parquet", "arrow")
        if source.path is None and source.url is None:
            raise InputError("Parquet cannot be read from standard input")
        if source.name.lower().endswith(COMPRESSIONS):
            raise InputError(
                "Parquet is not read out of compressed files: it is compressed itself",
                hint="decompress it",
            )
        with _damage():
            self._file = parquet.ParquetFile(
                os.fspath(source.path) if source.path is not None else open_bytes(source)
            )
            self.rows = int(self._file.metadata.num_rows)
            schema = self._file.schema_arrow
        if len(set(schema.names)) < len(schema.names):
            raise InputError("two columns have the same name")
        self.left_out = [field.name for field in schema if _is_bulk(field.type)]
        self._columns = [name for name in schema.names if name not in self.left_out]

    def items(self, first: int = 0, count: int | None = None) -> Iterator[Item]:
        """Give some rows as items, whose lines are their numbers, from 1.

        Parameters
        ----------
        first : int
            How many rows are passed over.
        count : int, optional
            How many are given; all if None.
        """
        end = self.rows if count is None else min(first + count, self.rows)
        with _damage():
            groups, at = self._groups(first, end)
            batches = self._file.iter_batches(
                batch_size=_ROWS_AT_ONCE, row_groups=groups, columns=self._columns
            )
            for batch in batches:
                rows = range(max(first - at, 0), min(end - at, batch.num_rows))
                part = batch.slice(rows.start, len(rows)) if len(rows) else batch.slice(0, 0)
                for row, value in zip(rows, part.to_pylist(), strict=True):
                    yield Item(_plain_row(value), at + row + 1)
                at += batch.num_rows
                if at >= end:
                    return

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)

    def _groups(self, first: int, end: int) -> tuple[list[int], int]:
        """Tell which row groups hold some rows, and the number of the first row in them."""
        groups: list[int] = []
        start = at = 0
        for group in range(self._file.metadata.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            if at + rows > first and at < end:
                start = at if not groups else start
                groups.append(group)
            at += rows
        return groups, start


def _plain_row(row: dict[str, Any]) -> dict[str, Any]:
    from embcli.formats.vectors.arrow_files import plain

    return {name: plain(value) for name, value in row.items()}


def _is_bulk(kind: Any) -> bool:
    """Whether a column holds bytes or lists of floats, and not single ones among other things."""
    from embcli.formats.vectors import require

    types = require("pyarrow.types", "arrow")
    if types.is_dictionary(kind):
        return _is_bulk(kind.value_type)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return True
    lists = (
        types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view,
        types.is_large_list_view,
    )  # fmt: skip
    if not any(is_kind(kind) for is_kind in lists):
        return False
    return bool(types.is_floating(kind.value_type)) or _is_bulk(kind.value_type)


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except EmbcliError:
        raise
    except Exception as error:  # noqa: BLE001 (Python stumbles over what Arrow gives it)
        reason = str(error).splitlines()[0][:200] if str(error) else "damaged"
        # Arrow's own have no number: they are of what is in the file.
        of_file = isinstance(error, OSError) and error.errno is not None
        kind = UnreadableError if of_file else InputError
        raise kind(f"cannot be read ({reason})") from None
