"""`repair`, killed: known to be unfinished, and completed by the same command."""

import random
import sqlite3
from contextlib import closing

import pytest

from embcli.pipelines.check import check
from tests.faults.jobs import HASH
from tests.faults.kit import contents, copied, same, tally, texts, unsound, write_lines
from tests.faults.test_kills import numbers


@pytest.fixture(scope="module")
def torn(launcher, tmp_path_factory):
    """A folder with a store that has lost vectors, and what was in it before."""
    folder = tmp_path_factory.mktemp("torn")
    write_lines(folder / "corpus.jsonl", texts(400))
    for words in (("encode", "corpus.jsonl", *HASH), ("cluster", "-k", "4", "-q")):
        assert launcher.run(*words, cwd=folder).code == 0
    whole = contents(folder / "embcli.db")
    with closing(sqlite3.connect(folder / "embcli.db", isolation_level=None)) as db:
        for column, byte in (("vectors", 90_001), ("slots", 17), ("hashes", 1_000)):
            with db.blobopen("segments", column, 1) as blob:
                blob[byte % len(blob)] ^= 4
    return folder, whole


def killed(launcher, torn, work, count):
    folder, whole = torn
    copied(folder, work)
    done = launcher.run("repair", cwd=work, statement=0)
    assert done.code == 0, done.err
    total, lost = done.events, 0
    for number in numbers(total, count, "repair"):
        copied(folder, work)
        # More than once, wherever that comes.
        rng = random.Random(number)
        for statement in (number, rng.randrange(1, total)):
            done = launcher.run("repair", cwd=work, statement=statement)
            assert done.code in (0, -9), done
            # Never taken for sound while anything is missing.
            if not any(part.damaged for part in check(work / "embcli.db")):
                assert len(contents(work / "embcli.db").records) == 400
        done = launcher.run("repair", cwd=work)
        assert done.code == 0, done
        assert unsound(work / "embcli.db") is None
        problem = same(contents(work / "embcli.db"), whole)
        lost += problem is not None
        assert problem is None, (number, problem)
    tally("kill -9 of a repair, at SQL statements", 2 * min(count, total), lost)


def test_a_repair_that_is_killed(launcher, torn, tmp_path):
    killed(launcher, torn, tmp_path / "work", 4)


@pytest.mark.long
def test_a_repair_that_is_killed_again_and_again(launcher, torn, tmp_path):
    killed(launcher, torn, tmp_path / "work", 60)
