"""Ten million records of 384 components in one store: what filling it takes, and each search.

The vectors are mixtures of two of MiniLM's of real texts and a little noise, and go in as Python
code would put them there, with a text of five words, a year and a language; encoding them takes
what `scale.py` measures of a million, ten times. Every search is a cold process, run --runs times,
of which the median is told; the first finds what the page cache has left. A store that is in
--folder is not made again. There is no peer.

    python benchmarks/vast.py --records 10000000 --folder /tmp/embcli-vast
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from corpora import texts
from measure import Cost, cold, figure, grid, leave, median, program
from models import minilm

from embcli import Recipe, Record, Store
from embcli.store.collection import Batch

BATCH = 8192
BYTES_PER_RECORD = 4 * 384 + 1200
SEARCHES = {
    "search": ("search", "--like", "r77"),
    "search --exact": ("search", "--like", "r77", "--exact"),
    "search --where, 1.3 %": ("search", "--like", "r77", "--where", "year = 1990"),
    "search --where, 33 %, indexed": ("search", "--like", "r77", "--where", "language = 'fr'"),
    "show": ("show", "r77"),
    "info": ("info",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the store is kept for the next run")
    arguments = parser.parse_args()
    with TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        db = folder / f"{arguments.records}.db"
        taken = db.with_suffix(".json")
        if not db.exists():
            taken.write_text(json.dumps(filled(db, arguments.records)))
        rows = {name: Cost(*cost) for name, cost in json.loads(taken.read_text()).items()}
        embcli = program("embcli")
        for name, words in SEARCHES.items():
            command = [embcli, *words, "-q", "-f", "ndjson", "-d", str(db)]
            rows[name] = median([cold(command)[0] for _ in range(arguments.runs)])
    heading = f"{arguments.records:,} x 384"
    columns = ["wall s", "CPU s", "peak RSS MiB"]
    cells = {
        name: [f"{cost.wall:,.2f}", f"{cost.cpu:,.2f}", f"{cost.peak:,.0f}"]
        for name, cost in rows.items()
    }
    for name, of_row in cells.items():
        print(f"{name:32} {'  '.join(f'{cell:>10}' for cell in of_row)}")
        figure(f"{name}: CPU s", rows[name].cpu)
    grid(heading, columns, cells)


def filled(db: Path, records: int) -> dict[str, Cost]:
    """Fill the store, and find out how it is searched best; the file appears when it is done."""
    free = shutil.disk_usage(db.parent).free
    if free < records * BYTES_PER_RECORD:
        leave(f"{db.parent} has {free / 1e9:.0f} GB free: another --folder, or fewer --records")
    part = db.with_suffix(".part")
    for path in part.parent.glob(f"{part.name}*"):
        path.unlink()
    known, recipe = encoded(db.with_suffix(".base"))
    made = {"fill": timed(lambda: fill(part, records, known, recipe))}
    words = [program("embcli"), "compress", "-q", "-d", str(part)]
    made["compress"] = cold(words)[0]
    cold([program("embcli"), "index", "language", "-q", "-d", str(part)])
    part.rename(db)
    print(f"{db}: {db.stat().st_size / 1e9:.1f} GB", file=sys.stderr)
    return made


def encoded(base: Path) -> tuple[Batch, Recipe]:
    """Encode the real texts, and delete what that takes."""
    corpus = base.with_suffix(".txt")
    corpus.write_text("\n".join(" ".join(text.split()) for text in texts()), encoding="utf-8")
    cold([program("embcli"), "encode", str(corpus), "-m", str(minilm()), "-d", str(base)])
    with Store(base, readonly=True) as store:
        source = store.collection("default")
        known, recipe = next(source.batches(1 << 30)), source.recipe
    for path in (corpus, *base.parent.glob(f"{base.name}*")):
        path.unlink()
    return known, recipe


def fill(db: Path, records: int, known: Batch, recipe: Recipe) -> None:
    rng = np.random.default_rng(0)
    words = [text.split()[:5] for text in known.texts]
    with Store(db) as store:
        target = store.create_collection("default", recipe)
        for first in range(0, records, BATCH):
            count = min(BATCH, records - first)
            one, other = rng.integers(0, len(words), (2, count))
            share = rng.uniform(0, 0.5, (count, 1)).astype(np.float32)
            vectors = (1 - share) * known.vectors[one] + share * known.vectors[other]
            vectors += 0.01 * rng.standard_normal((count, 384), np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            batch = [
                Record(
                    f"r{n}", " ".join(words[which]),
                    {"year": 1950 + n % 75, "language": ("en", "fr", "de")[n % 3]},
                )
                for n, which in enumerate(one.tolist(), first)
            ]  # fmt: skip
            target.add(batch, vectors)


def timed(function: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


if __name__ == "__main__":
    main()
