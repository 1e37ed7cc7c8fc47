"""A job that is interrupted, and what must be there then and in the end."""

import numpy as np

from embcli.pipelines.check import check
from tests.faults.kit import between, contents, copied, same, same_record, unsound


class Trial:
    """A job with a folder as it is before, and what is in the store before and after."""

    def __init__(self, job, launcher, folder, prepared):
        self.job, self.launcher = job, launcher
        self.start, self.work, self.looked = prepared, folder / "work", folder / "looked"
        self.before = self.look(self.start)
        self.begin()
        self.whole = self.run()
        assert self.whole.code == 0, (job.name, self.whole.err)
        self.after = self.look(self.work)
        self.kills = 0

    def look(self, folder):
        """Read the store, in a copy: reading clears up after a crash, and upgrades."""
        store = copied(folder, self.looked) / "embcli.db"
        problem = unsound(store)
        assert problem is None, (self.job.name, problem)
        found = contents(store)
        if found.collections:
            damaged = [part for part in check(store) if part.damaged]
            assert not damaged, (self.job.name, damaged)
        return found

    def begin(self):
        """Have a folder in which nothing has happened yet."""
        copied(self.start, self.work)

    def run(self, **request):
        """Run the job."""
        return self.launcher.run(
            *self.job.words, cwd=self.work, settings=self.job.settings, **request
        )

    def killed(self, **request):
        """Run the job, which is to be killed, and check what is left; say whether it was."""
        done = self.run(**request)
        assert done.code in (0, -9), (self.job.name, request, done)
        self.kills += done.code == -9
        self.check(request)
        return done.code == -9

    def check(self, when):
        """Read what is there: nothing torn, nothing lost."""
        found = self.look(self.work)
        problem = between(found, self.before, self.after)
        assert problem is None, (self.job.name, when, problem)
        if self.job.product is not None and (self.work / self.job.product).exists():
            assert unsound_product(self.work / self.job.product) is None
        return found

    def done(self, found):
        """Which records are as they are after the job."""
        return {
            key
            for key, record in found.records.items()
            if key in self.after.records and same_record(record, self.after.records[key])
        }

    def finish(self, when):
        """Run the job once more, to its end: as if nothing had happened."""
        if self.job.product is not None:
            (self.work / self.job.product).unlink(missing_ok=True)
        done = self.run()
        # What is done already may be refused: a collection that is gone cannot be removed.
        assert done.code in (0, self.job.again), (self.job.name, when, done)
        problem = same(self.look(self.work), self.after)
        assert problem is None, (self.job.name, when, problem)


def unsound_product(path):
    """Say what is wrong with a file that a command made, or nothing."""
    if path.suffix == ".db":
        return unsound(path)
    with np.load(path) as arrays:
        return None if {len(arrays[name]) for name in arrays.files if arrays[name].ndim} else path
