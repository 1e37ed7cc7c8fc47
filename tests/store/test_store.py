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
from embcli.store import Record, Store
from embcli.store import database as database_module
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
    for keys, block in collection.scan():
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
    keys = [key for keys, _ in collection.scan(wanted) for key in keys.tolist()]
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


def test_an_older_store_is_migrated_in_one_transaction(store, collection, monkeypatch):
    def add_column(db):
        db.execute("ALTER TABLE runs ADD COLUMN mood TEXT")

    def fail(db):
        raise RuntimeError("power cut")

    collection.add(records(1), vectors(1))
    monkeypatch.setattr(database_module, "VERSION", 3)
    with pytest.raises(StoreError, match="must be upgraded"):
        Store(store.path, readonly=True)
    monkeypatch.setattr("embcli.store.schema.STEPS", (*STEPS, add_column, fail))
    with pytest.raises(RuntimeError, match="power cut"):
        Store(store.path)
    assert store._db.value("PRAGMA user_version") == 1
    monkeypatch.setattr("embcli.store.schema.STEPS", (*STEPS, add_column, lambda db: None))
    with Store(store.path) as upgraded:
        assert upgraded._db.value("PRAGMA user_version") == 3
        assert len(upgraded.collection("c")) == 1


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
