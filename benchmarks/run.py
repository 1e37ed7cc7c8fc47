"""Run every claim beside its peer, keep what was measured, and write benchmarks/README.md.

Claims and their runs are in claims.toml. What a run hands on is kept in results.json as soon as it
is done, and the page is written again; so a campaign can be interrupted, and the same command goes
on: a run is passed over where its result is of the same code and command (`--again` repeats it).
A script that fails costs its own rows. Verdicts are computed, of the figures and the thresholds.

Peers are those of the extra `bench`; where they live in another environment, `--peers-python` names
its interpreter, which runs those peers that have processes of their own.

    pip install -e '.[dev,bench]'
    python benchmarks/run.py                 # everything, hours
    python benchmarks/run.py --quick         # smaller sizes where the full run is long
    python benchmarks/run.py --only search startup
    python benchmarks/run.py --list
    python benchmarks/run.py --page          # only write the page again
"""

import argparse
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from claims import FOLDER, Run, read
from machine import describe, revision
from measure import FIGURES
from report import judged, write_page

ROOT = FOLDER.parent
DATA = ROOT.parent / "shared" / "data"
RESULTS = FOLDER / "results.json"
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")

Result = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these, done or not")
    parser.add_argument("--list", action="store_true", help="the runs, and how they stand")
    parser.add_argument("--quick", action="store_true", help="smaller sizes where a run is long")
    parser.add_argument("--again", action="store_true", help="also what has been run")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one script")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/embcli-benchmarks"))
    parser.add_argument("--peers-python", default=sys.executable)
    arguments = parser.parse_args()
    # Scripts run elsewhere.
    arguments.peers_python = found_python(parser, arguments.peers_python)
    runs = read()
    kept = load()
    if arguments.list:
        for run in runs:
            print(f"{run.name:24} {run.script:20} {judged(run, kept)}")
        sys.stdout.flush()  # while a closed pipe can still be told
        return 0
    failed = 0
    if not arguments.page:
        wanted = chosen(parser, runs, arguments.only)
        try:
            arguments.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"--cache {arguments.cache}: {error.strerror}")
        failed = campaign(wanted, kept, arguments)
    write_page(runs, kept)
    return 1 if failed else 0


def found_python(parser: argparse.ArgumentParser, python: str) -> str:
    found = shutil.which(python)
    if found is None:
        parser.error(f"--peers-python {python}: no such program")
    return str(Path(found).absolute())  # not resolved: a link makes a virtual environment


def chosen(parser: argparse.ArgumentParser, runs: list[Run], names: list[str] | None) -> list[Run]:
    known = {run.name: run for run in runs}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; --list names all")
    return [known[name] for name in names] if names else runs


def campaign(runs: list[Run], kept: Result, arguments: argparse.Namespace) -> int:
    """Run what was not run before; return how many scripts failed."""
    with (arguments.cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Two campaigns would measure each other, and write the same files.
            sys.exit(f"another campaign uses {arguments.cache}: give another --cache, or wait")
        machine = describe(arguments.peers_python)
        return sum(not succeeds(run, kept, machine, arguments) for run in runs)


def succeeds(run: Run, kept: Result, machine: Result, arguments: argparse.Namespace) -> bool:
    """Run a script, unless that was done, and keep what it hands on; tell whether it succeeded."""
    quick = arguments.quick and run.quick is not None
    said = str(run.quick if quick else run.arguments)
    size = "quick" if quick else "full"
    result: Result = {"command": shown(run, said), **revision(ROOT, run.script)}
    of_run = kept["results"].setdefault(run.name, {})
    known = of_run.get(size, {})
    same = all(known.get(key) == result[key] for key in ("command", "code"))
    if same and result["code"] and not (arguments.again or arguments.only):
        print(f"{run.name}: done before", file=sys.stderr)
        return True
    print(f"{run.name}: {result['command']}", file=sys.stderr, flush=True)
    result |= measured(run, said, arguments)
    if "error" in result:
        of_run["failed"] = result
    else:
        # That a smaller run succeeds says nothing of one that failed at its full size.
        if not quick or of_run.get("failed", {}).get("command") == result["command"]:
            of_run.pop("failed", None)
        of_run[size] = result | {"machine": place(kept["machines"], machine)}
    save(kept)
    write_page(read(), kept)
    print(f"{run.name}: {judged(run, kept)}", file=sys.stderr, flush=True)
    return "error" not in result


def shown(run: Run, arguments: str) -> str:
    """Write a command as a person would; paths that differ from machine to machine have names."""
    threads = "".join(f"{name}={run.threads} " for name in THREADS if run.threads)
    known = {"data": "../shared/data", "minilm": "MINILM", "peers": "PYTHON", "cache": "CACHE"}
    return f"{threads}python benchmarks/{run.script} {arguments.format(**known)}".rstrip()


def measured(run: Run, arguments: str, options: argparse.Namespace) -> Result:
    """Run a script and collect what it hands on, or say how it failed."""
    places = {"data": DATA, "peers": options.peers_python, "cache": options.cache.resolve()}
    if "{minilm}" in arguments:
        from models import minilm

        places["minilm"] = minilm()
    command = [sys.executable, str(FOLDER / run.script)]
    command += [word.format(**places) for word in shlex.split(arguments)]
    # The checkout that this file is in is measured, whatever is installed.
    env = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    for name in THREADS:
        env.pop(name, None)
        if run.threads:
            env[name] = str(run.threads)
    began, load = time.time(), os.getloadavg()[0]
    with TemporaryDirectory() as folder:
        figures = Path(folder, "figures")
        figures.touch()
        log = options.cache / f"{run.name}.log"
        error = finished(command, env | {FIGURES: str(figures)}, log, options.timeout)
        entries = [json.loads(line) for line in figures.read_text("utf-8").splitlines()]
    result: Result = {
        "date": datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%d %H:%M"),
        "seconds": round(time.time() - began),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "figures": {e["figure"]: e["value"] for e in entries if "figure" in e},
        "tables": [entry for entry in entries if "table" in entry],
    }
    return result | ({"error": error} if error else {})


def finished(command: list[str], env: dict[str, str], log: Path, timeout: float) -> str:
    """Wait for a script with all that it starts; return what went wrong, or nothing."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return f"took more than {timeout:.0f} s"
            raise
    if code == 0:
        return ""
    said = log.read_text("utf-8", "replace").strip().splitlines()
    return f"exit code {code}: {said[-1] if said else 'nothing was said'}"


def place(machines: list[Result], machine: Result) -> int:
    """Find a machine among those known, or add it."""
    if machine not in machines:
        machines.append(machine)
    return machines.index(machine)


def load() -> Result:
    if not RESULTS.exists():
        return {"machines": [], "results": {}}
    found: Result = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def save(kept: Result) -> None:
    """Write all results, completely or not at all."""
    part = RESULTS.with_suffix(".part")
    part.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(RESULTS)


if __name__ == "__main__":
    # So that what was started ends, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except BrokenPipeError:  # of --list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
