"""A million records of 384 components, step by step; and which memory grows with them.

The records are made as they are read (8 to 40 words of running text out of the corpora, an id, a
year, a language) and encoded by `embcli encode` with a static model that `embcli distill` makes of
all-MiniLM-L6-v2 first, with so many components. Every step is a process of its own, run once.
Peak memory is the maximum resident set that the kernel reports, in which mapped pages of the store
count, which are the page cache's; beside it stands the most private (anonymous) memory there
was at any look, fifty a second, which is what a step needs. There is no peer.

Steps are done in the order below. What is there in --folder is not made again: a run that was
stopped goes on, and `--only` does some of the steps. Exports are deleted once they are measured.

    python benchmarks/scale.py --records 1000000 --dim 384
    python benchmarks/scale.py --records 1000000 --only search,exact,filtered,lexical

With --growth, sizes divided by commas, every step is done once with each size, and what its private
memory grew by is printed per record. A vector takes 4 bytes for each component.

    python benchmarks/scale.py --growth 50000,200000 --only all
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import NamedTuple

import numpy as np
from corpora import texts
from measure import cold, figure, grid, program
from models import minilm

WATCHED = str(Path(__file__).with_name("watched.py"))
# The store, its write-ahead log, an export with what waits beside it; for each component.
BYTES_PER_COMPONENT = 4
BYTES_PER_TEXT = 900
QUERY = "interest rates and the price of bonds"


class Taken(NamedTuple):
    """What a step took: seconds, MiB, and bytes of what it made."""

    wall: float
    cpu: float
    peak: float
    private: float
    size: int = 0


class Place(NamedTuple):
    """Where a run has its files, and what it is told."""

    folder: Path
    records: int
    dim: int
    model: Path
    clusters: int
    sample: int


OPTIONS = ["-d", "store.db", "-q"]
Step = Callable[[Place], tuple[list[str], str | None]]


def encode(place: Place) -> tuple[list[str], str | None]:
    """Give the words of a command, and the file that it makes."""
    return ["encode", "corpus.jsonl", "-m", str(place.model), *OPTIONS], "store.db"


def like(*options: str) -> Step:
    def words(place: Place) -> tuple[list[str], str | None]:
        record = f"doc-{place.records // 2}"
        return ["search", "--like", record, "-f", "ids", *options, *OPTIONS], None

    return words


def work(*words: str, made: str | None = None) -> Step:
    def step(place: Place) -> tuple[list[str], str | None]:
        known = {"CLUSTERS": str(place.clusters), "SAMPLE": str(place.sample), "OUT": str(made)}
        return [*(known.get(word, word) for word in words), *OPTIONS], made

    return step


# The first are those of a large run; the others take every record with every other, or longer.
STEPS: dict[str, Step] = {
    "encode": encode,
    "encode again": encode,
    "search": like(),
    "exact": like("--exact"),
    "filtered": like("--where", "year = 1990"),
    "lexical": work("search", QUERY, "--lexical", "-f", "ids"),
    "hybrid": work("search", QUERY, "--hybrid", "-f", "ids"),
    "cluster": work("cluster", "-k", "CLUSTERS"),
    "cluster --sample": work("cluster", "-k", "CLUSTERS", "--sample", "SAMPLE", "-n", "sampled"),
    "members": work("clusters", "members", "kmeans", "-f", "ids"),
    "plot --sample": work("plot", "--sample", "SAMPLE", "-o", "OUT", "--force", made="map.png"),
    "plot pca": work("plot", "-M", "pca", "--color", "none", "-o", "OUT", "--force", made="p.png"),
    "export npz": work("export", "OUT", made="vectors.npz"),
    "export parquet": work("export", "OUT", made="vectors.parquet"),
    "export npy": work("export", "OUT", made="vectors.npy"),
    "check": work("check"),
    "whiten": work("whiten", "fit", "-n", "white", "--force"),
    "apply": work("whiten", "apply", "white", "--to", "mapped"),
    "import": work("import", "vectors.npy", "-c", "imported"),
    "neighbors": work("neighbors", "-o", "OUT", "--force", made="neighbours.npz"),
    "umap": work("plot", "--color", "none", "-o", "OUT", "--force", made="umap.png"),
    "leiden": work("cluster", "-M", "leiden"),
    "gmm": work("cluster", "-M", "gmm", "-k", "20"),
    "hdbscan": work("cluster", "-M", "hdbscan"),
    "agglomerative": work("cluster", "-M", "agglomerative", "-k", "20"),
    "dedup": work("dedup", "-f", "ids"),
    "match": work("match", "default", "default", "-f", "ids"),
    "separability": work("separability", "--label", "language", "--sample", "5000"),
    "diagnose": work("diagnose", "--sample", "5000"),
    "backup": work("backup", "OUT", made="copy.db"),
    "vacuum": work("vacuum"),
}
LARGE = list(STEPS)[: list(STEPS).index("whiten")]
# What is no error in a step: that there was nothing to be found.
KEPT = ("store.db", "vectors.npy")
FOUND_OR_NOT = ("dedup", "lexical", "hybrid", "filtered")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--sample", type=int, default=50_000, help="of plot and cluster --sample")
    parser.add_argument("--only", help=f"of {', '.join(STEPS)}; by default the first of them")
    parser.add_argument("--growth", help="sizes, instead of --records")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "embcli-scale"))
    parser.add_argument("--keep", action="store_true", help="the corpus and the store")
    arguments = parser.parse_args()

    wanted = arguments.only.split(",") if arguments.only else LARGE
    if arguments.only == "all":
        wanted = list(STEPS)
    if unknown := [name for name in wanted if name not in STEPS]:
        print(f"no step {unknown[0]!r} (there are: {', '.join(STEPS)})", file=sys.stderr)
        raise SystemExit(2)
    sizes = [int(size) for size in (arguments.growth or str(arguments.records)).split(",")]
    found: list[dict[str, Taken]] = []
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model = arguments.folder / f"model-{arguments.dim}"
    if not model.exists():
        dims = ["--dims", str(arguments.dim), "-o", str(model)]
        cold([program("embcli"), "distill", str(minilm()), *dims])
    told = arguments.dim, model.resolve(), arguments.clusters, arguments.sample
    for records in sizes:
        folder = arguments.folder / f"{records}-{arguments.dim}"
        place = Place(folder, records, *told)
        check_room(place)
        folder.mkdir(parents=True, exist_ok=True)
        found.append(run_steps(place, wanted))
        if not arguments.keep:
            shutil.rmtree(folder)
    if arguments.growth:
        print_growth(sizes, arguments.dim, found)
    else:
        print_table(sizes[0], arguments.dim, found[0])


def check_room(place: Place) -> None:
    """Leave where the disk has no room for the store, its codes and one export."""
    each = 3 * BYTES_PER_COMPONENT * place.dim + BYTES_PER_TEXT
    needed, free = place.records * each, shutil.disk_usage(place.folder.parent).free
    there = sum(file.stat().st_size for file in place.folder.glob("*"))
    if free + there < needed:
        print(
            f"{place.folder.parent} has {free / 1e9:.1f} GB free, {place.records:,} x {place.dim} "
            f"take {needed / 1e9:.1f}: another --folder, or fewer --records",
            file=sys.stderr,
        )
        raise SystemExit(2)


def run_steps(place: Place, wanted: Sequence[str]) -> dict[str, Taken]:
    if not (place.folder / "corpus.jsonl").exists():
        write_corpus(place)
    notes, taken = place.folder / "taken.json", dict[str, Taken]()
    if notes.exists():
        taken = {name: Taken(*cost) for name, cost in json.loads(notes.read_text()).items()}
    for name in wanted:
        if name in taken:
            continue
        words, made = STEPS[name](place)
        now = time.strftime("%H:%M:%S")
        print(f"{now} {place.records:,}: {name}", file=sys.stderr, flush=True)
        cost = measured([program("embcli"), *words], place.folder, name)
        if cost is None:
            continue
        files = list(place.folder.glob(f"{made}*")) if made else []
        taken[name] = cost._replace(size=sum(file.stat().st_size for file in files))
        notes.write_text(json.dumps(taken))
        for file in files if made not in KEPT else ():
            file.unlink()
    return {name: taken[name] for name in STEPS if name in taken}


def measured(command: list[str], folder: Path, name: str) -> Taken | None:
    """Run a command, look at its memory while it runs, and return what it took."""
    with (folder / "complaints.txt").open("w+b") as complaints:
        # A process of few megabytes in between: a child begins with the peak of its parent.
        launcher = [sys.executable, "-I", "-S", WATCHED, *command]
        child = Popen(launcher, stdin=DEVNULL, stdout=DEVNULL, stderr=complaints, cwd=folder)
        child.wait()
        complaints.seek(0)
        said = complaints.read().decode()
    rest, _, last = said.rstrip("\n").rpartition("\n")
    report = json.loads(last)
    code = report.pop("code")
    if code != 0 and not (code == 1 and name in FOUND_OR_NOT):
        print(f"{name}: exit code {code}: {rest[-500:]}", file=sys.stderr)
        return None
    return Taken(**report)


def write_corpus(place: Place) -> None:
    """Write the records, one after the other; the file appears when it is complete."""
    part = place.folder / "corpus.part"
    with part.open("w", encoding="utf-8") as out:
        for number, text in zip(range(place.records), passages(seed=1), strict=False):
            record = {
                "id": f"doc-{number}", "text": text, "year": 1950 + number % 75,
                "language": ("en", "fr", "de")[number % 3],
            }  # fmt: skip
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
    part.rename(place.folder / "corpus.jsonl")


def passages(seed: int) -> Iterator[str]:
    """Take 8 to 40 words of the corpora from a random place, without end."""
    words = " ".join(texts()).split()
    rng = np.random.default_rng(seed)
    while True:
        starts = rng.integers(0, len(words) - 40, 10_000)
        for start, length in zip(
            starts.tolist(), rng.integers(8, 41, 10_000).tolist(), strict=True
        ):
            yield " ".join(words[start : start + length])


def print_table(records: int, dim: int, taken: dict[str, Taken]) -> None:
    print(f"{records:,} x {dim}, each step once\n")
    columns = ["wall s", "CPU s", "peak RSS MiB", "private MiB", "file MB"]
    print(f"| step | {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|")
    cells: dict[str, list[str]] = {}
    for name, cost in taken.items():
        size = f"{cost.size / 1e6:,.0f}" if cost.size else ""
        cells[name] = [
            f"{cost.wall:,.1f}", f"{cost.cpu:,.1f}", f"{cost.peak:,.0f}",
            f"{cost.private:,.0f}", size,
        ]  # fmt: skip
        print(f"| {name} | {' | '.join(cells[name])} |")
        figure(f"{name}: private MiB", cost.private)
    grid(f"{records:,} x {dim}, each step once", columns, cells)


def print_growth(sizes: Sequence[int], dim: int, found: Sequence[dict[str, Taken]]) -> None:
    """Print private memory by size, and what every further record took."""
    print(f"private memory in MiB, {dim} components ({4 * dim:,} bytes a vector)\n")
    print(f"| step | {' | '.join(f'{size:,}' for size in sizes)} | bytes a record |")
    print(f"|---|{'---|' * len(sizes)}---|")
    for name in found[0]:
        if all(name in each for each in found):
            private = [each[name].private for each in found]
            slope = (private[-1] - private[0]) * (1 << 20) / (sizes[-1] - sizes[0])
            cells = " | ".join(f"{value:,.0f}" for value in private)
            print(f"| {name} | {cells} | {slope:,.0f} |")


if __name__ == "__main__":
    main()
