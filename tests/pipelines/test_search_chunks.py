"""Search where records have a vector for every chunk of their text."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embcli import Recipe, Record, Store, encode, search
from embcli.errors import NothingFoundError
from embcli.pipelines.search import Hit, nearest
from embcli.store import Chunks

CHUNKING = '{"words":1}'


def spans_of(text):
    words = text.split(" ")
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    return np.stack([ends - [len(word) for word in words], ends], axis=1)


def exact(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(store, chunked, recipe, dtype="float32", chunking=CHUNKING):
    """Store records by id, each with its vectors; its words are its chunks."""
    collection = store.create_collection("c", recipe, dtype, chunking)
    records = [
        Record(id, " ".join(f"{id}ü{i}" for i in range(len(vectors))), {"n": n})
        for n, (id, vectors) in enumerate(chunked.items())
    ]
    for start in range(0, len(records), 7):
        part = records[start : start + 7]
        collection.write(part, {r.hash: Chunks(chunked[r.id], spans_of(r.text)) for r in part})
    return collection


def by_brute_force(chunked, queries, k):
    """For a set of queries that count as one: ids, scores and numbers of chunks."""
    best = []
    for id, vectors in chunked.items():
        scores = np.round(exact(vectors) @ exact(queries).T, 9).max(axis=1)
        best.append((-float(scores.max()), id, int(scores.argmax())))
    return [(id, -score, number) for score, id, number in sorted(best)[:k]]


@pytest.fixture
def small(monkeypatch):
    """Segments of few vectors, so that records straddle them."""
    for module in ("segments", "collection"):
        monkeypatch.setattr(f"embcli.store.{module}.SLOTS", 16)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    k=st.integers(1, 20),
    unit=st.booleans(),
    dtype=st.sampled_from(["float32", "float16"]),
    vacuum=st.booleans(),
    where=st.sampled_from([None, "n < 0", "n < 10"]),
)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_equals_brute_force(home, small, seed, n, k, unit, dtype, vacuum, where):
    rng = np.random.default_rng(seed)
    ids = [f"{(i * 37) % 1000:03}" for i in range(n)]
    chunked = {}
    for id in ids:
        vectors = rng.normal(size=(rng.integers(1, 30), 5)).astype(np.float32)
        if rng.random() < 0.2 and chunked:  # ties between records
            vectors[0] = chunked[ids[0]][0]
        vectors = exact(vectors) if unit else vectors
        chunked[id] = vectors.astype(dtype).astype(np.float32)
    recipe = Recipe({"model": "elsewhere", "dim": 5, "normalized": unit, "maps": [], "seed": seed})
    (home / "embcli.db").unlink(missing_ok=True)
    gone = {id for id in ids[1:] if rng.random() < 0.3}
    with Store("embcli.db") as store:
        collection = fill(store, chunked, recipe, dtype)
        collection.delete(gone)
        if vacuum:
            store.vacuum()
        queries = rng.normal(size=(3, 5)).astype(np.float32)
        wanted = None if where is None else collection.filter(where)
        with store.snapshot():
            results = nearest(collection, queries, k, wanted=wanted)
    passes = {None: n, "n < 0": 0, "n < 10": 10}[where]
    live = {id: chunked[id] for i, id in enumerate(ids) if id not in gone and i < passes}
    for query, found in zip(queries, results, strict=True):
        expected = by_brute_force(live, query[None], k)
        assert [(f.record.id, f.span.number) for f in found] == [(i, c) for i, _, c in expected]
        np.testing.assert_allclose([f.score for f in found], [s for _, s, _ in expected], atol=2e-9)
    (hits,) = search(like=ids[0], collection="c", k=k, where=where)
    live.pop(ids[0], None)
    expected = by_brute_force(live, chunked[ids[0]], k)
    assert [(hit.id, hit.chunk["number"]) for hit in hits] == [(i, c) for i, _, c in expected]
    np.testing.assert_allclose([h.score for h in hits], [s for _, s, _ in expected], atol=2e-9)
    for hit in hits:
        assert hit.chunk["text"] == hit.text[hit.chunk["start"] : hit.chunk["end"]]
        assert hit.chunk["text"] == f"{hit.id}ü{hit.chunk['number']}"


@pytest.fixture
def three(home):
    recipe = Recipe({"model": "elsewhere", "dim": 2, "normalized": False, "maps": []})
    with Store("embcli.db") as store:
        fill(
            store,
            {
                "a": np.float32([[1, 0], [0, 1]]),
                "b": np.float32([[1, 1], [-1, 0.2], [0.1, 1]]),
                "c": np.float32([[1, 0.5]]),
            },
            recipe,
        )


def test_a_hit_tells_which_chunk_was_nearest(three):
    (hits,) = search(like="a", collection="c")
    assert [hit.id for hit in hits] == ["b", "c"]
    assert hits[0].chunk == {"number": 2, "start": 8, "end": 11, "text": "bü2"}
    assert hits[0].text == "bü0 bü1 bü2"
    assert list(hits[0].row()) == ["rank", "id", "score", "text", "meta", "chunk"]
    assert [hit.rank for hit in hits] == [1, 2]


def test_thresholds_and_missing_records(three):
    (hits,) = search(like="a", collection="c", threshold=0.95)
    assert [hit.id for hit in hits] == ["b"]
    assert search(like="a", collection="c", threshold=0.999) == [[]]
    with pytest.raises(NothingFoundError, match="no record 'nobody'"):
        search(like="nobody", collection="c")


def test_example_of_more_chunks_than_are_searched_at_once(three, monkeypatch):
    every = search(like="b", collection="c")
    monkeypatch.setattr("embcli.pipelines.search._QUERIES_AT_ONCE", 1)
    assert search(like="b", collection="c") == every


def test_without_chunks_hits_are_as_they_were(corpus, run):
    encode([corpus])
    (hits,) = search("pets")
    assert hits[0].chunk is None
    assert list(hits[0].row()) == ["rank", "id", "score", "text", "meta"]
    rows = run("search", "pets", "-f", "ndjson").rows
    assert {tuple(row) for row in rows} == {("rank", "id", "score", "text", "meta")}
    assert hits[0] == Hit(*hits[0].row().values())


def test_commands_show_chunks(three, run):
    (row, _) = run("search", "--like", "a", "-c", "c", "-f", "ndjson").rows
    assert row["chunk"] == {"number": 2, "start": 8, "end": 11, "text": "bü2"}
