"""`embcli --help` starts in at most three times what `import typer` takes.

Peer: a bare interpreter that imports Typer, which draws the help; and one that does nothing.

    python benchmarks/startup.py
"""

import argparse
import sys

from measure import alternate, cold, program, ratio, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=21)
    arguments = parser.parse_args()

    commands = {
        "embcli --help": [program("embcli"), "--help"],
        'python -c "import typer"': [sys.executable, "-c", "import typer"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    sides = {name: lambda command=command: cold(command)[0] for name, command in commands.items()}
    costs = alternate(sides, arguments.runs)

    table(f"cold process, median of {arguments.runs}", costs)
    embcli, typer, _ = costs.values()
    ratio("embcli --help / import typer", embcli, typer, "<= 3")


if __name__ == "__main__":
    main()
