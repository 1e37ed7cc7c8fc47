"""Which parts went into a collection."""

import sqlite3

import pytest

from embcli import Recipe, Record, Store
from embcli.pipelines.repair import repair

RECIPE = Recipe({"model": "test", "dim": 3, "normalized": False, "maps": []})
PARTS = {"0" * 32, "f" * 32}


@pytest.fixture
def store(home):
    with Store(home / "s.db") as store:
        found = store.create_collection("c", RECIPE)
        found.add([Record("r", "text")], [[1.0, 2.0, 3.0]])
        for part in PARTS:
            found.gathered.add(part)
            found.gathered.add(part)
        yield store


def test_parts_belong_to_their_collection(store):
    assert store.collection("c").gathered.sums() == PARTS
    assert store.create_collection("other", RECIPE).gathered.sums() == set()
    store.rename_collection("c", "d")
    assert store.collection("d").gathered.sums() == PARTS
    store.remove_collection("d")
    assert store.create_collection("c", RECIPE).gathered.sums() == set()
    assert not store.inspect()


def test_the_key_of_a_collection_that_went_has_no_parts(store):
    key = store.key_of_collection("c")
    store.drop_row_of_collection(key)
    assert store.database.all("SELECT * FROM gathered") == []


def test_rows_that_are_not_what_was_written_are_passed_over(store, home):
    store.database.execute("UPDATE gathered SET part = 'other' WHERE part LIKE 'f%'")
    assert store.collection("c").gathered.sums() == {"0" * 32}
    other = store.create_collection("other", RECIPE)
    store.database.execute("UPDATE gathered SET collection = collection + 1")
    assert other.gathered.sums() == set()


def test_a_copy_has_them_and_a_repair_forgets_them(store, home):
    store.backup(home / "copy.db")
    with Store(home / "copy.db") as copy:
        assert copy.collection("c").gathered.sums() == PARTS
    store.close()
    with sqlite3.connect(home / "s.db") as connection:
        connection.execute("UPDATE records SET text = 'other'")
    connection.close()
    assert repair(home / "s.db").set_aside == 1
    with Store(home / "s.db") as repaired:
        # What was lost comes back with the parts.
        assert repaired.collection("c").gathered.sums() == set()
