"""Cold searches of large collections: through codes, exact, and by others.

Claims, at a million vectors: through codes recall@10 of exact is at least .99, at no more than .6
of the CPU seconds of the exact search and fewer than any other's; and the exact scan moves at least
half as many bytes a second as the memory gives.

The vectors are real ones (`--vectors`, or texts of the corpora encoded with `--model`), repeated
with noise of their own covariance, half as large, until there are enough. Every search is a new
process that looks for the ten nearest to a stored vector; files are in the page cache. Stores and
indexes are made once and kept in `--cache`. Peers run in `--peers-python`, an interpreter with
faiss-cpu, usearch, sqlite-vec and apsw (for a SQLite that loads extensions), which needs nothing of
embcli; those that are missing are left out.

    python benchmarks/large.py --peers-python /tmp/peers/bin/python
"""

import argparse
import sqlite3
from pathlib import Path
from subprocess import run as call

import numpy as np
from corpora import texts
from measure import Cost, alternate, cold, figure, inside, program, ratio, table
from numpy.typing import NDArray

from embcli import Recipe, Record, Store, load_encoder
from embcli.pipelines.compress import decide
from embcli.pipelines.search import nearest

K = 10
BLOCK = 8192
LOOK = 0.5  # where in the collection the record lies that is searched by
FIND = "; print(*ids[0])"
PEERS = {
    "NumPy, memmap": (
        "import numpy as np; x = np.load('vectors.npy', mmap_mode='r'); "
        "s = x @ np.load('query.npy')[0]; best = np.argpartition(-s, 11)[:11]; "
        "ids = [best[np.argsort(-s[best])]]"
    ),
    "FAISS flat": (
        "import faiss, numpy as np; index = faiss.read_index('flat.faiss'); "
        "_, ids = index.search(np.load('query.npy'), 11)"
    ),
    "FAISS HNSW": (
        "import faiss, numpy as np; index = faiss.read_index('hnsw.faiss'); "
        "_, ids = index.search(np.load('query.npy'), 11)"
    ),
    "usearch, mapped": (
        "import numpy as np; from usearch.index import Index; "
        "index = Index.restore('index.usearch', view=True); "
        "ids = [index.search(np.load('query.npy')[0], 11).keys]"
    ),
    "sqlite-vec": (
        "import apsw, numpy as np, sqlite_vec; db = apsw.Connection('vec.db'); "
        "db.enable_load_extension(True); db.load_extension(sqlite_vec.loadable_path()); "
        "ids = [[row for row, in db.execute('SELECT rowid FROM items WHERE vector MATCH ? AND "
        "k = 11 ORDER BY distance', (np.load('query.npy').tobytes(),))]]"
    ),
}
BUILD = {
    "flat.faiss": (
        "import faiss, numpy as np; x = np.load('vectors.npy', mmap_mode='r'); "
        "index = faiss.IndexFlatIP(x.shape[1]); index.add(x); "
        "faiss.write_index(index, 'flat.faiss')"
    ),
    "hnsw.faiss": (
        "import faiss, numpy as np; x = np.load('vectors.npy', mmap_mode='r'); "
        "index = faiss.IndexHNSWFlat(x.shape[1], 32, faiss.METRIC_INNER_PRODUCT); index.add(x); "
        "faiss.write_index(index, 'hnsw.faiss')"
    ),
    "index.usearch": (
        "import numpy as np; from usearch.index import Index; x = np.load('vectors.npy'); "
        "index = Index(ndim=x.shape[1], metric='ip'); index.add(np.arange(len(x)), x); "
        "index.save('index.usearch')"
    ),
    "vec.db": (
        "import apsw, numpy as np, sqlite_vec; x = np.load('vectors.npy', mmap_mode='r'); "
        "db = apsw.Connection('vec.db'); db.enable_load_extension(True); "
        "db.load_extension(sqlite_vec.loadable_path()); "
        "db.execute(f'CREATE VIRTUAL TABLE items USING vec0(vector float[{x.shape[1]}])'); "
        "db.execute('BEGIN'); db.executemany('INSERT INTO items(rowid, vector) VALUES (?, ?)', "
        "((i, row.tobytes()) for i, row in enumerate(x))); db.execute('COMMIT')"
    ),
}
GRAPHS = ("hnsw.faiss", "index.usearch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--model", default="static")
    parser.add_argument("--vectors", type=Path, help="real vectors of unit length, .npy")
    parser.add_argument("--queries", type=Path, help="real queries, .npy, for the recall")
    parser.add_argument("--kinds", default="automatic,int8", help="of embcli compress")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/embcli-large"))
    parser.add_argument("--peers-python")
    parser.add_argument("--no-graphs", action="store_true", help="HNSW takes long to build")
    arguments = parser.parse_args()

    seeds = np.load(arguments.vectors) if arguments.vectors else encoded(arguments.model)
    name = arguments.vectors.stem if arguments.vectors else arguments.model
    folder = arguments.cache / f"{Path(name).name}-{arguments.records}"
    folder.mkdir(parents=True, exist_ok=True)
    vectors = tiled(folder / "vectors.npy", seeds, arguments.records)
    np.save(folder / "query.npy", vectors[int(len(vectors) * LOOK)][None])

    kinds = arguments.kinds.split(",")
    stores = {kind: store(folder, vectors, kind) for kind in kinds}
    empty = store(folder, vectors[:10], "none", "empty.db")
    sides = {"embcli, ten records": search(empty, 5)}
    sides["embcli --exact"] = search(stores[kinds[0]], int(len(vectors) * LOOK), "--exact")
    for kind, path in stores.items():
        with Store(path, readonly=True) as opened:
            coding = opened.collection("default").coding
        print(f"{kind}: {coding}")
        sides[f"embcli, {coding.kind} {coding.oversample}k"] = search(
            path, int(len(vectors) * LOOK)
        )
    peers = built(folder, arguments.peers_python, arguments.no_graphs)
    sides |= {
        peer: ["sh", "-c", f'cd "{folder}" && exec "$0" -c "$1"', arguments.peers_python,
               PEERS[peer] + FIND]
        for peer in peers
    }  # fmt: skip
    found = {side: cold(command)[1].split() for side, command in sides.items()}
    best = found["embcli --exact"]
    for side, ids in found.items():
        print(f"{side}: {len(set(best).intersection(ids))} of the {K} nearest")
    costs = alternate(
        {side: lambda command=command: cold(command)[0] for side, command in sides.items()},
        arguments.runs,
    )
    table(f"{len(vectors):,} x {vectors.shape[1]}, median of {arguments.runs}", costs)

    start, exact, coded = list(costs.values())[:3]
    ratio("through codes / exact", coded, exact, "CPU <= .6")
    for peer in peers:
        ratio(f"{peer} / through codes", costs[peer], coded, "> 1")
    if peers:
        figure("least of peers / through codes, CPU", min(costs[p].cpu for p in peers) / coded.cpu)
    bandwidth(vectors, stores[kinds[0]], start, exact)
    queries = np.load(arguments.queries)[:200] if arguments.queries else unit(seeds[:200])
    recalls = {kind: recall(path, queries) for kind, path in stores.items()}
    for kind, value in recalls.items():
        print(f"recall@{K} of {kind}: {value:.4f} of exact (claim: >= .99)")
        figure(f"recall@{K} of {kind}", value)
    figure(f"least recall@{K}", min(recalls.values()))


def encoded(model: str) -> NDArray[np.float32]:
    return load_encoder(model).encode(texts())


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def tiled(path: Path, seeds: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Map a file of so many vectors into memory, made from real ones if it is not there."""
    if not path.exists():
        rng = np.random.default_rng(1)
        dim = seeds.shape[1]
        spread = np.linalg.cholesky(np.cov(seeds.T) + 1e-9 * np.eye(dim)).astype(np.float32)
        out = np.lib.format.open_memmap(path, "w+", np.float32, (count, dim))
        out[: len(seeds)] = unit(seeds[:count])
        for start in range(len(seeds), count, len(seeds)):
            part = out[start : start + len(seeds)]
            noise = rng.standard_normal(part.shape, dtype=np.float32) @ spread.T
            part[:] = unit(seeds[: len(part)] + np.float32(0.5) * noise)
        out.flush()
    return np.load(path, mmap_mode="r")


def store(folder: Path, vectors: NDArray[np.float32], kind: str, name: str = "") -> Path:
    path = folder / (name or f"{kind}.db")
    if path.exists():
        return path
    recipe = Recipe({"model": "real", "dim": vectors.shape[1], "normalized": True, "maps": []})
    with Store(path) as opened:
        collection = opened.create_collection("default", recipe)
        for start in range(0, len(vectors), BLOCK):
            block = np.asarray(vectors[start : start + BLOCK])
            numbers = range(start, start + len(block))
            records = [Record(str(i), f"record number {i}", {"n": i}) for i in numbers]
            collection.add(records, block)
        collection.set_coding(decide(collection, None if kind == "automatic" else kind))
        collection.update_codes()
    return path


def search(path: Path, like: int, *options: str) -> list[str]:
    return [
        program("embcli"), "search", "--like", str(like), "-k", str(K), "-f", "ids",
        "-d", str(path), *options,
    ]  # fmt: skip


def built(folder: Path, python: str | None, no_graphs: bool) -> list[str]:
    """Make the peers' files; tell which peers are ready."""
    if python is None:
        return []
    for name, code in BUILD.items():
        if not (folder / name).exists() and not (no_graphs and name in GRAPHS):
            call([python, "-c", code], cwd=folder, check=False)
    needed = dict(zip(list(PEERS)[1:], BUILD, strict=True))
    return [p for p in PEERS if p not in needed or (folder / needed[p]).exists()]


def bandwidth(vectors: NDArray[np.float32], path: Path, start: Cost, exact: Cost) -> None:
    """Compare the exact scan with reading as many bytes that lie in memory, and through SQLite."""
    held = np.asarray(vectors).reshape(-1)[: 1 << 28].copy()
    read = min(inside(lambda: held @ held).cpu for _ in range(5))
    memory = held.nbytes / read
    print(f"memory gives {memory / 1e9:.1f} GB/s")
    bare = [inside(lambda: read_blobs(path)) for _ in range(3)]
    rates = {
        "SQLite alone, CPU": vectors.nbytes / min(cost.cpu for cost in bare),
        "the exact scan, CPU": vectors.nbytes / (exact.cpu - start.cpu),
        "the exact scan, wall": vectors.nbytes / (exact.wall - start.wall),
    }
    for what, rate in rates.items():
        print(f"{what}: {rate / 1e9:.1f} GB/s, {rate / memory:.0%} (claim: >= 50 %)")
    share = rates["the exact scan, CPU"] / memory
    figure("exact scan, share of the memory's bandwidth, CPU", share)


def read_blobs(path: Path) -> None:
    """Read every vector as `Segments.scan` does, and do nothing with them."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA mmap_size = {1 << 40}")
    for (segment,) in connection.execute("SELECT key FROM segments").fetchall():
        with connection.blobopen("segments", "vectors", segment, readonly=True) as blob:
            while blob.read(3 << 17):
                pass
    connection.close()


def recall(path: Path, queries: NDArray[np.float32]) -> float:
    with Store(path, readonly=True) as opened, opened.snapshot():
        collection = opened.collection("default")
        both = [nearest(collection, queries, K, exact=exact) for exact in (True, False)]
    pairs = zip(*([{f.record.id for f in found} for found in side] for side in both), strict=True)
    return float(np.mean([len(right & found) / K for right, found in pairs]))


if __name__ == "__main__":
    main()
