"""CSLS between two large sets: the best match of every vector among all of the other side.

Claims: `embcli.core.csls` takes at most half the CPU seconds of plain NumPy and fewer than FAISS,
finds the same matches and, at 100,000 × 100,000 × 300, peaks below 1 GiB.

The vectors are real ones (`--vectors`, an .npz with `vecs` or an .npy), repeated with noise of
their own covariance, half as large, until there are enough; the other side is the same again with
noise as large as they are, in another order. Every side is a new process, with as many threads as
there are cores. FAISS and NumPy need the mean of the ten nearest both ways and then the greatest
CSLS: three products of everything with everything, in blocks. FAISS finds the last as the greatest
inner product of (2 x, -1) and (y, r).

    python benchmarks/align.py --rows 20000
"""

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import Cost, alternate, cold, figure, ratio, require, table

K = 10
BLOCK = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    shared = Path(__file__).resolve().parents[2] / "shared" / "data" / "words" / "gnews13k.npz"
    parser.add_argument("--vectors", type=Path, default=shared)
    parser.add_argument("--rows", type=int, default=100_000, help="of each side")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], choices=["NumPy", "FAISS"])
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        found = SIDES[options.side]()
        Path(f"{options.side}.bin").write_bytes(found.tobytes())
        return
    require("faiss", "faiss-cpu")
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        made = make(options.vectors, options.rows)
        costs = alternate(
            {name: lambda name=name: side(name) for name in SIDES if name not in options.without},
            options.runs,
            warm=False,
        )
        table(f"CSLS, {made}", costs, options.rows)
        figure("peak MiB", costs["embcli"].peak)
        agreement()
    for peer in SIDES:
        if peer != "embcli" and peer in costs:
            ratio(f"{peer} / embcli", costs[peer], costs["embcli"], "at least 1")


def side(name: str) -> Cost:
    # embcli shares blocks among threads of its own, as its commands do; FAISS must not count the
    # seconds in which its threads wait for each other.
    env = {"embcli": {"OPENBLAS_NUM_THREADS": "1"}, "FAISS": {"OMP_WAIT_POLICY": "PASSIVE"}}
    return cold([sys.executable, str(Path(__file__).resolve()), "--side", name], env.get(name))[0]


def make(path: Path, rows: int) -> str:
    import numpy as np

    found = np.load(path)
    real = np.asarray(found["vecs"] if path.suffix == ".npz" else found, np.float32)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    spread = np.linalg.cholesky(np.cov(real.T) + 1e-9 * np.eye(real.shape[1])).astype(np.float32)

    def noisy(vectors, amount):
        noise = rng.standard_normal(vectors.shape, np.float32) @ spread.T
        near = vectors + np.float32(amount) * noise
        return near / np.linalg.norm(near, axis=1, keepdims=True)

    a = noisy(real[rng.integers(0, len(real), rows)], 0.5)
    np.save("a.npy", a)
    np.save("b.npy", noisy(a, 1)[rng.permutation(rows)], 0.5)
    return f"{rows:,} × {rows:,} × {real.shape[1]}"


def by_embcli():
    import numpy as np

    from embcli.core.csls import csls

    return csls(np.load("a.npy"), np.load("b.npy"), neighbourhood=K).columns


def by_numpy():
    import numpy as np

    a, b = np.load("a.npy"), np.load("b.npy")
    blocks = range(0, len(a), BLOCK)

    def density(x, y):
        means = np.empty(len(x), np.float32)
        for start in blocks:
            scores = x[start : start + BLOCK] @ y.T
            means[start : start + BLOCK] = np.partition(scores, -K, axis=1)[:, -K:].mean(axis=1)
        return means

    density(a, b)  # what CSLS of a pair also needs, and its order does not
    crowded = density(b, a)
    best = np.empty(len(a), np.int64)
    for start in blocks:
        scores = a[start : start + BLOCK] @ b.T
        best[start : start + BLOCK] = (2 * scores - crowded).argmax(axis=1)
    return best


def by_faiss():
    import faiss
    import numpy as np

    a, b = np.load("a.npy"), np.load("b.npy")

    def search(vectors, queries, k):
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return index.search(queries, k)

    search(b, a, K)  # as in by_numpy
    crowded = search(a, b, K)[0].mean(axis=1)
    longer = np.hstack([2 * a, np.full((len(a), 1), -1, np.float32)])
    return search(np.hstack([b, crowded[:, None]]), longer, 1)[1].ravel()


SIDES = {"embcli": by_embcli, "NumPy": by_numpy, "FAISS": by_faiss}


def agreement() -> None:
    import numpy as np

    ours = np.fromfile("embcli.bin", np.int64)
    least = 1.0
    for peer in Path().glob("*.bin"):
        if peer.stem != "embcli":
            same = (np.fromfile(peer, np.int64) == ours).mean()
            print(f"the same match as {peer.stem}: {same:.4%}")
            least = min(least, float(same))
    figure("least share of the same matches", least)


if __name__ == "__main__":
    main()
