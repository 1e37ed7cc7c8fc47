"""What whitening does to STS-B, and what fitting it costs beside scikit-learn's PCA.

First, for each of the models given and of four corpora: Spearman's correlation on the English STS-B
test set, before and after each method fitted to the corpus, as `embcli whiten fit --sts` says it.
Then 100,000 vectors of 384 dimensions, read from the store a block at a time, against
`sklearn.decomposition.PCA(whiten=True).fit`, which loads them from a .npy file; each in a process
of its own. Ours measures a sample before and after, too.

    OPENBLAS_NUM_THREADS=1 python benchmarks/whiten.py ../shared/data static MODEL_FOLDER
"""

import argparse
import csv
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measure import alternate, cold, ratio, require, table

from embcli import Recipe, Record, Store, encode
from embcli.pipelines.whiten import Plan, fit

_PLANS = {
    "center": Plan("center"),
    "abtt": Plan("abtt"),
    "zca": Plan("zca"),
    "zca .5": Plan("zca", shrinkage=0.5),
    "pca 128": Plan("pca", dims=128, shrinkage=0),
}
_TEXTS = 5000
_PEER = """
import sys, numpy as np
from sklearn.decomposition import PCA
PCA(whiten=True).fit(np.load(sys.argv[1]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="with stsb, banking77, ag_news and multi30k")
    parser.add_argument("models", nargs="*", help="such as static")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--vectors", type=int, default=100_000)
    arguments = parser.parse_args()
    require("sklearn", "scikit-learn")
    for model in arguments.models:
        _quality(arguments.folder, model)
    _cost(arguments.vectors, arguments.runs)


def _quality(folder: Path, model: str) -> None:
    sts = folder / "stsb" / "stsb-en-test.csv"
    print(f"{Path(model).name:24}  {'before':>8}  " + "  ".join(f"{m:>8}" for m in _PLANS))
    with TemporaryDirectory() as place:
        db = Path(place, "texts.db")
        for name, texts in _corpora(folder).items():
            file = Path(place, f"{name}.txt")
            file.write_text("".join(f"{' '.join(text.split())}\n" for text in texts))
            encode([file], db=db, collection=name, model=model)
            rows = [
                fit(name, "x", plan, sts=[sts], sample=20, db=db, replace=True).rows[-1]
                for plan in _PLANS.values()
            ]
            figures = [rows[0]["before"], *(row["after"] for row in rows)]
            print(f"{name:24}  " + "  ".join(f"{figure:8.4f}" for figure in figures))


def _corpora(folder: Path) -> dict[str, list[str]]:
    def rows(path: str) -> list[list[str]]:
        with (folder / path).open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    pairs = rows("stsb/stsb-en-dev.csv")
    captions = (folder / "multi30k" / "train.en").read_text(encoding="utf-8").splitlines()
    texts = {
        "stsb-dev": [text for pair in pairs for text in pair[:2]],
        "ag_news": [f"{title} {text}" for _, title, text in rows("ag_news/test.csv")],
        "banking77": [row[0] for row in rows("banking77/train.csv")[1:]],
        "multi30k": captions,
    }
    return {name: list(dict.fromkeys(several))[:_TEXTS] for name, several in texts.items()}


def _cost(count: int, runs: int) -> None:
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as place:
        db, array = Path(place, "many.db"), Path(place, "many.npy")
        vectors = rng.standard_normal((count, 384), np.float32) * np.geomspace(1, 0.1, 384)
        vectors = (vectors + 0.3).astype(np.float32)
        np.save(array, vectors)
        recipe = Recipe({"model": "drawn", "dim": 384, "normalized": False, "maps": []})
        with Store(db) as store:
            store.create_collection("default", recipe).add(
                [Record(str(row), "") for row in range(count)], vectors
            )
        del vectors
        command = [sys.executable, "-m", "embcli", "whiten", "fit", "-n", "x", "-M", "zca"]
        command += ["--force", "--quiet", "--db", os.fspath(db)]
        sides = {
            "embcli whiten fit": lambda: cold(command)[0],
            "sklearn PCA": lambda: cold([sys.executable, "-c", _PEER, os.fspath(array)])[0],
        }
        costs = alternate(sides, runs)
    table(f"{count:,} x 384, median of {runs}", costs, count)
    ratio("embcli / sklearn", costs["embcli whiten fit"], costs["sklearn PCA"], "<= 2")


if __name__ == "__main__":
    main()
