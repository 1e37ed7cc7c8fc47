import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from embcli import Store, load_encoder
from embcli.formats.vectors import VectorBatch, rows
from embcli.formats.vectors.safetensors_files import SafetensorsWriter
from embcli.store import Collection

TEXTS = ["A cat sleeps on the sofa.", "Interest rates rose again.", "The dog barks loudly.",
         "Parliament voted for a tax.", "The river floods the valley."]  # fmt: skip


def vectors_of(words, dim=3, seed=0):
    return np.random.default_rng(seed).standard_normal((len(words), dim), np.float32)


def word_file(name, words, vectors=None):
    vectors = vectors_of(words) if vectors is None else vectors
    lines = [
        f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, vectors, strict=True)
    ]
    with open(name, "w") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n" + "".join(lines))
    return vectors


def stored(name="default", db="embcli.db"):
    with Store(db, readonly=True) as store:
        collection = store.collection(name)
        records = list(collection.records())
        return records, collection.vectors([record.id for record in records])


def spaces():
    with Store("embcli.db", readonly=True) as store:
        return {info.name: info.space for info in store.collections()}


def neighbours(run, word, collection):
    return run("search", "--like", word, "-k", "5", "-c", collection, "-f", "ids").out.split()


@pytest.mark.parametrize("name", ["glove25.vec", "glove25.bin"])
def test_glove(run, shared, name):
    result = run("import", shared / "glove25" / name, "-c", "glove")
    assert result.code == 0
    assert "imported 11,925 x 25 (added 11,925, replaced 0, unchanged 0, skipped 0)" in result.err
    assert {"prince", "queen"} <= set(neighbours(run, "king", "glove"))
    assert {"monday", "thursday"} <= set(neighbours(run, "tuesday", "glove"))
    assert run("show", "king", "-c", "glove").rows[0]["text"] == "king"


def test_text_and_binary_are_the_same_space_and_vectors(run, shared):
    for name in ("vec", "bin"):
        assert run("import", shared / "glove25" / f"glove25.{name}", "-c", name, "-q").code == 0
    assert len(set(spaces().values())) == 1
    (_, text), (_, binary) = stored("vec"), stored("bin")
    assert text.tobytes() == binary.tobytes()
    assert run("match", "vec", "bin", "--where-a", "id = 'king'").code in (0, 1)


def test_google_news(run, shared):
    assert run("import", shared / "words" / "gnews13k.npz", "-c", "news", "-q").code == 0
    assert {"queen", "royal"} <= set(neighbours(run, "king", "news"))


def test_report(run):
    word_file("w.vec", ["a", "b"])
    (row,) = run("import", "w.vec", "-f", "ndjson").rows
    assert {key: row[key] for key in ("collection", "records", "added", "dim", "total")} == {
        "collection": "default", "records": 2, "added": 2, "dim": 3, "total": 2,
    }  # fmt: skip
    with Store("embcli.db", readonly=True) as store:
        (info,) = store.runs()
    assert (info.command, info.status, info.counts["added"]) == ("import", "done", 2)
    assert run("import", "w.vec", "-q").err == ""


def test_imported_vectors_have_no_model(run):
    word_file("static.vec", ["a", "b"])
    run("import", "static.vec")
    for words in (["search", "a"], ["encode", "static.vec"]):
        result = run(*words)
        assert result.code == 4
        assert "imported" in result.err or "not here to encode a query" in result.err
    assert run("search", "--like", "a").code == 0
    assert run("search", "--lexical", "b").rows[0]["id"] == "b"


def test_importing_again(run):
    words = [f"w{n}" for n in range(30)]
    vectors = word_file("w.vec", words)
    run("import", "w.vec")
    result = run("import", "w.vec")
    assert "added 0, replaced 0, unchanged 30" in result.err
    vectors[29] += 1
    word_file("w.vec", [*words, "new"], np.vstack([vectors, vectors[:1]]))
    assert "fingerprint" not in result.err
    refused = run("import", "w.vec")
    assert refused.code == 2
    assert "another space" in refused.err
    word_file("s1.vec", words)
    run("import", "s1.vec", "-c", "s", "--space", "mine")
    word_file("s1.vec", [*words, "new"], np.vstack([vectors, vectors[:1]]))
    again = run("import", "s1.vec", "-c", "s", "--space", "mine")
    assert "added 1, replaced 1, unchanged 29" in again.err
    records, found = stored("s")
    assert found[[record.id for record in records].index("w29")] == pytest.approx(vectors[29])


def test_the_space_is_the_content_not_the_name(run):
    words = [f"w{n}" for n in range(300)]
    vectors = word_file("w.vec", words)
    np.save("other.npy", vectors)
    word_file("third.vec", words, vectors + 1)
    for name, options in (("w.vec", []), ("other.npy", []), ("third.vec", []),
                          ("w.vec", ["--limit", "150"])):  # fmt: skip
        collection = f"{name}{len(options)}"
        assert run("import", name, "-c", collection, *options).code == 0
    found = spaces()
    assert found["w.vec0"] == found["other.npy0"] == found["w.vec2"]
    assert found["third.vec0"] != found["w.vec0"]


def test_files_that_share_a_space(run):
    word_file("a.vec", ["a", "b"])
    word_file("b.vec", ["c"], vectors_of(["c"], seed=1))
    refused = run("import", "a.vec", "b.vec")
    assert refused.code == 2
    assert "--space NAME" in refused.err
    assert run("import", "a.vec", "b.vec", "--space", "mine").code == 0
    assert [record.id for record in stored()[0]] == ["a", "b", "c"]
    word_file("c.vec", ["d"], vectors_of(["d"], 4))
    result = run("import", "a.vec", "c.vec", "--space", "mine")
    assert result.code == 3
    assert "3 components, c.vec 4" in result.err
    assert run("import", "c.vec", "--space", "mine").code == 2


def test_limit(run, shared):
    run("import", shared / "glove25" / "glove25.vec", "--limit", "1000", "-q")
    records, _ = stored()
    lines = (shared / "glove25" / "glove25.vec").read_text().split("\n")[1:1001]
    assert [record.id for record in records] == [line.split(" ")[0] for line in lines]
    result = run("import", shared / "glove25" / "glove25.vec")
    assert "added 10,925, replaced 0, unchanged 1,000" in result.err


@pytest.mark.parametrize(("file", "header"), [("w.vec", 1), ("w.npz", 0)])
def test_the_first_of_repeated_words_stays(run, monkeypatch, file, header):
    monkeypatch.setattr(rows, "ROWS", 4)
    words = ["a", "b", "a", "c", "d", "b", "e"]
    vectors = vectors_of(words)
    if file == "w.vec":
        word_file(file, words)  # one batch
    else:
        np.savez(file, words=words, vectors=vectors)  # two
    result = run("import", file)
    assert result.code == 0
    assert f"skipped: {file}:{3 + header}: 'a' was read before; the first one stays" in result.err
    assert f"skipped: {file}:{6 + header}: 'b' was read before" in result.err
    assert "imported 5 x 3 (added 5, replaced 0, unchanged 0, repeated 2, skipped 0)" in result.err
    records, found = stored()
    assert [record.id for record in records] == ["a", "b", "c", "d", "e"]
    assert (found == vectors[[0, 1, 3, 4, 6]]).all()


def test_malformed_records_on_request(run, home):
    (home / "w.txt").write_text("a 0.5 1.5\nb 0.5\nc 0.5 nan\nd 2.5 3.5\n")
    refused = run("import", "w.txt")
    assert (refused.code, refused.err.count("\n")) == (3, 1)
    assert "error: w.txt:2: expected a token and 2 numbers" in refused.err
    assert not (home / "embcli.db").exists()
    result = run("import", "w.txt", "--skip-malformed")
    assert result.code == 3
    assert [line[:17] for line in result.err.split("\n")[:2]] == [
        "skipped: w.txt:2:",
        "skipped: w.txt:3:",
    ]
    assert [record.id for record in stored()[0]] == ["a", "d"]
    (home / "w.txt").write_text("a nan nan\n")
    assert run("import", "w.txt", "--skip-malformed").code == 3


def dumped(db="embcli.db"):
    with closing(sqlite3.connect(db)) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize(
    "content", [b"", b"x", b"a 0.5 1.5 2.5\nb nan 0.5 1.5\n", b"3 3\na 1 2 3\n"]
)
def test_a_malformed_file_leaves_a_store_as_it_was(run, home, content):
    word_file("w.vec", ["a", "b"])
    run("import", "w.vec", "--space", "s")
    before = dumped()
    (home / "bad.vec").write_bytes(content)
    for options in ([], ["--space", "s"], ["-c", "new"]):
        assert run("import", "bad.vec", *options).code == 3
    assert run("import", "w.vec", "bad.vec", "--space", "s").code == 3
    assert run("import", ".", "--space", "s").code == 3
    assert run("import", "absent", "--space", "s").code == 3
    assert dumped() == before


def test_wrong_usage(run, home):
    word_file("w.vec", ["a", "b"])
    np.save("a.npy", vectors_of("ab"))
    for options, code, message in (
        (["w.vec", "--input-format", "nothing"], 2, "no format 'nothing'"),
        (["w.vec", "--input-format", "npy"], 3, "no array can be read"),
        (["w.vec", "--space", "s", "-m", "static"], 2, "not both"),
        (["w.vec", "--limit", "0"], 2, "--limit"),
        (["a.npy", "--sidecar", "absent.csv"], 3, "no such file"),
        (["a.npy", "w.vec", "--sidecar", "w.vec"], 2, "one file"),
        (["w.vec", "-d", "w.vec"], 5, "not an"),
        ([], 2, "Missing argument"),
    ):
        result = run("import", *options)
        assert (result.code, result.err.count("\n")) == (code, 1), result.err
        assert message in result.err
    assert not (home / "embcli.db").exists()


def test_float16(run):
    vectors = word_file("w.vec", ["a", "b"])
    assert run("import", "w.vec", "--storage", "float16").code == 0
    assert (stored()[1] == vectors.astype(np.float16)).all()
    assert "unchanged 2" in run("import", "w.vec").err
    word_file("large.vec", ["a"], np.array([[7e4, 0, 0]], np.float32))
    for options in (["--storage", "float16", "-c", "l"], ["--space", "x"]):
        result = run("import", "large.vec", *options)
        assert result.code == 3
        assert "70000 does not fit into float16" in result.err


def test_texts_and_metadata(run, home):
    np.save("a.npy", vectors_of(TEXTS))
    rows = [json.dumps({"id": f"r{n}", "text": text, "n": n}) for n, text in enumerate(TEXTS)]
    (home / "a.jsonl").write_text("\n".join(rows))
    assert run("import", "a.npy", "--sidecar", "a.jsonl").code == 0
    (row,) = run("search", "--lexical", "dog").rows
    assert (row["id"], row["text"], row["meta"]) == ("r2", TEXTS[2], {"n": 2})
    assert len(run("search", "--like", "r0", "-w", "n > 2").rows) == 2
    (home / "short.txt").write_text("a\nb\n")
    result = run("import", "a.npy", "--sidecar", "short.txt", "-c", "b")
    assert result.code == 3
    assert "short.txt has 2 records, a.npy more vectors" in result.err


@pytest.fixture
def by_static(home):
    vectors = load_encoder("static").encode(TEXTS)
    np.save("a.npy", vectors)
    (home / "a.txt").write_text("\n".join(TEXTS))
    return vectors


def test_vectors_of_a_model_are_searched_in_words(run, by_static, home):
    result = run("import", "a.npy", "--sidecar", "a.txt", "-m", "static")
    assert result.code == 0
    (row,) = run("search", "interest rates go up", "-k", "1").rows
    assert row["text"] == TEXTS[1]
    (home / "more.txt").write_text("Stocks fell.\n" + TEXTS[0])
    assert "encoded 1, reused 1" in run("encode", "more.txt").err


def test_vectors_that_another_model_made(run, by_static, home):
    (home / "a.txt").write_text("\n".join(reversed(TEXTS)))
    arguments = ("import", "a.npy", "--sidecar", "a.txt", "-m", "static")
    result = run(*arguments)
    assert result.code == 3
    assert "'static' makes another vector of" in result.err
    assert "--trust" in result.err
    assert not (home / "embcli.db").exists()
    assert run(*arguments, "--trust").code == 0
    assert "256 components, those of 'hash' 1024" in run(*arguments[:-1], "hash").err
    np.save("a.npy", by_static * 2)
    result = run(*arguments, "--trust", "-c", "b")
    assert result.code == 3
    assert "unit length, these are 2 to 2 long" in result.err
    np.save("a.npy", by_static)
    assert "no texts to make sure" in run("import", "a.npy", "-m", "static", "-c", "n").err


def test_what_embcli_wrote_is_in_the_space_it_came_from(run, by_static):
    recipe = dict(load_encoder("static").recipe().settings)
    writer = SafetensorsWriter("a.safetensors", 256, 5, recipe)
    places = list(range(1, 6))
    writer.write(VectorBatch(TEXTS, by_static, TEXTS, [{}] * 5, places))
    writer.close()
    assert run("import", "a.safetensors").code == 0
    assert run("search", "interest rates go up", "-k", "1").rows[0]["text"] == TEXTS[1]


@pytest.mark.parametrize(
    "recipe", [{}, [], {"dim": 256}, {"dim": 3, "model": "static", "normalized": True},
               {"dim": 256, "model": 5, "normalized": True}]
)  # fmt: skip
def test_what_a_file_says_need_not_be_a_recipe(run, by_static, recipe):
    writer = SafetensorsWriter("a.safetensors", 256, 5, recipe)
    writer.write(VectorBatch(TEXTS, by_static, TEXTS, [{}] * 5, list(range(1, 6))))
    writer.close()
    assert run("import", "a.safetensors").code == 0
    with Store("embcli.db", readonly=True) as store:
        assert store.collection("default").recipe.model == "a"


def test_an_interrupted_import_is_completed_by_the_same_command(run, monkeypatch):
    monkeypatch.setattr(rows, "ROWS", 10)
    words = [f"w{n}" for n in range(95)]
    vectors = vectors_of(words)
    np.savez("w.npz", words=words, vectors=vectors)
    add, calls = Collection.add, []

    def interrupted(self, records, vectors):
        calls.append(len(records))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return add(self, records, vectors)

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "add", interrupted)
        result = run("import", "w.npz")
    assert result.code == 130
    assert "the same command again does the rest" in result.err
    kept = len(stored()[0])
    assert 0 < kept < 95
    result = run("import", "w.npz")
    assert f"added {95 - kept}, replaced 0, unchanged {kept}" in result.err
    records, found = stored()
    assert [record.id for record in records] == words
    assert (found == vectors).all()


def test_nothing_is_left_beside_the_store(run, home, monkeypatch):
    from embcli.pipelines import import_

    monkeypatch.setattr(import_, "_BYTES_IN_MEMORY", 100)
    vectors = word_file("w.vec", [f"w{n}" for n in range(50)])
    assert run("import", "w.vec").code == 0
    assert (stored()[1] == vectors).all()
    assert sorted(path.name for path in home.iterdir()) == ["embcli.db", "w.vec"]


def test_neither_unpaired_surrogates_nor_deep_metadata_come_in(run, home):
    lines = ['{"id": "\\ud800", "v": [1, 2]}', '{"id": "b", "v": [1, 2], "text": "\\udfff"}',
             '{"id": "c", "v": [1, 2], "m": ' + "[" * 200 + "]" * 200 + "}",
             '{"id": "d", "v": [0, 0]}']  # fmt: skip
    (home / "a.jsonl").write_text("\n".join(lines))
    result = run("import", "a.jsonl", "--skip-malformed")
    assert result.code == 3
    assert result.err.count("skipped: a.jsonl:") == 3
    assert [record.id for record in stored()[0]] == ["d"]
    assert run("search", "--like", "d").code in (0, 1)
