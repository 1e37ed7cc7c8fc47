"""The same targets, led by coverage: atheris (libFuzzer) keeps what reaches new branches.

    pip install atheris
    python -m tests.fuzz.guided --target json --runs 100000
    python -m tests.fuzz.guided --runs 20000            # each target in turn

Inputs are whole files that libFuzzer mutates, beginning with the undamaged ones. What raises
anything but an `EmbcliError` ends the run of its target with a traceback and the file that did it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from embcli.errors import EmbcliError

_SECONDS = 10
_MEBI = 2048


def guide(name: str, runs: int) -> None:
    """Run one target in this process; libFuzzer ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=["embcli"]):
        from tests.fuzz.targets import targets

        target = targets()[name]
        folder = Path(tempfile.mkdtemp(prefix="embcli-guided-"))
        seeds = target.seeds(folder)
        for seed in seeds:  # what is imported late is instrumented, too
            with suppress(EmbcliError):
                target.run(seed, folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    os.chdir(folder)

    def one(data: bytes) -> None:
        with suppress(EmbcliError):
            target.run(data, folder)

    limits = [f"-runs={runs}", f"-timeout={_SECONDS}", f"-rss_limit_mb={_MEBI}", "-max_len=65536"]
    atheris.Setup([sys.argv[0], *limits, "-seed=1", "-print_final_stats=1", str(corpus)], one)
    atheris.Fuzz()


def main() -> int:
    """Run targets, each in a process of its own; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", action="append")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        guide(options.one, options.runs)
        return 0
    # Not before: what is imported already is not instrumented.
    from tests.fuzz.targets import targets

    failed = 0
    for name in options.target or targets():
        words = [sys.executable, "-m", "tests.fuzz.guided", "--one", name]
        done = subprocess.run(
            [*words, "--runs", str(options.runs)], capture_output=True, text=True, check=False
        )
        ended = done.stderr.splitlines()
        covered = next((line for line in reversed(ended) if " cov: " in line), "")
        print(f"{name}: {'failed' if done.returncode else 'sound'}  {covered.strip()}", flush=True)
        if done.returncode:
            failed += 1
            print(done.stderr[-4000:])
    return failed


if __name__ == "__main__":
    sys.exit(main())
