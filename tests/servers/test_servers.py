"""Collections pushed to a server, pulled and searched there."""

import json

import numpy as np
import pytest

from embcli import Recipe, Store, config, servers
from embcli.config import names_server
from embcli.errors import StoreError, UsageError
from embcli.pipelines.push import push
from embcli.servers import Address, Header, connect
from tests.servers import memory_server

URL = "memory://me:secret@here/papers"


pytestmark = pytest.mark.usefixtures("disk")


@pytest.fixture
def encoded(run, home):
    lines = [
        {
            "id": f"r{n}",
            "text": f"text about {word} {n}",
            "kind": "rare" if n % 20 == 0 else "usual",
        }
        for n, word in enumerate(["ships", "bread", "stars", "rivers"] * 50)
    ]
    (home / "in.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert run("encode", "in.jsonl", "-q").code == 0
    return lines


def contents(db="embcli.db", collection="default"):
    with Store(db, readonly=True) as store:
        batch = next(store.collection(collection).batches(10_000))
    ends = np.cumsum(batch.counts)
    return sorted(
        (
            id, batch.texts[n], batch.metas[n], batch.sources[n], batch.hashes[n],
            batch.vectors[batch.starts[n] : ends[n]].tolist(),
            None if batch.spans is None else batch.spans[n].tolist(),
        )
        for n, id in enumerate(batch.ids)
    )  # fmt: skip


def test_equal_chunks_of_a_record_are_asked_for_once(run, home, disk):
    """Whichever of them is asked for first, of chunks that are equally near the first is shown."""
    lines = [
        {"id": "long", "text": "A ship. Some bread. " * 40},
        {"id": "both", "text": "Some bread. A ship. A ship."},
        {"id": "one", "text": "A ship. Rivers."},
    ]
    (home / "in.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert run("encode", "in.jsonl", "-q", "--chunk", "sentences=1").code == 0
    assert run("push", URL).code == 0
    disk.efforts.clear()
    there = run("search", "--like", "long", "-d", URL).rows
    assert len(disk.efforts) == 2
    here = run("search", "--like", "long", "--exact").rows
    assert [(row["id"], row["chunk"]) for row in there] == [
        (row["id"], row["chunk"]) for row in here
    ]
    assert [(row["id"], row["chunk"]["number"]) for row in here] == [("both", 0), ("one", 0)]


@pytest.mark.parametrize("chunk", [(), ("--chunk", "characters=9,overlap=2")])
def test_what_is_pushed_and_pulled_is_what_it_was(run, encoded, disk, chunk):
    if chunk:
        assert run("encode", "in.jsonl", "-q", "-d", "cut.db", *chunk).code == 0
    db = "cut.db" if chunk else "embcli.db"
    pushed = run("push", URL, "-d", db, "-f", "ndjson")
    assert (pushed.code, pushed.rows[0]["written"]) == (0, 200)
    assert pushed.rows[0]["recall"] == 1.0
    assert "secret" not in pushed.out + pushed.err
    assert disk.collections["papers"].header.state == "ready"
    pulled = run("pull", URL, "-d", "back.db", "-c", "back", "-f", "ndjson")
    assert (pulled.code, pulled.rows[0]["added"]) == (0, 200)
    assert contents("back.db", "back") == contents(db)
    again = run("pull", URL, "-d", "back.db", "-c", "back", "-f", "ndjson").rows[0]
    assert (again["added"], again["unchanged"]) == (0, 200)
    for query in (("ships",), ("--like", "r7"), ("bread", "--where", "kind = 'rare'", "-k", "3")):
        there = run("search", *query, "-d", URL)
        here = run("search", *query, "-d", db)
        assert [row["id"] for row in there.rows] == [row["id"] for row in here.rows]
        assert [row.get("chunk") for row in there.rows] == [row.get("chunk") for row in here.rows]
        scores = [[row["score"] for row in result.rows] for result in (there, here)]
        np.testing.assert_allclose(*scores, atol=1e-6)
    assert "secret" not in json.dumps(contents("back.db", "back"))
    with Store("back.db", readonly=True) as store:
        assert "secret" not in str(store.runs())


def test_only_what_differs_is_written(run, encoded, disk):
    assert run("push", URL).code == 0
    disk.written.clear()
    finished = disk.collections["papers"].finished
    assert run("push", URL, "-f", "ndjson").rows[0]["unchanged"] == 200
    assert (disk.written, len(finished)) == ([], 1)
    encoded[3]["text"], encoded[4]["kind"] = "something else", "odd"
    with open("in.jsonl", "w") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in encoded[:-1])
    assert run("encode", "in.jsonl", "--prune", "-q").code == 0
    report = run("push", URL, "-f", "ndjson").rows[0]
    assert (report["written"], report["others"]) == (2, 1)
    assert sorted(disk.written) == ["r3", "r4"]
    report = run("push", URL, "--prune", "-f", "ndjson").rows[0]
    assert (report["written"], report["deleted"], report["others"]) == (0, 1, 0)
    assert "r199" not in disk.collections["papers"].rows


def test_an_interrupted_push_is_marked_and_resumed(run, encoded, disk, monkeypatch):
    monkeypatch.setattr("embcli.pipelines.push._RECORDS_AT_ONCE", 16)
    disk.fail_after = 5
    failed = run("push", URL)
    assert (failed.code, failed.err) == (5, "error: the server went away\n")
    assert disk.collections["papers"].header.state == "loading"
    assert run("pull", URL, "-d", "back.db").code == 5
    assert "not complete" in run("search", "ships", "-d", URL).err
    disk.fail_after = None
    report = run("push", URL, "-f", "ndjson").rows[0]
    assert (report["written"], report["unchanged"]) == (200 - 80, 80)
    assert disk.collections["papers"].header.state == "ready"
    assert len(disk.written) == 200


def test_what_the_server_garbles_is_noticed_and_written_again(run, encoded, disk):
    disk.garbled = {f"r{n}" for n in range(200)}
    failed = run("push", URL)
    assert failed.code == 5
    assert "is not what was sent: it is marked as loading" in failed.err
    assert disk.collections["papers"].header.state == "loading"
    disk.garbled = set()
    assert run("push", URL, "-f", "ndjson").rows[0]["written"] == 200
    # Sums cannot tell what was changed behind them.
    disk.collections["papers"].rows["r0"][0]["text"] = "changed by somebody"
    assert run("push", URL).code == 5
    assert disk.collections["papers"].header.state == "loading"
    assert run("push", URL, "-f", "ndjson").rows[0]["written"] == 200
    assert run("push", URL, "-f", "ndjson").rows[0]["written"] == 0


def test_a_push_that_is_not_alone_leaves_the_collection_marked(run, encoded, disk, monkeypatch):
    disk.claimed = True
    refused = run("push", URL)
    assert (refused.code, "is under way" in refused.err) == (5, True)
    # Of what it is marked as nothing is said: what the other one finds unchanged stays ready.
    assert "loading" not in refused.err
    assert "of one that was killed" in refused.err
    disk.claimed = False
    monkeypatch.setattr("embcli.pipelines.push._RECORDS_AT_ONCE", 50)
    seen = []

    def other():
        """What a push does that comes to its end meanwhile."""
        collection = disk.collections["papers"]
        seen.append(collection.header.state)
        collection.set_header(collection.header.changed(state="ready", push="other"))
        disk.fail_after = 0 if len(seen) == 3 else None

    disk.before_write = other
    assert run("push", URL).code == 5
    assert seen == ["loading"] * 3
    disk.before_write, disk.fail_after = (lambda: None), None
    finish = memory_server.MemoryCollection.finish

    def disturbed(self, fields, progress):
        self.set_header(self.header.changed(push="other"))
        return finish(self, fields, progress)

    monkeypatch.setattr(memory_server.MemoryCollection, "finish", disturbed)
    refused = run("push", URL)
    assert (refused.code, "is under way" in refused.err) == (5, True)
    assert disk.collections["papers"].header.state == "loading"


def test_an_index_that_is_gone_is_made_again(run, encoded, disk):
    run("push", URL)
    disk.indexed = False
    assert run("push", URL, "-f", "ndjson").rows[0]["written"] == 0
    disk.indexed = True
    assert disk.collections["papers"].finished == [[], []]
    assert run("index", "kind").code == 0
    run("push", URL)
    assert disk.collections["papers"].finished == [[], [], ["kind"]]
    assert disk.collections["papers"].header.facts["recall"] == 1.0


def test_what_was_measured_stays_when_another_store_adds_records(run, encoded, disk, home):
    disk.missed = 0.4
    run("push", URL)
    assert disk.collections["papers"].header.facts["effort"] == 4
    (home / "more.jsonl").write_text('{"id": "more", "text": "one more text"}\n')
    assert run("encode", "more.jsonl", "-d", "more.db", "-q").code == 0
    report = run("push", URL, "-d", "more.db", "-f", "ndjson").rows[0]
    assert (report["written"], report["others"]) == (1, 200)
    facts = disk.collections["papers"].header.facts
    assert (facts["effort"], facts["filtered_effort"]) == (4, 4)
    assert facts["recall"] >= 0.9


def test_what_somebody_else_wrote_meanwhile_is_noticed(run, encoded, disk, monkeypatch):
    collection = memory_server.MemoryCollection
    monkeypatch.setattr(collection, "counts", lambda self: (199, 199))
    failed = run("push", URL)
    assert failed.code == 5
    assert "has 199 records and 199 vectors, not 200 and 200" in failed.err


def test_a_record_that_the_server_cannot_hold_is_named(run, encoded, disk):
    disk.refused = {"r17", "r101"}
    result = run("push", URL, "-f", "ndjson")
    assert (result.code, result.rows[0]["skipped"], result.rows[0]["written"]) == (3, 2, 198)
    assert "in.jsonl:18: too long for this server" in result.err
    assert disk.collections["papers"].header.state == "ready"
    again = run("push", URL, "-f", "ndjson")
    assert (again.code, again.rows[0]["skipped"], again.rows[0]["unchanged"]) == (3, 2, 198)
    assert again.rows[0]["recall"] >= 0.95
    # What was there before and cannot be brought up to date does not stay as it was.
    disk.refused |= {"r5"}
    encoded[5]["text"] = "changed, and too long"
    with open("in.jsonl", "w") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in encoded)
    run("encode", "in.jsonl", "-q")
    changed = run("push", URL, "-f", "ndjson")
    assert (changed.code, changed.rows[0]["skipped"]) == (3, 3)
    assert "what was there before is deleted" in changed.err
    assert "r5" not in disk.collections["papers"].rows
    assert disk.collections["papers"].header.state == "ready"


def test_the_index_is_searched_as_far_as_it_takes(run, encoded, disk):
    disk.missed = 0.4
    report = run("push", URL, "-f", "ndjson").rows[0]
    facts = disk.collections["papers"].header.facts
    assert facts["effort"] == facts["filtered_effort"] == 4
    assert report["recall"] == facts["recall"] >= 0.97
    disk.efforts.clear()
    run("search", "ships", "-d", URL)
    assert disk.efforts == [4]
    disk.missed = 1.0
    disk.collections.clear()
    result = run("push", URL)
    assert "note: recall@10 stays at" in result.err


def test_of_records_that_are_equally_near_any_is_right(run, home, disk):
    lines = [{"id": f"r{n}", "text": f"a text of {n % 4} kinds"} for n in range(200)]
    (home / "in.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert run("encode", "in.jsonl", "-q").code == 0
    disk.missed = 0.4
    pushed = run("push", URL, "-f", "ndjson")
    assert (pushed.code, pushed.rows[0]["recall"]) == (0, 1.0)
    assert disk.collections["papers"].header.facts["effort"] == 1


def test_a_part_of_a_collection(run, encoded, disk):
    report = run("push", URL, "--where", "kind = 'rare'", "-f", "ndjson").rows[0]
    assert (report["written"], report["recall"]) == (10, 1.0)
    pulled = run("pull", URL, "-d", "b.db", "--where", "text contains 'ships'", "-f", "ndjson")
    assert pulled.rows[0]["records"] == 10
    assert run("pull", URL, "-d", "b.db", "--where", "kind = 'none'").code == 1
    assert run("push", "memory://here/new", "--where", "kind = 'none'").code == 1
    assert "new" not in disk.collections


def test_the_store_tells_which_fields_are_filtered_by(run, encoded, disk):
    assert run("index", "kind").code == 0
    run("push", URL)
    assert disk.collections["papers"].finished == [["kind"]]


def test_another_space_is_refused(run, encoded, disk):
    run("push", URL)
    run("encode", "in.jsonl", "-q", "-c", "hashed", "-m", "hash")
    run("encode", "in.jsonl", "-q", "-c", "cut", "--chunk", "characters=9")
    for arguments, said in (
        (("push", URL, "-c", "hashed"), "is in another space ('static' there, 'hash' here)"),
        (("push", URL, "-c", "cut"), "has texts that are cut otherwise"),
        (("push", URL, "--storage", "float16"), "keeps vectors as float32, not float16"),
        (("pull", URL, "-c", "hashed"), "space"),
        (("search", "ships", "-d", URL, "-m", "hash"), "was encoded with 'static', not 'hash'"),
        (("search", "ships", "-d", URL, "-m", "hash"), "try: --model static, or leave it out"),
    ):
        result = run(*arguments)
        assert (result.code, said in result.err) == (2, True), result.err
    assert disk.collections["papers"].header.state == "ready"


def test_half_precision(run, encoded, disk):
    assert run("push", URL, "--storage", "float16").code == 0
    assert run("pull", URL, "-d", "half.db").code == 0
    with Store("half.db", readonly=True) as store:
        assert store.collection("default").dtype == "float16"


def test_a_collection_that_cannot_be_read_hides_no_other(run, encoded, disk):
    for name in ("one", "two"):
        run("push", f"memory://here/{name}")
    disk.collections["one"]._header = '{"embcli_collection": {"version": 1}}'
    rows = run("info", "memory://here", "-f", "ndjson").rows
    assert "cannot be understood" in rows[1]["facts"]["state"]
    assert rows[2]["facts"]["records"] == 200
    assert run("info", "memory://here", tty=True).code == 0
    assert run("info", "memory://here/one").code == 5


def test_the_environment_may_name_a_server(run, encoded, disk, monkeypatch):
    run("push", URL)
    monkeypatch.setenv("EMBCLI_DB", URL)
    assert run("search", "ships", "-k", "1").code == 0
    refused = run("pull", URL)
    assert (refused.code, "EMBCLI_DB names a server; try: --db FILE" in refused.err) == (2, True)
    assert run("pull", URL, "-d", "back.db").code == 0


def test_servers_are_described(run, encoded, disk):
    run("push", URL)
    rows = run("info", URL, "-f", "ndjson").rows
    assert rows[0]["facts"] == {"name": "memory://me:***@here/papers", "product": "memory 1.0"}
    facts = rows[1]["facts"]
    assert (facts["records"], facts["state"], facts["model"]) == (200, "ready", "static")
    assert facts["facts"]["recall"] == 1.0
    shown = run("info", "-d", "memory://here", tty=True)
    assert (shown.code, "papers" in shown.out) == (0, True)
    missing = run("info", "memory://here/none")
    assert (missing.code, "no collection 'none'" in missing.err) == (5, True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("search", "x", "-d", URL), 5, "no collection 'papers' at memory://me:***@here/papers"),
        (("search", "x", "-d", "memory://down/x"), 5, "memory://down/x does not answer"),
        (("search", "x", "-d", URL, "--hybrid"), 2, "--hybrid is for stores"),
        (("search", "x", "-d", URL, "--mmr", ".5"), 2, "--mmr is for stores"),
        (("search", "x", "-d", URL, "--mmr", "0"), 2, "--mmr is for stores"),
        (("search", "x", "-d", URL, "--coded"), 2, "--coded is for stores"),
        (("search", "x", "-d", URL, "--via", "m"), 2, "--via is for stores"),
        (("search", "x", "-d", URL, "--plus", "y"), 2, "--plus is for stores"),
        (("cluster", "-d", URL), 2, "--db names a server"),
        (("search", "x", "-d", URL, "-c", "other"), 2, "--collection says 'other'"),
        (("search", "x", "-d", "mysql://u:secret@h/x"), 2, "mysql://u:***@h/x: this is no store"),
        (("info", "-d", "postgresql+psycopg://u:secret@h"), 2, "no server that embcli knows"),
        (("cluster", "-d", "mysql://u:secret@h/x"), 2, "u:***@h/x: this is no store"),
        (("push", "postgresql://u:secret/x@h/db"), 2, "u:***@h/db: this is no URL"),
        (("push", "postgresql:/u:secret@h/db"), 2, "u:***@h/db: this is no URL"),
        (("push", "postgresql://h/db?table=a&table=b"), 2, "says something twice"),
        (("push", "postgresql://h/db?table=a#b"), 2, "this is no URL"),
        (("push", "milvus://u:secret@h/c?secure=on"), 2, "secure is true or false, not 'on'"),
        (("push", "nowhere"), 2, "'nowhere' is no server's URL"),
        (("push", "http://me:secret@here"), 2, "'http://me:***@here' is no server's URL"),
        (("push", "postgresql://h:port/x"), 2, "this is no URL of a server"),
        (("pull", URL), 5, "no collection 'papers'"),
        # Where no URL is expected, or not this one.
        (("push", "papers", URL), 2, "unexpected extra argument(s) (memory://me:***@here/papers)"),
        (("search", "x", "-c", URL), 5, "no collection 'memory://me:***@here/papers'"),
        ((URL,), 2, "No such command 'memory://me:***@here/papers'"),
        (("info", "postgresql://u:secret\udcff@h/x"), 2, "'postgresql://u:***@h/x' is not UTF-8"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(run, encoded, disk, arguments, code, said):
    result = run(*arguments)
    assert (result.code, result.out) == (code, "")
    assert said in result.err
    assert result.err.count("\n") == 1
    assert "secret" not in result.err


def test_an_adapter_takes_its_package(run, encoded, monkeypatch):
    monkeypatch.setattr("embcli.servers.find_spec", lambda name: None)
    for url, extra in (("postgres://h/d", "pg"), ("milvus://h/c", "milvus")):
        result = run("push", url)
        assert (result.code, result.err.count("\n")) == (4, 1)
        assert f"pip install 'embcli[{extra}]'" in result.err


def test_vectors_of_tokens_are_not_for_servers(home, encoded, disk):
    recipe = Recipe({"model": "m", "dim": 3, "normalized": True, "pooling": "none", "maps": []})
    with Store("tokens.db") as store:
        store.create_collection("default", recipe, chunking='{"unit":"tokens","vectors":"each"}')
    with pytest.raises(UsageError, match="a vector for every token"):
        push(URL, db="tokens.db")


def test_headers_are_read_back_and_others_refused(encoded):
    with Store("embcli.db", readonly=True) as store:
        recipe = store.collection("default").recipe
    header = Header(recipe, "c", "float16", "ready", True, {"effort": 5}, "1.0")
    assert Header.from_json(header.json, "x") == header
    found = json.loads(header.json)["embcli_collection"]
    for name, value in (
        ("facts", None), ("facts", []), ("facts", {"effort": "far"}), ("recipe", []),
        ("recipe", {"model": "m"}), ("recipe", {**found["recipe"], "dim": "x"}),
        ("recipe", {**found["recipe"], "dim": 0}), ("dtype", "float64"), ("state", "odd"),
        ("chunking", 3), ("unheard", 1),
    ):  # fmt: skip
        with pytest.raises(StoreError, match="cannot be understood"):
            Header.from_json(json.dumps({"embcli_collection": {**found, name: value}}), "x")
    for text in ("", "{}", "a comment", '{"embcli_collection": 3}', None):
        with pytest.raises(StoreError, match="was not made by embcli") as caught:
            Header.from_json(text, "x")
        # It may be a push that is told so.
        assert "another name" in caught.value.hint
    with pytest.raises(StoreError, match="by a newer embcli"):
        Header.from_json(header.changed(version=2).json, "x")


def test_addresses_are_taken_apart():
    address = Address.parse("postgresql://me:p%40ss@h:5433/my%20db?table=t&sslmode=require")
    assert (address.host, address.port, address.user) == ("h", 5433, "me")
    assert (address.password, address.path) == ("p@ss", "my db")
    assert address.options == {"table": "t", "sslmode": "require"}
    assert str(address) == "postgresql://me:***@h:5433/my%20db?table=t&sslmode=require"
    several = Address.parse("postgresql://me@h1:1,h2:2/db")
    assert (several.host, several.port, several.path) == ("h1", None, "db")
    for url, shown in (
        ("milvus://h/c?token=abc&x=1", "milvus://h/c?token=***&x=1"),
        ("postgresql://h/c?PASSWORD=abc", "postgresql://h/c?PASSWORD=***"),
        ("postgresql://h/c?passw%6Frd=abc", "postgresql://h/c?passw%6Frd=***"),
        ("postgresql://me@lab:abc@h/c", "postgresql://me@lab:***@h/c"),
        ("milvus://me:a@b@c@h:1/c", "milvus://me:***@h:1/c"),
        ("milvus://me@h:1/c", "milvus://me@h:1/c"),
    ):
        assert str(Address.parse(url)) == shown
    assert not names_server("embcli.db")
    assert not names_server("C:/x.db")
    assert names_server("postgresql:/h/x")
    assert set(config.SERVERS) == set(servers._ADAPTERS)
    with pytest.raises(UsageError):
        connect("sqlite:///x")
