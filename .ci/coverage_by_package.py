"""Say how much of each package the tests went through; fail if it is too little where it counts.

Reads the `.coverage` that `pytest --cov` leaves in the root of the repository. A branch is a way
that execution may go from one line to another.
"""

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from coverage import Coverage

# Least shares of branches, in percent, where a mistake is a wrong answer or a lost record.
FLOORS = {"core": 90, "store": 90}
KEYS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def by_package(coverage: Coverage) -> dict[str, Counter[str]]:
    """Add up what was measured in the files of each package."""
    with TemporaryDirectory() as folder:
        report = Path(folder, "coverage.json")
        coverage.json_report(outfile=str(report))
        files = json.loads(report.read_bytes())["files"]
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, file in files.items():
        parts = Path(name).parts
        package = parts[1] if len(parts) > 2 else "(root)"
        numbers = {key: file["summary"][key] for key in KEYS}
        sums[package].update(numbers)
        sums["all"].update(numbers)
    return dict(sorted(sums.items(), key=lambda item: (item[0] == "all", item[0])))


def percent(covered: int, of: int) -> float:
    """Give a share in percent; of nothing, everything."""
    return 100 * covered / of if of else 100.0


def main() -> int:
    """Print a line for each package."""
    coverage = Coverage()
    coverage.load()
    missed = []
    print(
        f"{'package':12}{'statements':>12}{'covered':>10}{'branches':>10}{'taken':>10}{'floor':>8}"
    )
    for package, sums in by_package(coverage).items():
        lines = percent(sums["covered_lines"], sums["num_statements"])
        branches = percent(sums["covered_branches"], sums["num_branches"])
        floor = FLOORS.get(package)
        print(
            f"{package:12}{sums['num_statements']:12,}{lines:9.1f}%{sums['num_branches']:10,}"
            f"{branches:9.1f}%{f'{floor}%' if floor else '':>8}"
        )
        if floor and branches < floor:
            missed.append(f"{package} {branches:.1f} % < {floor} %")
    if missed:
        print(f"too few branches are tested: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
