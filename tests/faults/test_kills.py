"""Every command that writes, killed at every point: nothing committed is lost or torn."""

import random
from itertools import pairwise

import pytest

from tests.faults.jobs import BY_NAME
from tests.faults.kit import tally
from tests.faults.trial import Trial

# One of every family, in the default run.
USUAL = ("encode, hash", "whiten apply", "dedup --delete", "vacuum", "migrate from 1")
ALL = pytest.mark.parametrize("name", BY_NAME)
KILLS = 7


def numbers(total, most, seed):
    """Some numbers from all over 1 to `total`: one drawn from each of as many parts."""
    rng, parts = random.Random(seed), min(most, total)
    edges = [1 + total * part // parts for part in range(parts + 1)]
    return [rng.randrange(low, high) for low, high in pairwise(edges)]


def killed_at_changes(trial, most, torn):
    """Before a write, truncation, sync or removal; or with half of a write made."""
    trial.begin()
    for number in numbers(trial.run(change=0).events, most, trial.job.name):
        trial.begin()
        assert trial.killed(change=number, torn=torn), (trial.job.name, number)
        trial.finish(number)
    tally(f"kill -9 {'within' if torn else 'before'} a write: {trial.job.name}", trial.kills, 0)


@pytest.mark.parametrize("name", USUAL)
def test_killed_in_the_middle_of_a_write(name, shimmed, tmp_path, prepared):
    job = BY_NAME[name]
    killed_at_changes(Trial(job, shimmed, tmp_path, prepared(job)), 1, torn=True)


@pytest.mark.long
@ALL
def test_killed_at_sql_statements(name, launcher, tmp_path, prepared):
    """By itself, before a statement."""
    trial = Trial(BY_NAME[name], launcher, tmp_path, prepared(BY_NAME[name]))
    trial.begin()
    for number in numbers(trial.run(statement=0).events, KILLS, name):
        trial.begin()
        assert trial.killed(statement=number), (name, number)
        trial.finish(number)
    tally(f"kill -9 at an SQL statement: {name}", trial.kills, 0)


@pytest.mark.long
@pytest.mark.parametrize("torn", [False, True], ids=["before", "within"])
@ALL
def test_killed_at_changes_of_files(name, torn, shimmed, tmp_path, prepared):
    job = BY_NAME[name]
    killed_at_changes(Trial(job, shimmed, tmp_path, prepared(job)), KILLS, torn)


@pytest.mark.long
@pytest.mark.parametrize("name", ["encode", "import", "align apply"])
def test_killed_at_any_moment_again_and_again(name, launcher, tmp_path, prepared):
    """From outside, on one store until it is complete; what was there once is there for good."""
    trial = Trial(BY_NAME[name], launcher, tmp_path, prepared(BY_NAME[name]))
    rng = random.Random(name)
    wanted = 40
    while trial.kills < wanted:
        trial.begin()
        done = trial.done(trial.check("nothing"))
        for _ in range(20):
            if not trial.killed(kill_after=rng.uniform(0.02, 1) * trial.whole.seconds):
                break
            now = trial.done(trial.check("a kill"))
            assert done <= now, (name, "what was committed is gone")
            done = now
            if trial.kills >= wanted:
                break
        trial.finish("kills")
    tally(f"kill -9 at random moments, again and again: {name}", trial.kills, 0)
