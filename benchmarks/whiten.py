"""What whitening does to STS-B, and what fitting it costs beside scikit-learn's PCA.

First, for each of the models given and of four corpora: Spearman's correlation on the English STS-B
test set, before and after each method fitted to the corpus, which is what `embcli whiten fit --sts`
says.
Then 100,000 vectors of 384 dimensions, read from the store a block at a time, against
`sklearn.decomposition.PCA(whiten=True).fit`, which loads them from a .npy file; each in a process
of its own. Ours measures a sample before and after, too.

    OPENBLAS_NUM_THREADS=1 python benchmarks/whiten.py ../shared/data static MODEL_FOLDER
"""

import argparse
import csv
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measure import alternate, cold, figure, grid, ratio, require, table

from embcli import Recipe, Record, Store, load_encoder
from embcli.core.correlation import spearman
from embcli.core.cosine import pair_cosines
from embcli.core.maps import Transform
from embcli.core.whitening import abtt, add_up, center, pca, zca

_PLANS: dict[str, tuple[Callable[..., Transform], dict[str, float]]] = {
    "center": (center, {}),
    "abtt": (abtt, {}),
    "zca": (zca, {}),
    "zca .5": (zca, {"shrinkage": 0.5}),
    "pca 128": (pca, {"dims": 128, "shrinkage": 0}),
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
    encoder = load_encoder(model)
    firsts, seconds, scores = zip(*_rows(folder / "stsb" / "stsb-en-test.csv"), strict=True)
    left, right = encoder.encode(firsts), encoder.encode(seconds)
    judged = [float(score) for score in scores]
    rows = np.arange(len(judged))

    def agreement(transform: Transform) -> float:
        sides = (transform.apply(side) for side in (left, right))
        return spearman(pair_cosines(*sides, rows, rows), judged)

    rows: dict[str, list[float]] = {}
    print(f"{_called(model):24}  {'before':>8}  " + "  ".join(f"{plan:>8}" for plan in _PLANS))
    for name, texts in _corpora(folder).items():
        found = add_up([encoder.encode(texts)])
        maps = [Transform(), *(fit(found, **options) for fit, options in _PLANS.values())]
        rows[name] = [agreement(map) for map in maps]
        print(f"{name:24}  " + "  ".join(f"{value:8.4f}" for value in rows[name]), flush=True)
        for plan, value in zip(("before", *_PLANS), rows[name], strict=True):
            figure(f"STS-B, {_called(model)}, {name}, {plan}", value)
    shown = {name: [f"{value:.4f}" for value in row] for name, row in rows.items()}
    grid(f"STS-B, Spearman, {_called(model)}", ["before", *_PLANS], shown)


def _called(model: str) -> str:
    return Path(model).parent.name or model


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _corpora(folder: Path) -> dict[str, list[str]]:
    pairs = _rows(folder / "stsb" / "stsb-en-dev.csv")
    captions = (folder / "multi30k" / "train.en").read_text(encoding="utf-8").splitlines()
    texts = {
        "stsb-dev": [text for pair in pairs for text in pair[:2]],
        "ag_news": [f"{title} {text}" for _, title, text in _rows(folder / "ag_news" / "test.csv")],
        "banking77": [row[0] for row in _rows(folder / "banking77" / "train.csv")[1:]],
        "multi30k": captions,
    }
    return {name: list(dict.fromkeys(several))[:_TEXTS] for name, several in texts.items()}


def _cost(count: int, runs: int) -> None:
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as place:
        db, array = Path(place, "many.db"), Path(place, "many.npy")
        vectors = rng.standard_normal((count, 384), np.float32)
        vectors *= np.geomspace(1, 0.1, 384, dtype=np.float32)
        vectors += np.float32(0.3)
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
    ratio("embcli / sklearn", costs["embcli whiten fit"], costs["sklearn PCA"], "CPU <= 2")


if __name__ == "__main__":
    main()
