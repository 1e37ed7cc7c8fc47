"""Collections on a Milvus server."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from embcli import Recipe, Store
from embcli.core.cosine import cosines as cosines_of
from embcli.errors import StoreError, UsageError
from embcli.servers import Header, Sought, connect
from embcli.servers.milvus import MilvusServer
from embcli.servers.milvus_calls import Calls
from embcli.servers.milvus_rows import record_key
from embcli.servers.milvus_where import compile_node
from embcli.store.collection import Batch
from embcli.store.where import parse_where
from tests.engines.milvus_server import milvus, own_milvus  # noqa: F401

pytestmark = pytest.mark.engines


def header_of(dim, **changes):
    settings = {"model": "x", "dim": dim, "normalized": False, "imported": "sha256:0", "maps": []}
    return Header(Recipe(settings), **changes)


def batch_of(ids, vectors, *, texts=None, metas=None, spans=None):
    n = len(ids)
    texts = texts or [f"text of {id}" for id in ids]
    metas = [json.dumps(meta, ensure_ascii=False) for meta in metas or [{}] * n]
    sources, hashes = [f"f.jsonl:{row}" for row in range(n)], [f"{row:064x}" for row in range(n)]
    return Batch(ids, texts, metas, sources, hashes, np.asarray(vectors, np.float32), spans)


def read(collection, where=None):
    """Everything that is there, by id: text, meta, source, hash, vectors and spans."""
    found = {}
    for batch in collection.batches(3, parse_where(where) if where else None):
        starts, counts = batch.starts.tolist(), batch.counts.tolist()
        columns = (batch.ids, batch.texts, batch.metas, batch.sources, batch.hashes)
        for row, (id, *rest) in enumerate(zip(*columns, strict=True)):
            vectors = batch.vectors[starts[row] : starts[row] + counts[row]].tolist()
            spans = None if batch.spans is None else batch.spans[row].tolist()
            assert id not in found
            found[id] = (*rest, vectors, spans)
    return found


def written(batch):
    spans = batch.spans or [None] * len(batch.ids)
    parts = np.split(batch.vectors, batch.starts[1:])
    columns = (batch.ids, batch.texts, batch.metas, batch.sources, batch.hashes, parts, spans)
    return {
        id: (*rest, part.tolist(), None if span is None else span.tolist())
        for id, *rest, part, span in zip(*columns, strict=True)
    }


def all_sums(collection):
    return {id: sum for ids, sums in collection.sums() for id, sum in zip(ids, sums, strict=True)}


@pytest.fixture(scope="module")
def server(milvus):  # noqa: F811
    with connect(milvus) as server:
        yield server


@pytest.fixture
def made(server):
    """Make a collection that is gone afterwards."""
    names = []

    def make(dim, **changes):
        names.append(f"c{os.getpid()}_{random.randrange(10**9)}")
        return server.create(names[-1], header_of(dim, **changes))

    yield make
    for name in names:
        server.drop(name)


ODD = [
    "plain", "it's \"quoted\"", "back\\slash", "sl/ash", "émoji 😀", "new\nline", "x" * 60_000, " ",
    "id[0]", "%_*", "漢字", "nul\0",
]  # fmt: skip
ODD_TEXTS = [
    "", "x", "é" * 50_000, "😀" * 40_000, "a" * 65_535, "a" * 65_536, "line\nline\r\n\t", "\0",
    '"', "\\", "漢" * 70_000, " ",
]  # fmt: skip
ODD_METAS = [
    {}, {"a": None}, {"a": {"b": {"c": [1, {"d": 2}]}}}, {"é": "😀", "a b": 1, "a.b": 2},
    {"big": 2**70, "max": 2**63 - 1, "min": -(2**63)}, {"f": 0.1, "tiny": 5e-324, "huge": 1.7e308},
    {"t": True, "f": False, "n": None}, {"s": "x" * 20_000}, {"": "empty", "x": ""},
    {"tags": [], "o": {}}, {"pk": 1, "record": "x", "vector": [1], "t.x": 5}, {"q": "\"'\\\n"},
]  # fmt: skip


def test_odd_records_come_back_as_they_were(made):
    vectors = np.random.default_rng(0).normal(size=(len(ODD), 8)).astype(np.float32)
    vectors[3] = 0
    vectors[4] *= 1e-30
    vectors[5] *= 1e30
    batch = batch_of(ODD, vectors, texts=ODD_TEXTS, metas=ODD_METAS)
    collection = made(8)
    sums = [2**63 - 1 - row for row in range(len(ODD))]
    for _ in range(2):
        collection.write(batch, sums)
        assert collection.counts() == (len(ODD), len(ODD))
        assert read(collection) == written(batch)
        assert all_sums(collection) == dict(zip(ODD, sums, strict=True))
    collection.finish(["a"], lambda *_: None)
    found = collection.fetch([*ODD[2:5], "not there"])
    assert written(found) == {id: written(batch)[id] for id in ODD[2:5]}
    for row in (0, 2, 10):
        best = collection.search(Sought(vectors[row : row + 1], 1, strong=True))[0][0]
        assert (best.id, best.text, best.chunk) == (ODD[row], ODD_TEXTS[row], None)
        assert best.meta == ODD_METAS[row]
        assert best.score == pytest.approx(1, abs=1e-6)


def test_what_is_written_again_replaces_what_was_there(made):
    collection = made(4)
    collection.write(batch_of(["a", "b"], np.eye(4)[:2], texts=["y" * 150_000, "b"]), [1, 2])
    after = batch_of(["a"], np.eye(4)[2:3], texts=["short"], metas=[{"new": 1}])
    collection.write(after, [3])
    assert collection.counts() == (2, 2)
    assert read(collection)["a"] == written(after)["a"]
    assert all_sums(collection) == {"a": 3, "b": 2}
    # Nothing is left of the metadata before, nor of the text.
    collection.write(batch_of(["a"], np.eye(4)[2:3], metas=[{"other": 1}]), [4])
    assert not read(collection, "new = 1")
    assert list(read(collection, "other = 1")) == ["a"]
    hits = collection.search(Sought(np.eye(4, dtype=np.float32)[:1], 5, strong=True))[0]
    assert sorted(hit.id for hit in hits) == ["a", "b"]
    collection.delete(["a", "never there"])
    assert all_sums(collection) == {"b": 2}
    assert collection.counts() == (1, 1)


def test_chunks(made):
    rng = np.random.default_rng(1)
    spans = [np.array([[i * 10, i * 10 + 12] for i in range(n)], np.int64) for n in (3, 1, 12)]
    vectors = rng.normal(size=(16, 8)).astype(np.float32)
    texts = ["a" * 40, "b" * 20, "c" * 100_000]
    batch = batch_of(["a", "b", "c"], vectors, texts=texts, spans=spans)
    collection = made(8, chunking="chars:12")
    for _ in range(2):
        collection.write(batch, [1, 2, 3])
        assert collection.counts() == (3, 16)
        assert read(collection) == written(batch)
    collection.finish([], lambda *_: None)
    for exact in (False, True):
        hits = collection.search(Sought(vectors[[1, 14, 4]], 3, exact=exact, strong=True))
        assert [hit[0].id for hit in hits] == ["a", "c", "c"]
        assert [hit[0].chunk for hit in hits] == [(1, 10, 22), (10, 100, 112), (0, 0, 12)]
        assert {hit.id for hit in hits[0]} == {"a", "b", "c"}
        assert next(hit.text for hit in hits[0] if hit.id == "c") == texts[2]
    fewer = batch_of(["c"], vectors[:2], texts=["c" * 30], spans=[spans[0][:2]])
    collection.write(fewer, [4])
    assert collection.counts() == (3, 6)
    assert read(collection)["c"] == written(fewer)["c"]
    collection.delete(["a"])
    assert collection.counts() == (2, 3)


class BreaksOff:
    """Calls of a server, of which only some may write."""

    def __init__(self, calls, left):
        self._calls, self._left = calls, left

    def __getattr__(self, name):
        return getattr(self._calls, name)

    def __call__(self, name, *arguments, **options):
        if name in ("insert", "upsert", "delete"):
            if not self._left:
                raise InterruptedError
            self._left -= 1
        return self._calls(name, *arguments, **options)


def test_a_record_that_was_half_written_is_not_taken_for_whole(made):
    """Whatever calls were made when a writer broke off, the next write mends it."""
    spans = [np.array([[0, 5], [5, 9]], np.int64)]
    old = batch_of(["a"], np.eye(4)[:2], texts=["old text!"], spans=spans)
    new = batch_of(["a"], np.eye(4)[2:], texts=["new text!"], spans=spans)

    for calls in range(4):
        collection = made(4, chunking="chars:5")
        collection.write(old, [1])
        whole = collection._calls
        collection._calls = BreaksOff(whole, calls)
        if calls < 3:
            with pytest.raises(InterruptedError):
                collection.write(new, [2])
        else:
            collection.write(new, [2])
        collection._calls = whole
        stands = all_sums(collection)
        # The sum that is there says what is there.
        expected = {1: old, 2: new}
        assert read(collection) == (written(expected[stands["a"]]) if stands else {})
        assert stands == ({"a": 1} if not calls else {"a": 2} if calls == 3 else {})
        collection.search(Sought(np.ones((1, 4), np.float32), 5, strong=True))
        collection.write(new, [2])
        assert read(collection) == written(new)
        assert all_sums(collection) == {"a": 2}


@pytest.fixture(scope="module")
def clustered(server):
    """5,000 vectors in clusters, with metadata that hold anywhere, far from a query, near it."""
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(50, 64))
    vectors = centres[rng.integers(0, 50, 5000)] + 0.7 * rng.normal(size=(5000, 64))
    vectors = (vectors * rng.uniform(0.1, 10, (5000, 1))).astype(np.float32)
    queries = (centres[:20] + 0.5 * rng.normal(size=(20, 64))).astype(np.float32)
    queries[1:10] = queries[0] + 0.2 * rng.normal(size=(9, 64))
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    of_unit = queries.astype(np.float64)
    of_unit /= np.linalg.norm(of_unit, axis=1, keepdims=True)
    cosines = of_unit @ unit.T
    order = cosines[0].argsort()
    rank = np.empty(5000, int)
    rank[order] = np.arange(5000)
    parts = rng.permutation(5000)
    ids = [f"id {n}" for n in range(5000)]
    metas = [
        {"part": int(part), "rank": int(place)} for part, place in zip(parts, rank, strict=True)
    ]
    if server.collection("clustered"):
        server.drop("clustered")
    collection = server.create("clustered", header_of(64))
    with pytest.raises(StoreError, match="there is a collection 'clustered' already"):
        server.create("clustered", header_of(64))
    for start in range(0, 5000, 1000):
        rows = slice(start, start + 1000)
        batch = batch_of(ids[rows], vectors[rows], metas=metas[rows])
        collection.write(batch, list(range(start, start + 1000)))
    steps = []
    collection.finish(["part"], lambda *step: steps.append(step))
    assert steps[-1] == ("indexing", 5000, 5000)
    yield collection, vectors, queries, cosines, parts, rank
    server.drop("clustered")


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        (None, lambda parts, rank: parts >= 0),
        ("part < 150", lambda parts, rank: parts < 150),
        ("part < 4500", lambda parts, rank: parts < 4500),
        ("rank < 150", lambda parts, rank: rank < 150),
        ("rank < 2600", lambda parts, rank: rank < 2600),
        ("rank >= 4850", lambda parts, rank: rank >= 4850),
        ("rank >= 2400", lambda parts, rank: rank >= 2400),
        ("part < 7", lambda parts, rank: parts < 7),
    ],
)
def test_recall(clustered, where, holds):
    collection, _, queries, cosines, parts, rank = clustered
    wanted = holds(parts, rank)
    best = np.where(wanted, cosines, -9).argsort(axis=1)[:, ::-1][:, : min(10, wanted.sum())]
    node = parse_where(where) if where else None
    for exact, least in ((False, 0.95), (True, 1.0)):
        found = collection.search(Sought(queries, 10, where=node, exact=exact))
        right = 0
        for row, hits in enumerate(found):
            numbers = [int(hit.id[3:]) for hit in hits]
            assert len(numbers) == best.shape[1]
            assert wanted[numbers].all()
            assert [hit.score for hit in hits] == pytest.approx(cosines[row][numbers], abs=1e-6)
            assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)
            right += len(set(numbers) & set(best[row].tolist()))
        assert right / best.size >= least


def test_many_queries_are_asked_in_several_calls(clustered, monkeypatch):
    collection, _, queries, _, _, _ = clustered
    asked = []
    call = Calls.__call__

    def counted(self, name, *arguments, **options):
        if name == "search":
            asked.append(len(options["data"]))
        return call(self, name, *arguments, **options)

    monkeypatch.setattr(Calls, "__call__", counted)
    monkeypatch.setattr("embcli.servers.milvus._AT_ONCE", 1 << 16)
    found = collection.search(Sought(queries, 10))
    assert sum(asked) >= len(queries) > max(asked)
    assert found == [collection.search(Sought(query[None], 10))[0] for query in queries]


def test_what_else_is_sought(server, clustered):
    collection, _, queries, cosines, _, _ = clustered
    order = cosines[0].argsort()[::-1]
    first = frozenset(f"id {n}" for n in order[:3])
    for exact in (False, True):
        hits = collection.search(Sought(queries[:1], 5, without=first, exact=exact))[0]
        assert [hit.id for hit in hits] == [f"id {n}" for n in order[3:8]]
        least = float(cosines[0][order[2]]) - 1e-9
        hits = collection.search(Sought(queries[:1], 5, threshold=least, exact=exact))[0]
        assert [hit.id for hit in hits] == [f"id {n}" for n in order[:3]]
        nothing = parse_where("part = -1")
        assert collection.search(Sought(queries[:2], 5, where=nothing, exact=exact)) == [[], []]
    assert collection.search(Sought(queries[:2], 0)) == [[], []]
    few = collection.search(Sought(queries[:1], 100, where=parse_where("part < 30")))[0]
    assert len(few) == 30
    everything = collection.search(Sought(queries[:1], 6000))[0]
    assert [hit.id for hit in everything[:50]] == [f"id {n}" for n in order[:50]]
    assert len(everything) == 5000
    for effort in collection.efforts:
        assert len(collection.search(Sought(queries[:2], 10, effort=effort))[1]) == 10
    facts = collection.facts()
    assert (facts["rows"], facts["index"], facts["pending_rows"]) == (
        5000,
        "FLAT" if "Lite" in server.product else "HNSW",
        0,
    )
    assert all_sums(collection) == {f"id {n}": n for n in range(5000)}


VALUES = [
    "a", "B", "b", "2020", " 7 ", "07", "1e3", "é😀", 'it"s', "a\\b", "line\nbreak", "100%", "a_b",
    "", "true", "null", 0, 1, -1, 7, 2.5, 2020, 1000, 1e300, -1e300, 2**53, 2**63 - 1, 2**70, 0.1,
    True, False, None,
]  # fmt: skip
NAMES = ["k", "a.b", "`a b`", "é", "tags", "a", "`x.y`"]


def random_metas(rng, n):
    def value(depth=0):
        kind = rng.random()
        if kind < 0.2 and depth < 2:
            return [value(2) for _ in range(rng.randrange(4))]
        if kind < 0.3 and depth < 2:
            return {rng.choice(["b", "a", "7", "é"]): value(depth + 1)}
        return rng.choice(VALUES)

    names = ["k", "a", "a b", "é", "tags", "x.y"]
    return [{name: value() for name in names if rng.random() < 0.7} for _ in range(n)]


def random_filter(rng, depth=0):
    if depth < 2 and rng.random() < 0.45:
        word = rng.choice(["and", "or"])
        return f"({random_filter(rng, depth + 1)} {word} {random_filter(rng, depth + 1)})"
    if rng.random() < 0.2:
        return f"not {random_filter(rng, depth + 1)}"

    def written(value):
        if isinstance(value, str):
            doubled = value.replace('"', '""')
            return f'"{doubled}"'
        return str(value).lower() if isinstance(value, bool) else repr(value)

    values = [written(value) for value in VALUES if value is not None]
    plain = [each for each in values if each not in ("true", "false")]
    name = rng.choice([*NAMES, *NAMES, "id", "source", "text"])
    no = rng.choice(["", "", "not "])
    forms = [
        f"{name} {rng.choice(['<', '<=', '>', '>='])} {rng.choice(plain)}",
        f"{name} {rng.choice(['=', '!='])} {rng.choice(plain)}",
        f"{name} is {no}null",
        f"{name} {no}between {rng.choice(plain)} and {rng.choice(plain)}",
        f"{name} {no}in ({', '.join(rng.sample(plain, 3))})",
        f"{name} {no}contains {rng.choice(plain)}",
        f"{name} {no}like {written(rng.choice(['a%', '%_b', 'B', '%', '%0%']))}",
        f"{name} {no}glob {written(rng.choice(['a*', '*0', '?', '[ab]']))}",
    ]
    if name not in ("id", "source", "text"):
        forms += [
            f"{name} {rng.choice(['=', '!='])} {rng.choice(['true', 'false'])}",
            f"{name} {no}in (true, {rng.choice(plain)})",
            f"{name} {no}contains {rng.choice(['true', 'false'])}",
        ]
    return rng.choice(forms)


def test_filters_find_what_stores_find(made, home):
    rng = random.Random(3)
    metas = random_metas(rng, 80)
    ids = ["a", "b", "2020", "é😀", 'it"s', "a\\b", *(f"id {n}" for n in range(74))]
    texts = [rng.choice(["a", "A cup", "100% b", "b\n"]) for _ in ids]
    vectors = np.random.default_rng(3).normal(size=(80, 8)).astype(np.float32)
    batch = batch_of(ids, vectors, texts=texts, metas=metas)
    collection = made(8)
    collection.write(batch, [1] * 80)
    collection.finish([], lambda *_: None)
    exact = 0
    with Store(home / "local.db") as store:
        local = store.create_collection("c", header_of(8).recipe)
        local.put(batch)
        names = local.names()
        for _ in range(25 if os.environ.get("EMBCLI_TEST_MILVUS") else 250):
            text = random_filter(rng)
            wanted = local.filter(text)
            expected = sorted(id for key, id in names.items() if wanted[key])
            node = parse_where(text)
            hits = collection.search(Sought(vectors[:1], 80, where=node, strong=True))[0]
            assert sorted(hit.id for hit in hits) == expected, text
            # The server alone finds them, or these and others.
            expression = compile_node(node, collection._infix)
            there = {row["record"] for row in collection.query(expression.text, ["record"])}
            exact += expression.exact
            assert there >= set(expected), text
            assert not expression.exact or len(there) == len(expected), (text, expression.text)
            if rng.random() < 0.1:
                assert sorted(read(collection, text)) == expected
    assert exact > (2 if os.environ.get("EMBCLI_TEST_MILVUS") else 80)


def test_float16_is_rounded(made):
    vectors = np.random.default_rng(4).normal(size=(20, 8)).astype(np.float32)
    ids = [str(n) for n in range(20)]
    collection = made(8, dtype="float16")
    collection.write(batch_of(ids, vectors), [1] * 20)
    found = collection.fetch(ids)
    order = [int(id) for id in found.ids]
    assert (found.vectors == vectors[order].astype(np.float16).astype(np.float32)).all()
    assert len(order) == 20


def test_ties_are_in_order_of_ids(made):
    collection = made(4)
    ids = [f"{n:02}" for n in range(30)]
    collection.write(batch_of(ids[::-1], np.ones((30, 4))), [1] * 30)
    found = collection.search(Sought(np.ones((1, 4), np.float32), 40, strong=True))[0]
    assert [hit.id for hit in found] == ids
    exact = collection.search(Sought(np.ones((1, 4), np.float32), 5, exact=True, strong=True))[0]
    assert [hit.id for hit in exact] == ids[:5]


def test_scores_are_those_of_stores(made):
    """To the last digit, whatever is compared at a time: equal vectors tie, and thresholds hold."""
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(400, 200)).astype(np.float32)[rng.integers(0, 400, 1600)]
    queries = vectors[:1]
    ids = np.array([f"{n:04}" for n in rng.permutation(1600)])
    collection = made(200)
    for start in range(0, 1600, 100):
        rows = slice(start, start + 100)
        collection.write(batch_of(ids[rows].tolist(), vectors[rows]), [1] * 100)
    collection.finish([], lambda *_: None)
    for query, scores in zip(queries, cosines_of(queries, vectors), strict=True):
        order = np.lexsort((ids, -scores))
        ranked = [(ids[row], scores[row]) for row in order]
        for k in (4, 900, 2000):
            last = float(ranked[min(k, 1600) - 1][1])
            for exact, least in ((False, None), (True, None), (False, last), (True, last)):
                sought = Sought(query[None], k, threshold=least, exact=exact, strong=True)
                hits = [(hit.id, hit.score) for hit in collection.search(sought)[0]]
                assert hits == ranked[:k]


def test_ties_of_many_queries_are_not_followed_to_the_end(made, monkeypatch):
    """What is read to find the first of many equal records has to fit into memory."""
    collection = made(256)
    ids = [f"{n:02}" for n in range(99, -1, -1)]
    collection.write(batch_of(ids, np.ones((100, 256))), [1] * 100)
    asked, nearest = [], collection.nearest

    def counted(vectors, limit, *arguments, **options):
        asked.append(limit)
        return nearest(vectors, limit, *arguments, **options)

    monkeypatch.setattr(collection, "nearest", counted)
    one = collection.search(Sought(np.ones((1, 256), np.float32), 10, strong=True))
    assert [hit.id for hit in one[0]] == sorted(ids)[:10]
    assert len(asked) == 2 + (asked[1] < 100)
    asked.clear()
    many = collection.search(Sought(np.ones((400, 256), np.float32), 10, strong=True))
    assert [len(hits) for hits in many] == [10] * 400
    assert len(asked) == 1


def with_long_records(made, rng, counts, dim=16, names=None):
    """A collection in which records have so many chunks, each record's nearly alike."""
    counts = np.array(counts)
    centres = rng.normal(size=(len(counts), dim))
    starts = counts.cumsum() - counts
    vectors = np.repeat(centres, counts, axis=0) + 0.01 * rng.normal(size=(counts.sum(), dim))
    # Some are equal, within records and across them.
    equal = rng.choice(len(vectors), len(vectors) // 4)
    vectors[equal] = vectors[rng.choice(len(vectors), len(equal))]
    vectors = vectors.astype(np.float32)
    ids = names or [f"{n:03}" for n in rng.permutation(len(counts))]
    spans = [np.array([[2 * n, 2 * n + 2] for n in range(count)], np.int64) for count in counts]
    texts = ["ab" * count for count in counts]
    metas = [{"part": n % 5} for n in range(len(counts))]
    collection = made(dim, chunking="chars:2")
    batch = batch_of(ids, vectors, texts=texts, metas=metas, spans=spans)
    collection.write(batch, [1] * len(ids))
    collection.finish([], lambda *_: None)

    def by_hand(query, k, *, threshold=None, without=(), part=None):
        scores = cosines_of(query[None], vectors)[0]
        found = []
        for row, id in enumerate(ids):
            of_record = scores[starts[row] : starts[row] + counts[row]]
            chunk = int(of_record.argmax())
            passes = threshold is None or of_record[chunk] >= threshold
            if passes and id not in without and part in (None, row % 5):
                found.append((id, float(of_record[chunk]), chunk))
        return sorted(found, key=lambda each: (-each[1], each[0]))[:k]

    return collection, batch, by_hand


def asked_of(collection, monkeypatch):
    """Count the rows that the index is asked for."""
    asked, nearest = [], collection.nearest

    def counted(vectors, limit, *arguments, **options):
        asked.append(len(vectors) * limit)
        return nearest(vectors, limit, *arguments, **options)

    monkeypatch.setattr(collection, "nearest", counted)
    return asked


def found_by(collection, sought):
    return [
        [(hit.id, hit.score, hit.chunk[0]) for hit in hits] for hits in collection.search(sought)
    ]


def test_a_record_that_has_most_of_the_rows_is_not_asked_for_again(made, server, monkeypatch):
    rng = np.random.default_rng(8)
    collection, batch, by_hand = with_long_records(made, rng, [1500, 700, *[2] * 300])
    asked = asked_of(collection, monkeypatch)
    ends = batch.counts.cumsum()
    for query in batch.vectors[[0, ends[0], ends[1]]]:
        asked.clear()
        sought = Sought(query[None], 10, strong=True)
        assert found_by(collection, sought) == [by_hand(query, 10)]
        # The next 1,500 would lead to no other record.
        assert sum(asked) < 700 or "Lite" not in server.product
    # Its own rows are the nearest of all.
    asked.clear()
    sought = Sought(batch.vectors[:1], 10, without=frozenset({batch.ids[0]}), strong=True)
    expected = by_hand(batch.vectors[0], 10, without={batch.ids[0]})
    assert found_by(collection, sought) == [expected]
    assert sum(asked) < 700 or "Lite" not in server.product
    # To know that there are no more records nothing else is read.
    if "Lite" in server.product:
        monkeypatch.setattr(collection, "ranges", None)
    sought = Sought(batch.vectors[:1], 400, strong=True)
    assert found_by(collection, sought) == [by_hand(batch.vectors[0], 400)]


def test_rather_than_ask_for_more_rows_than_there_are_all_are_read(made, monkeypatch):
    rng = np.random.default_rng(9)
    collection, batch, by_hand = with_long_records(made, rng, [1500, *[2] * 300])
    asked = asked_of(collection, monkeypatch)
    own = frozenset({batch.ids[0]})
    sought = Sought(batch.vectors[:1500], 10, without=own, strong=True)
    found = found_by(collection, sought)
    assert sum(asked) <= 16_384
    assert found[::50] == [by_hand(query, 10, without=own) for query in batch.vectors[:1500:50]]


@pytest.mark.parametrize("seed", range(3))
def test_records_of_any_length_are_found_as_by_comparing_all(made, monkeypatch, seed):
    """Ties, thresholds, filters and what is left out, by whichever way."""
    rng = np.random.default_rng(seed)
    counts = rng.choice([1, 2, 5, 40, 300], 60, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    collection, batch, by_hand = with_long_records(made, rng, counts, dim=int(rng.choice([2, 8])))
    monkeypatch.setattr("embcli.servers.milvus_search._MANY", int(rng.choice([2, 10, 50])))
    for window in (16_384, 300):
        monkeypatch.setattr("embcli.servers.milvus_search._WINDOW", window)
        for _ in range(20):
            queries = batch.vectors[rng.choice(len(batch.vectors), int(rng.choice([1, 3, 12])))]
            options = {"without": set(rng.choice(batch.ids, int(rng.choice([0, 0, 1, 3]))))}
            if rng.random() < 0.3:
                options["threshold"] = by_hand(queries[0], 7)[-1][1]
            k = int(rng.choice([1, 3, 10, 100]))
            part = int(rng.choice(5)) if rng.random() < 0.4 else None
            where = None if part is None else parse_where(f"part = {part}")
            sought = Sought(
                queries, k, where=where, strong=True,
                **{**options, "without": frozenset(options["without"])},
            )  # fmt: skip
            expected = [by_hand(query, k, part=part, **options) for query in queries]
            assert found_by(collection, sought) == expected


def test_an_empty_collection(made):
    collection = made(4)
    assert collection.counts() == (0, 0)
    assert not all_sums(collection)
    collection.finish([], lambda *_: None)
    for exact in (False, True):
        assert collection.search(Sought(np.ones((1, 4), np.float32), 5, exact=exact)) == [[]]
    assert collection.fetch(["a"]).ids == []


def test_headers(server, made, milvus):  # noqa: F811
    collection = made(4, chunking="chars:5")
    assert collection.header.state == "loading"
    assert collection.name in server.collections()
    ready = collection.header.changed(state="ready", facts={"effort": 64, "é\"'": [1]})
    collection.set_header(ready)
    with connect(f"{milvus}/{collection.name}") as other:
        assert other.named == collection.name
        assert other.collection(other.named).header == ready
        assert other.collection("not_there") is None
        assert other.collection("no name") is None


def change(collection, id, **fields):
    """Change the first row of a record, as others than embcli would."""
    key = record_key(id)
    rows = collection._calls(
        "query", collection.name, filter=f'rid == "{key}"', output_fields=["*"]
    )
    row = next(row for row in rows if row["chunk"] == 0)
    collection._calls("delete", collection.name, ids=[row["pk"]])
    collection._calls("insert", collection.name, [row | fields])


@pytest.mark.parametrize(
    ("fields", "message", "in_hits"),
    [
        ({"meta": '{"a": '}, "its metadata are no JSON object", True),
        ({"meta": "[1]"}, "its metadata are no JSON object", True),
        ({"meta": '{"a": NaN}'}, "its metadata are no JSON object", True),
        ({"hash": "xyz"}, "its hash is not hexadecimal", False),
        ({"record": "c"}, "its key is not that of its id", False),
        ({"chunk": 0, "rows": 2}, "", False),
    ],
)
def test_what_was_changed_by_others_is_told_with_its_record(made, fields, message, in_hits):
    collection = made(4)
    collection.write(batch_of(["a", "b"], np.eye(4)[:2], metas=[{"a": 1}] * 2), [1, 2])
    collection.finish([], lambda *_: None)
    change(collection, "a", **fields)
    query = np.eye(4, dtype=np.float32)[:1]
    if not message:  # not whole: as if it were being written
        assert list(read(collection)) == ["b"]
        assert collection.fetch(["a"]).ids == []
        return
    reads = [lambda: collection.fetch(["a", "b"]), lambda: read(collection)]
    if in_hits:
        # What the server cannot evaluate is evaluated here.
        node = parse_where('text glob "*[a-z]*"')
        reads += [
            lambda: collection.search(Sought(query, 2, strong=True)),
            lambda: collection.search(Sought(query, 2, where=node, strong=True)),
        ]
    for each in reads:
        with pytest.raises(StoreError, match=message) as caught:
            each()
        named = fields.get("record", "a")
        assert f"collection {collection.name!r}: record {named!r}" in caught.value.message
        assert caught.value.hint.startswith(f'delete it there (rid == "{record_key("a")}")')
    collection.delete(["a"])
    assert list(read(collection)) == ["b"]


def test_a_header_that_is_not_the_collections_is_refused(made, server):
    spans = [np.array([[0, 2], [2, 4]], np.int64)]
    collection = made(4, chunking="chars:2")
    collection.write(batch_of(["a"], np.eye(4)[:2], spans=spans), [1])
    good = collection.header
    collection.set_header(header_of(5))
    with pytest.raises(StoreError, match="its header says 5 dimensions, its vectors have 4"):
        server.collection(collection.name)
    collection.set_header(good.changed(chunking=None))
    again = server.collection(collection.name)
    for each in (lambda: again.fetch(["a"]), lambda: read(again)):
        with pytest.raises(
            StoreError, match="its header says that no text is cut, and record 'a' is"
        ):
            each()
    sought = Sought(np.eye(4, dtype=np.float32)[:1], 2, strong=True)
    assert again.search(sought)[0][0].id == "a"


def test_fields_that_are_missing_are_told(server):
    name = f"c{os.getpid()}_fields"
    properties = {"embcli": header_of(4).json}
    server._calls("create_collection", name, dimension=4, properties=properties)
    try:
        with pytest.raises(StoreError, match="was changed by something else: no field 'pk'"):
            server.collection(name)
    finally:
        server.drop(name)


def test_an_index_that_is_missing_or_wrong_is_made_anew(made, server):
    collection = made(4)
    collection.write(batch_of(["a", "b"], np.eye(4)[:2]), [1, 2])
    collection.finish([], lambda *_: None)

    def opened():
        return server.collection(collection.name)

    def dropped():
        server._calls("release_collection", collection.name)
        server._calls("drop_index", collection.name, "vector")

    assert opened().claim()
    assert opened().is_indexed(["x"])
    dropped()
    assert not opened().is_indexed([])
    params = server._calls.client().prepare_index_params()
    params.add_index("vector", index_name="other", metric_type="L2", index_type="FLAT")
    server._calls("create_index", collection.name, params)
    broken = opened()
    assert not broken.is_indexed([])
    broken.finish([], lambda *_: None)
    assert broken.is_indexed([])
    query = Sought(np.eye(4, dtype=np.float32)[:1], 2, strong=True)
    assert [hit.id for hit in opened().search(query)[0]] == ["a", "b"]
    dropped()
    # Whatever reads first has to make one, which nobody has waited for.
    reading = opened()
    assert reading.counts() == (2, 2)
    assert not reading.is_indexed([])
    reading.finish([], lambda *_: None)
    assert opened().is_indexed([])


def test_a_collection_that_may_not_be_seen_is_not_listed(made, server):
    """Lite has no users: a proxy refuses what a server with them would."""
    seen, hidden = made(4), made(4)

    def refuses(message):
        class Refuses:
            def __call__(self, name, *arguments, **options):
                if name == "describe_collection" and arguments == (hidden.name,):
                    raise StoreError(message)
                return server._calls(name, *arguments, **options)

        listing = MilvusServer.__new__(MilvusServer)
        listing._calls = Refuses()
        return listing

    listed = refuses("milvus://host: no permission (DescribeCollection)").collections()
    assert seen.name in listed
    assert hidden.name not in listed
    with pytest.raises(StoreError, match="any more"):
        refuses("milvus://host: the server does not answer any more").collections()


def test_what_embcli_did_not_make_is_left_alone(server):
    server._calls("create_collection", "foreign", dimension=4)
    try:
        assert "foreign" not in server.collections()
        with pytest.raises(StoreError, match="'foreign' was not made by embcli"):
            server.collection("foreign")
    finally:
        server.drop("foreign")


@pytest.mark.parametrize(
    ("name", "dim", "message"),
    [
        ("a-b", 4, "cannot be the name"),
        ("", 4, "cannot be the name"),
        ("x" * 256, 4, "cannot be the name"),
        ("big", 40_000, "2 to 32,768 dimensions, not of 40,000"),
    ],
)
def test_what_milvus_cannot_hold_is_refused(server, name, dim, message):
    with pytest.raises(UsageError, match=message):
        server.create(name, header_of(dim))
    assert name not in server.collections()


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("milvus://u:secret@127.0.0.1:1/c", StoreError, "cannot be reached .Connection refused"),
        ("milvus://u:secret@no.such.host.invalid/c", StoreError, "cannot be reached"),
        ("milvus://127.0.0.1/c?passwort=secret", UsageError, "unknown option 'passwort'"),
        ("milvus://127.0.0.1/c?consistency=x&token=secret", UsageError, "no consistency 'x'"),
        ("milvus:///c?token=secret", UsageError, "names no host"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(url, error, message):
    with pytest.raises(error, match=message) as caught:
        connect(url, timeout=5)
    assert "secret" not in caught.value.message.replace("passwort=secret", "")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("answers", "message"),
    [(b"", "gives no answer"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not answer as one does")],
)
def test_what_answers_but_is_no_milvus(answers, message, monkeypatch):
    monkeypatch.setenv("MILVUS_TOKEN", "ann:s3cret")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            while answers:
                with suppress(OSError):
                    caller, _ = listening.accept()
                    caller.sendall(answers)
                    caller.close()
                if listening.fileno() < 0:
                    return

        threading.Thread(target=answer, daemon=True).start()
        start = time.monotonic()
        with pytest.raises(StoreError, match=rf"127\.0\.0\.1.*{message}") as caught:
            connect(f"milvus://127.0.0.1:{listening.getsockname()[1]}/c", timeout=2)
        assert time.monotonic() - start < 20
        listening.shutdown(socket.SHUT_RDWR)
    assert "19530" in caught.value.hint
    assert "s3cret" not in caught.value.message


def test_the_environment_says_who_asks(milvus, monkeypatch):  # noqa: F811
    """Lite lets everybody in; what the client is told to send is looked at."""
    monkeypatch.setenv("MILVUS_USER", "ann")
    monkeypatch.setenv("MILVUS_PASSWORD", "s3cret")
    sent, whole = [], Calls._connect
    monkeypatch.setattr(
        Calls,
        "_connect",
        lambda calls, **options: (sent.append(options["token"]), whole(calls, **options))[1],
    )
    with connect(milvus):
        assert sent == ["ann:s3cret"]


def test_nothing_is_said_but_by_errors(server, capfd):
    with pytest.raises(StoreError):
        server._calls("describe_collection", "not_there_at_all")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


WRITER = """
import sys
import numpy as np
from embcli.servers import connect
from embcli.store.collection import Batch
with connect(sys.argv[1]) as server:
    collection = server.collection("pushed")
    for start in range(0, 100_000, 50):
        ids = [f"id {n}" for n in range(start, start + 50)]
        spans = [np.array([[0, 2], [2, 4], [4, 6]], np.int64)] * 50
        vectors = np.repeat(np.arange(start, start + 50, dtype=np.float32) + 1, 3)[:, None]
        vectors = np.concatenate([vectors, np.tile([1, 2, 3], 50)[:, None]], axis=1)
        columns = ["t" * 6] * 50, ["{}"] * 50, ["s:1"] * 50, ["0" * 64] * 50
        collection.write(Batch(ids, *columns, vectors.astype(np.float32), spans), [start + 1] * 50)
        print(start, flush=True)
"""


def test_a_writer_and_the_server_are_killed(own_milvus):  # noqa: F811
    """What was said to be written is there, and nothing of the rest that is not whole."""
    with connect(own_milvus.url, timeout=3) as server:
        server.create("pushed", header_of(2, chunking="chars:2"))
        arguments = [sys.executable, "-c", WRITER, own_milvus.url]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            last = [int(writer.stdout.readline()) for _ in range(6)][-1]
            writer.send_signal(signal.SIGKILL)
            last = max([last, *map(int, writer.stdout)])
        collection = server.collection("pushed")
        assert collection is not None
        assert collection.header.state == "loading"
        sums = all_sums(collection)
        assert set(sums) >= {f"id {n}" for n in range(last + 50)}
        records = read(collection)
        assert set(records) == set(sums)
        for id, (*_, vectors, spans) in records.items():
            assert vectors == [[float(id[3:]) + 1, n] for n in (1, 2, 3)]
            assert spans == [[0, 2], [2, 4], [4, 6]]

        own_milvus.stop()
        start = time.monotonic()
        with pytest.raises(StoreError, match=r"127\.0\.0\.1") as caught:
            collection.counts()
        assert "\n" not in caught.value.message
        assert caught.value.hint == "what was written stays; the same command again does the rest"
        with pytest.raises(StoreError, match="cannot be reached"):
            connect(own_milvus.url, timeout=3)
        assert time.monotonic() - start < 20

        own_milvus.start()
        with connect(own_milvus.url, timeout=10) as again:
            assert again.collection("pushed").counts() == (len(sums), 3 * len(sums))
