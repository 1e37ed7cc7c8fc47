"""`embcli export` costs little more than the least that must be done.

The least: a script that reads the segments with sqlite3 and NumPy, as docs/architecture.md shows,
and ids, texts and metadata as they are stored, and writes all at once with pyarrow. `embcli export`
also gives every metadata field a column of its type, keeps memory bounded, and puts the file in
its place when it is complete. Both are cold processes. Other formats and `embcli backup` are rows
for comparison.

    python benchmarks/export.py
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from corpora import sentences
from measure import Cost, alternate, cold, ratio, require, table
from numpy.random import default_rng
from write import BATCH, DIM, meta

from embcli import Recipe, Record, Store

LEAST = """
import sqlite3, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq

db = sqlite3.connect(sys.argv[1])
parts = [
    np.frombuffer(vectors, "<f4").reshape(len(slots) // 8, -1)[np.frombuffer(slots, "<i8") > 0]
    for slots, vectors in db.execute("SELECT slots, vectors FROM segments ORDER BY key")
]
vectors = np.concatenate(parts)
ids, texts, metas = zip(*db.execute("SELECT id, text, meta FROM records ORDER BY key"))
flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
pq.write_table(pa.table({"id": ids, "text": texts, "vector": flat, "meta": metas}), sys.argv[2])
"""
FORMATS = ("parquet", "arrow", "hdf5", "faiss", "llm", "embcli")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    require("pyarrow", "pyarrow")
    require("h5py", "h5py")

    with TemporaryDirectory() as name:
        db = Path(name, "a.db")
        fill(db, arguments.records)
        embcli = [sys.executable, "-m", "embcli"]

        def run(*command: str) -> Cost:
            return cold(command)[0]

        def export(format: str) -> Cost:
            out = str(Path(name, f"out.{format}"))
            return run(*embcli, "export", out, "-f", format, "-d", str(db), "--force", "-q")

        sides = {
            "least, parquet": lambda: run(
                sys.executable, "-c", LEAST, str(db), str(Path(name, "least"))
            ),
            **{
                f"embcli export, {format}": (lambda format=format: export(format))
                for format in FORMATS
            },
            "embcli backup": lambda: run(
                *embcli, "backup", str(Path(name, "b.db")), "-d", str(db), "--force", "-q"
            ),
        }
        costs = alternate(sides, arguments.runs)

    table(f"{arguments.records:,} x {DIM}, median of {arguments.runs}", costs, arguments.records)
    least, parquet, *_ = costs.values()
    ratio("embcli export / least", parquet, least, "CPU <= 2")


def fill(db: Path, count: int) -> None:
    """Make a store with different vectors, of which none is compressed better than another."""
    rng = default_rng(2)
    texts = sentences(count, seed=1)
    recipe = Recipe({"model": "synthetic", "dim": DIM, "normalized": False, "maps": []})
    with Store(db) as store:
        target = store.create_collection("default", recipe)
        for start in range(0, count, BATCH):
            some = range(start, min(start + BATCH, count))
            records = [Record(f"r{n}", texts[n], meta(n)) for n in some]
            target.add(records, rng.standard_normal((len(some), DIM), dtype="f4"))


if __name__ == "__main__":
    main()
