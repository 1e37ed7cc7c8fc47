"""Readers and writers at once: each reader sees one moment, each writer has its turn."""

import json
import sqlite3
import time

import numpy as np
import pytest

from embcli import Store
from tests.faults.jobs import HASH
from tests.faults.kit import contents, same_record, tally, texts, unsound, write_lines
from tests.faults.launcher import SMALL
from tests.faults.test_disk import one_line

BATCH = SMALL["embcli.pipelines.encode:_RECORDS_AT_ONCE"]


@pytest.fixture
def long_job(home):
    write_lines(home / "few.jsonl", texts(BATCH))
    write_lines(home / "long.jsonl", texts(60 * BATCH, words=8)[BATCH:])
    return ("encode", "long.jsonl", *HASH)


def readers(home):
    """Command lines, and how many records each of them saw."""

    def lines(done):
        return len(done.out.splitlines())

    def exported(done):
        with np.load(home / "seen.npz") as arrays:
            counts = {len(arrays[name]) for name in ("ids", "vectors", "texts")}
        assert len(counts) == 1
        return counts.pop()

    return [
        (("search", "history", "-k", "100000", "-f", "ids"), lines),
        (("search", "--like", "r1", "-k", "100000", "-f", "ids"), lambda done: lines(done) + 1),
        (("search", "history", "--where", "n >= 0", "-k", "100000", "-f", "ids"), lines),
        (("collections", "list", "-f", "json"), lambda done: json.loads(done.out)[0]["records"]),
        (("export", "seen.npz", "--force", "-q"), exported),
        (("show", "r1", "r2", "-f", "ids"), None),
        (("search", "history", "--hybrid", "-k", "10", "-f", "ids"), None),
    ]


def test_every_reader_sees_one_moment(launcher, long_job, home):
    """Whole batches, never fewer than before, while another process writes."""
    assert launcher.run("encode", "few.jsonl", *HASH, cwd=home).code == 0
    writer = launcher.start(*long_job, cwd=home, settings=SMALL)
    seen, asked = [], 0
    deadline = time.monotonic() + 60
    while not launcher.ended(writer) and time.monotonic() < deadline:
        pids = [(launcher.start(*words, cwd=home), count) for words, count in readers(home)]
        for pid, count in pids:
            done = launcher.wait(pid)
            assert done.code == 0, done
            asked += 1
            if count is not None:
                number = count(done)
                assert number % BATCH == 0, (number, done)
                seen.append(number)
    assert launcher.wait(writer).code == 0
    assert len({*seen}) > 3, "no reader saw the store between two commits"
    # The first and the last kind of reader of each round began at about the same time.
    assert seen[-1] >= seen[0] >= BATCH
    tally("concurrency: readers while one writer encodes, snapshots that were torn", asked, 0)


def test_counts_add_up_in_every_snapshot(launcher, long_job, home):
    """Records, vectors and indexed texts of one transaction, through the library."""
    assert launcher.run("encode", "few.jsonl", *HASH, cwd=home).code == 0
    writer = launcher.start(*long_job, cwd=home, settings=SMALL)
    snapshots = set()
    while not launcher.ended(writer):
        with Store(home / "embcli.db", readonly=True) as store, store.snapshot():
            collection = store.collection("default")
            records = len(collection)
            keys, places = collection.live()
            assert records % BATCH == 0
            assert records == len(keys) == len({*places.tolist()}) == len(collection.keys())
            assert records == collection.count_vectors() == len(collection.text_hashes())
            assert sum(len(block.keys) for block in collection.scan()) == records
            indexed = records - store.texts_to_index()
            assert records - BATCH <= indexed <= records
            snapshots.add(records)
    assert launcher.wait(writer).code == 0
    assert len(snapshots) > 3
    tally("concurrency: snapshots whose counts were compared", len(snapshots), 0)


def test_writers_of_different_collections_all_finish(launcher, home):
    names = "abc"
    for number, name in enumerate(names):
        write_lines(home / f"{name}.jsonl", texts(10 * BATCH, seed=number))
    pids = [
        launcher.start("encode", f"{name}.jsonl", *HASH, "-c", name, cwd=home, settings=SMALL)
        for name in names
    ]
    for pid in pids:
        done = launcher.wait(pid)
        assert done.code == 0, done
    for name in names:
        words = ("encode", f"{name}.jsonl", *HASH, "-c", name, "-d", "alone.db")
        assert launcher.run(*words, cwd=home).code == 0
    together, alone = contents(home / "embcli.db"), contents(home / "alone.db")
    assert unsound(home / "embcli.db") is None
    assert together.collections == alone.collections
    assert together.records.keys() == alone.records.keys()
    assert all(same_record(together.records[key], alone.records[key]) for key in alone.records)


@pytest.fixture
def locked(launcher, home):
    """A store that somebody writes to and never ends."""
    write_lines(home / "few.jsonl", texts(10))
    assert launcher.run("encode", "few.jsonl", *HASH, cwd=home).code == 0
    connection = sqlite3.connect(home / "embcli.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


def test_waiting_is_bounded_and_said(launcher, locked, home):
    began = time.monotonic()
    words = ("collections", "rename", "default", "new")
    done = launcher.run(*words, cwd=home, environment={"EMBCLI_TIMEOUT": "3"})
    assert 3 <= time.monotonic() - began < 8
    one_line(done, 5, "embcli.db is being written by another process")
    waiting = [line for line in done.err.splitlines() if line.startswith("waiting: ")]
    assert len(waiting) == 1
    assert "3 s" in waiting[0]


def test_who_waits_has_a_turn(launcher, locked, home):
    pid = launcher.start("collections", "rename", "default", "new", cwd=home)
    time.sleep(0.5)
    assert not launcher.ended(pid)
    locked.execute("COMMIT")
    done = launcher.wait(pid)
    assert done.code == 0
    assert "waiting" not in done.err  # that was not long
    assert {name for name, _ in contents(home / "embcli.db").records} == {"new"}


def test_ctrl_c_ends_the_waiting(launcher, locked, home):
    import os
    import signal

    pid = launcher.start("collections", "rename", "default", "new", cwd=home)
    time.sleep(0.5)
    os.kill(pid, signal.SIGINT)
    done = launcher.wait(pid, timeout=5)
    assert (done.code, done.err) == (130, "interrupted\n")


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_limits_that_are_none(launcher, home, value):
    done = launcher.run("vacuum", cwd=home, environment={"EMBCLI_TIMEOUT": value})
    one_line(done, 2, "EMBCLI_TIMEOUT")


def test_readers_do_not_wait(launcher, locked, home):
    done = launcher.run("search", "x", "-f", "ids", cwd=home)
    assert (done.code, len(done.out.splitlines()), done.err) == (0, 10, "")
