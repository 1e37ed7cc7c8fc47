"""Searches in a Milvus collection.

The index gives candidates; cosines are computed here, from the vectors themselves. Where a filter
leaves few rows, the index does not lead to enough, or would give no fewer than there are, all of
them are compared: what is far from the query is found as well as what is near it.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

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
# Of the rows found so many that belong to one record, and a quarter of them, are in the way.
_MANY = 50

Best = dict[str, tuple[float, Row]]


class _Near(NamedTuple):
    """What the index gives for a query.

    Attributes
    ----------
    rows : list of dict
    cosines : array, shape (n,)
    least : float or None
        The most that the cosine of another row can be; None if there is none.
    """

    rows: list[Row]
    cosines: NDArray[np.float64]
    least: float | None


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
        # Rows that meet the condition, once they were counted.
        self._held: int | None = None

    def hits(self) -> list[list[ServerHit]]:
        """Search."""
        sought = self._sought
        queries = range(len(sought.vectors))
        if sought.k <= 0 or not len(sought.vectors):
            return [[] for _ in queries]
        condition = self._condition()
        if condition is None:
            return [[] for _ in queries]
        condition = _but_for(condition, sought.without)
        if sought.exact or sought.k > _WINDOW // 2:
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
        most = self._sought.k
        rows.sort(key=lambda row: str(row["record"]))
        ids = np.array([row["record"] for row in rows], object)
        starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
        ends = np.append(starts[1:], len(rows))
        vectors = self._taken(rows)
        at_once = max(1, _FEW_BYTES // (8 * len(rows)))
        for first in range(0, len(best), at_once):
            some = slice(first, first + at_once)
            cosines = _cosines(vectors, queries[some])
            highest = np.maximum.reduceat(cosines, starts, axis=0)
            for column, found in enumerate(best[some]):
                of_records = highest[:, column]
                least = np.partition(of_records, -most)[-most] if len(of_records) > most else -2.0
                for record in np.flatnonzero(of_records >= least).tolist():
                    part = slice(starts[record], ends[record])
                    _keep(found, rows[part], cosines[part, column])
                if len(found) > 4 * most:
                    _prune(found, most)

    def _indexed(self, condition: str) -> list[Best]:
        """Ask the index for more and more rows, until there are enough records among them.

        Of Lite, which compares with all rows whatever the condition, those of other records are
        asked for instead where one record has very many.
        """
        best: list[Best] = [{} for _ in self._queries]
        slices = self._slices(condition)
        first = self._sought.k + _SPARE
        if self._collection.header.chunking is not None:
            first *= 2
        # By how many rows to ask for, and the records of which no more has to be known.
        asked = {(first, frozenset[str]()): list(range(len(best)))}
        unfinished: list[int] = []
        while asked:
            limit, known = next(iter(asked))
            numbers = asked.pop((limit, known))
            if not slices or self._are_all(condition, limit * len(numbers)):
                unfinished += numbers
                continue
            waiting = []
            among = [_but_for(each, known) for each in slices]
            at_once = max(1, _FEW_BYTES // (4 * self._dim * limit))
            for start in range(0, len(numbers), at_once):
                some = numbers[start : start + at_once]
                for number, near in zip(some, self._nearest(some, limit, among), strict=True):
                    _keep(best[number], near.rows, near.cosines)
                    if not self._is_enough(best[number], near.least):
                        waiting.append((number, near.least, self._owners(near, best[number])))
                    _prune(best[number], self._sought.k)
            further = 4 * limit * len(waiting)
            if limit == _WINDOW or (
                4 * further * self._dim > _FEW_BYTES and not self._are_all(condition, further)
            ):
                # Where ever more rows tie, those that were seen have to do.
                waiting = [
                    each
                    for each in waiting
                    if not self._is_enough(best[each[0]], each[1], ties=False)
                ]
            for number, least, owners in waiting:
                if owners:
                    asked.setdefault((first, known | owners), []).append(number)
                elif least is None or limit == _WINDOW:
                    # There are no more rows, or nothing leads to them.
                    unfinished.append(number)
                else:
                    asked.setdefault((min(4 * limit, _WINDOW), known), []).append(number)
        if unfinished:
            whole = self._compared_few(condition, unfinished)
            if whole is None:
                whole = self._scanned(condition, unfinished)
            for number, of_query in zip(unfinished, whole, strict=True):
                best[number] = of_query
        return best

    def _are_all(self, condition: str, rows: int) -> bool:
        """Whether answers with so many rows have no fewer than there are to be compared."""
        if rows <= _WINDOW:
            return False
        if self._held is None:
            self._held = self._collection.count(condition, strong=self._sought.strong)
        return self._held <= min(rows, _MOST_COMPARED)

    def _owners(self, near: "_Near", best: Best) -> frozenset[str]:
        """Give the records that have very many of the rows, and whose nearest is among these."""
        if not self._collection.lite or near.least is None:
            return frozenset()
        many = max(_MANY, len(near.rows) // 4)
        counts = Counter(row["record"] for row in near.rows)
        least = near.least + _SLACK
        return frozenset(id for id, n in counts.items() if n >= many and best[id][0] >= least)

    def _slices(self, condition: str) -> list[str]:
        """Divide a condition into some that Milvus evaluates better.

        Where a filter leaves less than 7 % of the rows Milvus compares all of these. Where it
        leaves more, but all of them far from the query, the index loses its way. By ranges of
        keys a filter becomes several that leave less. There are none where so few rows are left
        that they had better be read.
        """
        if self._sought.where is None or self._collection.lite:
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
        self, numbers: Sequence[int], limit: int, conditions: Sequence[str]
    ) -> list["_Near"]:
        """Ask the index for the nearest rows of some queries, by each of the conditions."""
        found = [_Near([], np.empty(0), None) for _ in numbers]
        for condition in conditions:
            answer = self._collection.nearest(
                self._sought.vectors[list(numbers)], limit, self._effort(), condition, _FIELDS,
                strong=self._sought.strong,
            )  # fmt: skip
            for place, (number, rows) in enumerate(zip(numbers, answer, strict=True)):
                cosines = _cosines(self._taken(rows), self._queries[number])
                before, least = found[place], None
                if len(rows) >= limit:
                    least = float(cosines.min())
                found[place] = _Near(
                    before.rows + rows,
                    np.concatenate([before.cosines, cosines]),
                    max((each for each in (before.least, least) if each is not None), default=None),
                )
        return found

    def _is_enough(self, best: Best, least: float | None, *, ties: bool = True) -> bool:
        """Whether no row that was not seen can be among the best, or tie with the last of them."""
        sought = self._sought
        cosines = sorted((cosine for cosine, _ in best.values()), reverse=True)
        enough = len(cosines) >= sought.k
        if least is None:
            # Lite has given all rows; another's index may not lead to all.
            return enough or self._collection.lite
        if enough and cosines[sought.k - 1] >= (least + _SLACK if ties else least):
            return True
        return sought.threshold is not None and least + _SLACK < sought.threshold

    def _effort(self) -> int:
        filtered = self._sought.where is not None
        known = self._collection.header.effort(filtered)
        return self._sought.effort or known or (_FILTERED_EFFORT if filtered else _EFFORT)

    def _taken(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """Take the vectors out of rows, at length 1: rows that are kept have no need of them."""
        vectors = unit(matrix(rows, self._dim))
        for row in rows:
            del row["vector"]
        return vectors

    def _with_texts(self, found: list[Best]) -> list[list[ServerHit]]:
        """Choose the best records of each query, and read their texts."""
        sought = self._sought
        chosen = []
        for best in found:
            ranked = sorted(best.items(), key=_rank)
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


def _cosines(vectors: NDArray[np.float64], queries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compare vectors with one query, shape (n,), or several, shape (n, m), as a store does."""
    cosines: NDArray[np.float64] = (vectors @ queries.T).round(DECIMALS) + 0.0
    return cosines


def _prune(best: Best, most: int) -> None:
    if len(best) > most:
        kept = sorted(best.items(), key=_rank)[:most]
        best.clear()
        best.update(kept)


def _but_for(condition: str, ids: Collection[str]) -> str:
    """Leave the rows of some records out of a condition."""
    if not ids:
        return condition
    others = f"rid not in [{', '.join(literal(record_key(id)) for id in sorted(ids))}]"
    return f"({condition}) and {others}" if condition else others


def _rank(item: tuple[str, tuple[float, Row]]) -> tuple[float, str]:
    return -item[1][0], item[0]
