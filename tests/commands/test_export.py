import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from importlib.util import find_spec

import numpy as np
import pytest

from embcli import Store, load_encoder
from embcli.formats.vectors import READERS, WRITERS, VectorOptions, find_class
from embcli.formats.vectors.embcli_store import CollectionBatches
from tests.formats.vectors.test_contract import WITH_RECIPE, WORDS, joined, told_apart

EMBCLI = [sys.executable, "-m", "embcli"]
FILES = {"parquet": "x.parquet", "arrow": "x.feather", "hdf5": "x.h5", "faiss": "x.faiss"}


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def encoded(run, corpus):
    assert run("encode", "corpus.jsonl").code == 0


@pytest.fixture(autouse=True)
def packages():
    pytest.importorskip("pyarrow")
    pytest.importorskip("h5py")


def stored(path="embcli.db", collection="default"):
    with Store(path, readonly=True) as store:
        return joined(CollectionBatches(store.collection(collection)))


def read(path, format, **options):
    return joined(find_class(READERS, format)(path, VectorOptions(**options)))


@pytest.mark.parametrize("format", ["parquet", "arrow", "hdf5", "faiss", "llm", "embcli"])
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_a_file_holds_what_the_collection_holds(run, examples, home, format, storage):
    run("encode", "examples/corpus.jsonl", "--storage", storage)
    name = FILES.get(format, "x.db")
    named = [] if format in FILES else ["-f", format]
    result = run("export", name, *named)
    assert (result.code, result.out) == (0, "")
    assert result.err.endswith(f"'default' → {name}: 324 vectors of 256 ({format})\n")
    found, there = read(name, format), stored()
    assert (found.ids, found.texts) == (there.ids, there.texts)
    assert list(map(told_apart, found.metas)) == list(map(told_apart, there.metas))
    assert found.vectors.tobytes() == there.vectors.tobytes()
    assert not [path for path in home.iterdir() if ".part" in path.name]


@pytest.mark.parametrize("format", WRITERS)
def test_what_was_exported_is_imported_as_it_was(run, corpus, format):
    """Whatever the name of the file, its content tells the format."""
    if find_spec("embcli.commands.import_") is None:
        pytest.skip("there is no embcli import")
    run("encode", "corpus.jsonl")
    assert run("export", "file", "-f", format).code == 0
    result = run("import", "file", "-d", "other.db")
    assert result.code == 0, result.err
    found, there = stored("other.db"), stored()
    assert found.ids == there.ids
    assert found.vectors.tobytes() == there.vectors.tobytes()
    if format not in WORDS:
        assert found.texts == there.texts
        assert list(map(told_apart, found.metas)) == list(map(told_apart, there.metas))
    if format in WITH_RECIPE:
        with Store("other.db", readonly=True) as one, Store("embcli.db", readonly=True) as other:
            assert one.collection("default").recipe == other.collection("default").recipe
        assert run("search", "interest", "-d", "other.db").code == 0


def test_a_store_that_was_exported_answers_as_the_first(run, encoded):
    run("export", "other.db", "-f", "embcli")
    one, other = run("search", "interest"), run("search", "interest", "-d", "other.db")
    assert one.rows == other.rows


def test_standard_output(run, encoded):
    result = run("export", "-")
    assert (result.code, result.err) == (0, "")
    there = stored()
    assert [list(row) for row in result.rows] == [["id", "text", "meta", "embedding"]] * 5
    assert [row["id"] for row in result.rows] == there.ids
    assert [row["meta"] for row in result.rows] == there.metas
    vectors = np.array([row["embedding"] for row in result.rows], np.float32)
    assert vectors.tobytes() == there.vectors.tobytes()
    assert run("export", "-", tty=True).out == result.out
    wrong = run("export", "-", "-f", "parquet")
    assert (wrong.code, wrong.err) == (
        2, "error: standard output takes jsonl, not parquet; try: name a file\n"
    )  # fmt: skip


def test_where(run, encoded, home):
    result = run("export", "x.parquet", "--where", "year >= 2020")
    assert result.code == 0
    assert read("x.parquet", "parquet").ids == ["dog", "bank", "tax"]
    assert [row["id"] for row in run("export", "-", "-w", 'kind = "pet"').rows] == ["cat", "dog"]
    result = run("export", "y.parquet", "-w", "year > 3000")
    assert (result.code, result.err) == (
        1, "error: collection 'default' has no record that meets --where\n"
    )  # fmt: skip
    assert run("export", "y.parquet", "-w", "year >").code == 2
    assert not (home / "y.parquet").exists()


def test_chunks_and_their_mean(run, corpus):
    run("encode", "corpus.jsonl", "--chunk", "characters=20,overlap=5")
    result = run("export", "x.arrow")
    assert "one for each, with ids ID#0" in result.err
    rows = read("x.arrow", "arrow")
    assert rows.ids[0] == "cat#0"
    assert len(rows.ids) > 5
    result = run("export", "x.arrow", "--mean", "--force")
    assert "note" not in result.err
    assert read("x.arrow", "arrow").ids == ["cat", "dog", "bond", "bank", "tax"]


def test_files_that_are_there_stay(run, encoded, home):
    (home / "x.parquet").write_text("mine")
    result = run("export", "x.parquet")
    assert (result.code, result.err) == (
        2, "error: x.parquet is there already; try: another name, or --force\n"
    )  # fmt: skip
    assert (home / "x.parquet").read_text() == "mine"
    assert run("export", "x.parquet", "--force").code == 0
    assert len(read("x.parquet", "parquet").ids) == 5
    # What is written beside a file counts too.
    (home / "x.faiss.jsonl").write_text("mine")
    result = run("export", "x.faiss")
    assert (result.code, "x.faiss.jsonl is there already" in result.err) == (2, True)
    assert (home / "x.faiss.jsonl").read_text() == "mine"
    assert not (home / "x.faiss").exists()
    before = (home / "embcli.db").read_bytes()
    result = run("export", "embcli.db", "-f", "embcli", "--force")
    assert (result.code, result.err) == (
        2, "error: embcli.db is the store itself; try: another name\n"
    )  # fmt: skip
    assert (home / "embcli.db").read_bytes() == before


def test_a_link_is_followed(run, encoded, home):
    (home / "folder").mkdir()
    (home / "x.parquet").symlink_to(home / "folder" / "real")
    assert run("export", "x.parquet").code == 0
    assert (home / "x.parquet").is_symlink()
    assert len(read("folder/real", "parquet").ids) == 5


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["x.db"], 2, "x.db: the ending does not tell the format"),
        (["x"], 2, "x: the ending does not tell the format"),
        (["x.arrow", "-f", "xml"], 2, "no format 'xml' here (there are: npy, "),
        (["none/x.arrow"], 2, "cannot write none/x.arrow (No such file or directory)"),
        ([".", "-f", "arrow"], 2, ". is a directory"),
        (["/dev/full", "-f", "arrow"], 2, "cannot write /dev/full (No space left on device)"),
        (
            ["/dev/null", "-f", "faiss"],
            2,
            "this format makes several files, which /dev/null cannot take",
        ),
        (["x.arrow", "-c", "x"], 5, "has no collection 'x'"),
        (["x.arrow", "-d", "none.db"], 5, "there is no store at none.db"),
    ],
)
def test_what_cannot_be_written(run, encoded, home, words, code, message):
    before = sorted(home.iterdir())
    result = run("export", *words)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert sorted(home.iterdir()) == before


def test_a_package_that_is_missing(run, encoded, monkeypatch, home):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "h5py", None)
    for name, package, extra in (("x.parquet", "pyarrow", "arrow"), ("x.h5", "h5py", "hdf5")):
        result = run("export", name)
        assert (result.code, result.err) == (
            4,
            (
                f"error: this format needs the package {package!r}, which is not installed; "
                f"try: pip install 'embcli[{extra}]'\n"
            ),
        )
        assert not (home / name).exists()


@pytest.mark.parametrize(
    "words",
    [f"export x -f {name}" for name in ("parquet", "arrow", "hdf5", "faiss", "llm", "embcli")]
    + ["backup x"],
)
def test_a_disk_that_is_full(run, examples, home, words):
    """No file may grow beyond 64 KiB, which is what a full disk looks like from here."""
    run("encode", "examples/corpus.jsonl")
    script = f"ulimit -f 64; exec {sys.executable} -m embcli {words}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode in (2, 5), done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert sorted(path.name for path in home.iterdir()) == ["embcli.db", "examples"]


def test_pipes(run, encoded, home):
    os.mkfifo(home / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((home / "pipe").read_bytes()))
    reader.start()
    assert run("export", "pipe", "-f", "arrow").code == 0
    reader.join()
    (home / "x.arrow").write_bytes(received[0])
    assert read("x.arrow", "arrow").ids == stored().ids
    words = f"{' '.join(EMBCLI)} export - | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["id"] == "cat"


def test_ctrl_c_leaves_nothing(run, encoded, home, monkeypatch):
    def interrupted(self, batch):
        assert [path for path in home.iterdir() if path.name.endswith(".part")]
        raise KeyboardInterrupt

    for format in ("parquet", "hdf5", "faiss", "llm", "embcli"):
        monkeypatch.setattr(find_class(WRITERS, format), "write", interrupted)
        result = run("export", "x.out", "-f", format)
        assert (result.code, result.err) == (130, "interrupted\n")
        assert sorted(path.name for path in home.iterdir()) == ["corpus.jsonl", "embcli.db"]


def test_encode_to_a_file(run, corpus, home):
    result = run("encode", "corpus.jsonl", "--to", "x.parquet")
    assert (result.code, result.out) == (0, "")
    assert "encoded 5, " in result.err
    assert result.err.endswith("s → x.parquet\n")
    assert sorted(path.name for path in home.iterdir()) == ["corpus.jsonl", "x.parquet"]
    run("encode", "corpus.jsonl")
    run("export", "y.parquet")
    assert (home / "x.parquet").read_bytes() == (home / "y.parquet").read_bytes()
    assert run("encode", "corpus.jsonl", "--to", "x.parquet").code == 2
    result = run("encode", "corpus.jsonl", "--to", "x.parquet", "--force", "-m", "hash")
    assert result.code == 0
    vectors = load_encoder("hash").encode(
        [r.text for r in Store("embcli.db").collection("default").records()]
    )
    np.testing.assert_array_equal(read("x.parquet", "parquet").vectors, vectors)


def test_encode_to_standard_output(run, corpus, home):
    result = run("encode", "-", "--to", "-", "-f", "ndjson", stdin=corpus.read_bytes())
    assert result.code == 0
    assert [row["id"] for row in result.rows] == ["cat", "dog", "bond", "bank", "tax"]
    assert run("encode", "corpus.jsonl", "--to", "-", tty=True).rows == result.rows
    assert run("encode", "corpus.jsonl", "--to", "-", "-f", "ids").out.startswith("cat\ndog\n")
    assert [path.name for path in home.iterdir()] == ["corpus.jsonl"]
    run("encode", "corpus.jsonl")
    assert run("export", "-").rows == result.rows


def test_encode_to_names_what_it_skips(run, home, monkeypatch):
    monkeypatch.setattr("embcli.pipelines.encode._RECORDS_AT_ONCE", 50)
    write(home / "a.jsonl", ({"id": n % 150, "text": f"text {n}"} for n in range(152)))
    with (home / "a.jsonl").open("a") as file:
        file.write('bad\n{"id": 200, "text": ""}\n{"id": 201, "text": "text 149"}\n')
    result = run("encode", "a.jsonl", "--to", "-")
    assert result.code == 3
    assert [row["id"] for row in result.rows] == [*map(str, range(150)), "201"]
    assert result.rows[149]["embedding"] == result.rows[150]["embedding"]
    skipped = [line for line in result.err.splitlines() if line.startswith("skipped: ")]
    assert [line.split(":")[2] for line in skipped] == ["151", "152", "153", "154"]
    assert skipped[0].endswith("id '0' was already read at a.jsonl:1")
    result = run("encode", "a.jsonl", "--to", "x.arrow", "--strict")
    assert (result.code, (home / "x.arrow").exists()) == (3, False)
    (home / "b.jsonl").write_text("bad\n")
    result = run("encode", "b.jsonl", "--to", "x.arrow")
    assert (result.code, (home / "x.arrow").exists()) == (3, False)
    assert "nothing was written" in result.err


@pytest.mark.parametrize("model", ["static", "costly"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_encode_to_in_batches(run, home, monkeypatch, size, model):
    from embcli.encoders.static import StaticEncoder
    from embcli.pipelines import encode

    monkeypatch.setattr(encode, "_RECORDS_AT_ONCE", size)
    monkeypatch.setattr(StaticEncoder, "costly", model == "costly")
    texts = ["a", "b", "a", "c", "b", "a", "d", " ", "a", "e"]
    (home / "a.jsonl").write_text(
        "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts))
    )
    rows = run("encode", "a.jsonl", "--to", "-").rows
    assert [row["id"] for row in rows] == [str(i) for i, text in enumerate(texts) if text != " "]
    expected = load_encoder("static").encode([row["text"] for row in rows])
    np.testing.assert_array_equal(
        np.array([row["embedding"] for row in rows], np.float32), expected
    )


def test_encode_to_chunks(run, corpus):
    rows = run("encode", "corpus.jsonl", "--to", "-", "--chunk", "characters=20").rows
    run("encode", "corpus.jsonl", "--chunk", "characters=20")
    assert run("export", "-").rows == rows


@pytest.mark.parametrize("flags", [["--prune"], ["--storage", "float16"], ["-c", "x"]])
def test_what_is_for_the_store_only(run, corpus, flags):
    result = run("encode", "corpus.jsonl", "--to", "-", *flags)
    assert (result.code, result.out) == (2, "")
    assert "is for the store, and --to does without one" in result.err


def test_ctrl_c_while_encoding_leaves_nothing(home):
    write(home / "a.jsonl", ({"text": f"text {n}"} for n in range(200_000)))
    process = subprocess.Popen(
        [*EMBCLI, "encode", "a.jsonl", "--to", "x.parquet"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(home.glob(".x.parquet.*/x.parquet.waiting")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1].endswith("interrupted\n")
    assert process.returncode == 130
    assert [path.name for path in home.iterdir()] == ["a.jsonl"]


def test_backup_is_the_store(run, encoded, home):
    result = run("backup", "copy.db")
    assert result.code == 0
    assert result.err.startswith("embcli.db → copy.db (")
    assert sorted(path.name for path in home.iterdir()) == ["copy.db", "corpus.jsonl", "embcli.db"]
    assert run("search", "a pet", "-d", "copy.db").rows == run("search", "a pet").rows
    dumps = []
    for name in ("embcli.db", "copy.db"):
        with closing(sqlite3.connect(name)) as db:
            dumps.append(list(db.iterdump()))
    assert dumps[0] == dumps[1]


def test_backup_overwrites_nothing(run, encoded, home):
    (home / "copy.db").write_text("mine")
    result = run("backup", "copy.db")
    assert (result.code, result.err) == (
        2, "error: copy.db is there already; try: another name, or --force\n"
    )  # fmt: skip
    assert (home / "copy.db").read_text() == "mine"
    assert run("backup", "copy.db", "--force").code == 0
    assert run("search", "a pet", "-d", "copy.db").code == 0
    assert run("backup", "embcli.db", "--force").code == 2
    assert run("backup", "/dev/full").code == 2
    assert run("backup", "copy2.db", "-d", "none.db").code == 5
    assert not (home / "copy2.db").exists()


def test_backup_while_another_writes(run, home):
    """The copy is the store at one moment: as many records as vectors, none by halves."""
    write(home / "a.jsonl", ({"text": f"text {n}"} for n in range(8000)))
    run("encode", "a.jsonl", "-c", "before", "-q")
    process = subprocess.Popen(
        [*EMBCLI, "encode", "a.jsonl", "-m", "hash", "-q"], stdin=subprocess.DEVNULL
    )
    copies = 0
    while process.poll() is None:
        assert run("backup", f"copy{copies}.db").code == 0
        copies += 1
    assert process.returncode == 0
    assert copies > 1
    for number in range(copies):
        rows = run("collections", "list", "-d", f"copy{number}.db").rows
        assert all(row["records"] == row["vectors"] for row in rows)
        assert {row["name"]: row["records"] for row in rows}["before"] == 8000


def test_a_damaged_store_gives_no_backup(run, encoded, home):
    run("vacuum")
    whole = bytearray((home / "embcli.db").read_bytes())
    whole[16384 * 3 : 16384 * 3 + 200] = os.urandom(200)
    (home / "embcli.db").write_bytes(whole)
    result = run("backup", "copy.db")
    assert result.code == 5
    assert "damaged" in result.err
    assert not (home / "copy.db").exists()


def test_inputs_and_other_collections_are_never_replaced(run, corpus, home):
    before = corpus.read_bytes()
    (home / "x.npy.jsonl").write_bytes(before)
    for words in (("corpus.jsonl", "--to", "corpus.jsonl"), ("x.npy.jsonl", "--to", "x.npy")):
        result = run("encode", *words, "--force")
        assert result.code == 2
        assert "is an input" in result.err
    assert corpus.read_bytes() == (home / "x.npy.jsonl").read_bytes() == before
    run("encode", "corpus.jsonl", "-c", "one")
    run("encode", "corpus.jsonl", "-c", "two")
    for format in ("llm", "embcli"):
        assert run("export", "t.db", "-f", format, "-c", "one").code == 0
        result = run("export", "t.db", "-f", format, "-c", "two", "--force")
        assert result.code == 2
        assert "holds other collections, which would be lost (one)" in result.err
        assert run("export", "t.db", "-f", format, "-c", "one", "--force").code == 0
        (home / "t.db").unlink()


def test_what_has_no_room_for_texts_says_so(run, corpus):
    run("encode", "corpus.jsonl")
    assert "no room for texts and metadata" in run("export", "x.vec").err
    assert "no room" not in run("export", "x.npz").err
