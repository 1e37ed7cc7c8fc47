"""`Collection.add` stores at least 120,000 vectors a second, with texts and metadata.

Vectors of 384 components, 4,096 at a time, with sentences of about ten words and two fields of
metadata. Opening and closing the file and hashing the texts are part of it; vectors and records
are made beforehand. The full-text index, which embcli builds afterwards and in bulk, is a row of
its own. Peer: llm (pip install llm), which stores the same in SQLite through its own
`embed_multi_with_metadata`, with the same batches and no full-text index.

    python benchmarks/write.py
"""

import argparse
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import llm_peer
import numpy as np
from corpora import sentences
from measure import Cost, alternate, figure, inside, ratio, require, table
from numpy.typing import NDArray

from embcli import Recipe, Record, Store

DIM = 384
BATCH = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    require("llm", "llm")

    texts = sentences(arguments.records, seed=1)
    # The same batch of vectors again and again: what is in them makes no difference here.
    vectors = np.random.default_rng(2).standard_normal((BATCH, DIM), dtype=np.float32)
    lists = vectors.tolist()
    entries = [(f"r{i}", text, meta(i)) for i, text in enumerate(texts)]

    with TemporaryDirectory() as name:
        folder = Path(name)
        llm_peer.isolate(folder)
        ours, theirs = folder / "a.db", folder / "b.db"

        def embcli() -> Cost:
            remove(ours)
            records = [Record(*entry) for entry in entries]
            return inside(lambda: add_all(ours, records, vectors))

        def llm() -> Cost:
            remove(theirs)
            source = islice(cycle(lists), len(entries))
            return inside(lambda: llm_peer.store(theirs, entries, source, BATCH))

        costs = alternate(
            {
                "embcli": embcli,
                "embcli, full-text index": lambda: inside(lambda: index_texts(ours)),
                "llm": llm,
            },
            arguments.runs,
        )

    table(f"{arguments.records:,} x {DIM}, median of {arguments.runs}", costs, arguments.records)
    ours, index, theirs = costs.values()
    both = Cost(*(sum(pair) for pair in zip(ours, index, strict=True)))
    ratio("llm / embcli with full-text index", theirs, both, "none")
    ratio("llm / embcli", theirs, ours, "embcli >= 120,000 vectors/s")
    figure("vectors per CPU second", arguments.records / ours.cpu)


def meta(number: int) -> dict[str, object]:
    return {"year": 1950 + number % 75, "language": ("en", "fr", "de")[number % 3]}


def add_all(path: Path, records: list[Record], vectors: NDArray[np.float32]) -> None:
    recipe = Recipe({"model": "synthetic", "dim": DIM, "normalized": False, "maps": []})
    with Store(path) as store:
        collection = store.create_collection("default", recipe)
        for start in range(0, len(records), BATCH):
            batch = records[start : start + BATCH]
            collection.add(batch, vectors[: len(batch)])


def index_texts(path: Path) -> None:
    with Store(path) as store:
        store.index_texts()


def remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


if __name__ == "__main__":
    main()
