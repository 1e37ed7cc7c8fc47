"""How much memory it takes to hold all vectors of a collection, and how much there is."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from embcli.config import MEMORY_VARIABLE
from embcli.errors import UsageError
from embcli.store import Collection

Note = Callable[[str], None]

# Worth saying: so much, or such a share of what there is.
_MUCH, _SHARE = 1 << 30, 0.25
# What is left to others when a sample is proposed.
_LEFT = 0.9
# A sample of fewer is not proposed: there is hardly anything that it can be clustered into.
_FEWEST = 10
_SIZE = r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([KMGT]?)(?:i?B)?"
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Need(NamedTuple):
    """What something takes at its peak.

    Beside what a process takes whatever there is to do, up to about 400 MiB where texts are counted
    for keywords.

    Attributes
    ----------
    copies : float
        Of the vectors, in float32.
    each : int
        Bytes for every record beside these.
    square : float
        Bytes for every pair of records, up to `most` of them.
    most : int
    """

    copies: float
    each: int
    square: float = 0
    most: int = 0

    def of(self, source: Collection) -> "Need":
        """Say what it is for a collection: means of chunks are added up in float64 first."""
        return self if source.chunking is None else self._replace(copies=self.copies + 2)

    def bytes(self, n: int, dim: int) -> int:
        """Estimate the peak for n vectors, beside the program itself."""
        pairs = float(n) * n if n <= self.most else 0.0
        return int(n * (4 * dim * self.copies + self.each) + self.square * pairs)


# Where nothing else is known: vectors, and one copy.
HELD = Need(2, 800)
# By what was measured, rounded up: vectors are read and scaled in place, and most of the bytes for
# every record are of the graph of neighbours. Those of evoc, densmap, tsne, localmap and align are
# reckoned from the arrays that they hold, and were not measured.
NEEDS = {
    "kmeans": Need(1, 600),
    "gmm": Need(1, 2500),
    "agglomerative": Need(3, 6000, 16, 10_000),
    "hdbscan": Need(1, 3500),
    "evoc": Need(1.5, 3000),
    "leiden": Need(1, 4500),
    "neighbours": Need(1, 2500),
    "umap": Need(1, 3500),
    "densmap": Need(2, 6000),
    "tsne": Need(1, 12_000),
    "localmap": Need(2, 8000),
    "pca": Need(1, 450),
    "dedup": Need(2, 300),
    "match": Need(2, 800),
    "align": Need(4, 800),
    "separability": Need(2, 800),
}


def ask(
    sizes: Sequence[tuple[int, int]], need: Need, note: Note, *, option: str | None = None
) -> None:
    """Say how much memory something takes if that is much; refuse it if there is not so much.

    Parameters
    ----------
    sizes : sequence of (n, dim)
        How many vectors of how many components each collection has.
    need : Need
    note : callable
    option : str, optional
        That makes do with some of the records: ``--sample``.

    Raises
    ------
    UsageError
        There is less memory than it takes.
    """
    needed, there = sum(need.bytes(*size) for size in sizes), available()
    if needed <= _MUCH and (there is None or needed <= _SHARE * there):
        return
    vectors = " and ".join(f"{n:,} × {dim:,}" for n, dim in sizes)
    takes = f"this takes about {_shown(needed)} of memory (vectors: {vectors})"
    if there is None:
        note(takes)
    elif needed <= there:
        note(f"{takes}; {_shown(there)} are available")
    else:
        fewer = _fitting(*sizes[0], need, there)
        raise UsageError(
            f"{takes}, and {_shown(there)} are available",
            hint=f"{option} {fewer}"
            if option and fewer >= _FEWEST
            else "fewer records, or more memory",
        )


def _fitting(n: int, dim: int, need: Need, there: int) -> int:
    """Propose a number of records that there is memory for, of two digits."""
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if need.bytes(middle, dim) <= _LEFT * there else (low, middle)
    round_to = int(10 ** max(len(str(low)) - 2, 0))
    return int(low // round_to * round_to)


def _shown(count: float) -> str:
    """Show a number of bytes: 1.5 GiB, 800 MiB."""
    unit, power = next(
        (unit, power) for unit, power in reversed(_UNITS.items()) if count >= power or not unit
    )
    return f"{count / power:.{1 if unit in 'GT' and unit else 0}f} {unit and unit + 'i'}B"


def available(root: str = "/") -> int | None:
    """Tell how many bytes can be had without swapping, as far as that is known.

    What the variable EMBCLI_MEMORY says; else the least of what the machine has, what control
    groups leave to this process (containers, SLURM), and what its limit of addresses leaves.

    Parameters
    ----------
    root : str
        Where the files of the system are.

    Raises
    ------
    UsageError
        The variable is no size.
    """
    given = os.environ.get(MEMORY_VARIABLE)
    if given:
        found = re.fullmatch(_SIZE, given.strip(), re.IGNORECASE)
        if found is None:
            raise UsageError(f"{MEMORY_VARIABLE} is a size such as 8G, not {given!r}")
        return int(float(found[1]) * _UNITS[found[2].upper()])
    limits = [*_machine(root), *_groups(root), *_addresses()]
    return max(0, min(limits)) if limits else None


def _machine(root: str) -> Iterator[int]:
    with suppress(OSError):
        for line in Path(root, "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) << 10
                return
    # Elsewhere it is not said what others would give back: all there is.
    with suppress(OSError, ValueError, AttributeError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups(root: str) -> Iterator[int]:
    """Tell what each control group above this process has left, of either version."""
    with suppress(OSError, ValueError):
        for line in Path(root, "proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                base, names = Path(root, "sys/fs/cgroup"), ("max", "current", "")
            elif "memory" in controllers.split(","):
                base = Path(root, "sys/fs/cgroup/memory")
                names = ("limit_in_bytes", "usage_in_bytes", "total_")
            else:
                continue
            group = base / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder == base or base in folder.parents:
                    yield from _left(folder, *names)


def _left(folder: Path, limit: str, usage: str, prefix: str) -> Iterator[int]:
    # There is no limit in the topmost group, or it is "max".
    with suppress(OSError, ValueError):
        most = int((folder / f"memory.{limit}").read_text())
        used = int((folder / f"memory.{usage}").read_text())
        pages = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # Cached pages of files are given back.
        cached = sum(int(pages.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
        yield most - used + cached


def _addresses() -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        taken = 0
        with suppress(OSError):
            taken = int(Path("/proc/self/statm").read_text().split()[0])
        yield limit - taken * os.sysconf("SC_PAGE_SIZE")
