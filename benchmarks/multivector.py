r"""Searches where every token has a vector: exact MaxSim, and MUVERA with re-ranking.

Claims: the exact search takes no more than 1.4 times the CPU seconds of NumPy on a file mapped into
memory (which has no filters, no ties by id and no float64); through encodings, 64 candidates for
each result, recall@10 of exact is at least .97 at no more than .35 of its CPU seconds, with ten
thousand records; what is left falls with their number.

The vectors are those of the tokens of a retrieval set (`--set`, `--model`), repeated with noise of
their own covariance, half as large, until there are enough records; queries are the set's own.
Everything is in one process, with files in the page cache and one query at a time.

    OPENBLAS_NUM_THREADS=1 python benchmarks/multivector.py --model PATH --records 10000 \
        --kind bits2 --oversample 64
"""

import argparse
import json
from itertools import cycle
from pathlib import Path

import numpy as np
from corpora import BEIR, texts
from measure import alternate, figure, inside, ratio, table
from numpy.typing import NDArray

from embcli import Recipe, Record, Store, load_encoder
from embcli.encoders import EncoderOptions
from embcli.pipelines.multivector import nearest
from embcli.pipelines.muvera import decide
from embcli.store import Chunks, Collection
from embcli.store.chunks import TOKENS

K = 10
RECORDS = 500  # written at once
Sets = list[NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--set", default="cranfield")
    parser.add_argument("--model", default="static")
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kind", help="of embcli compress; by default what it decides")
    parser.add_argument("--oversample", type=int)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/embcli-multivector"))
    parser.add_argument("--sentence-transformers", action="store_true", help="as a peer, too")
    arguments = parser.parse_args()

    folder = arguments.cache / f"{arguments.set}-{Path(arguments.model).name}-{arguments.records}"
    folder.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(arguments.model, EncoderOptions(pooling="none"))
    if not (folder / "lengths.npy").exists():
        seeds = [t.vectors for t in encoder.encode_tokens(texts([arguments.set]))]
        fill(folder, [vectors for vectors in seeds if len(vectors)], arguments.records)
    asked = [json.loads(line)["text"] for line in (BEIR / arguments.set / "queries.jsonl").open()]
    queries = [t.vectors for t in encoder.encode_tokens(asked[: arguments.queries], "query")]
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    lengths = np.load(folder / "lengths.npy")
    starts = np.cumsum(lengths) - lengths

    with Store(folder / "embcli.db") as store:
        collection = store.collection("default")
        collection.set_coding(decide(collection, arguments.kind, arguments.oversample))
    with Store(folder / "embcli.db", readonly=True) as store, store.snapshot():
        collection = store.collection("default")
        coding = collection.coding
        print(f"{len(lengths):,} records, {len(vectors):,} vectors of {vectors.shape[1]}: {coding}")
        turns = cycle(queries)
        sides = {
            "NumPy, memmap": lambda: inside(lambda: by_numpy(vectors, starts, next(turns))),
            "embcli exact": lambda: inside(lambda: found(collection, next(turns), True)),
        }
        if coding is not None and coding.kind is not None:
            sides["embcli MUVERA"] = lambda: inside(lambda: found(collection, next(turns), False))
        if arguments.sentence_transformers:
            peer = sentence_transformers(vectors, starts)
            sides["sentence-transformers"] = lambda: inside(lambda: peer(next(turns)))
        costs = alternate(sides, arguments.runs)
        table(f"one query of {arguments.set}, median of {arguments.runs}", costs)
        exact = costs["embcli exact"]
        ratio("exact / NumPy", exact, costs["NumPy, memmap"], "CPU <= 1.4")
        right = [found(collection, query, True) for query in queries]
        plain = [{f"r{i}" for i in by_numpy(vectors, starts, query)} for query in queries]
        same = np.mean([len(a & b) / K for a, b in zip(right, plain, strict=True)])
        print(f"exact and NumPy share {same:.4f} of their results")
        if "embcli MUVERA" in costs:
            ratio("MUVERA / exact", costs["embcli MUVERA"], exact, "CPU <= .35")
            near = [found(collection, query, False) for query in queries]
            recall = np.mean([len(a & b) / K for a, b in zip(right, near, strict=True)])
            figure(f"recall@{K} of MUVERA", recall)
            size = store._db.value("SELECT sum(length(codes)) FROM encodings")
            print(
                f"recall@{K} {recall:.4f} of exact, estimated {coding.recall:.4f} (claim: >= .97); "
                f"encodings {size / 2**20:.0f} MiB, vectors {vectors.nbytes / 2**20:.0f} MiB"
            )
        if arguments.sentence_transformers:
            ratio("sentence-transformers / exact", costs["sentence-transformers"], exact, "> 1")


def fill(folder: Path, seeds: Sets, count: int) -> None:
    """Write as many records as are wanted into a store, and their vectors into a file."""
    rng = np.random.default_rng(1)
    every = np.concatenate(seeds)
    spread = np.linalg.cholesky(np.cov(every.T) + 1e-9 * np.eye(every.shape[1])).astype(np.float32)
    chosen = [seeds[i % len(seeds)] for i in range(count)]
    total, dim = sum(map(len, chosen)), every.shape[1]
    out = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (total, dim))
    recipe = {"model": "real", "dim": dim, "pooling": "none", "normalized": True, "maps": []}
    start = 0
    with Store(folder / "embcli.db") as store:
        collection = store.create_collection("default", Recipe(recipe), None, TOKENS)
        for first in range(0, count, RECORDS):
            made = {}
            records = []
            for i in range(first, min(first + RECORDS, count)):
                part = chosen[i].copy()
                if i >= len(seeds):
                    noise = rng.standard_normal(part.shape, dtype=np.float32) @ spread.T
                    part += np.float32(0.5) * noise
                part /= np.linalg.norm(part, axis=1, keepdims=True)
                out[start : start + len(part)] = part
                start += len(part)
                records.append(Record(f"r{i}", f"record number {i}"))
                made[records[-1].hash] = Chunks(part, np.zeros((len(part), 2), np.int64))
            collection.write(records, made)
    out.flush()
    np.save(folder / "lengths.npy", [len(vectors) for vectors in chosen])


def by_numpy(
    vectors: NDArray[np.float32], starts: NDArray[np.int64], query: NDArray[np.float32]
) -> list[int]:
    """Search a file mapped into memory, as plainly as can be without using all memory."""
    scores = np.empty(len(starts), np.float32)
    for first in range(0, len(starts), 64):
        bounds = np.append(starts, len(vectors))[first : first + 65]
        products = vectors[bounds[0] : bounds[-1]] @ query.T
        best = np.maximum.reduceat(products, bounds[:-1] - bounds[0], axis=0)
        scores[first : first + 64] = best.sum(axis=1)
    return np.argsort(-scores)[:K].tolist()


def found(collection: Collection, query: NDArray[np.float32], exact: bool) -> set[str]:
    (results,) = nearest(collection, [query], K, exact=exact)
    return {item.record.id for item in results}


def sentence_transformers(vectors: NDArray[np.float32], starts: NDArray[np.int64]):
    """Make a search by the similarity function of its multi-vector encoders, all in memory."""
    import torch
    from sentence_transformers.util import maxsim

    tensor = torch.from_numpy(np.array(vectors))
    documents = list(torch.tensor_split(tensor, torch.from_numpy(starts[1:])))
    return lambda query: maxsim([torch.from_numpy(query)], documents).topk(K)


if __name__ == "__main__":
    main()
