"""Search through compact codes."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embcli import Recipe, Record, Store
from embcli.core.quantize import BITS
from embcli.pipelines import coded
from embcli.pipelines.search import nearest
from embcli.store import Chunks
from embcli.store.coding import Coding

CHUNKING = '{"words":1}'
WHERES = {None: 10**9, "n < 0": 0, "n < 10": 10, "n < 60": 60}


@pytest.fixture
def small(monkeypatch):
    """Segments of few vectors, so that there are many."""
    for module in ("segments", "collection"):
        monkeypatch.setattr(f"embcli.store.{module}.SLOTS", 16)


def unit(x):
    x = np.asarray(x, np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)


def oracle(owned, query, k, threshold=None):
    """Every cosine in float64: the best of each record, ties by id."""
    best = [(-float(np.round(unit(v) @ unit(query[None])[0], 9).max()), id)
            for id, v in owned.items()]  # fmt: skip
    return [(id, -score) for score, id in sorted(best)
            if threshold is None or -score >= threshold][:k]  # fmt: skip


def fill(collection, owned, numbers):
    """Store records by id, each with its vectors, a few at a time."""
    records = [
        Record(id, " ".join(f"{id}w{i}" for i in range(len(vectors))), {"n": numbers[id]})
        for id, vectors in owned.items()
    ]
    for start in range(0, len(records), 13):
        part = records[start : start + 13]
        if collection.chunking is None:
            collection.add(part, np.concatenate([owned[r.id] for r in part]))
        else:
            spans = {r.id: np.zeros((len(owned[r.id]), 2), np.int64) for r in part}
            collection.write(part, {r.hash: Chunks(owned[r.id], spans[r.id]) for r in part})


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 90),
    dim=st.integers(1, 40),
    k=st.sampled_from([1, 3, 10, 40, 200]),
    kind=st.sampled_from(list(BITS)),
    normalised=st.booleans(),
    dtype=st.sampled_from(["float32", "float16"]),
    chunked=st.booleans(),
    later=st.sampled_from(["nothing", "adds", "vacuum", "both"]),
    deleted=st.sampled_from([0.0, 0.3, 0.9]),
    where=st.sampled_from(list(WHERES)),
    threshold=st.sampled_from([None, 0.2]),
    n_queries=st.sampled_from([1, 2, 11]),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_path_equals_brute_force(
    home, small, seed, n, dim, k, kind, normalised, dtype, chunked, later, deleted, where,
    threshold, n_queries,
):  # fmt: skip
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(1 + n // 2, dim)).astype(np.float32)  # so that there are ties
    pool = unit(pool).astype(np.float32) if normalised else pool
    pool = pool.astype(dtype).astype(np.float32)
    ids = [f"{(i * 37) % 1000:03}" for i in range(n)]
    numbers = {id: i for i, id in enumerate(ids)}
    owned = {
        id: pool[rng.integers(0, len(pool), rng.integers(1, 9) if chunked else 1)] for id in ids
    }
    gone = {id for id in ids if rng.random() < deleted}
    early = dict(list(owned.items())[: n // 2 + 1])
    late = {id: vectors for id, vectors in owned.items() if id not in early}
    recipe = Recipe({"model": "m", "dim": dim, "normalized": normalised, "maps": [], "s": seed})
    (home / "p.db").unlink(missing_ok=True)
    with Store(home / "p.db") as store:
        collection = store.create_collection("c", recipe, dtype, CHUNKING if chunked else None)
        fill(collection, early if later in ("adds", "both") else owned, numbers)
        collection.set_coding(Coding(kind, 10**6, chosen=True))
        collection.update_codes()
        if later in ("adds", "both"):
            fill(collection, late, numbers)
        collection.delete(gone)
        if later in ("vacuum", "both"):
            store.vacuum()
        queries = rng.normal(size=(n_queries, dim)).astype(np.float32)
        wanted = None if where is None else collection.filter(where)
        options = {"threshold": threshold, "wanted": wanted}
        with store.snapshot():
            exact = nearest(collection, queries, k, exact=True, **options)
            through_codes = nearest(collection, queries, k, exact=False, **options)
            alone = [nearest(collection, query[None], k, exact=False, **options)[0]
                     for query in queries]  # fmt: skip
    live = {
        id: vectors
        for id, vectors in owned.items()
        if id not in gone and numbers[id] < WHERES[where]
    }
    assert through_codes == exact == alone
    for query, found in zip(queries, exact, strict=True):
        expected = oracle(live, query, k, threshold)
        assert [f.record.id for f in found] == [id for id, _ in expected]
        np.testing.assert_allclose([f.score for f in found], [s for _, s in expected], atol=2e-9)


@pytest.fixture
def collection(home):
    recipe = Recipe({"model": "m", "dim": 16, "normalized": True, "maps": []})
    vectors = unit(np.random.default_rng(0).normal(size=(3000, 16))).astype(np.float32)
    with Store("embcli.db") as store:
        collection = store.create_collection("default", recipe)
        collection.add([Record(f"r{i:04}", f"text {i}") for i in range(3000)], vectors)
        yield collection


def coded_segments(collection):
    return [type(block).__name__ for block in collection.scan_codes(collection.coding.kind)]


def test_codes_go_with_what_they_are_made_of(collection):
    assert collection.update_codes() == 0
    collection.set_coding(Coding("int8", 4))
    assert coded_segments(collection) == ["Block"] * 3
    assert collection.update_codes() == 3
    assert collection.update_codes() == 0
    collection.add([Record("new", "new")], np.ones((1, 16), np.float32))
    assert coded_segments(collection) == ["CodedBlock"] * 2 + ["Block"]
    assert collection.update_codes() == 1
    collection.delete([f"r{i:04}" for i in range(2, 1000)])
    assert coded_segments(collection) == ["CodedBlock"] * 3
    collection.compact()
    assert coded_segments(collection) == ["CodedBlock", "Block"]
    collection.set_coding(Coding("bits2", 4))
    assert collection._db.value("SELECT count(*) FROM codes") == 0
    assert collection.update_codes() == 2
    collection.set_coding(None)
    assert collection._db.value("SELECT count(*) FROM codes") == 0


def test_vacuum_keeps_codes_up_to_date(collection):
    collection.set_coding(Coding("bits1", 4))
    collection.update_codes()
    collection.delete([f"r{i:04}" for i in range(500)])
    with Store("embcli.db") as store:
        store.vacuum()
        assert set(coded_segments(store.collection("default"))) == {"CodedBlock"}
        (info,) = store.collections()
        assert (info.coded, info.coding) == (2500, Coding("bits1", 4))
        store.remove_collection("default")
        assert store._db.value("SELECT count(*) FROM codes") == 0


def test_many_equal_vectors_are_searched_exactly(collection, monkeypatch):
    same = np.tile(np.float32([1] + [0] * 15), (2000, 1))
    collection.add([Record(f"s{i:04}", f"same {i}") for i in reversed(range(2000))], same)
    collection.set_coding(Coding("int8", 4))
    collection.update_codes()
    query = same[:1] + 0.1
    found = nearest(collection, query, 5, exact=False)
    assert found == nearest(collection, query, 5, exact=True)
    assert [f.record.id for f in found[0]] == [f"s{i:04}" for i in range(5)]


def test_codes_are_used_where_they_pay(collection):
    def pays(coding, n_queries=1, k=10):
        collection.set_coding(coding)
        return coded.pays(collection, n_queries, k)

    assert not pays(None)
    assert not pays(Coding(None, chosen=True))
    assert pays(Coding("int8", 4, recall=0.99))
    assert not pays(Coding("int8", 4, recall=0.98))
    assert not pays(Coding("int8", 4))
    assert pays(Coding("int8", 4, recall=0.5, chosen=True))
    assert not pays(Coding("int8", 4, recall=1.0), n_queries=9)
    assert not pays(Coding("int8", 4, recall=1.0), k=100)


def test_a_coding_is_json():
    coding = Coding("int8", 4, 0.999, 100, 3000, True)
    assert Coding.from_json(coding.json) == coding
    assert json.loads(coding.json)["kind"] == "int8"
