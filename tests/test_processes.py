"""Whole processes: pipes, signals, crashes, two at once."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.core.maps import Linear, Map, Transform
from embcli.errors import StoreError
from embcli.store.database import VERSION
from tests.conftest import ROOT
from tests.models import tiny_bert

EMBCLI = [sys.executable, "-m", "embcli"]


@pytest.fixture
def shell(home):
    """Run a line of bash in which `embcli` is this one."""
    program = home / "bin" / "embcli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m embcli "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def shell(script):
        words = ["bash", "-o", "pipefail", "-c", script]
        return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120)

    return shell


def start(*arguments):
    return subprocess.Popen(
        [*EMBCLI, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(*arguments):
    """Run to the end, which must be a good one; return what it said."""
    words = [*EMBCLI, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


def contents(path, collection="default"):
    """Records and vectors of a store, and a check of the file as a whole."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.execute("INSERT INTO records_fts (records_fts, rank) VALUES ('integrity-check', 1)")
    connection.close()
    with Store(path, readonly=True) as store:
        source = store.collection(collection)
        records = sorted(source.records(), key=lambda record: record.id)
        return records, source.vectors([record.id for record in records])


@pytest.fixture
def big(home):
    """A corpus that takes a second or two to encode."""
    lines = (ROOT / "examples" / "corpus.jsonl").read_text().splitlines()
    words = " ".join(json.loads(line)["text"] for line in lines).split()
    rng = random.Random(0)
    with (home / "big.jsonl").open("w") as file:
        for n in range(40_000):
            begin = rng.randrange(len(words) - 40)
            text = " ".join(words[begin : begin + rng.randrange(5, 40)])
            file.write(json.dumps({"id": f"r{n}", "text": f"{text} {n}", "n": n}) + "\n")
    return home / "big.jsonl"


def test_a_pipe_from_corpus_to_ids(shell, examples):
    done = shell(
        "cat examples/corpus.jsonl | embcli encode - && "
        'embcli search "vaccine against smallpox" -f ids | head -3'
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3
    assert done.stdout.startswith("jenner-cowpox-1796\n")
    assert "\x1b" not in done.stdout + done.stderr
    assert "roken pipe" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_failure(shell, examples):
    done = shell(
        "embcli encode examples/corpus.jsonl -q && "
        "embcli search history -k 324 -f json | head -1 && embcli --help | true"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")


def test_ids_travel_through_xargs(shell, examples):
    done = shell(
        "embcli encode examples/corpus.jsonl -q && "
        "embcli search eruption -k 2 -f ids | xargs embcli show -f ndjson"
    )
    assert ["text" in json.loads(line) for line in done.stdout.splitlines()] == [True, True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_committed(big, home, number):
    process = start("encode", big)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.05)
        try:
            with Store(home / "embcli.db", readonly=True) as store:
                if store.facts()["records"]:
                    break
        except StoreError:  # it is not there yet
            continue
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.splitlines()[-2:] == [
        "note: what was committed stays; the same command again does the rest",
        "interrupted",
    ]
    assert "Traceback" not in err
    with Store(home / "embcli.db", readonly=True) as store:
        stored = len(store.collection("default"))
        assert 0 < stored < 40_000
        assert store.runs()[0].status == "interrupted"
    assert f"encoded {40_000 - stored:,}, reused {stored:,}" in finish("encode", big)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_falls_into_a_destructor_is_not_lost(number):
    program = f"""
import signal, time
from embcli import cli
class Destroyed:
    def __del__(self):
        signal.raise_signal({int(number)})
def command(*_, **__):
    Destroyed()
    time.sleep(20)
cli._command = lambda *_, **__: type("", (), {{"main": command}})()
cli.run_program()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + number, "interrupted\n")


def test_killed_dozens_of_times_then_finished(big, home):
    """However often it is killed, the store is sound and ends as if it had never been."""
    began = time.monotonic()
    finish("encode", big, "-d", "whole.db")
    whole = time.monotonic() - began
    expected_records, expected_vectors = contents("whole.db")
    rng = random.Random(1)
    kills = 0
    seen = set()
    for _ in range(24):
        process = start("encode", big, "-d", "killed.db")
        # The first ones die while importing, creating the file, and in the first batches.
        time.sleep(rng.uniform(0.1, 0.9) * whole)
        killed = process.poll() is None
        kills += killed
        process.kill()
        process.communicate()
        if not killed and len(seen - {0}) < 2:
            # The machine is faster now: what is complete cannot be killed half-way.
            whole *= 0.7
            for path in home.glob("killed.db*"):
                path.unlink()
        if os.path.exists("killed.db"):
            connection = sqlite3.connect("killed.db")
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            if connection.execute("PRAGMA user_version").fetchone() == (VERSION,):
                seen.add(connection.execute("SELECT count(*) FROM records").fetchone()[0])
            connection.close()
    assert kills >= 8
    assert len(seen - {0}) > 1, "no kill came between two commits"
    finish("encode", big, "-d", "killed.db")
    records, vectors = contents("killed.db")
    assert records == expected_records
    np.testing.assert_array_equal(vectors, expected_vectors)


@pytest.fixture
def slow(home):
    """A corpus that takes a tiny transformer some seconds, and that model."""
    tiny_bert(home / "model")
    words = [line.split()[0] for line in (ROOT / "README.md").read_text().splitlines() if line]
    rng = random.Random(0)
    with (home / "slow.jsonl").open("w") as file:
        for n in range(12_000):
            file.write(
                json.dumps({"id": f"r{n}", "text": " ".join(rng.choices(words, k=60))}) + "\n"
            )
    return home / "slow.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize(
    "signal_", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.ci)]
)
def test_a_transformer_is_interrupted_and_does_the_rest_only(slow, home, signal_):
    words = ("encode", slow, "-m", "model", "--dtype", "float32")
    finish(*words, "-d", "whole.db")
    process = start(*words, "-d", "cut.db")
    for _ in range(600):
        time.sleep(0.05)
        if process.poll() is not None or _stored("cut.db"):
            break
    process.send_signal(signal_)
    _, said = process.communicate()
    assert process.returncode == (-9 if signal_ == signal.SIGKILL else 130), said
    assert "Traceback" not in said
    stored = _stored("cut.db")
    assert 0 < stored < 12_000
    assert f"encoded {12_000 - stored:,}, reused {stored:,}" in finish(*words, "-d", "cut.db")
    records, vectors = contents("cut.db")
    expected_records, expected_vectors = contents("whole.db")
    assert records == expected_records
    np.testing.assert_allclose(vectors, expected_vectors, atol=1e-5)


def _stored(path):
    """How many records a store has that may be about to be made."""
    try:
        with Store(path, readonly=True) as store:
            return len(store.collection("default"))
    except StoreError:
        return 0


def test_two_processes_write_one_store_at_once(big, home):
    lines = big.read_text().splitlines(keepends=True)
    (home / "a.jsonl").write_text("".join(lines[:20_000]))
    (home / "b.jsonl").write_text("".join(lines[20_000:]))
    both = [start("encode", f"{name}.jsonl") for name in "ab"]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    finish("encode", big, "-d", "alone.db")
    together, alone = contents("embcli.db"), contents("alone.db")
    assert [r.id for r in together[0]] == [r.id for r in alone[0]]
    np.testing.assert_array_equal(together[1], alone[1])


def test_searching_while_another_process_writes(big, home):
    finish("encode", ROOT / "examples" / "corpus.jsonl")
    writer = start("encode", big)
    while writer.poll() is None:
        reader = start("search", "vaccine against smallpox", "-f", "ids")
        out, err = reader.communicate(timeout=60)
        assert reader.returncode == 0, err
        assert len(out.splitlines()) == 10
    _, err = writer.communicate()
    assert writer.returncode == 0, err


def test_memory_does_not_grow_with_the_input(home):
    """The peak of a corpus eight times as large is about the same."""
    peaks = []
    for size in (10, 80):
        with (home / "m.jsonl").open("w") as file:
            for n in range(size * 1000):
                text = f"record {n % 1000} says something of about a hundred characters " * 2
                file.write(json.dumps({"id": n, "text": text}) + "\n")
        code = (
            "import resource, sys; from embcli.cli import main; main(sys.argv[1:]); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        words = [sys.executable, "-c", code, "encode", "m.jsonl", "-q", "-d", f"m{size}.db"]
        peaks.append(int(subprocess.run(words, capture_output=True, text=True).stdout))
    assert peaks[1] < peaks[0] + 60_000, peaks


def word_vectors(path, count, dim):
    rows = np.random.default_rng(count).standard_normal((1000, dim), np.float32)
    with open(path, "wb") as file:
        file.write(f"{count} {dim}\n".encode())
        for n in range(count):
            file.write(f"w{n} ".encode() + rows[n % 1000].tobytes())


def test_an_import_killed_again_and_again_then_finished(home):
    word_vectors("w.bin", 30_000, 50)
    finish("import", "w.bin", "-d", "whole.db")
    rng = random.Random(2)
    seen = set()
    for attempt in range(15):
        if attempt >= 5 and seen - {0}:
            break
        process = start("import", "w.bin", "-d", "killed.db")
        # Longer and longer where the machine is too busy to come to a commit.
        time.sleep(rng.uniform(0.3, 1.3) * (1 + attempt // 5))
        process.kill()
        process.communicate()
        if os.path.exists("killed.db"):
            connection = sqlite3.connect("killed.db")
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            if connection.execute("PRAGMA user_version").fetchone() == (VERSION,):
                seen.add(connection.execute("SELECT count(*) FROM records").fetchone()[0])
            connection.close()
    assert seen - {0}, "no kill came after a commit"
    finish("import", "w.bin", "-d", "killed.db")
    records, vectors = contents("killed.db")
    expected_records, expected_vectors = contents("whole.db")
    assert records == expected_records
    np.testing.assert_array_equal(vectors, expected_vectors)
    assert {path.name for path in home.iterdir()} == {"w.bin", "whole.db", "killed.db"}


def test_memory_does_not_grow_with_imported_vectors(home):
    """20 MB of vectors and 200 MB take about the same, but for SQLite's cache."""
    peaks = []
    for count in (5_000, 50_000):
        word_vectors("w.bin", count, 1000)
        code = (
            "import resource, sys; from embcli.cli import main; assert main(sys.argv[1:]) == 0; "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        words = [sys.executable, "-c", code, "import", "w.bin", "-q", "-d", f"m{count}.db"]
        peaks.append(int(subprocess.run(words, capture_output=True, text=True).stdout))
    assert peaks[1] < peaks[0] + 90_000, peaks


@pytest.fixture
def mappable(home):
    """A store with 20,000 vectors and a map of their space."""
    rng = np.random.default_rng(0)
    recipes = [
        Recipe({"model": name, "dim": 64, "normalized": False, "imported": name, "maps": []})
        for name in "ab"
    ]
    with Store(home / "embcli.db") as store:
        records = [Record(f"r{n}", f"text {n % 999}", {"n": n}, f"f:{n}") for n in range(20_000)]
        vectors = rng.standard_normal((20_000, 64), np.float32)
        store.create_collection("a", recipes[0]).add(records, vectors)
        turn = Map(Transform.of(Linear(np.linalg.qr(rng.standard_normal((64, 64)))[0])))
        store.maps.add("turn", turn, method="test", source=recipes[0], target=recipes[1], fit={})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_map_is_applied_in_spite_of_signals(mappable, number):
    words = ("align", "apply", "turn", "-c", "a", "--to", "cut")
    process = start(*words)
    while process.poll() is None and not _mapped():
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "note: what was committed stays; the same command again does the rest" in err
    stored = _mapped()
    assert 0 < stored < 20_000
    assert f"mapped {20_000 - stored:,}, unchanged {stored:,}, " in finish(*words)
    finish(*words[:-1], "whole")
    (records, vectors), (expected, others) = (
        contents("embcli.db", "cut"),
        contents("embcli.db", "whole"),
    )
    assert records == expected
    np.testing.assert_allclose(vectors, others, atol=1e-5)


def _mapped():
    """How many records are mapped, of a collection that may be about to be made."""
    with Store("embcli.db", readonly=True) as store:
        names = {info.name for info in store.collections()}
        return len(store.collection("cut")) if "cut" in names else 0
