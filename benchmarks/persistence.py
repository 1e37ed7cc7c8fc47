"""Persistence of components without labels: the exact spanning tree beside SciPy, and ripser.

Claims, for 10,000 questions of banking77 (directions of the static model, 256 components): the
tree takes at most 1/4 of the CPU seconds of SciPy's on the matrix of all distances and at most 1/10
of ripser's H0, in less than 1/4 of their memory, and gives the same bars. The score ranks 13
spaces of banking77-test, and of a third of AG News, as the Fisher ratio does, with Spearman's
correlation of at least .9; the figures for accuracies are printed beside it.

Every side of the first part is a new process. Peers run in `--peers-python`, an interpreter with
scipy and ripser, which needs nothing of embcli.

    OPENBLAS_NUM_THREADS=1 python benchmarks/persistence.py ../shared/data --peers-python PYTHON
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from measure import alternate, cold, figure, grid, leave, ratio, table
from models import minilm

from embcli import load_encoder
from embcli.core.classification import linear_probe
from embcli.core.correlation import spearman
from embcli.core.cosine import unit
from embcli.core.matching import nearest
from embcli.core.separability.persistence import persistence

EMBCLI = """
import numpy as np, sys
from embcli.core.separability.persistence import persistence
np.save(sys.argv[2], persistence(np.load(sys.argv[1])).times)
"""
PEERS = {
    "SciPy, all distances": """
import numpy as np, sys
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform
distances = squareform(pdist(np.load(sys.argv[1]).astype(np.float64)))
distances += 1  # 0 is no edge
np.save(sys.argv[2], np.sort(minimum_spanning_tree(distances, overwrite=True).data) - 1)
""",
    "ripser, H0": """
import numpy as np, sys
from ripser import ripser
np.save(sys.argv[2], np.sort(ripser(np.load(sys.argv[1]), maxdim=0)["dgms"][0][:-1, 1]))
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--peers-python")
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--what", choices=["speed", "ranks", "both"], default="both")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/embcli-persistence"))
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    if arguments.what != "ranks":
        if not arguments.peers_python:
            leave("name an interpreter that has scipy and ripser: --peers-python PYTHON")
        speed(arguments)
    if arguments.what != "speed":
        ranks(arguments)


def speed(arguments: argparse.Namespace) -> None:
    texts, _ = banking77(arguments.data, "train")
    vectors = unit(encoded("static", texts, arguments.cache / "train.npy"))[: arguments.records]
    path = arguments.cache / "vectors.npy"
    np.save(path, vectors.astype(np.float32))
    sides = {"embcli": [sys.executable, "-c", EMBCLI]}
    sides |= {name: [arguments.peers_python, "-c", code] for name, code in PEERS.items()}
    bars = {name: arguments.cache / f"bars-{i}.npy" for i, name in enumerate(sides)}
    costs = alternate(
        {
            name: lambda name=name, command=command: cold([*command, str(path), str(bars[name])])[0]
            for name, command in sides.items()
        },
        arguments.runs,
        warm=False,
    )
    table(f"bars of {len(vectors):,} x {vectors.shape[1]}", costs)
    found = np.load(bars["embcli"])
    apart = [float(np.abs(np.load(bars[name]) - found).max()) for name in PEERS]
    figure("bars differ by at most", max(apart))
    ours = costs["embcli"].peak
    figure("least memory of peers / embcli", min(costs[name].peak for name in PEERS) / ours)
    for name, claim in zip(PEERS, ("≥ 4", "≥ 10"), strict=True):
        print(f"{name}: bars differ by {np.abs(np.load(bars[name]) - found).max():.1e} at most")
        ratio(f"{name} / embcli", costs[name], costs["embcli"], claim)


def ranks(arguments: argparse.Namespace) -> None:
    news = list(csv.reader((arguments.data / "ag_news" / "test.csv").open(encoding="utf-8")))[::3]
    sets = {
        "banking77-test": banking77(arguments.data, "test"),
        "AG News": ([f"{title} {text}" for _, title, text in news], [row[0] for row in news]),
    }
    least = 1.0
    for name, (texts, classes) in sets.items():
        labels = np.unique(classes, return_inverse=True)[1]
        rows = {}
        for space, vectors in spaces(name, texts, arguments.cache).items():
            near = nearest(vectors, vectors, 1, twins=np.arange(len(vectors))).columns
            rows[space] = (
                persistence(vectors).score,
                fisher(vectors, labels),
                linear_probe(vectors, labels).accuracy,
                float((labels[near] == labels).mean()),
            )
        print(f"\n{name:18} {'score':>7} {'Fisher':>7} {'probe':>7} {'1-NN':>7}")
        for space, figures in rows.items():
            print(f"{space:18} {' '.join(f'{figure:7.3f}' for figure in figures)}")
        columns = list(zip(*rows.values(), strict=True))
        rhos = [spearman(columns[0], column) for column in columns]
        print(f"{'Spearman':18} {' '.join(f'{rho:7.3f}' for rho in rhos)}", flush=True)
        rows["Spearman"] = tuple(rhos)
        shown = {space: [f"{x:.3f}" for x in figures] for space, figures in rows.items()}
        grid(name, ["score", "Fisher", "probe", "1-NN"], shown)
        least = min(least, float(rhos[1]))
    figure("least Spearman with Fisher's ratio", least)


def spaces(name: str, texts: list[str], cache: Path) -> dict[str, np.ndarray]:
    """Two models, whole, truncated, and with noise of so many times their length added."""
    rng = np.random.default_rng(0)
    found = {}
    for model, path, dims, noises in (
        ("static", "static", (256, 128, 64, 32, 16), (0.3, 0.6, 1, 2)),
        ("MiniLM", str(minilm()), (384, 64), (0.5, 1)),
    ):
        vectors = encoded(path, texts, cache / f"{name}-{model}.npy")
        found |= {f"{model} {kept}": vectors[:, :kept] for kept in dims}
        noise = rng.normal(size=vectors.shape) / np.sqrt(vectors.shape[1])
        for much in noises:
            found[f"{model} + {much}"] = (unit(vectors) + much * noise).astype(np.float32)
    return found


def fisher(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Trace of the between-class scatter of directions by that within classes."""
    rows = unit(vectors)
    centres = np.stack([rows[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    between = np.square(centres[labels] - rows.mean(axis=0)).sum()
    return float(between / np.square(rows - centres[labels]).sum())


def banking77(data: Path, part: str) -> tuple[list[str], list[str]]:
    with (data / "banking77" / f"{part}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [text for text, _ in rows], [intent for _, intent in rows]


def encoded(model: str, texts: list[str], path: Path) -> np.ndarray:
    if not path.exists():
        np.save(path, load_encoder(model).encode(texts))
    return np.load(path)


if __name__ == "__main__":
    main()
