"""Cold searches with a filter, from one record in a thousand to all of them.

Claims: exact results equal brute force over the records that pass, at every selectivity; with an
index on the field a filtered exact search takes no more CPU time than the unfiltered one plus a
tenth of a second for a million records, and the fewer pass, the less; it takes less than a flat
FAISS index with an ID selector.

A filter is on a number in the metadata: `random` has nothing to do with the query, `near` is the
rank of the record by its distance to it, so that "near" filters match what lies around the query
(correlated) and "far" ones what lies opposite (anti-correlated). Vectors are those of large.py.
Every search is a new process that looks for the ten nearest to a stored vector; files are in the
page cache. Peers hold the same numbers in a NumPy array and make a mask of it; they run in
`--peers-python`, an interpreter with faiss-cpu. A graph (HNSW) is built only if asked for.

    python benchmarks/filtered.py --records 1000000 --peers-python /tmp/peers/bin/python
"""

import argparse
import shutil
from pathlib import Path
from subprocess import run as call

import numpy as np
from large import BLOCK, LOOK, encoded, tiled, unit
from measure import Cost, alternate, cold, figure, program, ratio, table
from numpy.typing import NDArray

from embcli import Recipe, Record, Store
from embcli.pipelines.compress import decide
from embcli.pipelines.search import nearest

K = 10
SELECTIVITIES = (1.0, 0.5, 0.1, 0.01, 0.001)
MASK = (
    "import numpy as np; field, least, most = {field!r}, {least}, {most}; "
    "values = np.load(field + '.npy', mmap_mode='r'); mask = (values >= least) & (values < most); "
)
PEERS = {
    "NumPy, memmap": (
        "x = np.load('vectors.npy', mmap_mode='r'); q = np.load('query.npy')[0]; "
        "rows = np.flatnonzero(mask); "
        # Up to a tenth, reading rows is faster than reading everything.
        "s = x[rows] @ q if len(rows) < len(x) / 10 else (x @ q)[rows]; "
        "k = min(11, len(rows)); best = np.argpartition(-s, k - 1)[:k]; "
        "print(*rows[best[np.argsort(-s[best])]])"
    ),
    "FAISS flat, IDSelector": (
        "import faiss; index = faiss.read_index('flat.faiss'); "
        "bits = np.packbits(mask, bitorder='little'); "
        "selector = faiss.IDSelectorBitmap(bits); "
        "p = faiss.SearchParameters(sel=selector); "
        "print(*index.search(np.load('query.npy'), 11, params=p)[1][0])"
    ),
    "FAISS HNSW, IDSelector": (
        "import faiss; index = faiss.read_index('hnsw.faiss'); "
        "bits = np.packbits(mask, bitorder='little'); "
        "selector = faiss.IDSelectorBitmap(bits); "
        "p = faiss.SearchParametersHNSW(sel=selector, efSearch=128); "
        "print(*index.search(np.load('query.npy'), 11, params=p)[1][0])"
    ),
}
BUILD = {
    "flat.faiss": "IndexFlatIP(x.shape[1])",
    "hnsw.faiss": "IndexHNSWFlat(x.shape[1], 32, faiss.METRIC_INNER_PRODUCT)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--model", default="static")
    parser.add_argument("--vectors", type=Path, help="real vectors of unit length, .npy")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--filters", default="random,near,far")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/embcli-filtered"))
    parser.add_argument("--peers-python")
    parser.add_argument("--graphs", action="store_true", help="HNSW takes long to build")
    arguments = parser.parse_args()

    name = arguments.vectors.stem if arguments.vectors else Path(arguments.model).name
    folder = arguments.cache / f"{name}-{arguments.records}"
    folder.mkdir(parents=True, exist_ok=True)
    seeds = np.load(arguments.vectors) if arguments.vectors else encoded(arguments.model)
    vectors = tiled(folder / "vectors.npy", seeds, arguments.records)
    like = int(len(vectors) * LOOK)
    np.save(folder / "query.npy", vectors[like][None])
    fields = numbers(folder, vectors, like)
    plain, indexed = stores(folder, vectors, fields)
    peers = built(folder, arguments.peers_python, arguments.graphs)

    whole: Cost | None = None
    more, times = [], []
    recalls: list[float] = []
    for kind in arguments.filters.split(","):
        for share in SELECTIVITIES[kind != "random" :]:
            costs = compare(
                folder,
                vectors,
                like,
                fields,
                kind,
                share,
                plain,
                indexed,
                peers,
                arguments,
                recalls,
            )
            exact = costs["embcli exact, index"]
            whole = whole or costs["embcli exact, no filter"]
            ratio(f"{kind} {share:g}: with index / without filter", exact, whole, "<= 1 + .1 s")
            more.append(exact.cpu - whole.cpu)
            if "FAISS flat, IDSelector" in costs:
                times.append(costs["FAISS flat, IDSelector"].cpu / exact.cpu)
                ratio("FAISS flat / with index", costs["FAISS flat, IDSelector"], exact, "> 1")
    figure("least recall@10 of exact searches", min(recalls))
    figure("with index less without filter, most CPU s", max(more))
    if times:
        figure("least FAISS flat / with index, CPU", min(times))
    codes_recall(indexed, unit(np.array(seeds[:20])), len(vectors))


def numbers(folder: Path, vectors: NDArray[np.float32], like: int) -> dict[str, NDArray[np.int64]]:
    """Give every record a random number and its rank by distance to the query."""
    near = np.empty(len(vectors), np.int64)
    near[np.argsort(-(vectors @ vectors[like]), kind="stable")] = np.arange(len(vectors))
    made = {"near": near, "random": np.random.default_rng(2).permutation(len(vectors))}
    for field, values in made.items():
        np.save(folder / f"{field}.npy", values)
    return made


def stores(
    folder: Path, vectors: NDArray[np.float32], fields: dict[str, NDArray[np.int64]]
) -> tuple[Path, Path]:
    """Make a store, and one like it with indexes."""
    plain, indexed = folder / "plain.db", folder / "indexed.db"
    if not plain.exists():
        recipe = Recipe({"model": "real", "dim": vectors.shape[1], "normalized": True, "maps": []})
        near, random = (fields[field].tolist() for field in ("near", "random"))
        with Store(plain) as opened:
            collection = opened.create_collection("default", recipe)
            for start in range(0, len(vectors), BLOCK):
                block = np.asarray(vectors[start : start + BLOCK])
                records = [
                    Record(
                        str(i),
                        f"record number {i}",
                        {"title": f"about {i}", "near": near[i], "random": random[i]},
                    )
                    for i in range(start, start + len(block))
                ]
                collection.add(records, block)
            collection.set_coding(decide(collection, "int8", 4))
            collection.update_codes()
    if not indexed.exists():
        shutil.copy(plain, indexed)
        with Store(indexed) as opened:
            for field in ("near", "random"):
                opened.create_index(field)
    return plain, indexed


def compare(
    folder: Path,
    vectors: NDArray[np.float32],
    like: int,
    fields: dict[str, NDArray[np.int64]],
    kind: str,
    share: float,
    plain: Path,
    indexed: Path,
    peers: list[str],
    arguments: argparse.Namespace,
    recalls: list[float],
) -> dict[str, Cost]:
    """Measure all sides at one selectivity, and print what each found of what is right."""
    count = round(len(vectors) * share)
    field = "random" if kind == "random" else "near"
    least, most = (len(vectors) - count, len(vectors)) if kind == "far" else (0, count)
    where = f"{field} >= {least}" if kind == "far" else f"{field} < {most}"
    passing = np.flatnonzero((fields[field] >= least) & (fields[field] < most))
    right = brute(vectors, passing, like)

    def search(path: Path, *options: str) -> list[str]:
        return [
            program("embcli"), "search", "-q", "--like", str(like), "-k", str(K), "-f", "ids",
            "-d", str(path), *options,
        ]  # fmt: skip

    sides = {
        "embcli exact, no filter": search(plain, "--exact"),
        "embcli exact, no index": search(plain, "--exact", "--where", where),
        "embcli exact, index": search(indexed, "--exact", "--where", where),
        "embcli, no index": search(plain, "--where", where),
        "embcli, index": search(indexed, "--where", where),
    }
    mask = MASK.format(field=field, least=least, most=most)
    for peer in peers:
        sides[peer] = [
            "sh", "-c", f'cd "{folder}" && exec "$0" -c "$1"', arguments.peers_python,
            mask + PEERS[peer],
        ]  # fmt: skip
    print(f"\n{kind} {share:g}: {where}")
    for side, command in list(sides.items())[1:]:
        found = [int(id) for id in cold(command)[1].split()]
        found = [id for id in found if id not in (like, -1)][:K]
        recall = len({*found} & {*right}) / max(1, len(right))
        print(f"  {side}: recall@{K} {recall:.2f}")
        if side.startswith("embcli exact"):
            recalls.append(recall)
    costs = alternate(
        {side: lambda command=command: cold(command)[0] for side, command in sides.items()},
        arguments.runs,
    )
    table(f"{len(vectors):,} x {vectors.shape[1]}, {kind}, {len(passing):,} pass", costs)
    return costs


def brute(vectors: NDArray[np.float32], passing: NDArray[np.int64], like: int) -> list[int]:
    """Find the nearest of those that pass, ties by id."""
    query = vectors[like].astype(np.float64)
    scores = np.concatenate(
        [
            np.asarray(vectors[part], np.float64) @ query
            for part in np.array_split(passing, len(passing) // 65536 + 1)
        ]
    )
    rows = [row for row in np.argsort(-scores)[: K + 1].tolist() if passing[row] != like]
    return [int(passing[row]) for row in rows][:K]


def built(folder: Path, python: str | None, graphs: bool) -> list[str]:
    """Make the peers' files; tell which peers are ready."""
    if python is None:
        return []
    for name, index in BUILD.items():
        if not (folder / name).exists() and (graphs or name == "flat.faiss"):
            code = (
                f"import faiss, numpy as np; x = np.load('vectors.npy', mmap_mode='r'); "
                f"index = faiss.{index}; index.add(x); faiss.write_index(index, {name!r})"
            )
            call([python, "-c", code], cwd=folder, check=False)
    needed = dict(zip(list(PEERS)[1:], BUILD, strict=True))
    return [p for p in PEERS if p not in needed or (folder / needed[p]).exists()]


def codes_recall(path: Path, queries: NDArray[np.float32], records: int) -> None:
    """Compare searches through codes with exact ones, for many queries."""
    with Store(path, readonly=True) as opened, opened.snapshot():
        collection = opened.collection("default")
        for share in SELECTIVITIES:
            wanted = collection.filter(f"random < {round(records * share)}")
            total = 0
            for query in queries:
                sides = [
                    {f.record.id for f in nearest(collection, query[None], K, wanted=wanted,
                                                  exact=exact)[0]}
                    for exact in (True, False)
                ]  # fmt: skip
                total += len(sides[0] & sides[1])
            print(f"through codes, {share:g} pass: recall@{K} {total / K / len(queries):.4f}")


if __name__ == "__main__":
    main()
