"""Launchers of processes that die, and the stores these work on."""

from pathlib import Path

import pytest

from tests.faults.jobs import HASH
from tests.faults.kit import TRIED, contents, texts, write_lines
from tests.faults.launcher import Launcher, compiled


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The library that ends a process in the middle of a write."""
    here = Path(__file__).parent
    path = compiled(here / "shim.c", tmp_path_factory.mktemp("shim") / "shim.so")
    if path is None:
        pytest.skip("needs a C compiler and /usr/include")
    return path


@pytest.fixture(scope="session")
def launcher():
    """Runs embcli in forks."""
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def shimmed(shim):
    """Runs embcli in forks whose writes are counted."""
    launcher = Launcher(shim)
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def prepared(launcher, tmp_path_factory):
    """Makes the folder in which a job begins, once for all jobs that begin alike."""
    made = {}

    def prepare(job):
        if job.prepare not in made:
            folder = tmp_path_factory.mktemp("prepared")

            def run(*words):
                done = launcher.run(*words, cwd=folder)
                assert done.code == 0, (words, done.err)

            job.prepare(run, folder)
            made[job.prepare] = folder
        return made[job.prepare]

    return prepare


@pytest.fixture
def corpus(home):
    """Four hundred records."""
    return write_lines(home / "corpus.jsonl", texts(400))


@pytest.fixture(scope="session")
def encoded(launcher, tmp_path_factory):
    """The store that these records make when nothing goes wrong, and what is in it."""
    folder = tmp_path_factory.mktemp("encoded")
    write_lines(folder / "corpus.jsonl", texts(400))
    assert launcher.run("encode", "corpus.jsonl", *HASH, cwd=folder).code == 0
    found = contents(folder / "embcli.db")
    assert len(found.records) == 400
    return (folder / "embcli.db").read_bytes(), found


@pytest.fixture
def whole(encoded, home):
    """That store as whole.db, and what is in it."""
    (home / "whole.db").write_bytes(encoded[0])
    return encoded[1]


def pytest_terminal_summary(terminalreporter):
    """Say how often each fault was tried."""
    for what in sorted(TRIED):
        times, lost = TRIED[what]
        terminalreporter.write_line(f"faults: {what}: {times:,} times, {lost:,} lost")
