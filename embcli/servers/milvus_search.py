"""Searches in a Milvus collection.

The index gives candidates; cosines are computed here, from the vectors themselves. Where a filter
leaves few rows, or the index does not lead to enough, all of them are compared: what is far from
the query is found as well as what is near it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.topk import DECIMALS
from embcli.errors import UsageError
from embcli.servers import ServerHit, Sought
from embcli.servers.milvus_rows import Row, matrix, metadata, record_key, whole_texts
from embcli.servers.milvus_where import compile_node, literal, matching

if TYPE_CHECKING:
    from embcli.servers.milvus import MilvusCollection

# Rows that are compared one by one rather than through the index.
_FEWEST, _FEW, _FEW_BYTES = 128, 2048, 32 << 20
# Rows read at a time, and the most that one search of the server gives.
_AT_ONCE, _WINDOW = 4096, 16_384
# Records that a filter evaluated here may leave: their keys go back to the server.
_MOST_KEYS = 100_000
_EFFORT, _FILTERED_EFFORT = 128, 512
# Of all rows those that a condition may leave for Milvus to compare them all, with some room; into
# how many conditions one may be divided, and rows that are then compared.
_SPARSE, _MOST_SLICES, _MOST_COMPARED = 0.06, 16, 200_000
_FIELDS = ("record", "chunk", "start", "end", "vector")
_TEXTS = ("pk", "record", "chunk", "start", "end", "text", "meta")
_SOURCES = (*_TEXTS, "source")
_KEYS_AT_ONCE = 4096
# The index computes with float32, and gives equal rows in any order: it must come past what is
# wanted by some rows, and by this much, before nothing it has not given can tie.
_SPARE, _SLACK = 16, 1e-6

Best = dict[str, tuple[float, Row]]


class MilvusSearch:
    """One search.

    Parameters
    ----------
    collection : MilvusCollection
    sought : Sought
    infix : bool
        See `embcli.servers.milvus_where.compile_node`.
    """

    def __init__(self, collection: "MilvusCollection", sought: Sought, infix: bool) -> None:
        self._collection = collection
        self._sought = sought
        self._infix = infix
        self._queries = unit(sought.vectors)
        self._dim = collection.header.recipe.dim

    def hits(self) -> list[list[ServerHit]]:
        """Search."""
        sought = self._sought
        queries = range(len(sought.vectors))
        if sought.k <= 0 or not len(sought.vectors):
            return [[] for _ in queries]
        condition = self._condition()
        if condition is None:
            return [[] for _ in queries]
        if sought.exact or sought.k + len(sought.without) > _WINDOW // 2:
            return self._with_texts(self._scanned(condition))
        return self._with_texts(self._indexed(condition))

    def _compared_few(self, condition: str, numbers: Sequence[int]) -> list[Best] | None:
        """Compare some of the queries with all rows; None if these are many."""
        few = min(_FEW, _FEW_BYTES // (4 * self._dim))
        rows = self._collection.query(condition, _FIELDS, strong=self._sought.strong, limit=few + 1)
        if len(rows) > few:
            return None
        queries = self._chosen(numbers)
        best: list[Best] = [{} for _ in queries]
        self._compare(rows, queries, best)
        return best

    def _chosen(self, numbers: Sequence[int] | None) -> NDArray[np.float64]:
        return self._queries if numbers is None else self._queries[list(numbers)]

    def _condition(self) -> str | None:
        """Write the filter as the server evaluates it; None if no record meets it."""
        where = self._sought.where
        if where is None:
            return ""
        expression = compile_node(where, self._infix)
        if expression.exact:
            return expression.text
        keys: list[str] = []
        for rows in self._collection.ranges(
            _AT_ONCE, f"({expression.text}) and chunk <= 0", _SOURCES
        ):
            records = []
            for id, (first, text) in whole_texts(rows).items():
                metadata(first, self._collection.where)
                records.append((id, text, first["source"], first["meta"]))
            holds = matching(where, records)
            keys += [record_key(id) for (id, *_), held in zip(records, holds, strict=True) if held]
            if len(keys) > _MOST_KEYS:
                raise UsageError(
                    "--where: the server cannot evaluate this filter, and more than "
                    f"{_MOST_KEYS:,} records meet it",
                    hint="add a condition on metadata with = or <, or embcli pull and search there",
                )
        return f"rid in [{', '.join(map(literal, keys))}]" if keys else None

    def _scanned(self, condition: str, numbers: Sequence[int] | None = None) -> list[Best]:
        """Compare some of the queries, or all, with every row that meets the condition."""
        queries = self._chosen(numbers)
        best: list[Best] = [{} for _ in queries]
        for rows in self._collection.ranges(_AT_ONCE, condition, _FIELDS):
            self._compare(rows, queries, best)
        return best

    def _compare(self, rows: list[Row], queries: NDArray[np.float64], best: Sequence[Best]) -> None:
        """Compare queries with rows, in which records are whole, and keep what may be best."""
        if not rows:
            return
        most = self._sought.k + len(self._sought.without)
        rows.sort(key=lambda row: str(row["record"]))
        ids = np.array([row["record"] for row in rows], object)
        starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
        ends = np.append(starts[1:], len(rows))
        cosines = self._cosines(rows, queries)
        highest = np.maximum.reduceat(cosines, starts, axis=0)
        for column, found in enumerate(best):
            of_records = highest[:, column]
            least = np.partition(of_records, -most)[-most] if len(of_records) > most else -2.0
            for record in np.flatnonzero(of_records >= least).tolist():
                part = slice(starts[record], ends[record])
                _keep(found, rows[part], cosines[part, column])
            if len(found) > 4 * most:
                kept = sorted(found.items(), key=_rank)[:most]
                found.clear()
                found.update(kept)

    def _indexed(self, condition: str) -> list[Best]:
        """Ask the index for more and more rows, until there are enough records among them."""
        sought = self._sought
        best: list[Best] = [{} for _ in self._queries]
        open_, unfinished = list(range(len(best))), list[int]()
        limit = sought.k + len(sought.without) + _SPARE
        if self._collection.header.chunking is not None:
            limit *= 2
        slices = self._slices(condition)
        if not slices:
            open_, unfinished = [], open_
        while open_:
            limit = min(limit, _WINDOW)
            found = self._nearest(open_, limit, condition, slices)
            waiting = []
            for number, (rows, least) in zip(open_, found, strict=True):
                _keep(best[number], rows, self._cosines(rows, self._queries[number]))
                if not self._is_enough(best[number], least):
                    waiting.append((number, least))
            if limit == _WINDOW or 16 * limit * len(waiting) * self._dim > _FEW_BYTES:
                # Where ever more rows tie, those that were seen have to do.
                waiting = [
                    (number, least)
                    for number, least in waiting
                    if not self._is_enough(best[number], least, ties=False)
                ]
            open_ = []
            for number, least in waiting:
                # There are no more rows, or nothing leads to them.
                is_over = least is None or limit == _WINDOW
                (unfinished if is_over else open_).append(number)
            limit *= 4
        if unfinished:
            whole = self._compared_few(condition, unfinished)
            if whole is None:
                whole = self._scanned(condition, unfinished)
            for number, of_query in zip(unfinished, whole, strict=True):
                best[number] = of_query
        return best

    def _slices(self, condition: str) -> list[str]:
        """Divide a condition into some that Milvus evaluates better.

        Where a filter leaves less than 7 % of the rows Milvus compares all of these. Where it
        leaves more, but all of them far from the query, the index loses its way. By ranges of
        keys a filter becomes several that leave less. There are none where so few rows are left
        that they had better be read.
        """
        if not condition or self._collection.lite:
            return [condition]
        strong = self._sought.strong
        held, rows = (self._collection.count(each, strong=strong) for each in (condition, ""))
        if held <= max(_FEWEST, self._sought.k):
            return []
        n = math.ceil(held / (_SPARSE * rows)) if rows else 1
        if held > _MOST_COMPARED or not 1 < n <= _MOST_SLICES:
            return [condition]
        bounds = [f"{256 * part // n:02x}" for part in range(n)]
        ends = [*(f' and pk < "{end}"' for end in bounds[1:]), ""]
        return [
            f'({condition}) and pk >= "{start}"{end}'
            for start, end in zip(bounds, ends, strict=True)
        ]

    def _nearest(
        self, numbers: Sequence[int], limit: int, condition: str, slices: Sequence[str]
    ) -> list[tuple[list[Row], float | None]]:
        """Ask the index for the nearest rows of some queries.

        With them comes the most that the cosine of another row can be; None if there is none.
        """
        rows: list[list[Row]] = [[] for _ in numbers]
        least: list[float | None] = [None] * len(rows)
        for each in slices:
            found = self._collection.nearest(
                self._sought.vectors[list(numbers)], limit, self._effort(condition), each, _FIELDS,
                strong=self._sought.strong,
            )  # fmt: skip
            for place, (number, of_query) in enumerate(zip(numbers, found, strict=True)):
                rows[place] += of_query
                if len(of_query) >= limit:
                    last = float(self._cosines(of_query, self._queries[number]).min())
                    before = least[place]
                    least[place] = last if before is None else max(before, last)
        return list(zip(rows, least, strict=True))

    def _is_enough(self, best: Best, least: float | None, *, ties: bool = True) -> bool:
        """Whether no row that was not seen can be among the best, or tie with the last of them."""
        sought = self._sought
        cosines = sorted(
            (cosine for id, (cosine, _) in best.items() if id not in sought.without), reverse=True
        )
        enough = len(cosines) >= sought.k
        if least is None:
            return enough
        if enough and cosines[sought.k - 1] >= (least + _SLACK if ties else least):
            return True
        return sought.threshold is not None and least + _SLACK < sought.threshold

    def _effort(self, condition: str) -> int:
        known = self._collection.header.effort(bool(condition))
        return self._sought.effort or known or (_FILTERED_EFFORT if condition else _EFFORT)

    def _cosines(self, rows: Sequence[Row], queries: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compare rows with one query, shape (n,), or several, shape (n, m), as a store does."""
        vectors = unit(matrix(rows, self._dim))
        cosines: NDArray[np.float64] = (vectors @ queries.T).round(DECIMALS) + 0.0
        return cosines

    def _with_texts(self, found: list[Best]) -> list[list[ServerHit]]:
        """Choose the best records of each query, and read their texts."""
        sought = self._sought
        chosen = []
        for best in found:
            ranked = sorted(
                (each for each in best.items() if each[0] not in sought.without), key=_rank
            )
            if sought.threshold is not None:
                ranked = [each for each in ranked if each[1][0] >= sought.threshold]
            chosen.append(ranked[: sought.k])
        keys = [record_key(id) for id in {id for ranked in chosen for id, _ in ranked}]
        wholes: dict[str, tuple[Row, str]] = {}
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            among = ", ".join(map(literal, keys[start : start + _KEYS_AT_ONCE]))
            condition = f"rid in [{among}] and chunk <= 0"
            wholes |= whole_texts(self._collection.query(condition, _TEXTS, strong=sought.strong))
        # What has no first row is being written.
        return [
            [self._hit(cosine, row, *wholes[id]) for id, (cosine, row) in ranked if id in wholes]
            for ranked in chosen
        ]

    def _hit(self, cosine: float, row: Row, first: Row, text: str) -> ServerHit:
        chunk = None
        if self._collection.header.chunking is not None:
            # Rows in which a text goes on have the vector of the first chunk.
            nearest = row if row["chunk"] > 0 else first
            chunk = (nearest["chunk"], nearest["start"], nearest["end"])
        meta = metadata(first, self._collection.where)
        return ServerHit(first["record"], cosine, text, meta, chunk)


def _keep(best: Best, rows: Sequence[Row], cosines: NDArray[np.float64]) -> None:
    """Keep the nearest row of each record; of equal ones that of the first chunk."""
    for row, cosine in zip(rows, cosines.tolist(), strict=True):
        before = best.get(row["record"])
        if before is None or (cosine, -row["chunk"]) > (before[0], -before[1]["chunk"]):
            best[row["record"]] = cosine, row


def _rank(item: tuple[str, tuple[float, Row]]) -> tuple[float, str]:
    return -item[1][0], item[0]
