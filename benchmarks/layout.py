"""UMAP of embcli beside umap-learn's: cost, and how much of the neighbourhoods is left.

Claims: with 20,000 captions, from vectors to a layout, neighbours included, embcli takes at most
half of the CPU seconds of umap-learn in a process of its own, as a command always is, with and
without a seed, and not more in one that has compiled everything already; and its trustworthiness
and 15-NN preservation are not below umap-learn's.

Vectors are those of all-MiniLM-L6-v2 of the first captions of Multi30k. `--vectors` takes others,
a .npy file. Sides take turns.

    NUMBA_NUM_THREADS=2 OPENBLAS_NUM_THREADS=1 python benchmarks/layout.py
"""

import argparse
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measure import cold, figure, grid, inside, leave, require, table

SIDES = ("embcli", "umap-learn, seeded", "umap-learn")
K = 15
_CAPTIONS = Path(__file__).resolve().parents[2] / "shared" / "data" / "multi30k" / "train.en"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--vectors", type=Path, help="a .npy file instead of captions")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        _run(options.side, np.load(options.vectors), options.out)
        return
    require("umap", "umap-learn")
    with TemporaryDirectory() as folder:
        _compare(_prepared(options.vectors, options.records, Path(folder)), Path(folder))


def _compare(vectors: Path, folder: Path) -> None:
    from embcli.core.knn import knn_graph
    from embcli.core.layout.quality import quality

    costs, warm = {}, {}
    rows = np.load(vectors)
    graph = knn_graph(rows, K, approximate=False).neighbours
    measured = {}
    # Numba keeps some of what it compiles for the next process; the first, a small one, does not
    # count.
    few = folder / "few.npy"
    np.save(few, rows[:500])
    for given in (few, vectors):
        for side in SIDES:
            out = folder / f"{side}.npy"
            arguments = ["--vectors", str(given), "--side", side, "--out", str(out)]
            cost, printed = cold([sys.executable, __file__, *arguments])
            if given is vectors:
                costs[side], warm[side] = cost, printed.split()
                measured[side] = quality(rows, graph, np.load(out), K, sample=2000)
    table(f"{len(rows):,} × {rows.shape[1]}, a process each, twice a layout", costs)
    for side in SIDES:
        print("{}: first layout {} s, CPU {} s; second {} s, CPU {} s".format(side, *warm[side]))
    for side, measures in measured.items():
        print(f"{side}: {', '.join(f'{name} {value:.4f}' for name, value, _ in measures)}")
    heads = ["first, wall s", "CPU s", "second, wall s", "CPU s"]
    kept = {side: {name: value for name, value, _ in of} for side, of in measured.items()}
    heads += list(kept[SIDES[0]])
    grid(
        f"{len(rows):,} × {rows.shape[1]}, two layouts in a process",
        heads,
        {side: [*warm[side], *(f"{value:.3f}" for value in kept[side].values())] for side in SIDES},
    )
    ours, theirs, unseeded = (np.array(warm[side], float) for side in SIDES)
    figure("umap-learn, seeded / embcli, cold: CPU", theirs[1] / ours[1])
    figure("umap-learn / embcli, cold: CPU", unseeded[1] / ours[1])
    figure("umap-learn, seeded / embcli, compiled: CPU", theirs[3] / ours[3])
    for name, value in kept["embcli"].items():
        best = max(kept[side][name] for side in SIDES[1:])
        figure(f"{name}, gain", value - best)
    print(
        f"ratio umap-learn seeded / embcli: cold wall {theirs[0] / ours[0]:.2f}, CPU "
        f"{theirs[1] / ours[1]:.2f} (claim: at least 2), warm wall {theirs[2] / ours[2]:.2f}, CPU "
        f"{theirs[3] / ours[3]:.2f} (claim: at least 1)"
    )


def _run(side: str, vectors: np.ndarray, out: Path) -> None:
    """Lay out twice in one process, imports within the first; print what each took."""
    warnings.simplefilter("ignore")
    layout = {
        "embcli": _ours,
        "umap-learn": lambda rows: _theirs(rows),
        "umap-learn, seeded": lambda rows: _theirs(rows, random_state=0),
    }[side]
    for _ in range(2):
        cost = inside(lambda: np.save(out, layout(vectors)))
        print(f"{cost.wall:.2f} {cost.cpu:.2f}")


def _ours(vectors: np.ndarray) -> np.ndarray:
    from embcli.core.knn import knn_graph
    from embcli.core.layout.umap import umap_layout

    return umap_layout(vectors, knn_graph(vectors, K - 1).neighbours)


def _theirs(vectors: np.ndarray, **seed: int) -> np.ndarray:
    import umap

    return umap.UMAP(metric="cosine", n_neighbors=K, **seed).fit_transform(vectors)


def _prepared(given: Path | None, count: int, folder: Path) -> Path:
    from embcli.core.cosine import unit32

    if given is not None:
        vectors = np.load(given)[:count]
    elif not _CAPTIONS.exists():
        leave(f"{_CAPTIONS} is not there: give vectors by --vectors FILE.npy")
    else:
        require("sentence_transformers", "sentence-transformers")
        from models import minilm
        from sentence_transformers import SentenceTransformer

        texts = list(dict.fromkeys(_CAPTIONS.read_text(encoding="utf-8").splitlines()))[:count]
        vectors = SentenceTransformer(str(minilm()), device="cpu").encode(texts)
    path = folder / "vectors.npy"
    np.save(path, unit32(vectors))
    return path


if __name__ == "__main__":
    main()
