"""Searching a table of PostgreSQL: by the index of pgvector, or by comparing with all that pass.

Through a filter that few rows pass an index is of no use: so many of the nearest vectors do not
pass that to scan it costs more than to compare with those that do. How many do is estimated on a
sample. If they are many, the filter is applied to the nearest rows, and where too few of these
pass, to more; then all that pass are compared with: they may all be far from the query. To scan an
index until enough rows were found (``hnsw.iterative_scan``) is no way out: of those far away it
finds the ones that its graph leads to, which are not the nearest (recall@10 of .72 at 50,000
vectors, half of which passed).
"""

from collections.abc import Sequence
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.topk import DECIMALS
from embcli.servers import Header, ServerHit, Sought
from embcli.servers.postgres_index import Nearest
from embcli.servers.postgres_rows import bound, keys_of, meta_of, unpacked
from embcli.servers.postgres_session import Session

# Of hnsw.ef_search, which goes up to 1,000.
EFFORTS = (40, 80, 160, 320, 640, 1000)
_EFFORT = 160
_AT_ONCE = 64
# Rows beyond those wanted: the index may have rounded vectors, and equal ones in any order.
_SPARE = 10
# More than a table has, and not yet more than LIMIT takes.
_MOST_ROWS = 1 << 48
# A chunked record has a few among the nearest rows.
_CHUNKS = 4
# Rows looked at to estimate how many pass a filter.
_SAMPLED = 2000
# Of how many rows at least an index is of use.
_FEW = 10_000
_COLUMNS = "key, chunk, chunk_start, chunk_end, id, embedding"
# Whatever the planner expects of a filter, which it knows little about.
_BY_INDEX = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
}
_ONE_BY_ONE = dict.fromkeys(("enable_seqscan", "enable_bitmapscan", "enable_sort"), "on")

_Row = tuple[Any, ...]


class _Near(NamedTuple):
    """A record's nearest vector."""

    score: float
    id: str
    key: Any
    chunk: tuple[int, int, int]


class Search:
    """One search, in one snapshot.

    Parameters
    ----------
    session : Session
    table : str
        Quoted for SQL.
    header : Header
    nearest : Nearest
    sought : Sought
    condition : (str, list) or None
        The filter.
    """

    def __init__(
        self,
        session: Session,
        table: str,
        header: Header,
        nearest: Nearest,
        sought: Sought,
        condition: tuple[str, list[Any]] | None,
    ) -> None:
        self._session = session
        self._table = table
        self._header = header
        self._nearest = nearest
        self._sought = sought
        self._filtered = condition is not None
        self._chunked = header.chunking is not None
        sql, values = condition or ("true", [])
        if sought.without:
            sql = f"({sql} AND key <> ALL(%s::uuid[]))"
            values = [*values, keys_of(sorted(sought.without))]
        self._condition, self._values = sql, values

    def hits(self) -> list[list[ServerHit]]:
        """Find the records, by falling cosine, ties by id."""
        if not len(self._sought.vectors) or self._sought.k < 1:
            return [[] for _ in self._sought.vectors]
        with self._session.guarded(), self._session.connection.transaction():
            self._session.connection.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
            )
            found: dict[int, list[_Near]] = {}
            few = self._few_pass()
            queries = range(len(self._sought.vectors))
            if not (self._sought.exact or few or self._nearest.indexed is None):
                found = self._by_index(queries)
            left = [query for query in queries if query not in found]
            found |= self._one_by_one(left, few)
            return self._described([found[query] for query in queries])

    def _few_pass(self) -> bool:
        """Whether a filter leaves so little that an index does not help.

        That is estimated on some pages of the table: whatever comes of it, what is found is right.
        """
        rows = self._nearest.rows
        few = _few(rows)
        if not self._filtered or rows <= few:
            return self._filtered
        sample = self._session.row(
            f"SELECT count(*), count(*) FILTER (WHERE {self._condition}) "
            f"FROM {self._table} TABLESAMPLE SYSTEM (%s) REPEATABLE (0)",
            [*self._values, min(100.0, 100 * _SAMPLED / rows)],
        )
        seen, passing = sample or (0, 0)
        return bool(passing * rows <= few * seen)

    def _by_index(self, queries: Sequence[int]) -> dict[int, list[_Near]]:
        """Search by the index; queries of which it does not find enough are left out."""
        wanted = self._rows_wanted
        known = self._sought.effort or self._header.effort(self._filtered) or _EFFORT
        effort = min(max(known, wanted), EFFORTS[-1])
        found: dict[int, list[_Near]] = {}
        while queries:
            self._set(_BY_INDEX | {"hnsw.ef_search": str(effort), **self._going_on})
            short = []
            for query, rows in self._scan_index(queries, wanted):
                near = self._ranked(rows, query)
                if len(rows) == wanted and self._enough(near, zero=False):
                    found[query] = near
                elif self._filtered or (len(rows) == wanted and near[-1].score > 0):
                    short.append(query)
            if effort == EFFORTS[-1] and self._filtered:
                break
            queries, effort = short, EFFORTS[-1]
            wanted *= 1 if self._filtered else 4
        return found

    @property
    def _going_on(self) -> dict[str, str]:
        """Whether a scan goes on past the nearest that it looks for first.

        In strict order what is found late would be thrown away; all are ranked here in any case.
        """
        if self._filtered:
            return {"hnsw.iterative_scan": "off"}
        return {
            "hnsw.iterative_scan": "relaxed_order",
            "hnsw.max_scan_tuples": str(max(20_000, self._nearest.rows // 10)),
            "hnsw.scan_mem_multiplier": "64",
        }

    def _one_by_one(self, queries: Sequence[int], few: bool) -> dict[int, list[_Near]]:
        """Compare with every vector that passes."""
        if not queries:
            return {}
        self._set(_ONE_BY_ONE)
        found: dict[int, list[_Near]] = {}
        wanted = self._rows_wanted
        while queries:
            short = []
            compare = self._compare_few if few else self._compare_all
            for query, rows in compare(queries, wanted):
                near = self._ranked(rows, query)
                if len(rows) < wanted or self._enough(near):
                    found[query] = near
                else:
                    short.append(query)
            queries, wanted = short, wanted * 4
        return found

    @property
    def _rows_wanted(self) -> int:
        wanted = self._sought.k * (_CHUNKS if self._chunked else 1) + _SPARE
        return min(wanted, _MOST_ROWS)

    def _enough(self, near: Sequence[_Near], *, zero: bool = True) -> bool:
        """Whether no other records can be wanted.

        Parameters
        ----------
        near : sequence of _Near
        zero : bool
            Whether vectors of zeros were looked at, which are not in an index: their cosine is 0.
        """
        if not near:
            return False
        k, threshold = self._sought.k, self._sought.threshold
        least = near[min(k, len(near)) - 1].score
        if least <= 0 and not zero and not (threshold is not None and threshold > 0):
            return False
        return len(near) >= k or (threshold is not None and near[-1].score < threshold)

    def _scan_index(self, queries: Sequence[int], wanted: int) -> list[tuple[int, list[_Row]]]:
        kind, dim = self._nearest.indexed, self._header.recipe.dim
        column = "embedding" if kind == self._nearest.kind else f"(embedding::{kind}({dim}))"
        return self._each(
            f"SELECT {_COLUMNS} FROM {self._table} WHERE {self._condition} "
            f"ORDER BY {column} <=> %s::{kind} LIMIT %s",
            queries,
            wanted,
        )

    def _compare_all(self, queries: Sequence[int], wanted: int) -> list[tuple[int, list[_Row]]]:
        return self._each(
            f"SELECT {_COLUMNS} FROM {self._table} WHERE {self._condition} "
            f'ORDER BY {_distance("%s::vector")}, id COLLATE "C", chunk LIMIT %s',
            queries,
            wanted,
        )

    def _compare_few(self, queries: Sequence[int], wanted: int) -> list[tuple[int, list[_Row]]]:
        """Evaluate the filter once for many queries."""
        found: dict[int, list[_Row]] = {query: [] for query in queries}
        for start in range(0, len(queries), _AT_ONCE):
            part = queries[start : start + _AT_ONCE]
            with self._session.connection.cursor(binary=True) as cursor:
                cursor.execute(
                    f"WITH passing AS MATERIALIZED (SELECT {_COLUMNS} FROM {self._table} "
                    f"WHERE {self._condition}) SELECT near.*, query.number FROM "
                    "unnest(%s::vector[]) WITH ORDINALITY AS query(vector, number) "
                    f"CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM passing ORDER BY "
                    f'{_distance("query.vector")}, id COLLATE "C", chunk LIMIT %s) AS near',
                    [*self._values, [bound(self._sought.vectors[q]) for q in part], wanted],
                )
                for row in cursor:
                    found[part[row[-1] - 1]].append(row[:-1])
        return list(found.items())

    def _each(
        self, statement: str, queries: Sequence[int], wanted: int
    ) -> list[tuple[int, list[_Row]]]:
        """Execute a statement for each query, without waiting for one before the next is sent."""
        found: list[tuple[int, list[_Row]]] = []
        connection = self._session.connection
        for start in range(0, len(queries), _AT_ONCE):
            part = queries[start : start + _AT_ONCE]
            with connection.pipeline():
                cursors = [connection.cursor(binary=True) for _ in part]
                for cursor, query in zip(cursors, part, strict=True):
                    vector = bound(self._sought.vectors[query])
                    cursor.execute(statement, [*self._values, vector, wanted])
                found += [(q, c.fetchall()) for q, c in zip(part, cursors, strict=True)]
        return found

    def _ranked(self, rows: Sequence[_Row], query: int) -> list[_Near]:
        """Give each record once, with its nearest vector, compared as exactly as in a store."""
        vectors = unpacked([row[5] for row in rows], self._header.recipe.dim, self._header.dtype)
        vector = unit(self._sought.vectors[query])
        scores: NDArray[np.float64] = (unit(vectors) @ vector).round(DECIMALS) + 0.0
        every = [
            _Near(score, id, key, (chunk, start, end))
            for score, (key, chunk, start, end, id, _) in zip(scores.tolist(), rows, strict=True)
        ]
        every.sort(key=lambda near: (-near.score, near.id, near.chunk))
        best: dict[Any, _Near] = {}
        for near in every:
            best.setdefault(near.key, near)
        return list(best.values())

    def _described(self, found: Sequence[Sequence[_Near]]) -> list[list[ServerHit]]:
        """Fetch texts and metadata of what was found."""
        least = -np.inf if self._sought.threshold is None else self._sought.threshold
        chosen = [[n for n in near[: self._sought.k] if n.score >= least] for near in found]
        keys = list({near.key for of_query in chosen for near in of_query})
        rows = self._session.connection.execute(
            f"SELECT key, text, stored_meta FROM {self._table} "
            "WHERE chunk = 0 AND key = ANY(%s::uuid[])",
            (keys,),
        ).fetchall()
        records = {key: (text, meta) for key, text, meta in rows}
        return [[self._hit(n, *records.get(n.key, (None, None))) for n in each] for each in chosen]

    def _hit(self, near: _Near, text: str | None, meta: str | None) -> ServerHit:
        where = f"{self._session.address}: table {self._table}"
        read = meta_of(near.id, text, meta, where)
        return ServerHit(
            near.id, near.score, text or "", read, near.chunk if self._chunked else None
        )

    def _set(self, settings: dict[str, str]) -> None:
        calls = ", ".join(["set_config(%s, %s, true)"] * len(settings))
        values = [each for setting in settings.items() for each in setting]
        self._session.connection.execute(f"SELECT {calls}", values)


def _few(rows: int) -> int:
    """Say how many rows are sooner compared one by one than found in an index of so many."""
    return max(_FEW, 2 * isqrt(1000 * rows))


def _distance(vector: str) -> str:
    """Give the distance as an expression that no index is used for; 1 of vectors of zeros."""
    return f"coalesce(nullif(embedding::vector <=> {vector}, 'NaN'), 1)"
