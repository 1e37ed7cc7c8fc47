"""Batches of one collection put into another."""

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.store import Chunks

RECIPE = Recipe({"model": "test", "dim": 3, "normalized": False, "maps": []})
CHUNKING = '{"overlap":2,"tokens":8}'


@pytest.fixture
def store(home):
    with Store(home / "s.db") as store:
        yield store


def filled(store, chunking=None, dtype=None):
    source = store.create_collection("source", RECIPE, dtype, chunking)
    records = [Record(f"r{n}", f"text {n}", {"n": n}, f"in.jsonl:{n + 1}") for n in range(7)]
    rng = np.random.default_rng(0)
    if chunking is None:
        source.add(records, rng.normal(size=(7, 3)))
    else:
        made = {}
        for n, record in enumerate(records):
            spans = np.array([(i, i + 2) for i in range(n + 1)])
            made[record.hash] = Chunks(rng.normal(size=(n + 1, 3)).astype(np.float32), spans)
        source.write(records, made)
    return source


def contents(collection):
    rows = []
    for batch in collection.batches(3):
        ends = np.cumsum(batch.counts)
        for n, row in enumerate(
            zip(batch.ids, batch.texts, batch.metas, batch.hashes, strict=False)
        ):
            vectors = batch.vectors[batch.starts[n] : ends[n]].tolist()
            spans = None if batch.spans is None else batch.spans[n].tolist()
            rows.append((row, batch.sources[n], vectors, spans))
    return sorted(rows)


@pytest.mark.parametrize("chunking", [None, CHUNKING])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_copy_is_what_it_was_copied_from_and_is_made_once(store, chunking, dtype):
    source = filled(store, chunking, dtype)
    target = store.create_collection("target", RECIPE, dtype, chunking)
    for batch in source.batches(3):
        assert target.put(batch).added == len(batch.ids)
    assert contents(target) == contents(source)
    for batch in source.batches(3):
        assert target.put(batch).unchanged == len(batch.ids)
    assert contents(target) == contents(source)


@pytest.mark.parametrize("chunking", [None, CHUNKING])
def test_what_differs_is_replaced_and_nothing_else(store, chunking):
    source = filled(store, chunking)
    target = store.create_collection("target", RECIPE, None, chunking)
    (batch,) = source.batches(100)
    target.put(batch)
    batch.metas[1] = '{"n":100}'
    batch.sources[2] = "other.jsonl:3"
    batch.texts[3] = "another text of the same hash"
    batch.vectors[batch.starts[4]] += 1
    batch.hashes[5] = "f" * 32
    if batch.spans is not None:
        batch.spans[6] = batch.spans[6] + 1
    written = target.put(batch)
    assert (written.refreshed, written.changed) == (2, 3 if chunking is None else 4)
    assert (written.unchanged, written.replaced) == (7 - 2 - written.changed, 1)
    (now,) = target.batches(100)
    assert sorted(now.ids) == sorted(batch.ids)
    by_id = {row[0][0]: row for row in contents(target)}
    assert by_id["r3"][0][1] == "another text of the same hash"
    assert by_id["r4"][2][0] == batch.vectors[batch.starts[4]].tolist()
    assert store.inspect().records == {}


@pytest.mark.parametrize("chunking", [None, CHUNKING])
def test_rows_are_taken_with_their_vectors(store, chunking):
    (batch,) = filled(store, chunking).batches(100)
    some = batch.take([1, 4, 6])
    assert some.ids == ["r1", "r4", "r6"]
    for n, row in enumerate((1, 4, 6)):
        start, count = some.starts[n], some.counts[n]
        expected = batch.vectors[batch.starts[row] :][: batch.counts[row]]
        np.testing.assert_array_equal(some.vectors[start : start + count], expected)
    assert batch.take([]).vectors.shape == (0, 3)
