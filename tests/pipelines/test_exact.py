"""Exact search, filtered or not, however vectors are read."""

import threading

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.core.topk import TopK
from embcli.pipelines import exact
from embcli.pipelines.search import nearest
from embcli.store import database, segments
from embcli.store.coding import Coding

N, DIM = 5000, 24


def make(path, dtype="float32"):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(N, DIM)).astype(dtype).astype(np.float32)
    vectors[1000:1010] = vectors[0]  # ties
    recipe = Recipe({"model": "m", "dim": DIM, "normalized": False, "maps": []})
    order = rng.permutation(N)
    with Store(path) as store:
        collection = store.create_collection("default", recipe, dtype)
        records = [Record(f"{i:04}", "text", {"n": int(n)}) for i, n in enumerate(order)]
        collection.add(records, vectors)
        collection.delete([f"{i:04}" for i in range(700, 900)])
    return vectors, order


def brute(vectors, order, query, k, least):
    """Every cosine of the records that pass, in float64; ties by id."""
    exact = vectors.astype(np.float64)
    cosines = exact @ query / np.linalg.norm(exact, axis=1) / np.linalg.norm(query)
    passing = [i for i in range(N) if order[i] < least and not 700 <= i < 900]
    return sorted(passing, key=lambda i: (-round(cosines[i], 9), i))[:k]


@pytest.fixture
def threads(monkeypatch):
    """Three connections, however small the file and the machine."""
    monkeypatch.setattr(database, "_LARGE", 0)
    monkeypatch.setattr(database, "_processors", lambda: 3)
    monkeypatch.setattr(exact, "_MUCH", 0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("read_bytes", [1, 5000, 3 << 17])
@pytest.mark.parametrize("gap", [0, 1 << 9, 1 << 15])
def test_every_selectivity_equals_brute_force(home, monkeypatch, threads, dtype, read_bytes, gap):
    monkeypatch.setattr(segments, "_READ_BYTES", read_bytes)
    monkeypatch.setattr(segments, "_GAP_BYTES", gap)
    vectors, order = make(home / "embcli.db", dtype)
    queries = np.random.default_rng(1).normal(size=(2, DIM)).astype(np.float32)
    queries[0] = vectors[0]
    with Store("embcli.db") as store:
        collection = store.collection("default")
        collection.set_coding(Coding("int8", 10**6, chosen=True))
        collection.update_codes()
    with Store("embcli.db", readonly=True) as store, store.snapshot(several=True):
        collection = store.collection("default")
        assert len(collection.readers()) == 3
        for least in (N, N // 2, N // 10, N // 100, N // 1000, 0):
            wanted = collection.filter(f"n < {least}")
            for exactly in (True, False):
                found = nearest(collection, queries, 7, wanted=wanted, exact=exactly)
                for query, of_query in zip(queries, found, strict=True):
                    expected = [f"{i:04}" for i in brute(vectors, order, query, 7, least)]
                    assert [f.record.id for f in of_query] == expected


def test_few_vectors_are_not_read_with_the_rest(home, monkeypatch):
    make(home / "embcli.db")
    read = []
    spans = segments.Segments._spans

    def noting(self, slots):
        for first, last in spans(self, slots):
            read.append(int(slots[last - 1] - slots[first]) + 1)
            yield first, last

    monkeypatch.setattr(segments.Segments, "_spans", noting)
    monkeypatch.setattr(segments, "_GAP_BYTES", DIM * 4)
    with Store("embcli.db", readonly=True) as store, store.snapshot():
        collection = store.collection("default")
        blocks = list(collection.scan(collection.filter("n < 5")))
        assert sum(read) == sum(len(block.keys) for block in blocks) <= 5
        assert len(blocks) == 1  # joined, though from several segments
        read.clear()
        blocks = list(collection.scan())
        assert sum(read) == sum(len(block.keys) for block in blocks) == N - 200


def test_few_vectors_of_a_coded_segment_come_themselves(home):
    make(home / "embcli.db")
    with Store("embcli.db") as store:
        collection = store.collection("default")
        collection.set_coding(Coding("int8", 4))
        collection.update_codes()
        kinds = {
            least: {type(b).__name__ for b in collection.scan_codes(
                "int8", collection.filter(f"n < {least}"))}
            for least in (5, N)
        }  # fmt: skip
    assert kinds == {5: {"Block"}, N: {"CodedBlock"}}


def test_connections_see_one_state(home, threads):
    """Writers come and go; what several connections read together is always of one moment."""
    make(home / "embcli.db")
    stop = threading.Event()

    def write():
        with Store("embcli.db") as store:
            collection = store.collection("default")
            number = 0
            while not stop.is_set():
                number += 1
                # Every commit rewrites the same ten vectors, all with one number.
                records = [Record(f"{i:04}", f"text {number}") for i in range(0, N, 500)]
                collection.add(records, np.full((len(records), DIM), number, np.float32))

    writer = threading.Thread(target=write)
    writer.start()
    states, connections = set(), set()
    try:
        for _ in range(150):
            with Store("embcli.db", readonly=True) as store, store.snapshot(several=True):
                readers = store.collection("default").readers()
                connections.add(len(readers))
                ids = [f"{i:04}" for i in range(0, N, 500)]
                seen = {int(v[0]) for r in readers for v in r.vectors(ids) if v.min() == v.max()}
                assert len(seen) <= 1
                states |= seen
    finally:
        stop.set()
        writer.join()
    assert len(states) > 1  # it did change meanwhile
    assert 3 in connections


def test_a_change_while_beginning_is_noticed(home, threads, monkeypatch):
    make(home / "embcli.db")
    execute = database.Database.execute
    changes = [1, 2, 3, 4]

    def interrupted(self, sql, parameters=()):
        result = execute(self, sql, parameters)
        # Between the first connection's beginning to read and the second's.
        if self.readonly and sql == "BEGIN" and changes and self.twins == []:
            changes.pop()
            with Store("embcli.db") as store:
                store.collection("default").delete([f"{len(changes):04}"])
        return result

    monkeypatch.setattr(database.Database, "execute", interrupted)
    with Store("embcli.db", readonly=True) as store, store.snapshot(several=True):
        assert len(changes) < 4
        assert len(store.collection("default").readers()) == 1


def test_small_files_are_read_through_one_connection(home):
    make(home / "embcli.db")
    with Store("embcli.db", readonly=True) as store:
        with store.snapshot(several=True):
            assert len(store.collection("default").readers()) == 1
        with store.snapshot():
            assert len(store.collection("default").readers()) == 1


def test_a_failure_in_a_thread_is_the_searchs(home, threads, monkeypatch):
    make(home / "embcli.db")
    scan = segments.Segments.scan

    def failing(self, wanted=None, part=0, parts=1):
        yield from scan(self, wanted, part, parts)
        if part == 1:
            raise ValueError("in a thread")

    monkeypatch.setattr(segments.Segments, "scan", failing)
    with Store("embcli.db", readonly=True) as store, store.snapshot(several=True):
        collection = store.collection("default")
        with pytest.raises(ValueError, match="in a thread"):
            nearest(collection, np.ones((1, DIM), np.float32), 3)


def test_merging_equals_adding():
    rng = np.random.default_rng(0)
    vectors = rng.integers(-1, 2, (400, 5)).astype(np.float32)  # many ties
    queries = rng.normal(size=(3, 5)).astype(np.float32)
    keys = rng.integers(1, 200, 400)
    for shared in (False, True):
        owners = keys if shared else np.arange(400)
        whole = TopK(queries, 9, unit=False, shared=shared)
        left, right = (TopK(queries, 9, unit=False, shared=shared) for _ in range(2))
        whole.add(owners, vectors)
        left.add(owners[::2], vectors[::2], np.arange(400)[::2])
        right.add(owners[1::2], vectors[1::2], np.arange(400)[1::2])
        left.merge(right)
        for one, other in zip(whole.results(), left.results(), strict=True):
            assert {*zip(one.keys, one.scores, one.places, strict=True)} == {
                *zip(other.keys, other.scores, other.places, strict=True)
            }
