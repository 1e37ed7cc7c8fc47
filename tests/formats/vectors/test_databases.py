"""llm's embeddings.db, and embcli's own stores."""

import hashlib
import json
import sqlite3
import struct
from contextlib import closing

import numpy as np
import pytest

from embcli import Store, encode
from embcli.errors import InputError, UsageError
from embcli.formats import Problem
from embcli.formats.vectors import VectorOptions
from embcli.formats.vectors.embcli_store import CollectionBatches, StoreReader, StoreWriter
from embcli.formats.vectors.llm_db import LlmReader, LlmWriter
from tests.formats.vectors.test_contract import RECIPE, batch, joined

# As llm's first version with collections made it.
OLD = """
CREATE TABLE [collections] ([id] INTEGER PRIMARY KEY, [name] TEXT, [model] TEXT);
CREATE TABLE [embeddings] ([collection_id] INTEGER REFERENCES [collections]([id]), [id] TEXT,
    [embedding] BLOB, [content] TEXT, [metadata] TEXT, PRIMARY KEY ([collection_id], [id]));
"""


@pytest.fixture
def llm(home):
    """Make llm's database out of collections of (id, vector, content, metadata)."""

    def llm(**collections):
        db = sqlite3.connect(home / "embeddings.db")
        db.executescript(OLD)
        for key, (name, rows) in enumerate(collections.items(), 1):
            db.execute("INSERT INTO collections VALUES (?, ?, 'ada-002')", (key, name))
            for id, vector, content, meta in rows:
                blob = struct.pack("<" + "f" * len(vector), *vector)
                row = (key, id, blob, content, meta)
                db.execute("INSERT INTO embeddings VALUES (?, ?, ?, ?, ?)", row)
        db.commit()
        db.close()
        return home / "embeddings.db"

    return llm


def test_what_llm_writes_is_read(llm):
    rows = [("b", [1.5, -2], "text", '{"k": [1, null]}'), ("a", [0.1, 3], None, None)]
    opened = LlmReader(llm(docs=rows), VectorOptions())
    found = joined(opened)
    assert (found.ids, found.texts, found.metas) == (
        ["b", "a"],
        ["text", ""],
        [{"k": [1, None]}, {}],
    )
    np.testing.assert_array_equal(found.vectors, np.array([[1.5, -2], [0.1, 3]], np.float32))
    assert (opened.dim, opened.count, opened.notes) == (2, 2, ["llm's model was 'ada-002'"])


def test_one_collection_of_several(llm):
    path = llm(one=[("a", [1], None, None)], two=[("b", [2, 3], None, None)], none=[])
    with pytest.raises(UsageError, match=r"several collections \(one, two, none\)"):
        LlmReader(path, VectorOptions())
    assert joined(LlmReader(path, VectorOptions(collection="two"))).ids == ["b"]
    with pytest.raises(InputError, match=r"no collection 'x' \(there are: one, two, none\)"):
        LlmReader(path, VectorOptions(collection="x"))
    with pytest.raises(InputError, match="no vectors in it"):
        LlmReader(path, VectorOptions(collection="none"))


def test_rows_of_llm_that_are_wrong(llm, home):
    rows = [
        ("a", [1, 2], None, None),
        ("b", [1, 2, 3], None, None),
        ("c", [1, float("nan")], None, None),
    ]
    results = list(LlmReader(llm(docs=rows), VectorOptions()))
    problems = [str(result) for result in results if isinstance(result, Problem)]
    assert [problem.partition(": ")[2] for problem in problems] == [
        "row 2: 'b' has 3 components, not 2", "row 3: component 2 of 'c' is nan"
    ]  # fmt: skip
    with closing(sqlite3.connect(home / "other.db")) as db:
        db.execute("CREATE TABLE x (y)")
    with pytest.raises(InputError, match="no such table: collections"):
        LlmReader(home / "other.db", VectorOptions())
    whole = (home / "embeddings.db").read_bytes()
    for length in (1, 50, 4096, len(whole) // 2):
        (home / "cut.db").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.db"):
            list(LlmReader(home / "cut.db", VectorOptions()))


def test_llm_finds_its_own_schema(home):
    """The steps of llm's own schema are noted as done: it would run them again otherwise."""
    writer = LlmWriter(home / "x.db", 2, None, RECIPE, "books")
    writer.write(batch(["a", "b"], np.eye(2, dtype=np.float32), ["ç", ""], [{"k": 1}, {}]))
    writer.close()
    db = sqlite3.connect(home / "x.db")
    assert db.execute("SELECT * FROM collections").fetchall() == [(1, "books", "made up")]
    columns = [row[1] for row in db.execute("PRAGMA table_info(embeddings)")]
    assert columns == [
        "collection_id", "id", "embedding", "content", "content_blob", "content_hash",
        "metadata", "updated",
    ]  # fmt: skip
    row = db.execute("SELECT * FROM embeddings WHERE id = 'a'").fetchone()
    assert row[2:6] == (
        struct.pack("<ff", 1, 0), "ç", None, hashlib.md5("ç".encode()).digest()
    )  # fmt: skip
    assert json.loads(row[6]) == {"k": 1}
    steps = db.execute("SELECT migration_set, name FROM _sqlite_migrations").fetchall()
    db.close()
    assert len(steps) == 5
    assert steps[0] == ("llm.embeddings", "m001_create_tables")


def test_another_store(home, corpus):
    encode([corpus], db="a.db", collection="first")
    encode([corpus], db="a.db", collection="second", model="hash")
    with pytest.raises(UsageError, match=r"several collections \(first, second\)"):
        StoreReader("a.db", VectorOptions())
    opened = StoreReader("a.db", VectorOptions(collection="second", limit=3))
    found = joined(opened)
    with Store("a.db", readonly=True) as store:
        source = store.collection("second")
        assert opened.recipe == source.recipe.settings
        np.testing.assert_array_equal(found.vectors, source.vectors(found.ids))
    assert found.ids == ["cat", "dog", "bond"]
    assert (opened.count, opened.dim) == (3, 1024)
    with pytest.raises(InputError, match="no collection 'x'"):
        StoreReader("a.db", VectorOptions(collection="x"))
    (home / "not.db").write_bytes(b"x")
    with pytest.raises(InputError, match=r"not\.db is not an"):
        StoreReader("not.db", VectorOptions())
    Store("empty.db").close()
    with pytest.raises(InputError, match="it is empty"):
        StoreReader("empty.db", VectorOptions())


def test_a_store_that_is_written_is_searched(home):
    writer = StoreWriter(home / "x.db", 3, None, {**RECIPE, "dim": 3}, "words")
    writer.write(batch(["a", "b"], np.eye(3, dtype=np.float32)[:2], ["sun rain", "snow"]))
    writer.close()
    assert [path.name for path in home.iterdir()] == ["x.db"]
    with Store("x.db", readonly=True) as store:
        source = store.collection("words")
        assert source.recipe.settings == {**RECIPE, "dim": 3}
        assert [id for id, _ in source.find_words(["snow"], 5)] == ["b"]


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_rows_leave_in_the_order_stored_whatever_was_deleted(home, storage):
    (home / "a.jsonl").write_text(
        "".join(json.dumps({"id": str(n), "text": f"text {n}"}) + "\n" for n in range(3000))
    )
    encode("a.jsonl", storage=storage)
    with Store("embcli.db") as store:
        source = store.collection("default")
        source.delete(str(n) for n in range(0, 1500, 3))
        source.compact()
        found = joined(CollectionBatches(source))
        left = [str(n) for n in range(3000) if n >= 1500 or n % 3]
        assert found.ids == left
        assert found.places == list(range(1, len(left) + 1))
        assert found.texts[:2] == ["text 1", "text 2"]
        np.testing.assert_array_equal(found.vectors, source.vectors(left))
        some = CollectionBatches(source, source.filter("id in ('7', '2999', '0')"))
        assert (some.count, joined(some).ids) == (2, ["7", "2999"])


@pytest.mark.parametrize(("rows_at_once", "batches"), [(1, [3, 1, 2]), (2, [4, 2]), (9, [6])])
def test_chunks_leave_with_where_they_are(home, monkeypatch, rows_at_once, batches):
    monkeypatch.setattr("embcli.formats.vectors.rows.ROWS", rows_at_once)
    texts = ["One here. Two there. Three.", "Short.", "A bit. And more."]
    rows = [{"id": f"r{n}", "text": text, "chunk": 5} for n, text in enumerate(texts)]
    (home / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    encode("a.jsonl", chunk="sentences=1")
    with Store("embcli.db", readonly=True) as store:
        source = store.collection("default")
        whole = CollectionBatches(source)
        found = joined(whole)
        assert found.ids == ["r0#0", "r0#1", "r0#2", "r1#0", "r2#0", "r2#1"]
        assert (whole.count, [len(batch.ids) for batch in whole]) == (6, batches)
        assert found.texts == ["One here.", "Two there.", "Three.", "Short.", "A bit.", "And more."]
        assert found.metas[1] == {
            "chunk": 5, "_chunk": {"id": "r0", "number": 1, "start": 10, "end": 20}
        }  # fmt: skip
        chunks = [chunk.vector for record in source.chunks(["r0", "r1", "r2"]) for chunk in record]
        np.testing.assert_array_equal(found.vectors, np.stack(chunks))
        means = CollectionBatches(source, mean=True)
        assert (means.count, joined(means).texts) == (3, texts)
        np.testing.assert_array_equal(joined(means).vectors, source.vectors(["r0", "r1", "r2"]))
