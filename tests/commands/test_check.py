"""`check` and `repair`: what is damaged is found, never answered from, and made again."""

import json
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from embcli import Store
from embcli.cli import main
from tests.conftest import ROOT, store_words

PAGE = 16384
QUERY = ("search", "vaccine against smallpox", "-k", "5")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A store with plain, chunked, multi-vector and imported vectors, codes and encodings."""
    folder = tmp_path_factory.mktemp("sound")
    path, few = folder / "sound.db", folder / "few.jsonl"
    corpus = ROOT / "examples" / "corpus.jsonl"
    few.write_text("".join(corpus.read_text().splitlines(keepends=True)[:20]))
    for words in (
        ["encode", corpus],
        ["encode", few, "-c", "chunks", "--chunk", "tokens=20"],
        ["encode", few, "-c", "tokens", "--pooling", "none"],
        ["compress", "--kind", "int8"],
        ["compress", "-c", "tokens", "--kind", "bits2"],
        ["cluster", "-k", "4", "--levels", "2", "--name", "topics"],
        ["plot", "-M", "pca", "--name", "plane"],
    ):
        assert main([*map(str, words), "-q", "-d", str(path)]) == 0
    store_words(path, "words", list("abc"), np.eye(3, dtype=np.float32))
    return path


@pytest.fixture
def store(sound, home):
    shutil.copy(sound, home / "embcli.db")
    return home / "embcli.db"


def change(sql, *parameters):
    with closing(sqlite3.connect("embcli.db", isolation_level=None)) as db:
        assert db.execute(sql, parameters).rowcount > 0


def flip(table, column, row, byte, bits=5):
    """Turn bits over within a blob, as a disk would: no trigger sees it."""
    with (
        closing(sqlite3.connect("embcli.db", isolation_level=None)) as db,
        db.blobopen(table, column, row) as blob,
    ):
        blob[byte % len(blob)] ^= bits


def segment_of(collection):
    with closing(sqlite3.connect("embcli.db")) as db:
        sql = "SELECT min(segments.key) FROM segments JOIN collections AS c ON c.key = collection"
        return db.execute(f"{sql} WHERE c.name = ?", (collection,)).fetchone()[0]


def shown(record):
    return record.id, record.text, record.meta_json, record.source


def contents(path="embcli.db"):
    """Records of every collection by id, and their vectors in this order."""
    with Store(path, readonly=True) as store:
        found = {}
        for info in store.collections():
            collection = store.collection(info.name)
            records = sorted(map(shown, collection.records()))
            found[info.name] = records, collection.vectors([id for id, *_ in records])
        return found


def set_aside(path):
    files = Path().glob(f"{path}.*.lost.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def damaged(result):
    return {row["part"]: row["damaged"] for row in result.rows if row["damaged"]}


def test_a_sound_store(run, store):
    result = run("check")
    assert (result.code, damaged(result)) == (0, {})
    assert {row["part"]: row["checked"] > 0 for row in result.rows} == dict.fromkeys(
        ["structure", "rows", "records", "segments", "codes", "findings", "text index"], True
    )
    before = store.read_bytes()
    result = run("repair")
    assert (result.code, result.err) == (
        0,
        "embcli.db: bits turned back 0, encoded again 0, set aside 0; it is sound now\n",
    )
    assert store.read_bytes() == before


@pytest.mark.parametrize(
    ("collection", "query"),
    [
        ("default", QUERY),
        ("default", ("search", "--like", "salk-polio-1955")),
        ("default", ("export", "out.npz")),
        ("chunks", (*QUERY, "-c", "chunks")),
        ("tokens", (*QUERY, "-c", "tokens")),
    ],
)
@pytest.mark.parametrize("column", ["vectors", "slots"])
def test_vectors_that_were_changed_are_never_used(run, store, collection, query, column):
    flip("segments", column, segment_of(collection), 100_001)
    result = run(*query)
    assert (result.code, result.out) == (5, "")
    assert "is damaged: segment" in result.err
    assert "try: embcli check --db embcli.db" in result.err
    assert damaged(run("check")) == {"segments": 1}


@pytest.mark.parametrize(
    ("table", "column", "query"),
    [
        ("codes", "codes", (*QUERY, "--coded")),
        ("encodings", "codes", (*QUERY, "-c", "tokens", "--coded")),
        ("encodings", "keys", (*QUERY, "-c", "tokens", "--coded")),
    ],
)
def test_codes_that_were_changed_are_never_used(run, store, table, column, query):
    before = run(*query).out
    flip(table, column, 1, 9)
    result = run(*query)
    assert (result.code, result.out) == (5, "")
    assert run("check").code == 5
    assert run("repair").code == 0
    assert run("check").code == 0
    assert run(*query).out == before


@pytest.mark.parametrize(
    ("part", "sql"),
    [
        ("segments", "DELETE FROM segments WHERE key = 1"),
        ("segments", "UPDATE segments SET collection = 2 WHERE key = 1"),
        ("segments", "DELETE FROM checks WHERE part = 'segments' AND key = 1"),
        ("rows", "UPDATE collections SET coding = NULL WHERE key = 1"),
        ("rows", "UPDATE spaces SET recipe = replace(recipe, 'mean', 'meat') WHERE key = 1"),
    ],
)
def test_rows_that_were_changed_are_never_used(run, store, part, sql):
    change(sql)
    result = run(*QUERY)
    assert (result.code, result.out) == (5, "")
    result = run("check")
    assert result.code == 5
    assert part in damaged(result)


@pytest.mark.parametrize("field", ["text", "meta", "id", "source", "hash"])
def test_a_record_that_was_changed_is_set_aside(run, store, field):
    id = run(*QUERY, "-f", "ids").out.split()[0]
    change(f"UPDATE records SET {field} = substr({field}, 2) WHERE id = ? AND collection = 1", id)
    assert run(*QUERY).code == 5
    result = run("check")
    assert damaged(result) == {"records": 1}
    result = run("repair")
    assert result.code == 0, result.err
    (lost,) = set_aside("embcli.db")
    assert lost["lost"] == {
        "collection": "default",
        "source": lost["lost"]["source"],
        "why": "it is not what was stored",
    }
    assert run("check").code == 0
    left = run("search", "vaccine", "-k", "999", "-f", "ids").out.split()
    assert len(left) == 323
    assert id not in left
    assert run("encode", "embcli.db.default.lost.jsonl", "-q").code == 0


SHOWN = {
    "clusterings": ("clusters", "show", "topics", "-f", "json"),
    "layouts": ("layouts", "show", "plane", "-f", "json"),
}


@pytest.mark.parametrize(
    ("table", "sql"),
    [
        ("clusterings", "UPDATE clusters SET name = 'other' WHERE rowid_"),
        ("clusterings", "UPDATE clusters SET keywords = '[]' WHERE rowid_"),
        ("clusterings", "UPDATE clusters SET cohesion = cohesion + 1e-15 WHERE rowid_"),
        ("clusterings", "UPDATE clusters SET medoid = medoid + 1 WHERE rowid_"),
        ("clusterings", "UPDATE clusters SET parent = 1 - parent WHERE rowid_"),
        ("clusterings", "UPDATE assignments SET cluster = (cluster + 1) % 4 WHERE rowid_"),
        ("clusterings", "UPDATE assignments SET cluster = 'none' WHERE rowid_"),
        ("layouts", "UPDATE points SET x = x + 1e-9 WHERE rowid_"),
        ("layouts", "UPDATE points SET x = y, y = x WHERE rowid_"),
        ("layouts", "UPDATE points SET placed = 1 WHERE rowid_"),
        ("layouts", "UPDATE points SET sum = sum + 1 WHERE rowid_"),
    ],
)
def test_findings_that_were_changed_are_never_shown(run, store, table, sql):
    other = next(words for owners, words in SHOWN.items() if owners != table)
    untouched = run(*other).out
    part, owner, second = {
        "clusters": ("findings", "clustering", "number"),
        "assignments": ("findings", "clustering", "record"),
        "points": ("findings", "layout", "record"),
    }[sql.split()[1]]
    change(sql.replace("rowid_", f"{owner} = 1 AND {second} = 2"))
    result = run(*SHOWN[table])
    assert (result.code, result.out) == (5, "")
    assert "is damaged: " in result.err
    assert "try: embcli check --db embcli.db" in result.err
    result = run("check")
    assert damaged(result) == {part: 1}
    name, again = ("topics", "cluster") if table == "clusterings" else ("plane", "plot")
    (said,) = (row["details"] for row in result.rows if row["damaged"])
    assert said == f"{table} {name} (repair: deleted; {again} again)"
    result = run("repair")
    assert result.code == 0, result.err
    assert f" {name} is lost: {again} again" in result.err
    assert damaged(run("check")) == {}
    assert run(*SHOWN[table]).code == 1
    assert run(*other).out == untouched
    assert run("clusters", "list").rows == [] or table == "layouts"  # its levels are gone, too


@pytest.mark.parametrize(
    ("table", "sql"),
    [
        ("clusterings", "UPDATE clusterings SET measures = '{}' WHERE key = 1"),
        ("clusterings", "UPDATE clusterings SET name = 'tropics' WHERE key = 1"),
        ("layouts", "UPDATE layouts SET facts = '{}' WHERE key = 1"),
        ("layouts", "DELETE FROM checks WHERE part = 'layouts'"),
    ],
)
def test_what_is_said_of_findings_is_checked(run, store, table, sql):
    change(sql)
    assert run(*SHOWN[table]).code == 5
    assert damaged(run("check")) == {"rows": 1}
    assert "is lost" in run("repair").err
    assert damaged(run("check")) == {}


def test_findings_of_nothing_are_found(run, store):
    """As when the row of a layout is lost, or a key has changed into that of another one."""
    change("DELETE FROM layouts WHERE key = 1")
    result = run("check")
    assert damaged(result) == {"findings": 324}
    assert "the layout (its name, too) is lost: plot again" in run("repair").err
    assert damaged(run("check")) == {}
    change(
        "UPDATE assignments SET clustering = 2, record = 9999 WHERE (clustering, record) = (1, 2)"
    )
    assert damaged(run("check")) == {"findings": 1}


def test_a_bit_of_a_coordinate_is_never_missed(run, store):
    """Turned over in the file, where SQLite's structure does not suffer."""
    with closing(sqlite3.connect("embcli.db")) as db:
        (x,) = db.execute("SELECT x FROM points WHERE record = 7").fetchone()
    content, stored_x = store.read_bytes(), struct.pack(">d", x)
    place = content.index(stored_x)
    assert content.count(stored_x) == 1
    before = run(*SHOWN["layouts"]).out
    for bit in range(0, 64, 7):
        harmed = bytearray(content)
        harmed[place + bit // 8] ^= 1 << bit % 8
        store.write_bytes(harmed)
        assert run(*SHOWN["layouts"]).code == 5, bit
    assert damaged(run("check")) == {"findings": 1}
    assert run("repair").code == 0
    assert run("plot", "-M", "pca", "--name", "plane").code == 0
    assert run(*SHOWN["layouts"]).out == before


def test_findings_stay_sound_as_they_are_changed(run, store, home):
    medoid = json.loads(run(*SHOWN["clusterings"]).out)[0]["medoid"]
    with Store("embcli.db") as opened:
        assert opened.collection("default").delete([medoid]) == 1
    few = home / "more.jsonl"
    few.write_text('{"id": "new", "text": "a vaccine against the measles"}\n')
    for words in (
        ("encode", few),
        ("clusters", "assign", "topics"),
        ("clusters", "label", "0", "first", "--name", "topics"),
        ("clusters", "rename", "topics", "subjects"),
        ("plot", "--name", "plane"),
    ):
        result = run(*words)
        assert result.code == 0, (words, result.err)
    result = run("check")
    assert damaged(result) == {}
    assert run("clusters", "show", "subjects").rows[0]["name"] == "first"
    assert run("layouts", "list").rows[0]["placed"] == 1


SUMS = (
    "SELECT clustering, number, sum FROM clusters",
    "SELECT clustering, record, sum FROM assignments",
    "SELECT layout, record, sum FROM points",
)


def sums_in(path):
    with closing(sqlite3.connect(path)) as db:
        return [sorted(db.execute(sql)) for sql in SUMS]


def without_checksums(path):
    """Take a store back to version 7."""
    with closing(sqlite3.connect(path)) as db, db:
        triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        for (name,) in db.execute(triggers).fetchall():
            if name.startswith(("checks", "parts", "medoids")):
                db.execute(f"DROP TRIGGER {name}")
        db.execute("DROP TABLE checks")
        for table in ("records", "queries", "clusters", "assignments", "points"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN sum")
        db.execute("DROP TABLE gathered")
        db.execute("PRAGMA user_version = 7")


def test_findings_of_an_older_store_get_checksums(run, store):
    before, shown_before = sums_in("embcli.db"), [run(*words).out for words in SHOWN.values()]
    without_checksums("embcli.db")
    assert "must be upgraded" in run(*SHOWN["layouts"]).err
    assert run("vacuum").code == 0
    assert sums_in("embcli.db") == before
    assert damaged(run("check")) == {}
    assert [run(*words).out for words in SHOWN.values()] == shown_before


@pytest.mark.parametrize("version", [7, 8])
def test_findings_are_copied_with_their_checksums(run, store, home, version):
    from embcli.store.salvage import salvage

    change("UPDATE points SET x = 0.5 WHERE record = 7")
    before = sums_in("embcli.db")
    if version == 7:
        without_checksums("embcli.db")
    with Store("copy.db") as copy:
        salvage(store, copy.database)
        damage = copy.inspect()
    of_clusters, of_members, of_points = sums_in("copy.db")
    assert [of_clusters, of_members] == before[:2]
    if version == 8:
        assert of_points == before[2]
        assert damage.findings == {"layouts": {1: 1}}
    else:  # taken as it is
        assert not damage.findings
    assert not damage.rows


def test_lost_vectors_are_encoded_again(run, store, home):
    """Whatever they were: one for a text, for its chunks, for its tokens."""
    before = contents()
    for collection in ("default", "chunks", "tokens"):
        flip("segments", "vectors", segment_of(collection), 20_000)
        flip("segments", "slots", segment_of(collection), 8)
        flip("segments", "hashes", segment_of(collection), 8)
    result = run("check")
    assert damaged(result) == {"segments": 3}
    (said,) = (row["details"] for row in result.rows if row["part"] == "segments")
    assert (
        "default: 16 records without vectors, 16 with whole texts (repair: encoded again)" in said
    )
    result = run("repair")
    assert result.code == 0, result.err
    assert "set aside 0" in result.err
    assert run("check").code == 0
    after = contents()
    for name, (records, vectors) in before.items():
        assert after[name][0] == records
        np.testing.assert_allclose(after[name][1], vectors, atol=1e-6)
    assert not set_aside("embcli.db")


@pytest.mark.parametrize(
    ("table", "column", "of"),
    [
        ("segments", "vectors", "words"),
        ("segments", "vectors", "default"),
        ("segments", "slots", "chunks"),
        ("segments", "hashes", "tokens"),
    ],
)
def test_a_single_bit_of_a_segment_is_turned_back(run, store, table, column, of):
    """Imported vectors, too, which no model could make again."""
    with closing(sqlite3.connect("embcli.db")) as db:
        whole = db.execute(f"SELECT {column} FROM {table}").fetchall()
    flip(table, column, segment_of(of), 40_001, bits=16)
    assert damaged(run("check")) == {"segments": 1}
    result = run("repair")
    assert "bits turned back 1, encoded again 0, set aside 0" in result.err
    assert run("check").code == 0
    with closing(sqlite3.connect("embcli.db")) as db:
        assert db.execute(f"SELECT {column} FROM {table}").fetchall() == whole


@pytest.mark.parametrize(
    ("table", "column", "key"),
    [
        ("records", "id", 3), ("records", "hash", 3), ("records", "source", 3),
        ("records", "meta", 3), ("records", "text", 3), ("records", "sum", 3),
        ("collections", "name", 1), ("collections", "dtype", 1), ("collections", "space", 1),
        ("collections", "coding", 1), ("collections", "chunking", 2), ("spaces", "recipe", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bit", [0, 7])
def test_a_single_bit_of_a_row_is_turned_back(run, store, table, column, key, bit):
    """The highest makes texts no UTF-8."""
    with closing(sqlite3.connect("embcli.db")) as db:
        before = [db.execute(f"SELECT * FROM {name}").fetchall() for name in TABLES]
        ((value,),) = db.execute(f"SELECT {column} FROM {table} WHERE key = ?", (key,))
    if isinstance(value, int):
        change(f"UPDATE {table} SET {column} = ? WHERE key = ?", value ^ (4 << bit), key)
    else:
        changed = bytearray(value.encode())
        changed[len(changed) // 2] ^= 1 << bit
        sql = f"UPDATE {table} SET {column} = CAST(? AS TEXT) WHERE key = ?"
        change(sql, bytes(changed), key)
    assert run("check").code == 5
    result = run("repair")
    assert "bits turned back 1, encoded again 0, set aside 0" in result.err, result.err
    assert run("check").code == 0
    with closing(sqlite3.connect("embcli.db")) as db:
        assert [db.execute(f"SELECT * FROM {name}").fetchall() for name in TABLES] == before


TABLES = ("spaces", "collections", "records", "chunks", "segments", "checks")


def test_what_no_model_makes_is_set_aside(run, store):
    flip("segments", "vectors", segment_of("words"), 1)
    result = run("check")
    assert "words: 3 records without vectors, 3 cannot be encoded again" in result.out
    result = run("repair")
    assert result.code == 0, result.err
    assert "words: vectors cannot be made again" in result.err
    aside = {record["id"]: record for record in set_aside("embcli.db")}
    assert aside.keys() == {*"abc"}
    assert aside["b"]["vector"] == [0, 1, 0]  # as it was, though nothing tells that any more
    assert not aside["b"]["lost"]["vector is whole"]
    assert run("check").code == 0


def test_what_was_found_of_records_stays(run, store):
    assert run("cluster", "-k", "3", "-q").code == 0
    members = run("clusters", "members", "kmeans").rows
    flip("segments", "vectors", segment_of("default"), 20_000)
    assert "encoded again 16" in run("repair").err
    assert run("clusters", "members", "kmeans").rows == members


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM chunks WHERE record = {} AND number = 1",
        "DELETE FROM chunks WHERE record = {}",
        "UPDATE chunks SET slot = slot + 1 WHERE record = {} AND number = 0",
        "UPDATE chunks SET start = start + 7 WHERE record = {} AND number = 0",
        "DELETE FROM checks WHERE part = 'spans' AND key = {}",
    ],
)
def test_chunks_are_cut_and_encoded_again(run, store, sql):
    before = contents()
    with closing(sqlite3.connect("embcli.db")) as db:
        (key,) = db.execute("SELECT max(record) - 3 FROM chunks WHERE number = 1 AND record IN "
            "(SELECT key FROM records WHERE collection = 2)").fetchone()  # fmt: skip
    change(sql.format(key))
    assert run("check").code == 5
    result = run("repair")
    assert result.code == 0, result.err
    assert "set aside 0" in result.err
    after = contents()
    assert after["chunks"][0] == before["chunks"][0]
    np.testing.assert_allclose(after["chunks"][1], before["chunks"][1], atol=1e-6)


def test_a_record_that_is_gone_is_missed(run, store):
    with closing(sqlite3.connect("embcli.db", isolation_level=None)) as db:
        db.execute("DROP TRIGGER findings_of_deleted_records")
        db.execute("DELETE FROM records WHERE key = 5")
    assert "1 record gone: encode their files again" in run("check").out
    result = run("repair")
    assert result.code == 0
    assert "default: 1 record of which there are vectors cannot be found" in result.err
    assert run("check").code == 0


@pytest.mark.parametrize("bits", [1, 3])
@pytest.mark.parametrize("out", [(), ("--out", "new.db")])
def test_an_id_that_its_index_does_not_know(run, store, out, bits):
    """As a disk would do it, and so that it may be another's."""
    before = contents()
    with closing(sqlite3.connect("embcli.db")) as db:
        id, hash = db.execute("SELECT id, hash FROM records WHERE key = 30").fetchone()
    content = store.read_bytes()
    assert content.count(f"{id}{hash}".encode()) == 1  # in the index no hash follows
    other = id[:-1] + chr(ord(id[-1]) ^ bits)
    store.write_bytes(content.replace(f"{id}{hash}".encode(), f"{other}{hash}".encode()))
    assert {"structure", "records"} <= damaged(run("check")).keys()
    result = run("repair", *out)
    assert result.code == 0, result.err
    after, aside = contents(out[1] if out else "embcli.db"), set_aside("*.db")
    if bits == 1:
        assert after["default"][0] == before["default"][0]
    else:
        assert [record["id"].split(" ")[0] for record in aside] == [other]
        assert {*after["default"][0]} < {*before["default"][0]}
        assert len(after["default"][0]) == len(before["default"][0]) - 1


@pytest.mark.parametrize("table", ["collections", "spaces"])
def test_a_collection_that_is_gone_is_set_aside(run, store, table):
    before = contents()
    with closing(sqlite3.connect("embcli.db", isolation_level=None)) as db:
        db.execute(f"DELETE FROM {table} WHERE key = 1")
    assert damaged(run("check"))["rows"] >= 1
    result = run("repair")
    assert "what is gone: " in result.err
    assert result.code == 0, result.err
    aside = {
        record["id"]: record
        for record in set_aside("embcli.db")
        if record["lost"]["collection"] in ("default", "collection-1")
    }
    assert aside.keys() == {id for id, *_ in before["default"][0]}
    if table == "spaces":
        assert all(len(aside[id]["vector"]) == 256 for id, *_ in before["default"][0])
    assert run("check").code == 0


def test_names_and_models_are_taken_as_they_are_if_asked(run, store):
    change("UPDATE collections SET chunking = NULL WHERE name = 'chunks'")
    assert run("repair").code == 5
    change("UPDATE collections SET chunking = ? WHERE name = 'chunks'", CHUNKING)
    result = run("repair", "--seal")
    assert result.code == 0, result.err
    assert "set aside 0" in result.err


CHUNKING = '{"max_tokens":20}'


@pytest.mark.parametrize("out", [(), ("--out", "new.db")])
def test_what_is_no_damage_is_not_repaired(run, store, home, out):
    with closing(sqlite3.connect("embcli.db")) as db:
        db.execute("PRAGMA user_version = 99")
    assert "newer embcli" in run("repair", *out).err
    store.write_bytes(b"")
    assert "is empty" in run("repair", *out).err
    assert store.read_bytes() == b""
    assert not (home / "new.db").exists()


def test_sql_of_a_damaged_file_is_not_run(run, store, home):
    with closing(sqlite3.connect("embcli.db", isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql) VALUES "
            "('index', 'meta $.\"x\" 01234567', 'records', 0, 'ATTACH ''evil.db'' AS e')"
        )
    run("repair", "--out", "new.db")
    assert not (home / "evil.db").exists()


def test_an_interrupted_repair_is_known_and_completed(run, store, monkeypatch):
    from embcli.pipelines import repair

    before = contents()
    flip("segments", "vectors", segment_of("default"), 20_000)
    with monkeypatch.context() as patch:
        patch.setattr(repair, "_encode_again", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run("repair").code == 130
    assert run(*QUERY).code == 5  # never without the records that have no vectors
    assert damaged(run("check")) == {"segments": 1}
    assert run("repair").code == 0
    assert run("check").code == 0
    assert contents()["default"][0] == before["default"][0]


def test_a_text_index_is_made_again(run, store):
    lexical = ("search", "smallpox", "--mode", "lexical", "-f", "ids")
    before = run(*lexical).out
    change("UPDATE records_fts_data SET block = zeroblob(length(block)) WHERE id > 10")
    assert damaged(run("check")) == {"text index": 1}
    assert run("repair").code == 0
    assert run("check").code == 0
    assert run(*lexical).out == before


def test_a_file_of_which_pages_are_lost_is_copied(run, store, home):
    """Among the first forty pages are the roots of most tables; 5 is that of the records."""
    content = store.read_bytes()
    everything, refused = contents(), 0
    for page in (1, 5, 7, 13, 24, 31, 37):
        store.write_bytes(content[: page * PAGE] + bytes(PAGE) + content[(page + 1) * PAGE :])
        assert run("check").code == 5, page
        untouched = store.read_bytes()
        result = run("repair", "--out", "new.db", "--force")
        assert store.read_bytes() == untouched
        assert "Traceback" not in result.err
        if result.code:
            refused += 1
            continue
        assert run("check", "-d", "new.db").code == 0, page
        aside = set_aside("new.db")
        found = contents("new.db")
        for name, (whole, _) in everything.items():
            records = found.get(name, ([], None))[0]
            assert {*records} <= {*whole}, page
            assert page != 5 or records == whole
            if len(records) + sum(r["lost"]["collection"] == name for r in aside) < len(whole):
                assert "could not be read" in result.err, (page, name)
        for path in home.glob("new.db*"):
            path.unlink()
    assert refused <= 1


def test_a_file_that_was_cut_short_is_copied(run, store):
    content = store.read_bytes()
    store.write_bytes(content[: len(content) // 2])
    for words in (QUERY, ["check"], ["repair"]):
        result = run(*words)
        assert (result.code, result.out, result.err.count("\n")) == (5, "", 1)
    result = run("repair", "--out", "new.db")
    assert result.code == 0, result.err
    assert run("check", "-d", "new.db").code == 0
    assert run(*QUERY, "-d", "new.db").code == 0


def test_a_file_without_its_list_of_tables(run, store, home):
    store.write_bytes(bytes(PAGE) + store.read_bytes()[PAGE:])
    for words in (["check"], ["repair"], ["repair", "--out", "new.db"]):
        result = run(*words)
        assert result.code == 5
        assert result.err.count("\n") == 1
    assert not (home / "new.db").exists()


def test_a_repair_needs_another_name_for_its_copy(run, store):
    assert run("repair", "--out", "embcli.db", "--force").code == 2
