"""A campaign: a million damaged files and more, each read within bounds of time and memory.

    python -m tests.fuzz.campaign                          # a million cases over all targets
    python -m tests.fuzz.campaign --cases 5000 --target csv --target "vectors: npz"
    python -m tests.fuzz.campaign --target csv --case 1234   # one of them again, with its traceback

Every target is run in a process of its own: what crashes it is a failure, and the next process
goes on behind. A case is a failure if it raises anything but an `EmbcliError`, warns, takes
longer than `_SECONDS` of CPU time, or asks for more memory than `_ROOM` above what the process
had after all undamaged files were read.
"""

import argparse
import json
import mmap
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from embcli.errors import EmbcliError

_SECONDS = 5
_ROOM = 1 << 30
# Wall time without a step after which a process is taken to hang where no signal reaches it.
_STUCK = 120
_MOST_FAILURES = 20
MILLION = 1_000_000


@dataclass
class Outcome:
    """What became of the cases of one target."""

    target: str
    cases: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    slowest_case: int = -1
    peak: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)


class _TooLong(BaseException):
    """A case takes too long; no `except Exception` gets in its way."""


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise _TooLong


def work(name: str, first: int, last: int, progress: Path) -> None:
    """Run cases of a target in this process, and print what became of them as JSON.

    Parameters
    ----------
    name : str
    first, last : int
        Cases from `first` up to but without `last`.
    progress : path
        Gets the number of the case that is run, for when the process does not come back.
    """
    from tests.fuzz.targets import case, targets

    target = targets()[name]
    outcome = Outcome(name)
    warnings.simplefilter("error")
    signal.signal(signal.SIGPROF, _stop)
    folder = Path(tempfile.mkdtemp(prefix="embcli-fuzz-", dir=_fast()))
    try:
        seeds = target.seeds(folder)
        for number in range(-len(seeds), 0):  # what is imported late is imported now
            _attempt(target.run, case(target, number, seeds), folder)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + _ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        with progress.open("r+b") as file, mmap.mmap(file.fileno(), 8) as step:
            for number in range(first, last):
                data = case(target, number, seeds)
                step[:] = number.to_bytes(8, "little")
                start = time.process_time()
                failure = _attempt(target.run, data, folder)
                taken = time.process_time() - start
                outcome.cases += 1
                outcome.seconds += taken
                if taken > outcome.slowest:
                    outcome.slowest, outcome.slowest_case = taken, number
                if failure == "refused":
                    outcome.refused += 1
                elif failure:
                    outcome.failures.append((number, failure))
                    if len(outcome.failures) == _MOST_FAILURES:
                        break
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(vars(outcome)))


def _attempt(run, data: bytes, folder: Path) -> str:
    """Read one damaged file; say what it did that it must not, or that it was refused."""
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
        run(data, folder)
    except EmbcliError:
        return "refused"
    except _TooLong:
        return f"took longer than {_SECONDS} s {_where()}"
    except BaseException as error:  # noqa: BLE001
        signal.setitimer(signal.ITIMER_PROF, 0)
        return f"{type(error).__name__}: {str(error)[:200]} {_where()}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return ""


def _where() -> str:
    """Say where in embcli the exception came from."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    own = [frame for frame in frames if "/embcli/" in frame.filename] or list(frames)
    return f"({Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name})"


def _fast() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def campaign(name: str, cases: int, first: int = 0) -> Outcome:
    """Run cases of one target in other processes, whatever becomes of these."""
    whole = Outcome(name)
    last = first + cases
    while first < last and len(whole.failures) < _MOST_FAILURES:
        with tempfile.NamedTemporaryFile() as progress:
            progress.write((2**63).to_bytes(8, "little"))
            progress.flush()
            part, crash = _process(name, first, last, Path(progress.name))
            at = int.from_bytes(Path(progress.name).read_bytes(), "little")
        if part is None and at == 2**63:
            raise RuntimeError(f"{name}: no case could be run\n{crash}")
        if part is None:
            whole.failures.append((at, crash))
            whole.cases += at + 1 - first
            first = at + 1
            continue
        whole.cases += part.cases
        whole.refused += part.refused
        whole.seconds += part.seconds
        whole.failures += [tuple(failure) for failure in part.failures]
        whole.peak = max(whole.peak, part.peak)
        if part.slowest > whole.slowest:
            whole.slowest, whole.slowest_case = part.slowest, part.slowest_case
        break
    return whole


def _process(name: str, first: int, last: int, progress: Path) -> tuple[Outcome | None, str]:
    command = [sys.executable, "-m", "tests.fuzz.campaign", "--target", name]
    command += ["--work", str(first), str(last), str(progress)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        before, since = b"", time.monotonic()
        crash = ""
        while process.poll() is None:
            time.sleep(0.2)
            now = progress.read_bytes()
            if now != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > _STUCK:
                crash = f"hangs for {_STUCK} s"
                process.kill()
        out.seek(0)
        err.seek(0)
        if process.returncode == 0:
            return Outcome(**json.loads(out.read().splitlines()[-1])), ""
        return None, crash or f"the process ended with {process.returncode}: {err.read()[-600:]}"


def shares(names: Sequence[str], cases: int) -> dict[str, int]:
    """Divide cases among targets by their shares; together they are at least so many."""
    from tests.fuzz.targets import targets

    known = targets()
    whole = sum(known[name].share for name in names)
    return {name: -int(-cases * known[name].share // whole) for name in names}


def report(outcomes: Sequence[Outcome]) -> str:
    """Write a table in Markdown."""
    lines = [
        "| target | cases | refused | CPU s | slowest, ms | its number | peak, MiB | failures |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines.extend(
        f"| {found.target} | {found.cases:,} | {found.refused:,} | {found.seconds:.0f} | "
        f"{1000 * found.slowest:.0f} | {found.slowest_case} | {found.peak >> 20} | "
        f"{len(found.failures)} |"
        for found in outcomes
    )
    cases, failures = (sum(f.cases for f in outcomes), sum(len(f.failures) for f in outcomes))
    slowest = max(outcomes, key=lambda found: found.slowest)
    lines.append(f"| **all** | {cases:,} | {sum(f.refused for f in outcomes):,} | "
                 f"{sum(f.seconds for f in outcomes):.0f} | {1000 * slowest.slowest:.0f} |  | "
                 f"{max(f.peak for f in outcomes) >> 20} | {failures} |")  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=MILLION)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--target", action="append")
    parser.add_argument("--case", type=int, help="run this one in this process")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    from tests.fuzz.targets import case, targets

    names = given.target or list(targets())
    if given.work:
        work(names[0], int(given.work[0]), int(given.work[1]), Path(given.work[2]))
        return 0
    if given.case is not None:
        folder = Path(tempfile.mkdtemp(prefix="embcli-fuzz-"))
        target = targets()[names[0]]
        data = case(target, given.case, target.seeds(folder))
        print(data[:2000])
        target.run(data, folder)
        return 0
    outcomes = []
    for name, cases in shares(names, given.cases).items():
        outcomes.append(campaign(name, cases, given.first))
        for number, failure in outcomes[-1].failures:
            print(f"{name} {number}: {failure}", file=sys.stderr)
        print(report(outcomes[-1:]).splitlines()[-2], file=sys.stderr, flush=True)
    print(report(outcomes))
    return any(found.failures for found in outcomes)


if __name__ == "__main__":
    sys.exit(main())
