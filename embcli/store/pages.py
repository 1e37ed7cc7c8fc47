"""Rows read off the pages of an SQLite file, without the trees that lead to them.

Where the page at the root of a table is lost, SQLite finds none of its rows, although their own
pages are whole. See https://www.sqlite.org/fileformat2.html for what is read here.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

_LEAF_OF_TABLE, _OF_INDEX = 13, (10, 2)
_HEADER = 100
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_NUMBERS = {0: None, 8: 0, 9: 1}


class _Unreadable(Exception):
    """What was looked at is no row."""


def rows(path: Path, columns: int, *, keyed: bool = True) -> Iterator[tuple[Any, ...]]:
    """Read every row of so many columns off the pages of a file.

    The first column is taken to be an integer key, unless the rows are of a table without. Pages
    that are no longer in use may hold rows that were deleted or changed since: whoever takes rows
    from here must know which are meant.

    Parameters
    ----------
    path : Path
    columns : int
    keyed : bool

    Yields
    ------
    row : tuple
        Texts that are no UTF-8 are bytes.
    """
    with (
        path.open("rb") as file,
        closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data,
    ):
        size = int.from_bytes(data[16:18], "big")
        size = 65536 if size == 1 else size
        if size < 512 or size & (size - 1):
            size = 16384  # as of every store
        pages = _Pages(data, size, size - data[20] if data[20] < 64 else size)
        for number in range(1, len(data) // size + 1):
            yield from pages.rows(number, columns, keyed)


class _Pages:
    def __init__(self, data: mmap.mmap, size: int, usable: int) -> None:
        self._data = data
        self._size = size
        self._usable = usable

    def rows(self, number: int, columns: int, keyed: bool) -> Iterator[tuple[Any, ...]]:
        page = self._page(number)
        start = _HEADER if number == 1 else 0
        if not (page[start] == _LEAF_OF_TABLE if keyed else page[start] in _OF_INDEX):
            return
        count = int.from_bytes(page[start + 3 : start + 5], "big")
        # Within a tree, pages of tables without integer keys hold rows, too, beside pointers.
        pointer = 4 if page[start] == _OF_INDEX[1] else 0
        places = start + 8 + pointer
        for cell in range(min(count, (self._size - places) // 2)):
            at = int.from_bytes(page[places + 2 * cell : places + 2 * cell + 2], "big")
            try:
                length, at = _varint(page, at + pointer)
                key, at = _varint(page, at) if keyed else (0, at)
                row = _values(self._payload(page, at, length, columns, keyed), columns)
            except (_Unreadable, IndexError, struct.error):
                continue
            yield (key, *row[1:]) if keyed else tuple(row)

    def _page(self, number: int) -> bytes:
        if not 0 < number <= len(self._data) // self._size:
            raise _Unreadable
        return self._data[(number - 1) * self._size : number * self._size]

    def _payload(self, page: bytes, at: int, length: int, columns: int, keyed: bool) -> bytes:
        """Put together what a cell holds, on its own page and on those it goes on to."""
        usable = self._usable
        most, least = usable - 35, (usable - 12) * 32 // 255 - 23
        if not keyed:
            most = (usable - 12) * 64 // 255 - 23
        if length <= most:
            local = length
        else:
            local = least + (length - least) % (usable - 4)
            local = local if local <= most else least
        parts = [page[at : at + local]]
        if len(parts[0]) < local or length > len(self._data):
            raise _Unreadable
        if length > local:
            # Before a chain is followed: is it a row of the table that is sought?
            _types(parts[0], columns)
            following = int.from_bytes(page[at + local : at + local + 4], "big")
            left = length - local
            while left > 0:
                overflow = self._page(following)
                parts.append(overflow[4 : min(usable, 4 + left)])
                following = int.from_bytes(overflow[:4], "big")
                left -= len(parts[-1])
        return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read an integer of one to nine bytes; return it and where it ends."""
    value = 0
    for length in range(8):
        byte = data[at + length]
        value = value << 7 | byte & 127
        if byte < 128:
            return value, at + length + 1
    return value << 8 | data[at + 8], at + 9


def _types(payload: bytes, columns: int) -> tuple[list[int], int]:
    """Read the types of a row's columns; return them and where the values begin."""
    end, at = _varint(payload, 0)
    if not columns < end <= 9 * (columns + 1):
        raise _Unreadable
    found = []
    while at < end:
        kind, at = _varint(payload, at)
        found.append(kind)
    if len(found) != columns or at != end:
        raise _Unreadable
    return found, end


def _values(payload: bytes, columns: int) -> list[Any]:
    found: list[Any] = []
    types, at = _types(payload, columns)
    for kind in types:
        if kind in _NUMBERS:
            found.append(_NUMBERS[kind])
            continue
        width = 8 if kind == 7 else _INTEGERS[kind] if kind in _INTEGERS else (kind - 12) // 2
        content = payload[at : at + width]
        at += width
        if kind in (10, 11) or len(content) < width:
            raise _Unreadable
        if kind in _INTEGERS:
            found.append(int.from_bytes(content, "big", signed=True))
        elif kind == 7:
            found.append(struct.unpack(">d", content)[0])
        else:
            found.append(text(content) if kind % 2 else content)
    return found


def text(content: bytes) -> str | bytes:
    """Decode a text; what is no UTF-8 stays bytes."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content
