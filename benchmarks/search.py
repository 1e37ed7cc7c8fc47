"""A cold `embcli search` is at least ten times faster than `llm similar` on the same vectors.

Both look for the ten records nearest to a stored one, among 100,000 vectors of 384 components
with ids, texts and metadata, each in its own SQLite file. The ids found must be the same. The
files are in the page cache, the processes are cold. Peer: llm (pip install llm).

A third row searches as many records of the `static` model, 256 components, by a text, so that
the model is loaded too (claim: peak memory below 400 MB).

    python benchmarks/search.py
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import llm_peer
import numpy as np
from corpora import sentences
from measure import alternate, cold, figure, leave, program, ratio, require, table
from numpy.typing import NDArray

from embcli import Recipe, Record, Store, encode

K = 10
BATCH = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    require("llm", "llm")

    with TemporaryDirectory() as name:
        folder = Path(name)
        llm_peer.isolate(folder)
        ours, theirs, static = (folder / file for file in ("a.db", "b.db", "static.db"))
        texts = sentences(arguments.records, seed=1)
        vectors = clustered_vectors(arguments.records, arguments.dim, seed=2)
        fill_embcli(ours, texts, vectors)
        llm_peer.store(
            theirs,
            ((f"r{i}", text, meta(i)) for i, text in enumerate(texts)),
            (row.tolist() for row in vectors),
            BATCH,
        )
        fill_static(static, folder / "texts.jsonl", texts)

        like = f"r{arguments.records // 2}"
        wide = f"{arguments.records:,} x {arguments.dim}"
        commands = {
            f"embcli search --like, {wide}": [
                program("embcli"), "search", "--like", like, "-k", str(K), "-f", "ids",
                "-d", str(ours),
            ],
            f"llm similar, {wide}": [
                program("llm"), "similar", llm_peer.NAME, like, "-n", str(K), "-d", str(theirs)
            ],
            f"embcli search TEXT, {arguments.records:,} x 256": [
                program("embcli"), "search", "how is the heat transfer measured",
                "-k", str(K), "-f", "ids", "-d", str(static),
            ],
        }  # fmt: skip
        check_same_ids(*list(commands.values())[:2])
        sides = {
            name: lambda command=command: cold(command)[0] for name, command in commands.items()
        }
        costs = alternate(sides, arguments.runs)

    table(f"cold process, median of {arguments.runs}", costs)
    embcli, llm, text = costs.values()
    ratio("llm similar / embcli search --like", llm, embcli, ">= 10")
    figure("text search, peak MB", text.peak * 2**20 / 1e6)


def clustered_vectors(count: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Draw unit vectors around a thousand centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((1000, dim), dtype=np.float32)
    vectors = centres[rng.integers(0, len(centres), count)]
    vectors += rng.standard_normal((count, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def meta(number: int) -> dict[str, object]:
    return {"year": 1950 + number % 75, "language": ("en", "fr", "de")[number % 3]}


def fill_embcli(path: Path, texts: list[str], vectors: NDArray[np.float32]) -> None:
    recipe = Recipe({"model": "synthetic", "dim": vectors.shape[1], "normalized": True, "maps": []})
    with Store(path) as store:
        collection = store.create_collection("default", recipe)
        for start in range(0, len(texts), BATCH):
            stop = min(start + BATCH, len(texts))
            records = [Record(f"r{i}", texts[i], meta(i)) for i in range(start, stop)]
            collection.add(records, vectors[start:stop])
        store.index_texts()


def fill_static(path: Path, file: Path, texts: list[str]) -> None:
    with file.open("w", encoding="utf-8") as out:
        for i, text in enumerate(texts):
            out.write(json.dumps({"id": f"r{i}", "text": text, **meta(i)}) + "\n")
    encode([file], db=path, model="static")


def check_same_ids(embcli: list[str], llm: list[str]) -> None:
    found = cold(embcli)[1].split()
    expected = [json.loads(line)["id"] for line in cold(llm)[1].splitlines()]
    if found != expected:
        leave(f"the ids differ: embcli {found}, llm {expected}")
    print(f"both find {' '.join(found)}")


if __name__ == "__main__":
    main()
