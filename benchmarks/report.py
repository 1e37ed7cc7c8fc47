"""Write what was measured, and how it stands with the claims, into benchmarks/README.md.

Only what is between the two marks is written; the introduction above and the notes below are by
hand. The same results give the same page, which a test relies on.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from claims import FOLDER, Claim, Run, number

PAGE = FOLDER / "README.md"
BEGIN = "<!-- From here on benchmarks/run.py writes, out of results.json. -->"
END = "<!-- Here benchmarks/run.py ends. -->"

Result = dict[str, Any]

_SIZES = {"full": "", "quick": "smaller", "older": "older"}  # and what is said of them


def write_page(runs: Sequence[Run], kept: Result) -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), runs, kept), encoding="utf-8")


def page(text: str, runs: Sequence[Run], kept: Result) -> str:
    """Replace what is between the marks."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE} lacks one of the lines {BEGIN!r} and {END!r}")
    generated = "\n".join([*claims(runs, kept), *sections(runs, kept), *machines(kept)])
    return f"{head}{BEGIN}\n\n{generated}\n{END}{tail}"


def judged(run: Run, kept: Result) -> str:
    """Say in a line how the claims of a run stand."""
    of_run = kept["results"].get(run.name, {})
    if "failed" in of_run:
        return f"failed: {of_run['failed']['error']}"
    states = [verdicts(claim, of_run) for claim in run.claims]
    if not any(states):
        return "run" if sizes(of_run) else "not run"
    held = sum(bool(of_claim) and of_claim[0][2] for of_claim in states)
    size = sizes(of_run)[0]
    return f"{held} of {len(states)} claims hold ({_SIZES[size] or size})"


def sizes(of_run: Result) -> list[str]:
    """Tell which results count: the full run, or else the smaller one and the older one."""
    return ["full"] if "full" in of_run else [size for size in ("quick", "older") if size in of_run]


def verdicts(claim: Claim, of_run: Result) -> list[tuple[str, float, bool]]:
    """Judge a claim by every result that counts: memory and seconds by none of smaller sizes."""
    found = []
    for size in sizes(of_run):
        if size == "quick" and claim.is_of_size:
            continue
        value = of_run[size]["figures"].get(claim.figure)
        if value is not None:
            found.append((size, value, claim.holds(value)))
    return found


def claims(runs: Sequence[Run], kept: Result) -> Iterator[str]:
    rows = []
    counts: Counter[tuple[str, bool]] = Counter()
    for run in runs:
        of_run = kept["results"].get(run.name, {})
        for claim in run.claims:
            found = verdicts(claim, of_run)
            failed = "failed" in of_run
            size, _, holds = found[0] if found else ("", 0.0, False)
            counts[("failed", False) if failed else (size, holds)] += 1
            rows.append(row(run, claim, found, failed))
    yield "## Claims"
    yield ""
    yield (
        f"{len(rows)} claims: {total(counts, True)}; {total(counts, False)}; {counts['', False]} "
        f"were not measured; of {counts['failed', False]} the script failed. *Smaller* is a run of "
        "smaller sizes than the claim is about, and judges no memory or seconds; *older* is one "
        "from before this page was generated; where there is nothing else, they decide."
    )
    yield ""
    yield "| claim | needed | measured | holds | run |"
    yield "|---|---|---|---|---|"
    yield from rows
    yield ""


def total(counts: Mapping[tuple[str, bool], int], holds: bool) -> str:
    """Say how many claims hold, or do not, and by which runs."""
    by = {size: counts[size, holds] for size in _SIZES}
    parts = ", ".join(f"{_SIZES[size] or size} {count}" for size, count in by.items() if count)
    return f"{sum(by.values())} {'hold' if holds else 'do **not**'} ({parts or 'none'})"


def row(run: Run, claim: Claim, found: list[tuple[str, float, bool]], failed: bool) -> str:
    unit = f" {claim.unit}" if claim.unit else ""
    measured = [f"{number(value)}{unit}{_mark(size)}" for size, value, _ in found]
    verdict = [f"{'yes' if holds else '**no**'}{_mark(size)}" for size, _, holds in found]
    if failed:
        verdict.insert(0, "**failed to run**")
    link = f"[{run.name}](#{anchor(run.script)})"
    cells = claim.text, f"{claim.needed}{unit}", "; ".join(measured), "; ".join(verdict), link
    return line(cell or "not run" for cell in cells)


def line(cells: Iterable[str]) -> str:
    """Write a row of a table, whatever is in the cells."""
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _mark(size: str) -> str:
    return f" ({_SIZES[size]})" if _SIZES[size] else ""


def anchor(heading: str) -> str:
    """Give the anchor that GitHub gives a heading."""
    kept = "".join(c for c in heading.strip().lower() if c.isalnum() or c in "-_ ")
    return kept.replace(" ", "-")


def sections(runs: Sequence[Run], kept: Result) -> Iterator[str]:
    yield "## Runs"
    yield ""
    for script in dict.fromkeys(run.script for run in runs):
        yield f"### {script}"
        yield ""
        for run in runs:
            if run.script == script:
                yield from section(run, kept["results"].get(run.name, {}))


def section(run: Run, of_run: Result) -> Iterator[str]:
    if "failed" in of_run:
        failed = of_run["failed"]
        yield f"`{failed['command']}` **failed** on {failed['date']}: {failed['error']}"
        yield ""
    elif not sizes(of_run):
        yield f"`{run.name}` was not run."
        yield ""
    for size in sizes(of_run):
        result = of_run[size]
        if size == "older":
            older = f"older: {result['date']}, commit {result['commit']}"
            yield f"*{run.name}*, {older}; {result['note']}"
        else:
            before, after = result["load"]
            yield (
                f"*{run.name}*{_mark(size)}: `{result['command']}`, {result['date']} UTC, commit "
                f"{result['commit']}, machine {result['machine'] + 1}, {result['seconds']:,} s, "
                f"load {before} to {after}"
            )
        yield ""
        for table in result.get("tables", ()):
            yield from grid(table)
        shown = worth_showing(run, result)
        if shown:
            yield "; ".join(f"{name} {number(value)}" for name, value in shown.items())
            yield ""


def worth_showing(run: Run, result: Result) -> dict[str, float]:
    """Choose what claims are judged by, and ratios; all where no table shows the rest."""
    figures: dict[str, float] = result["figures"]
    if not result.get("tables"):
        return figures
    claimed = {claim.figure for claim in run.claims}
    ratios = (": wall", ": CPU")
    return {name: x for name, x in figures.items() if name in claimed or name.endswith(ratios)}


def grid(table: Result) -> Iterator[str]:
    yield line([table["table"], *table["columns"]])
    yield f"|---{'|---' * len(table['columns'])}|"
    for name, cells in table["rows"].items():
        yield line([name, *cells])
    yield ""


def machines(kept: Result) -> Iterator[str]:
    yield "## Machines"
    yield ""
    for place, machine in enumerate(kept["machines"], 1):
        yield (
            f"{place}. {machine['processor']}, {machine['threads']} threads, {machine['memory']}; "
            f"{machine['system']}; Python {machine['python']}. {listed(machine['libraries'])}."
        )
        if "peers" in machine:
            yield f"   Peers in a Python of their own: {listed(machine['peers'])}."
    yield ""


def listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
