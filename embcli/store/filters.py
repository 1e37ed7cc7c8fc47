"""Filters evaluated on the records of a collection, through indexes on fields where there are any.

Without an index every record's metadata is parsed, at about a quarter of a second for a million.
With one, each condition on the field is a stretch of the index, and what it finds are combined as
arrays; conditions on other fields are then evaluated only on the records that are left.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embcli.store.database import Database
from embcli.store.fields import Condition, Sql, field_at, indexed_path, quoted_name
from embcli.store.where import Node, name_of, parse_field, parse_where

# To fetch a record by its key costs as much as to pass over a few in a row.
_FEW = 3
# Keys come as one text, which SQLite limits to a billion characters.
_KEYS_AT_ONCE = 1 << 24

_Wanted = NDArray[np.bool_]


class Filter:
    """One filter on one collection.

    Parameters
    ----------
    db : Database
    collection : int
        Key of the collection.
    expression : str
        See `embcli.store.where`.
    clusterings : mapping from str to int
        Of the collection.

    Raises
    ------
    UsageError
        The expression cannot be read.
    """

    def __init__(
        self, db: Database, collection: int, expression: str, clusterings: Mapping[str, int]
    ) -> None:
        self._db = db
        self._collection = collection
        self._node = parse_where(expression, clusterings)
        self._indexes = indexes(db)
        self._size = int(db.value("SELECT max(key) FROM records") or 0) + 1

    def wanted(self) -> _Wanted:
        """Evaluate it.

        Returns
        -------
        wanted : bool array, shape (highest key + 1,)
            ``wanted[key]`` is true where the filter holds.
        """
        return self._evaluate(self._node)

    def missing(self) -> list[str]:
        """Name the fields on which an index would help."""
        paths = dict.fromkeys(leaf.path for leaf in _leaves(self._node) if leaf.path is not None)
        return [name_of(path) for path in paths if path not in self._indexes]

    def _evaluate(self, node: Node) -> _Wanted:
        if not self._narrows(node):
            return self._scan(node)
        if isinstance(node, Condition):
            assert node.path is not None
            return self._look_up(self._indexes[node.path], node.parts)
        if node.word == "or":
            found = np.zeros(self._size, np.bool_)
            for term in node.terms:
                found |= self._evaluate(term)
            return found
        return self._all(node.terms)

    def _all(self, terms: Sequence[Node]) -> _Wanted:
        """Evaluate terms joined by "and": those first that leave few records for the others."""
        remaining = sorted(terms, key=self._rank)
        wanted = self._evaluate(remaining.pop(0))
        while remaining and self._narrows(remaining[0]) and not self._is_few(wanted):
            wanted &= self._evaluate(remaining.pop(0))
        for term in remaining:
            wanted &= self._among(term, wanted) if self._is_few(wanted) else self._scan(term)
        return wanted

    def _rank(self, node: Node) -> int:
        if not self._narrows(node):
            return 2
        return 0 if isinstance(node, Condition) and node.narrow else 1

    def _narrows(self, node: Node) -> bool:
        """Whether indexes find records without which the others need not be looked at."""
        if isinstance(node, Condition):
            return node.path in self._indexes
        narrow = [self._narrows(term) for term in node.terms]
        return any(narrow) if node.word == "and" else all(narrow)

    def _is_few(self, wanted: _Wanted) -> bool:
        return _FEW * int(np.count_nonzero(wanted)) < self._size

    def _look_up(self, index: str, parts: Iterable[Sql]) -> _Wanted:
        found = np.zeros(self._size, np.bool_)
        for sql, parameters in parts:
            self._add(
                found,
                f"FROM records INDEXED BY {quoted_name(index)} WHERE collection = ? AND {sql}",
                (self._collection, *parameters),
            )
        return found

    def _among(self, node: Node, wanted: _Wanted) -> _Wanted:
        """Evaluate a condition on some records."""
        found = np.zeros(self._size, np.bool_)
        keys = np.flatnonzero(wanted)
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            listed = ",".join(map(str, keys[start : start + _KEYS_AT_ONCE].tolist()))
            # CROSS JOIN: the records that are listed, not the list for every record.
            self._add(
                found,
                "FROM json_each(?) AS listed CROSS JOIN records ON records.key = listed.value "
                f"WHERE +records.collection = ? AND {node.sql}",
                (f"[{listed}]", self._collection, *node.parameters),
            )
        return found

    def _scan(self, node: Node) -> _Wanted:
        """Evaluate a condition on every record."""
        found = np.zeros(self._size, np.bool_)
        # In the order of the table, unless most of it belongs to other collections.
        sign = "+" if self._is_most() else ""
        self._add(
            found,
            f"FROM records WHERE {sign}collection = ? AND {node.sql}",
            (self._collection, *node.parameters),
        )
        return found

    def _is_most(self) -> bool:
        """Whether about half of the records are the collection's."""
        if self._db.value("SELECT count(*) FROM collections") == 1:
            return True
        counted = "SELECT collection = ?, sum(count) FROM segments GROUP BY 1"
        counts = dict(self._db.all(counted, (self._collection,)))
        return bool(counts.get(1, 0) >= counts.get(0, 0))

    def _add(self, found: _Wanted, sql: str, parameters: Sequence[object]) -> None:
        """Mark the keys that a query gives: as text, which takes a third of the time of rows."""
        select = f"SELECT group_concat(records.key) {sql}"
        if self._size > _KEYS_AT_ONCE:
            select += " AND records.key >= ? AND records.key < ?"
        for start in range(0, self._size, _KEYS_AT_ONCE):
            ends = (start, start + _KEYS_AT_ONCE) if self._size > _KEYS_AT_ONCE else ()
            text = self._db.value(select, (*parameters, *ends))
            if text is not None:
                found[np.fromstring(text, np.int64, sep=",")] = True


def indexes(db: Database) -> dict[str, str]:
    """List the indexes on metadata fields, from path to name."""
    rows = db.all("SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'records'")
    found = {indexed_path(name): name for (name,) in rows}
    return {path: name for path, name in sorted(found.items(), key=str) if path is not None}


def count_indexed(db: Database) -> dict[str, int]:
    """Count, for every field that is indexed, the records that have it; names as in filters."""
    return {
        name_of(path): db.value(
            "SELECT count(*) FROM collections CROSS JOIN records "
            f"INDEXED BY {quoted_name(index)} ON records.collection = collections.key "
            f"WHERE {field_at(path).is_null(negated=True).sql}"
        )
        for path, index in indexes(db).items()
    }


def create_index(db: Database, name: str) -> bool:
    """Index a field; return False if it was indexed already."""
    field = parse_field(name)
    if field.path in indexes(db):
        return False
    # sqlite-utils makes indexes on columns only.
    db.execute(field.index_sql)
    return True


def drop_index(db: Database, name: str) -> bool:
    """Drop the index on a field; return whether there was one."""
    found = indexes(db).get(parse_field(name).path)
    if found is not None:
        db.execute(f"DROP INDEX {quoted_name(found)}")
    return found is not None


def _leaves(node: Node) -> Iterable[Condition]:
    if isinstance(node, Condition):
        return [node]
    return [leaf for term in node.terms for leaf in _leaves(term)]
