"""What is left behind, deleted, replaced, out of date: logs, journals, clocks, versions."""

import os
import shutil
import sqlite3
import time

import pytest

from embcli import Store
from embcli.errors import StoreError
from embcli.store.database import VERSION
from tests.faults.jobs import HASH, store_of_version, version_of
from tests.faults.kit import contents, same, texts, unsound, write_lines
from tests.faults.launcher import SMALL
from tests.faults.test_disk import one_line


@pytest.fixture
def crashed(launcher, corpus, home):
    """A folder as a kill left it: a store with a log that is part of it."""
    words = ("encode", corpus, *HASH)
    statements = launcher.run(*words, "-d", "x.db", cwd=home, settings=SMALL, statement=0).events
    done = launcher.run(*words, cwd=home, settings=SMALL, statement=statements * 3 // 4)
    assert done.code == -9
    assert (home / "embcli.db-wal").stat().st_size
    return home


def copies(crashed, *endings):
    """Copy the store with only some of the files that belong to it."""
    folder = crashed / "copy"
    folder.mkdir()
    for ending in ("", *endings):
        shutil.copy(crashed / f"embcli.db{ending}", folder)
    return folder / "embcli.db"


def test_a_log_without_its_index_is_read(crashed, whole):
    path = copies(crashed, "-wal")
    assert unsound(path) is None
    found = contents(path)
    assert found.records
    assert found.records.keys() == contents(crashed / "embcli.db").records.keys()
    assert all(key in whole.records for key in found.records)


def test_a_store_without_its_log_is_the_store_of_the_last_checkpoint(crashed, whole, launcher):
    """It is sound, it is older, and the same command does the rest."""
    path = copies(crashed)
    assert unsound(path) is None
    found = contents(path)
    assert len(found.records) <= len(contents(crashed / "embcli.db").records)
    assert (
        launcher.run("encode", crashed / "corpus.jsonl", *HASH, "-d", path, cwd=crashed).code == 0
    )
    assert contents(path).records.keys() == whole.records.keys()


def test_a_log_cut_short_loses_its_end_only(crashed, whole):
    path = copies(crashed, "-wal")
    log = path.with_name("embcli.db-wal")
    size = log.stat().st_size
    seen = set()
    for cut in range(0, size, size // 12):
        folder = crashed / f"cut{cut}"
        folder.mkdir()
        shutil.copy(path, folder)
        (folder / log.name).write_bytes(log.read_bytes()[:cut])
        assert unsound(folder / path.name) is None
        found = contents(folder / path.name)
        assert found.records.keys() <= whole.records.keys()
        seen.add(len(found.records))
    assert len(seen) > 2


def test_a_copy_replaces_a_store_and_its_log(crashed, whole, launcher):
    """The log that a kill left is no part of the copy that takes the store's place."""
    words = ("backup", "embcli.db", "--force", "-d", "whole.db")
    assert launcher.run(*words, cwd=crashed).code == 0
    assert unsound(crashed / "embcli.db") is None
    assert same(contents(crashed / "embcli.db"), whole) is None


@pytest.mark.parametrize("rubbish", [b"", b"rubbish" * 1000, bytes(4096)])
@pytest.mark.parametrize("ending", ["-journal", "-wal", "-shm"])
def test_rubbish_beside_a_store_is_no_part_of_it(launcher, whole, home, ending, rubbish):
    (home / f"whole.db{ending}").write_bytes(rubbish)
    done = launcher.run("search", "x", "-d", "whole.db", "-f", "ids", cwd=home)
    assert (done.code, len(done.out.splitlines())) == (0, 10), done.err
    assert unsound(home / "whole.db") is None
    assert same(contents(home / "whole.db"), whole) is None


def test_a_clock_that_runs_backwards_changes_nothing(launcher, corpus, whole, home):
    words = ("encode", corpus, *HASH)
    assert launcher.run(*words, cwd=home, hours=-1, settings=SMALL).code == 0
    assert launcher.run("collections", "rename", "default", "a", cwd=home, hours=-9).code == 0
    assert launcher.run(*words, "-c", "b", cwd=home, hours=-100).code == 0
    with Store(home / "embcli.db") as store:
        runs = store.runs()
        assert [run.collection for run in runs] == ["b", "default"]  # newest first
        assert runs[0].started > runs[0].finished
        assert runs[0].started < runs[1].started
        store.rename_collection("a", "default")
        store.remove_collection("b")
    assert same(contents(home / "embcli.db"), whole) is None


READING = [("search", "x"), ("show", "r1"), ("export", "out.npz"), ("collections", "list")]
WRITING = [("encode", "corpus.jsonl"), ("vacuum",), ("import", "v.npz"), ("index", "n")]


@pytest.mark.parametrize("words", READING + WRITING, ids=" ".join)
def test_stores_of_others_are_refused(launcher, corpus, whole, home, words):
    """Those of a newer embcli, and those of another program: exit code 5, not a byte changed."""
    import numpy as np

    np.savez(home / "v.npz", ids=np.array(["a"]), vectors=np.ones((1, 2), np.float32))
    shutil.copy(home / "whole.db", home / "newer.db")
    connection = sqlite3.connect(home / "newer.db")
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    connection = sqlite3.connect(home / "foreign.db")
    connection.executescript("PRAGMA application_id = 7; CREATE TABLE t (x);")
    connection.close()
    for name, said in (("newer.db", "newer embcli"), ("foreign.db", "not an embcli store")):
        before = (home / name).read_bytes()
        one_line(launcher.run(*words, "-d", name, cwd=home), 5, said)
        assert (home / name).read_bytes() == before


@pytest.mark.parametrize("version", [1, VERSION - 1])
def test_readers_of_an_old_store_say_who_upgrades_it(launcher, home, version):
    store_of_version(home / "embcli.db", version)
    one_line(launcher.run("collections", "list", cwd=home), 5, "must be upgraded", "vacuum")
    assert version_of(home / "embcli.db") == version


@pytest.fixture
def long_job(home):
    """An encode of some hundred commits, and how its processes are begun."""
    write_lines(home / "long.jsonl", texts(12_000, words=8))
    return ("encode", "long.jsonl", *HASH)


def _wait_for_records(path, least=1):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with Store(path, readonly=True) as store:
                if store.facts()["records"] >= least:
                    return
        except StoreError:
            pass
        time.sleep(0.01)
    raise AssertionError("nothing was committed")


def test_a_store_deleted_underneath_a_writer(launcher, long_job, home):
    pid = launcher.start(*long_job, cwd=home, settings=SMALL)
    _wait_for_records(home / "embcli.db")
    (home / "embcli.db").unlink()
    done = launcher.wait(pid)
    one_line(done, 5, "embcli.db", "deleted")
    assert launcher.run(*long_job, cwd=home).code == 0
    assert unsound(home / "embcli.db") is None
    assert len(contents(home / "embcli.db").records) == 12_000


def test_a_store_replaced_underneath_a_writer(launcher, long_job, whole, home):
    """It stops and says so; the store that is there now has nothing of the other in it."""
    pid = launcher.start(*long_job, cwd=home, settings=SMALL)
    _wait_for_records(home / "embcli.db")
    shutil.copy(home / "whole.db", home / "new.db")
    os.replace(home / "new.db", home / "embcli.db")
    done = launcher.wait(pid)
    one_line(done, 5, "embcli.db", "replaced")
    assert unsound(home / "embcli.db") is None
    assert same(contents(home / "embcli.db"), whole) is None


def test_a_store_replaced_underneath_a_reader(launcher, whole, home):
    """A search that has begun answers from the store that it opened."""
    with Store(home / "whole.db", readonly=True) as store, store.snapshot():
        before = len(store.collection("default"))
        (home / "whole.db").unlink()
        write_lines(home / "few.jsonl", texts(3))
        assert launcher.run("encode", "few.jsonl", *HASH, "-d", "whole.db", cwd=home).code == 0
        assert len(store.collection("default")) == before == 400
        assert sum(len(b.keys) for b in store.collection("default").scan()) == 400
    assert len(contents(home / "whole.db").records) == 3
