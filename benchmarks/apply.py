"""Mapping a whole collection, beside plain NumPy and beside copying it without a map.

Claim: to map a collection of 384 components takes no more than 1.5 times the CPU seconds of copying
it within the same store without a map, with texts, metadata, full-text index and codes; the same
command again, which passes over what is there, no more than half; and memory does not grow with
the collection.

Processes take turns: `embcli align apply` from a collection into a new one, and once more; the same
without a map, by the same functions that read and write; and NumPy, which maps a .npy file into
another one through memory maps, scales to unit length, and has no records to copy.

    python benchmarks/apply.py --records 200000
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from measure import alternate, cold, figure, program, ratio, table

from embcli import Recipe, Record, Store
from embcli.core.maps import Linear, Map, Transform, Unit

BLOCK = 8192
NUMPY = """
import sys, numpy as np
source = np.load("source.npy", mmap_mode="r")
turn = np.load("turn.npy").astype(np.float32)
out = np.lib.format.open_memmap("out.npy", "w+", np.float32, source.shape)
for start in range(0, len(source), 4096):
    rows = source[start : start + 4096]
    rows = rows / np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None] @ turn
    out[start : start + 4096] = rows / np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
out.flush()
"""
COPY = """
import sys
from embcli import Record, Store
from embcli.pipelines.compress import keep_coded
with Store(sys.argv[1]) as store:
    source = store.collection("default")
    target = store.create_collection("copy", source.recipe)
    for batch in source.batches(4096):
        records = []
        for id, text, meta, place, hash in zip(
            batch.ids, batch.texts, batch.metas, batch.sources, batch.hashes
        ):
            record = Record(id, text, {}, place)
            record.__dict__.update(hash=hash, meta_json=meta)
            records.append(record)
        target.write(records, dict(zip(batch.hashes, batch.vectors)))
        store.index_texts()
    keep_coded(target)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/embcli-apply"))
    arguments = parser.parse_args()

    folder = arguments.cache / f"{arguments.records}-{arguments.dim}"
    folder.mkdir(parents=True, exist_ok=True)
    made = store(folder, arguments.records, arguments.dim)

    def fresh() -> Path:
        path = folder / "run.db"
        for old in folder.glob("run.db*"):
            old.unlink()
        shutil.copyfile(made, path)
        return path

    def inside_folder(code: str) -> list[str]:
        script = 'cd "$0" && exec "$1" -c "$2"'
        return ["sh", "-c", script, str(folder), sys.executable, code]

    costs = alternate(
        {
            "embcli align apply": lambda: cold(
                [program("embcli"), "align", "apply", "turn", "--to", "new", "-q", "-d",
                 str(fresh())]
            )[0],
            "the same, again": lambda: cold(
                [program("embcli"), "align", "apply", "turn", "--to", "new", "-q", "-d",
                 str(folder / "run.db")]
            )[0],
            "without a map": lambda: cold([sys.executable, "-c", COPY, str(fresh())])[0],
            "NumPy, memmap": lambda: cold(inside_folder(NUMPY))[0],
        },
        arguments.runs,
        warm=False,
    )  # fmt: skip
    table(
        f"{arguments.records:,} x {arguments.dim}, median of {arguments.runs}",
        costs,
        arguments.records,
    )
    whole, again, copy, bare = costs.values()
    ratio("align apply / without a map", whole, copy, "CPU <= 1.5")
    ratio("align apply / NumPy, which copies no records", whole, bare, "none")
    ratio("again / align apply", again, whole, "CPU <= .5")
    figure("peak MiB", whole.peak)


def store(folder: Path, count: int, dim: int) -> Path:
    """Make a collection of random vectors, a map, and the same as .npy files."""
    path = folder / "store.db"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    np.save(folder / "turn.npy", turn)
    shape = (count, dim)
    out = np.lib.format.open_memmap(folder / "source.npy", "w+", np.float32, shape)
    recipes = [
        Recipe({"model": name, "dim": dim, "normalized": True, "imported": name, "maps": []})
        for name in ("a", "b")
    ]
    part = folder / "part.db"
    part.unlink(missing_ok=True)
    with Store(part) as opened:
        collection = opened.create_collection("default", recipes[0])
        for start in range(0, count, BLOCK):
            rows = rng.standard_normal((min(BLOCK, count - start), dim), np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            out[start : start + len(rows)] = rows
            numbers = range(start, start + len(rows))
            records = [
                Record(f"r{i}", f"record number {i} of the benchmark", {"n": i}, f"file:{i}")
                for i in numbers
            ]
            collection.add(records, rows)
        opened.index_texts()
        map = Map(Transform.of(Unit(), Linear(turn)))
        opened.maps.add("turn", map, method="random", source=recipes[0], target=recipes[1], fit={})
    part.rename(path)
    return path


if __name__ == "__main__":
    main()
