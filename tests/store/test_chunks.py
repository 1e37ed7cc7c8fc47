"""Collections whose records have a vector for every chunk of their text."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embcli import Recipe, Record, Store
from embcli.errors import InputError, NothingFoundError, UsageError
from embcli.store import Chunks
from embcli.store.known_texts import prefixes
from embcli.store.segments import Segments

RECIPE = Recipe({"model": "test", "dim": 3, "normalized": False, "maps": []})
CHUNKING = '{"overlap":2,"tokens":8}'


@pytest.fixture
def store(home):
    with Store(home / "s.db") as store:
        yield store


@pytest.fixture
def collection(store):
    return store.create_collection("c", RECIPE, chunking=CHUNKING)


@pytest.fixture
def small(monkeypatch):
    """Segments of few vectors, so that records straddle them."""
    for module in ("segments", "collection"):
        monkeypatch.setattr(f"embcli.store.{module}.SLOTS", 5)


def record(id, text):
    """A record with as many chunks as its text has words."""
    return Record(f"r{id}", text)


def text_of(number):
    return " ".join(f"t{number}w{i}" for i in range(1 + number * 7 % 12))


def made_of(text):
    spans = []
    for word in text.split(" "):
        start = spans[-1][1] + 1 if spans else 0
        spans.append((start, start + len(word)))
    rng = np.random.default_rng(list(text.encode()))
    return Chunks(
        rng.normal(size=(len(spans), 3)).astype(np.float16).astype(np.float32), np.array(spans)
    )


def write(collection, records):
    needed = {record.hash: made_of(record.text) for record in collection.missing(records)}
    return collection.write(records, needed)


def check(store, name, expected):
    """A chunked collection holds exactly these texts by id, in every table that tells of them."""
    collection = store.collection(name)
    ids = list(expected)
    for id, chunks in zip(ids, collection.chunks(ids), strict=True):
        made = made_of(expected[id])
        assert [chunk.number for chunk in chunks] == list(range(len(made.spans)))
        assert [[chunk.start, chunk.end] for chunk in chunks] == made.spans.tolist()
        assert [chunk.vector.tolist() for chunk in chunks] == made.vectors.tolist()
    texts = {
        key: (id, hash) for key, id, hash in store._db.all("SELECT key, id, hash FROM records")
    }
    seen = set()
    for keys, vectors, places in collection.scan():
        spans = collection.spans(keys.tolist())
        for key, vector, place in zip(keys.tolist(), vectors, places.tolist(), strict=True):
            id = texts[key][0]
            number, start, end = spans[place]
            made = made_of(expected[id])
            assert made.vectors[number].tolist() == vector.tolist()
            assert made.spans[number].tolist() == [start, end]
            assert (id, number) not in seen
            seen.add((id, number))
    total = sum(len(made_of(text).spans) for text in expected.values())
    assert len(seen) == total
    (info,) = [info for info in store.collections() if info.name == name]
    assert (info.vectors, info.records, info.chunking) == (total, len(ids), collection.chunking)
    first = store._db.all(
        "SELECT count(*) FROM records JOIN chunks ON chunks.record = records.key "
        "AND chunks.segment = records.segment AND chunks.slot = records.slot AND number = 0 "
        "WHERE collection = ?",
        (collection._key,),
    )
    assert first == [(len(ids),)]
    for slots, hashes in store._db.all(
        "SELECT slots, hashes FROM segments WHERE collection = ?", (collection._key,)
    ):
        owners = np.frombuffer(slots, "<i8")
        known = np.frombuffer(hashes, "<u8")
        for owner, prefix in zip(owners.tolist(), known.tolist(), strict=True):
            assert not owner or prefixes([texts[owner][1]]).tolist() == [prefix]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["c", "d"]),
            st.sampled_from(["write", "write", "delete", "vacuum", "reopen"]),
            st.lists(st.tuples(st.integers(0, 12), st.integers(0, 20)), max_size=8),
        ),
        max_size=14,
    ),
    dtype=st.sampled_from(["float32", "float16"]),
)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_agrees_with_a_dictionary(home, small, steps, dtype):
    """Whatever is written, changed, copied, deleted and compacted, chunks stay with their texts."""
    (home / "k.db").unlink(missing_ok=True)
    store = Store(home / "k.db")
    expected = {"c": {}, "d": {}}
    for name in expected:
        store.create_collection(name, RECIPE, dtype, CHUNKING)
    opened = {name: store.collection(name) for name in expected}
    for name, action, pairs in steps:
        distinct = {f"r{id}": text_of(text) for id, text in pairs}
        if action == "write":
            write(opened[name], [Record(id, text) for id, text in distinct.items()])
            expected[name] |= distinct
        elif action == "delete":
            opened[name].delete(distinct)
            expected[name] = {id: t for id, t in expected[name].items() if id not in distinct}
        elif action == "vacuum":
            store.vacuum()
        else:
            store.close()
            store = Store(home / "k.db")
            opened = {name: store.collection(name) for name in expected}
        for name, texts in expected.items():
            check(store, name, texts)
    total = store._db.value("SELECT count(*) FROM chunks")
    assert total == sum(info.vectors for info in store.collections())
    store.close()


def test_a_long_record_straddles_segments_and_is_compacted(store, collection):
    texts = {f"r{i}": " ".join(f"{i}-{j}" for j in range(700)) for i in range(5)}
    write(collection, [Record(*pair) for pair in texts.items()])
    assert [n for (n,) in store._db.all("SELECT count FROM segments")] == [1024] * 3 + [428]
    collection.delete(["r0", "r2"])
    store.vacuum()
    assert store.facts()["vectors"] == 2100
    check(store, "c", {id: text for id, text in texts.items() if id not in ("r0", "r2")})


def test_known_texts_are_copied_with_their_chunks(store, collection, small):
    write(collection, [record(1, text_of(5))])
    moved = [record(2, text_of(5))]
    assert collection.missing(moved) == []
    assert collection.write(moved, {}).added == 1
    sister = store.create_collection("sister", RECIPE, chunking=CHUNKING)
    assert sister.missing(moved) == []
    sister.write(moved, {})
    check(store, "sister", {"r2": text_of(5)})
    check(store, "c", {"r1": text_of(5), "r2": text_of(5)})
    for name, dtype, chunking in (
        ("plain", "float32", None),
        ("halved", "float16", CHUNKING),
        ("otherwise", "float32", '{"tokens":9}'),
    ):
        assert store.create_collection(name, RECIPE, dtype, chunking).missing(moved) == moved
    plain = store.collection("plain")
    plain.add([record(3, text_of(6))], np.float32([[1, 2, 3]]))
    assert collection.missing([record(3, text_of(6))]) != []


def test_texts_that_swap_ids_swap_chunks(store, collection, small):
    write(collection, [record(1, text_of(1)), record(2, text_of(2))])
    assert collection.write([record(1, text_of(2)), record(2, text_of(1))], {}).changed == 2
    check(store, "c", {"r1": text_of(2), "r2": text_of(1)})


def test_keys_used_again_have_no_old_chunks(store, collection):
    write(collection, [record(1, text_of(5))])
    collection.delete(["r1"])
    assert store._db.value("SELECT count(*) FROM chunks") == 0
    write(collection, [record(2, text_of(1))])
    check(store, "c", {"r2": text_of(1)})


def test_prune_and_removal_take_chunks_along(store, collection):
    records = [Record(f"r{n}", text_of(n), {}, f"f{n % 2}:{n}") for n in range(6)]
    write(collection, records)
    other = store.create_collection("other", RECIPE, chunking=CHUNKING)
    write(other, records[:2])
    store.seen_ids().add(["r0", "r2", "r3"])
    assert collection.prune(["f0"]) == 1
    check(store, "c", {f"r{n}": text_of(n) for n in (0, 1, 2, 3, 5)})
    store.remove_collection("c")
    check(store, "other", {"r0": text_of(0), "r1": text_of(1)})
    store.remove_collection("other")
    assert store._db.value("SELECT count(*) FROM chunks") == 0


def test_metadata_is_refreshed_without_chunks(store, collection):
    write(collection, [record(1, text_of(5))])
    again = [Record("r1", text_of(5), {"colour": "red"})]
    assert collection.missing(again) == []
    assert collection.write(again, {}).refreshed == 1
    assert collection.get(["r1"]) == again
    check(store, "c", {"r1": text_of(5)})


def test_write_refuses_when_chunks_are_missing(store, collection):
    assert collection.write([record(1, text_of(1))], {}) is None
    check(store, "c", {})


def test_an_interrupted_write_leaves_nothing(store, collection, small, monkeypatch):
    write(collection, [record(n, text_of(n)) for n in range(4)])
    changed = [record(n, text_of(n + 1)) for n in range(2, 8)]
    needed = {record.hash: made_of(record.text) for record in changed}

    def power_cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("embcli.store.collection.Collection._refresh", power_cut)
        with pytest.raises(KeyboardInterrupt):
            collection.write(changed, needed)
    check(store, "c", {f"r{n}": text_of(n) for n in range(4)})
    collection.delete(["r1"])
    with monkeypatch.context() as patch:
        patch.setattr("embcli.store.chunks.ChunkTable.move", power_cut)
        with pytest.raises(KeyboardInterrupt):
            store.vacuum()
    check(store, "c", {f"r{n}": text_of(n) for n in (0, 2, 3)})


def test_compaction_follows_vectors_that_move_more_than_once(store, collection, small):
    write(collection, [*(record(n, text_of(5)) for n in range(6)), record(6, text_of(0))])
    moves = []
    compact = Segments.compact

    def noted(segments):
        moves.extend(compact(segments))
        return moves

    collection.delete(["r0", "r2", "r3", "r5"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segments, "compact", noted)
        store.vacuum()
    sources = [(key, before) for key, before, _ in moves]
    assert any((key, after) in sources for key, _, after in moves)
    check(store, "c", {"r1": text_of(5), "r4": text_of(5), "r6": text_of(0)})


def test_a_record_has_the_mean_vector_of_its_chunks(store, collection):
    unit = store.create_collection(
        "unit", Recipe({**RECIPE.settings, "normalized": True}), chunking=CHUNKING
    )
    vectors = np.float32([[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    records = [Record("a", "x y z"), Record("b", "x y")]
    opposite = Chunks(np.float32([[0, 0, 1], [0, 0, -1]]), np.array([[0, 1], [2, 3]]))
    for target in (collection, unit):
        chunks = Chunks(vectors, np.array([[0, 1], [2, 3], [4, 5]]))
        target.write(records, {records[0].hash: chunks, records[1].hash: opposite})
    found = collection.vectors(["b", "a", "a"])
    assert (found.shape, found.dtype) == ((3, 3), np.float32)
    np.testing.assert_allclose(found[1:], [[1 / 3, 2 / 3, 0]] * 2, rtol=1e-6)
    np.testing.assert_allclose(unit.vectors(["a"]), [[0.2**0.5, 0.8**0.5, 0]], rtol=1e-6)
    assert unit.vectors(["b"]).tolist() == [[0, 0, 0]]
    assert collection.vectors([]).shape == (0, 3)
    with pytest.raises(NothingFoundError, match="nobody"):
        collection.vectors(["nobody"])
    with pytest.raises(NothingFoundError, match="nobody"):
        collection.chunks(["a", "nobody"])


def test_without_chunking_a_record_is_one_chunk(store):
    plain = store.create_collection("plain", RECIPE)
    plain.add([Record("a", "grüße 🌍")], np.float32([[1, 2, 3]]))
    ((chunk,),) = plain.chunks(["a"])
    assert (chunk.number, chunk.start, chunk.end) == (0, 0, 7)
    assert chunk.vector.tolist() == [1, 2, 3]
    assert store._db.value("SELECT count(*) FROM chunks") == 0
    (info,) = store.collections()
    assert (info.vectors, info.chunking) == (1, None)


def test_one_collection_one_chunking(store, collection):
    assert store.create_collection("c", RECIPE, chunking=CHUNKING).chunking == CHUNKING
    assert store.collection("c").chunking == CHUNKING
    with pytest.raises(UsageError) as caught:
        store.create_collection("c", RECIPE, chunking='{"tokens":9}')
    assert CHUNKING in str(caught.value)
    assert '{"tokens":9}' in str(caught.value)
    assert "--collection" in caught.value.hint
    with pytest.raises(UsageError, match=r"vectors of chunks .*, not one vector a record"):
        store.create_collection("c", RECIPE)
    store.create_collection("plain", RECIPE)
    with pytest.raises(UsageError, match="keeps one vector a record, not vectors of chunks"):
        store.create_collection("plain", RECIPE, chunking=CHUNKING)


def test_whole_vectors_do_not_go_into_a_chunked_collection(store, collection):
    with pytest.raises(UsageError, match="a vector for every chunk"):
        collection.add([record(1, "x")], np.float32([[1, 2, 3]]))
    check(store, "c", {})


@pytest.mark.parametrize(
    ("vectors", "spans"), [((0, 3), (0, 2)), ((2, 3), (1, 2)), ((2, 3), (2, 3)), ((2, 3), (2,))]
)
def test_chunks_that_do_not_fit(vectors, spans):
    with pytest.raises(InputError, match=r"found \("):
        Chunks(np.zeros(vectors, np.float32), np.zeros(spans, np.int64))


def test_vectors_of_another_dimension_are_refused(store, collection):
    wrong = Chunks(np.zeros((2, 4), np.float32), np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match="shape"):
        collection.write([record(1, "x")], {record(1, "x").hash: wrong})
    check(store, "c", {})
