"""Measure commands and functions: sides take turns, and medians are compared.

The scripts beside this file import it. Where EMBCLI_FIGURES names a file, tables, ratios and
figures are also appended to it, a JSON object a line, for `run.py`.

Run as a program it is the launcher between a script and the command that it measures. Linux lets a
child begin with the peak memory of its parent, so a script that holds gigabytes would report its
own peak; the launcher is small (about 10 MiB).
"""

import json
import os
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, run
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FIGURES = "EMBCLI_FIGURES"

_MEBI = 1 << 20
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Cost(NamedTuple):
    """What one run took: seconds, and MiB where the run was a process of its own."""

    wall: float
    cpu: float
    peak: float = 0.0


def require(module: str, package: str) -> None:
    """Leave with exit code 4 if a peer is not installed."""
    if find_spec(module) is None:
        leave(f"{package} is not installed: pip install {package}")


def leave(message: str) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(4)


def program(name: str) -> str:
    """Find a console script, first beside the interpreter that runs us."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        leave(f"there is no command {name}: pip install {name}")
    return str(found)


def cold(command: "Sequence[str]", env: "Mapping[str, str] | None" = None) -> tuple[Cost, str]:
    """Run a command as a new process; return what it took and what it printed."""
    launcher = [sys.executable, "-I", "-S", __file__, *command]
    with TemporaryFile() as out, TemporaryFile() as err:
        run(
            launcher,
            stdin=DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **(env or {})},
            check=True,
        )
        out.seek(0)
        err.seek(0)
        printed, complaints = out.read().decode(), err.read().decode()
    complaints, _, last = complaints.rstrip("\n").rpartition("\n")
    report = json.loads(last)
    if report["code"] != 0:
        leave(f"{' '.join(command)}\nfailed with exit code {report['code']}: {complaints}")
    return Cost(report["wall"], report["cpu"], report["peak"]), printed


def inside(function: "Callable[[], object]") -> Cost:
    """Call a function in this process; its threads count, child processes do not."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def alternate(
    sides: "Mapping[str, Callable[[], Cost]]", runs: int, *, warm: bool = True
) -> dict[str, Cost]:
    """Warm every side up once, then let the sides take turns; return the medians by side."""
    for side in sides.values() if warm else ():
        side()
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, side in sides.items():
            costs[name].append(side())
    return {name: median(several) for name, several in costs.items()}


def median(costs: "Sequence[Cost]") -> Cost:
    from statistics import median as middle  # the launcher does without

    return Cost(*map(middle, zip(*costs, strict=True)))


def table(heading: str, rows: "Mapping[str, Cost]", per_second: int = 0) -> None:
    """Print costs, and how many of `per_second` things came to a second."""
    columns = {"wall s": [f"{cost.wall:.3f}" for cost in rows.values()]}
    columns["CPU s"] = [f"{cost.cpu:.3f}" for cost in rows.values()]
    if any(cost.peak for cost in rows.values()):
        columns["peak MiB"] = [f"{cost.peak:.0f}" for cost in rows.values()]
    if per_second:
        columns["per second"] = [f"{per_second / cost.wall:,.0f}" for cost in rows.values()]
    width = max(map(len, [heading, *rows]))
    print(f"{heading:{width}}  {'  '.join(f'{name:>10}' for name in columns)}")
    cells = dict(zip(rows, zip(*columns.values(), strict=True), strict=True))
    for name, of_row in cells.items():
        print(f"{name:{width}}  {'  '.join(f'{cell:>10}' for cell in of_row)}")
    grid(heading, list(columns), cells)


def ratio(what: str, upper: Cost, lower: Cost, claim: str) -> None:
    """Print the last line: how many times `lower` is contained in `upper`."""
    print(
        f"ratio {what}: wall {upper.wall / lower.wall:.2f}, "
        f"CPU {upper.cpu / lower.cpu:.2f} (claim: {claim})"
    )
    figure(f"{what}: wall", upper.wall / lower.wall)
    figure(f"{what}: CPU", upper.cpu / lower.cpu)


def figure(name: str, value: float) -> None:
    """Hand a number on to `run.py`, which judges a claim by it or shows it."""
    _hand_on({"figure": name, "value": float(value)})


def grid(heading: str, columns: "Sequence[str]", rows: "Mapping[str, Sequence[str]]") -> None:
    """Hand on a table that is printed anyway."""
    cells = {name: list(map(str, of_row)) for name, of_row in rows.items()}
    _hand_on({"table": heading, "columns": list(columns), "rows": cells})


def _hand_on(entry: dict[str, object]) -> None:
    path = os.environ.get(FIGURES)
    if path:
        with Path(path).open("a", encoding="utf-8") as out:
            out.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _launch(command: list[str]) -> None:
    started = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    report = {
        "wall": time.perf_counter() - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * _MAXRSS_UNIT / _MEBI,
        "code": os.waitstatus_to_exitcode(status),
    }
    print(f"\n{json.dumps(report)}", file=sys.stderr)


if __name__ == "__main__":
    _launch(sys.argv[1:])
