"""The power fails: what was not synced is there in part, in any part, or not at all."""

import random
from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults.jobs import BY_NAME
from tests.faults.kit import tally
from tests.faults.trial import Trial

SECTOR = 512


def read_log(path):
    """All changes of files in the order made: kind, path, place, data."""
    data, changes, start = path.read_bytes(), [], 0
    while start < len(data):
        end = data.index(b"\n", start)
        kind, name, place, size = data[start:end].decode().split("\t")
        start = end + 1 + int(size)
        changes.append((kind, Path(name).name, int(place), data[end + 1 : start]))
    return changes


class Disk:
    """Files as they are on a disk that may forget what was not synced."""

    def __init__(self, folder):
        self.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.pending = defaultdict(list)

    def change(self, kind, name, place, data):
        """Take note of a change, or sync those of a file or, which is about removals, a folder."""
        if kind != "S":
            self.pending[name].append((kind, place, data))
            return
        removed = [name for name, (*_, last) in self.pending.items() if last[0] == "U"]
        for synced in [name] if name.startswith("embcli.db") else removed:
            for change in self.pending.pop(synced, []):
                self._apply(synced, *change)

    def _apply(self, name, kind, place, data):
        before = self.files.get(name, b"")
        if kind == "W":
            before = before.ljust(place, b"\0")
            self.files[name] = before[:place] + data + before[place + len(data) :]
        elif kind == "T":
            self.files[name] = before[:place].ljust(place, b"\0")
        else:
            self.files.pop(name, None)

    def fail(self, rng):
        """Lose power: of every file some of the pending changes arrived, and one of them in part.

        Those that did are any of them, whatever their order was.
        """
        for name, changes in self.pending.items():
            share = rng.choice((0.0, 0.5, 0.9, 1.0))
            arrived = [change for change in changes if rng.random() < share]
            if arrived and rng.random() < 0.5:
                at = rng.randrange(len(arrived))
                kind, place, data = arrived[at]
                arrived[at] = kind, place, data[: rng.randrange(len(data) // SECTOR + 1) * SECTOR]
            for change in arrived:
                self._apply(name, *change)
        self.pending.clear()

    def write(self, folder):
        """Make the files."""
        for path in folder.iterdir():
            if path.is_file():
                path.unlink()
        for name, data in self.files.items():
            (folder / name).write_bytes(data)


def cuts(name, shimmed, tmp_path, prepared, times):
    """Cut the power so often during a job; check what is there; tell what was lost."""
    trial = Trial(BY_NAME[name], shimmed, tmp_path, prepared(BY_NAME[name]))
    trial.begin()
    log = tmp_path / "changes"
    assert trial.run(change=0, log=str(log)).code == 0
    names = ("embcli.db", trial.work.name)
    changes = [change for change in read_log(log) if change[1].startswith(names)]
    assert {"W", "S"} <= {kind for kind, *_ in changes}
    rng, worst, begun = random.Random(name), 0, trial.done(trial.before)
    for number in range(times):
        stop = len(changes) if number == 0 else rng.randrange(1, len(changes))
        trial.begin()
        disk = Disk(trial.work)
        for change in changes[:stop]:
            disk.change(*change)
        disk.fail(rng)
        disk.write(trial.work)
        found = trial.check(("power cut", stop))
        if stop == len(changes):
            assert not trial.after.records.keys() - found.records.keys(), "lost after the end"
        trial.finish(("power cut", stop))
        worst = max(worst, len(trial.done(trial.after)) - len(trial.done(found)))
    assert worst <= len(trial.after.records.keys() - begun)
    tally(f"power cut: {name}", times, 0)


def test_the_power_fails(shimmed, tmp_path, prepared):
    cuts("import", shimmed, tmp_path, prepared, 3)


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["encode, hash", "import", "whiten apply", "vacuum", "migrate from 1", "encode --prune"]
)
def test_the_power_fails_again_and_again(name, shimmed, tmp_path, prepared):
    cuts(name, shimmed, tmp_path, prepared, 40)
