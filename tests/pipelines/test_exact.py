"""Exact search, filtered or not, however vectors are read."""

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.pipelines.search import nearest
from embcli.store import segments
from embcli.store.checks import GROUP
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


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("read_bytes", [1, 5000, 3 << 17])
@pytest.mark.parametrize("gap", [0, 1 << 9, 1 << 15])
def test_every_selectivity_equals_brute_force(home, monkeypatch, dtype, read_bytes, gap):
    monkeypatch.setattr(segments, "_READ_BYTES", read_bytes)
    monkeypatch.setattr(segments, "_GAP_BYTES", gap)
    vectors, order = make(home / "embcli.db", dtype)
    queries = np.random.default_rng(1).normal(size=(2, DIM)).astype(np.float32)
    queries[0] = vectors[0]
    with Store("embcli.db") as store:
        collection = store.collection("default")
        collection.set_coding(Coding("int8", 10**6, chosen=True))
        collection.update_codes()
    with Store("embcli.db", readonly=True) as store, store.snapshot():
        collection = store.collection("default")
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

    def noting(self, groups):
        for first, last in spans(self, groups):
            read.append(int(groups[last - 1] - groups[first]) + 1)
            yield first, last

    monkeypatch.setattr(segments.Segments, "_spans", noting)
    monkeypatch.setattr(segments, "_GAP_BYTES", 0)
    with Store("embcli.db", readonly=True) as store, store.snapshot():
        collection = store.collection("default")
        blocks = list(collection.scan(collection.filter("n < 5")))
        assert sum(len(block.keys) for block in blocks) <= 5
        assert sum(read) <= 5  # groups
        assert len(blocks) == 1  # joined, though from several segments
        read.clear()
        blocks = list(collection.scan())
        assert sum(len(block.keys) for block in blocks) == N - 200
        assert sum(read) <= N / GROUP + 5  # segments need not end where a group does


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


def test_filtered_searches_do_without_codes(home):
    """Their recall was estimated without a filter, and says nothing of what lies far away."""
    vectors, order = make(home / "embcli.db")
    with Store("embcli.db") as store:
        collection = store.collection("default")
        collection.set_coding(Coding("bits1", 1, chosen=True))
        collection.update_codes()
        queries = np.random.default_rng(1).normal(size=(5, DIM)).astype(np.float32)
        found = nearest(collection, queries, 10, wanted=collection.filter("n < 2500"))
        through_codes = nearest(collection, queries, 10, exact=False)
        assert through_codes != nearest(collection, queries, 10, exact=True)  # they are coarse
        for query, of_query in zip(queries, found, strict=True):
            expected = [f"{i:04}" for i in brute(vectors, order, query, 10, 2500)]
            assert [f.record.id for f in of_query] == expected
