import json
import os
import sqlite3
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from embcli.encoders.recipe import Recipe
from embcli.errors import InputError, NothingFoundError, StoreError, UsageError
from embcli.store import Record, SpaceFacts, Store
from embcli.store import database as database_module
from embcli.store.known_texts import prefixes
from embcli.store.schema import STEPS

RECIPE = Recipe({"model": "test", "dim": 4, "normalized": False, "maps": []})


def records(*numbers, text="text {}", **meta):
    return [Record(f"r{n}", text.format(n), {"n": n, **meta}, f"file:{n}") for n in numbers]


def vectors(*numbers):
    return np.float32([[n, n + 0.25, n + 0.5, 1] for n in numbers])


@pytest.fixture
def store(home):
    with Store(home / "s.db") as store:
        yield store


@pytest.fixture
def collection(store):
    return store.create_collection("c", RECIPE)


def everything(collection):
    """Every live vector by record id, as a scan sees them."""
    found = {}
    for keys, block, _ in collection.scan():
        ids = collection.ids_by_key(keys.tolist())
        for key, vector in zip(keys.tolist(), block, strict=True):
            assert ids[key] not in found
            found[ids[key]] = vector.tolist()
    return found


def indexed(store, query):
    sql = "SELECT id FROM records WHERE key IN (SELECT rowid FROM records_fts WHERE text MATCH ?)"
    return {id for (id,) in store._db.all(sql, (query,))}


def check_text_index(store):
    """FTS5's own check: every row of the index matches the table, and none is missing."""
    store._db.execute("INSERT INTO records_fts (records_fts, rank) VALUES ('integrity-check', 1)")


def test_records_and_vectors_come_back(store, collection):
    collection.add(records(1, 2, 3), vectors(1, 2, 3))
    assert collection.get(["r3", "r1"]) == [records(3)[0], records(1)[0]]
    np.testing.assert_array_equal(collection.vectors(["r3", "r1"]), vectors(3, 1))
    assert len(collection) == 3
    assert list(collection.records()) == records(1, 2, 3)
    with Store(store.path, readonly=True) as other:
        assert everything(other.collection("c")).keys() == {"r1", "r2", "r3"}


def test_changed_text_replaces_the_vector(store, collection):
    collection.add(records(1, 2), vectors(1, 2))
    store.index_texts()
    changed = records(2, text="changed {}")
    assert [r.id for r in collection.missing(changed)] == ["r2"]
    written = collection.write(changed, {changed[0].hash: vectors(9)[0]})
    assert (written.added, written.changed) == (0, 1)
    assert everything(collection) == {"r1": vectors(1)[0].tolist(), "r2": vectors(9)[0].tolist()}
    assert indexed(store, "text") == {"r1"}
    store.index_texts()
    assert indexed(store, "changed") == {"r2"}
    check_text_index(store)


def test_unchanged_text_keeps_the_vector_and_refreshes_metadata(collection):
    collection.add(records(1, 2), vectors(1, 2))
    again = [*records(1, colour="red"), *records(2)]
    assert collection.missing(again) == []
    written = collection.write(again, {})
    assert (written.refreshed, written.unchanged) == (1, 1)
    assert collection.get(["r1"])[0].meta == {"n": 1, "colour": "red"}
    np.testing.assert_array_equal(collection.vectors(["r1"]), vectors(1))


def test_a_known_text_under_another_id_needs_no_encoding(store, collection):
    collection.add(records(1), vectors(1))
    moved = [Record("other", "text 1")]
    assert collection.missing(moved) == []
    collection.write(moved, {})
    np.testing.assert_array_equal(collection.vectors(["other"]), vectors(1))
    sister = store.create_collection("sister", RECIPE)
    assert sister.missing(moved) == []
    halved = store.create_collection("halved", RECIPE, "float16")
    assert halved.missing(moved) == moved
    elsewhere = store.create_collection("far", Recipe({**RECIPE.settings, "model": "other"}))
    assert elsewhere.missing(moved) == moved


def test_texts_that_swap_ids_swap_vectors(collection):
    collection.add(records(1, 2), vectors(1, 2))
    swapped = [Record("r1", "text 2"), Record("r2", "text 1")]
    assert collection.missing(swapped) == []
    assert collection.write(swapped, {}).changed == 2
    np.testing.assert_array_equal(collection.vectors(["r1", "r2"]), vectors(2, 1))


def test_write_refuses_when_vectors_are_missing(collection):
    assert collection.write(records(1), {}) is None
    assert len(collection) == 0


def test_segments_fill_up(store, collection):
    for start in range(0, 2500, 100):
        collection.add(records(*range(start, start + 100)), vectors(*range(start, start + 100)))
    assert [n for (n,) in store._db.all("SELECT count FROM segments")] == [1024, 1024, 452]
    assert everything(collection) == {f"r{n}": vectors(n)[0].tolist() for n in range(2500)}


def test_deleted_vectors_are_gone_and_vacuum_gives_room_back(store, collection):
    collection.add(records(*range(3000)), vectors(*range(3000)))
    store.index_texts()
    gone = [f"r{n}" for n in range(3000) if n % 3]
    assert collection.delete([*gone, "never there"]) == len(gone)
    expected = {f"r{n}": vectors(n)[0].tolist() for n in range(0, 3000, 3)}
    assert everything(collection) == expected
    assert store.facts()["vectors"] == 3000
    store.vacuum()
    assert store.facts()["vectors"] == 1000
    assert everything(collection) == expected
    np.testing.assert_array_equal(collection.vectors(["r2997"]), vectors(2997))
    check_text_index(store)


def test_a_segment_without_vectors_is_dropped(store, collection):
    collection.add(records(*range(1500)), vectors(*range(1500)))
    collection.delete(f"r{n}" for n in range(1024))
    assert store._db.value("SELECT count(*) FROM segments") == 1


def test_keys_used_again_after_deletion_confuse_nothing(store, collection):
    collection.add(records(1, 2), vectors(1, 2))
    store.index_texts()
    collection.delete(["r2"])
    collection.add(records(3), vectors(3))
    store.index_texts()
    assert indexed(store, "text") == {"r1", "r3"}
    assert everything(collection).keys() == {"r1", "r3"}
    check_text_index(store)


def test_deleting_what_is_not_indexed_yet(store, collection):
    collection.add(records(1), vectors(1))
    store.index_texts()
    collection.add(records(2, 3), vectors(2, 3))
    collection.delete(["r1", "r2"])
    store.index_texts()
    assert indexed(store, "text") == {"r3"}
    check_text_index(store)


def test_filter_restricts_the_scan(collection):
    collection.add(records(*range(2000)), vectors(*range(2000)))
    wanted = collection.filter("n >= 1990")
    keys = [key for block in collection.scan(wanted) for key in block.keys.tolist()]
    assert set(collection.ids_by_key(keys).values()) == {f"r{n}" for n in range(1990, 2000)}


def test_a_filter_of_thousands_of_alternatives(collection):
    with pytest.raises(UsageError, match="too much for SQLite"):
        collection.filter(" or ".join(f"n = {n}" for n in range(5000)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (vectors(1), r"expected vectors of shape \(2, 4\), found \(1, 4\)"),
        (np.float32([[1, 2, 3, 4], [1, np.nan, 3, 4]]), "row 1 of the vectors is not finite"),
    ],
)
def test_vectors_that_do_not_fit(collection, given, message):
    with pytest.raises(InputError, match=message):
        collection.add(records(1, 2), given)
    assert len(collection) == 0


def test_repeated_ids_are_refused(collection):
    with pytest.raises(InputError, match="ids repeat"):
        collection.add(records(1, 1), vectors(1, 2))


def test_float16_takes_half_the_room(store):
    small = store.create_collection("small", RECIPE, "float16")
    small.add(records(1), np.float32([[0.1, 0.2, 0.3, 0.4]]))
    np.testing.assert_allclose(small.vectors(["r1"]), [[0.1, 0.2, 0.3, 0.4]], rtol=1e-3)
    assert small.vectors(["r1"]).dtype == np.float32
    assert store.collections()[0].bytes == 8


def test_unknown_ids_and_collections_are_named(store, collection):
    with pytest.raises(NothingFoundError, match="'c' has no record 'nobody'"):
        collection.get(["nobody"])
    with pytest.raises(NothingFoundError, match="nobody"):
        collection.vectors(["nobody"])
    with pytest.raises(StoreError, match=r"no collection 'd' \(there are: c\)"):
        store.collection("d")


def test_one_collection_one_space(store, collection):
    other = Recipe({**RECIPE.settings, "model": "newer"})
    with pytest.raises(UsageError, match=r"another space .model: test → newer"):
        store.create_collection("c", other)
    with pytest.raises(UsageError, match="stores float32, not float16"):
        store.create_collection("c", RECIPE, "float16")
    with pytest.raises(UsageError, match="no dtype 'int3'"):
        store.create_collection("e", RECIPE, "int3")


def test_labels_of_a_space_are_those_of_its_newest_recipe(store):
    settings = {**RECIPE.settings, "weights": "sha256:0"}
    store.create_collection("c", Recipe(settings))
    moved = Recipe({**settings, "model": "/new/home"})
    assert store.create_collection("c", moved).recipe.model == "/new/home"
    assert [space.model for space in store.spaces()] == ["/new/home"]
    assert store.collection("c").recipe.json == moved.json
    store.create_collection("d", Recipe({**settings, "model": "third"}))
    assert store.collection("c").recipe.model == "third"
    with pytest.raises(UsageError, match="stores float32"):
        store.create_collection("c", moved, "float16")
    assert store.collection("c").recipe.model == "third"


def test_what_is_noted_of_a_space(store, collection):
    assert store.space_facts("nowhere") is None
    assert store.space_facts(RECIPE.hash) == SpaceFacts(light=None, files=None)
    store.note_space(RECIPE.hash, light=False)
    assert store.space_facts(RECIPE.hash) == SpaceFacts(light=False, files=None)
    store.note_space(RECIPE.hash, files={"model.safetensors": [12, 0.5]})
    store.note_space("nowhere", light=True)
    store.note_space(RECIPE.hash)
    with Store(store.path, readonly=True) as reader:
        facts = reader.space_facts(RECIPE.hash)
    assert facts == SpaceFacts(light=False, files={"model.safetensors": [12, 0.5]})
    store.note_space(RECIPE.hash, light=True, files=[])
    assert store.space_facts(RECIPE.hash) == SpaceFacts(light=True, files=[])


def test_vectors_of_queries_are_kept(store, collection):
    a, b = np.float32([[1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4]])
    store.cache_queries(RECIPE.hash, {"a": a, "b": b.astype(np.float64)})
    store.cache_queries("nowhere", {"c": a})
    with Store(store.path, readonly=True) as reader:
        found = reader.cached_queries(RECIPE.hash, ["b", "c", "a", "a"])
        assert reader.cached_queries("nowhere", ["a"]) == {}
    assert found.keys() == {"a", "b"}
    np.testing.assert_array_equal(found["a"], a)
    np.testing.assert_array_equal(found["b"], b)
    assert found["b"].dtype == np.float32
    store.cache_queries(RECIPE.hash, {"a": b})
    np.testing.assert_array_equal(store.cached_queries(RECIPE.hash, ["a"])["a"], b)


def test_of_many_queries_the_newest_are_kept(store, collection, monkeypatch):
    monkeypatch.setattr("embcli.store.store._QUERIES_KEPT", 5)
    far = Recipe({**RECIPE.settings, "model": "other"})
    store.create_collection("far", far)
    store.cache_queries(far.hash, {"z": vectors(0)[0]})
    store.cache_queries(RECIPE.hash, {f"q{n}": vectors(n)[0] for n in range(5)})
    assert store.cached_queries(far.hash, ["z"]) == {}
    store.cache_queries(RECIPE.hash, {"q0": vectors(0)[0]})  # no longer the oldest
    store.cache_queries(RECIPE.hash, {"q5": vectors(5)[0]})
    names = [f"q{n}" for n in range(9)]
    assert store.cached_queries(RECIPE.hash, names).keys() == {"q0", "q2", "q3", "q4", "q5"}
    store.cache_queries(RECIPE.hash, {name: vectors(1)[0] for name in names})
    assert store.cached_queries(RECIPE.hash, names).keys() == set(names[4:])


def test_vectors_of_queries_vanish_with_their_space(store, collection):
    store.create_collection("sister", RECIPE)
    store.cache_queries(RECIPE.hash, {"q": vectors(1)[0]})
    store.remove_collection("sister")
    assert store.cached_queries(RECIPE.hash, ["q"])
    store.remove_collection("c")
    far = Recipe({**RECIPE.settings, "model": "other"})
    store.create_collection("far", far)  # whose key in the table is that of the space before
    assert store.cached_queries(far.hash, ["q"]) == {}
    assert store._db.value("SELECT count(*) FROM queries") == 0


def test_an_interrupted_caching_leaves_nothing(store, collection):
    def interrupted():
        yield "a", vectors(1)[0]
        raise KeyboardInterrupt

    class Broken(dict):
        def items(self):
            return interrupted()

    with pytest.raises(KeyboardInterrupt):
        store.cache_queries(RECIPE.hash, Broken())
    assert store.cached_queries(RECIPE.hash, ["a"]) == {}


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m"])
def test_impossible_names(store, name):
    with pytest.raises(UsageError, match="not a possible name"):
        store.create_collection(name, RECIPE)


def test_rename_and_remove(store, collection):
    collection.add(records(1, 2), vectors(1, 2))
    store.index_texts()
    store.create_collection("d", Recipe({**RECIPE.settings, "model": "other"}))
    with pytest.raises(UsageError, match="'d' already"):
        store.rename_collection("c", "d")
    store.rename_collection("c", "e")
    assert [info.name for info in store.collections()] == ["d", "e"]
    assert store.remove_collection("e") == 2
    assert [space.model for space in store.spaces()] == ["other"]
    assert store.facts()["vectors"] == store.facts()["records"] == 0
    check_text_index(store)


def test_runs_are_recorded(store):
    with store.run("encode", "c", {"inputs": ["f"]}) as counts:
        counts["encoded"] = 3
    with pytest.raises(KeyboardInterrupt), store.run("encode", "c", {}):
        raise KeyboardInterrupt
    with pytest.raises(InputError), store.run("encode", "c", {}):
        raise InputError("x")
    assert [run.status for run in store.runs()] == ["failed", "interrupted", "done"]
    first = store.runs()[-1]
    assert (first.counts, first.arguments) == ({"encoded": 3}, {"inputs": ["f"]})
    assert first.versions["embcli"]


def test_the_file_is_readable_with_any_sqlite_tool(store, collection):
    collection.add(records(1), vectors(1))
    connection = sqlite3.connect(store.path)
    row = connection.execute("SELECT collection, id, text, meta, source, model, dim FROM corpus")
    assert row.fetchone() == ("c", "r1", "text 1", '{"n":1}', "file:1", "test", 4)
    slots, blob = connection.execute("SELECT slots, vectors FROM segments").fetchone()
    assert np.frombuffer(slots, "<i8").tolist() == [1]
    assert np.frombuffer(blob, "<f4").tolist() == vectors(1)[0].tolist()
    assert connection.execute("PRAGMA application_id").fetchone() == (0x656D6263,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_version_is_the_number_of_steps():
    assert len(STEPS) == database_module.VERSION


def test_opening_again_changes_nothing(store):
    before = store._db.all("SELECT sql FROM sqlite_master")
    with Store(store.path) as again:
        assert again._db.all("SELECT sql FROM sqlite_master") == before


# Files that are not stores


def test_missing_file_is_only_created_for_writing(home):
    with pytest.raises(StoreError, match="no store at"):
        Store(home / "none.db", readonly=True)
    assert not (home / "none.db").exists()


def test_a_newer_store_is_refused(store):
    store._db.execute("PRAGMA user_version = 99")
    for readonly in (True, False):
        with pytest.raises(StoreError, match=r"newer embcli \(store version 99, this one knows"):
            Store(store.path, readonly=readonly)


def test_places_tell_where_vectors_lie(store, collection):
    collection.add(records(*range(2000)), vectors(*range(2000)))
    collection.delete(["r0", "r1030"])
    slots = dict(store._db.all("SELECT key, slots FROM segments"))
    found = 0
    for keys, _, places in collection.scan():
        for key, place in zip(keys.tolist(), places.tolist(), strict=True):
            segment, slot = divmod(place, 1024)
            assert np.frombuffer(slots[segment], "<i8")[slot] == key
            found += 1
    assert found == 1998


def test_an_older_store_is_migrated_in_one_transaction(store, collection, monkeypatch):
    def add_column(db):
        db.execute("ALTER TABLE runs ADD COLUMN mood TEXT")

    def fail(db):
        raise RuntimeError("power cut")

    collection.add(records(1), vectors(1))
    newest = len(STEPS)
    monkeypatch.setattr(database_module, "VERSION", newest + 2)
    with pytest.raises(StoreError, match="must be upgraded"):
        Store(store.path, readonly=True)
    monkeypatch.setattr("embcli.store.schema.STEPS", (*STEPS, add_column, fail))
    with pytest.raises(RuntimeError, match="power cut"):
        Store(store.path)
    assert store._db.value("PRAGMA user_version") == newest
    monkeypatch.setattr("embcli.store.schema.STEPS", (*STEPS, add_column, lambda db: None))
    with Store(store.path) as upgraded:
        assert upgraded._db.value("PRAGMA user_version") == newest + 2
        assert len(upgraded.collection("c")) == 1


def store_of_version_1(path, recipe, hash):
    """A store as embcli wrote it when there was one step, by its tables alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embcli.store.schema.STEPS", STEPS[:1])
        patch.setattr(database_module, "VERSION", 1)
        db = database_module.Database(path, readonly=False, timeout=1)
    with db.transaction():
        db.execute(
            "INSERT INTO spaces (hash, model, dim, recipe, created) VALUES (?, ?, ?, ?, '')",
            (hash, recipe.model, recipe.dim, recipe.json),
        )
        db.execute(
            "INSERT INTO collections (name, space, dtype, created) VALUES ('c', 1, 'float32', '')"
        )
        old = records(1, 2, 3)
        db.execute(
            "INSERT INTO segments (collection, count, slots, hashes, vectors) "
            "VALUES (1, 3, ?, ?, ?)",
            (
                np.array([1, 2, 3], "<i8").tobytes(),
                prefixes([record.hash for record in old]).tobytes(),
                vectors(1, 2, 3).tobytes(),
            ),
        )
        db.executemany(
            "INSERT INTO records (collection, id, hash, segment, slot, source, meta, text) "
            "VALUES (1, ?, ?, 1, ?, ?, ?, ?)",
            ((r.id, r.hash, slot, r.source, r.meta_json, r.text) for slot, r in enumerate(old)),
        )
    db.close()


def test_a_store_of_version_1_works_after_migration(home):
    # Then the name of the model was part of the identity of a space.
    recipe = Recipe({**RECIPE.settings, "weights": "sha256:0"})
    store_of_version_1(home / "old.db", recipe, "hash of then")
    with pytest.raises(StoreError, match="store version 1 and must be upgraded to"):
        Store(home / "old.db", readonly=True)
    with Store(home / "old.db") as store:
        collection = store.create_collection("c", recipe)
        assert collection.chunking is None
        assert list(collection.records()) == records(1, 2, 3)
        np.testing.assert_array_equal(collection.vectors(["r2", "r3"]), vectors(2, 3))
        assert collection.missing([Record("new", "text 2")]) == []
        collection.add(records(4), vectors(4))
        collection.delete(["r1"])
        store.vacuum()
        assert everything(collection).keys() == {"r2", "r3", "r4"}
        assert [space.space for space in store.spaces()] == [recipe.hash]
        assert store.space_facts(recipe.hash) == SpaceFacts(None, None)
        assert store.cached_queries(recipe.hash, ["q"]) == {}
        assert store.create_collection("d", recipe, chunking="{}").missing(records(4))
        with Store(home / "new.db") as new:
            schema = "SELECT name, sql FROM sqlite_master ORDER BY name"
            assert store._db.all(schema) == new._db.all(schema)


def test_spaces_that_turn_out_to_be_one_both_stay(home):
    recipe = Recipe({**RECIPE.settings, "weights": "sha256:0"})
    store_of_version_1(home / "old.db", recipe, "hash of then")
    connection = sqlite3.connect(home / "old.db")
    moved = Recipe({**recipe.settings, "model": "elsewhere"})
    connection.execute(
        "INSERT INTO spaces (hash, model, dim, recipe, created) VALUES ('b', 'm', 4, ?, '')",
        (moved.json,),
    )
    connection.execute("UPDATE collections SET space = 2")
    connection.commit()
    connection.close()
    with Store(home / "old.db") as store:
        assert [space.space for space in store.spaces()] == [recipe.hash, "b"]
        assert store.create_collection("c", recipe).missing(records(1)) == []


@pytest.mark.parametrize("readonly", [True, False])
def test_other_files_are_left_alone(home, readonly):
    connection = sqlite3.connect(home / "other.db")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    (home / "text.db").write_text("not a database at all, but long enough to be read " * 40)
    before = (home / "other.db").read_bytes()
    with pytest.raises(StoreError, match="not an embcli store"):
        Store(home / "other.db", readonly=readonly)
    with pytest.raises(StoreError, match="not an SQLite database"):
        Store(home / "text.db", readonly=readonly)
    with pytest.raises(StoreError, match="is a directory"):
        Store(home, readonly=readonly)
    assert (home / "other.db").read_bytes() == before


def test_damage_is_reported(store, collection):
    collection.add(records(*range(2000)), vectors(*range(2000)))
    store.close()
    raw = bytearray(store.path.read_bytes())
    raw[16384 * 3 :] = b"\xa5" * (len(raw) - 16384 * 3)
    store.path.write_bytes(raw)
    with (
        pytest.raises(StoreError, match="damaged"),
        Store(store.path, readonly=True) as damaged,
    ):
        list(damaged.collection("c").records())


def test_a_store_in_a_folder_that_cannot_be_written():
    # Root may write everywhere, so a child without rights does the reading; its folder must be
    # one that anybody can reach, which pytest's are not.
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "s.db")
        with Store(path) as store:
            store.create_collection("c", RECIPE).add(records(1), vectors(1))
        path.chmod(0o444)
        os.chmod(name, 0o555)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if os.getuid() == 0:
                    os.setuid(65534)
                assert not os.access(name, os.W_OK)
                with Store(path, readonly=True) as store:
                    code = 0 if len(store.collection("c")) == 1 else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        os.chmod(name, 0o755)
    assert status == 0


# Two at once


def test_readers_see_a_snapshot_and_never_wait(store, collection):
    collection.add(records(1), vectors(1))
    with Store(store.path, readonly=True, timeout=0) as reader, reader.snapshot():
        before = len(reader.collection("c"))
        collection.add(records(2), vectors(2))
        with store._db.transaction():
            assert len(reader.collection("c")) == before == 1
    with Store(store.path, readonly=True) as reader:
        assert len(reader.collection("c")) == 2


def test_a_second_writer_waits_then_gives_up_clearly(store, collection):
    with (
        Store(store.path, timeout=0.1) as second,
        store._db.transaction(),
        pytest.raises(StoreError, match="being written by another process") as caught,
    ):
        second.collection("c").add(records(1), vectors(1))
    assert "wait" in caught.value.hint


def test_two_writers_take_turns(home, store, collection):
    def work(offset):
        with Store(home / "s.db") as mine:
            for n in range(offset, offset + 60):
                mine.collection("c").add(records(n), vectors(n))

    threads = [threading.Thread(target=work, args=(offset,)) for offset in (0, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [*range(60), *range(1000, 1060)]
    assert everything(collection) == {f"r{n}": vectors(n)[0].tolist() for n in numbers}


def test_meta_survives_byte_for_byte(collection):
    meta = {"z": 1, "a": [1.5, None, True], "ünï": {"x": "\u0000\u2028"}, "big": 2**70}
    collection.add([Record("r", "t", meta)], vectors(1))
    (stored,) = collection.get(["r"])
    assert json.dumps(stored.meta) == json.dumps(meta)


def test_vectors_are_gathered_in_any_order_and_any_number_of_times(collection):
    numbers = range(3000)
    collection.add(records(*numbers), vectors(*numbers))
    collection.delete([f"r{n}" for n in range(0, 3000, 3)])
    _, places = collection.live()
    expected = vectors(*(n for n in numbers if n % 3))
    chosen = np.random.default_rng(0).integers(0, len(places), 500)
    for which in (np.arange(len(places)), chosen, chosen[:5], np.array([7] * 20 + [3, 7])):
        np.testing.assert_array_equal(collection.gather(places[which]), expected[which])


def test_batches_are_all_records_in_order(collection):
    numbers = range(2500)
    collection.add(records(*numbers), vectors(*numbers))
    collection.delete([f"r{n}" for n in range(100, 1400)])
    kept = [n for n in numbers if not 100 <= n < 1400]
    wanted = collection.filter("n > 50")
    for size, passed, condition in ((300, kept, None), (7000, kept[51:], wanted)):
        batches = list(collection.batches(size, condition))
        assert [id for batch in batches for id in batch.ids] == [f"r{n}" for n in passed]
        assert [json.loads(meta)["n"] for batch in batches for meta in batch.metas] == passed
        np.testing.assert_array_equal(
            np.concatenate([batch.vectors for batch in batches]), vectors(*passed)
        )
        assert {len(batch.ids) for batch in batches[:-1]} <= {size}
    assert collection.hashes(["r0", "none"]) == {"r0": records(0)[0].hash}
    assert batches[0].hashes[0] == records(51)[0].hash
