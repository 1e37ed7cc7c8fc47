"""Near-duplicates of a collection: all pairs, exactly, beside FAISS, and beside SemHash.

Claims, at 100,000 records: `embcli dedup`, reading the store included, takes at most 1/4 of the CPU
seconds of FAISS's exact range search on the same vectors in memory, finds the same pairs (save for
those that float32 cannot tell from the threshold), and peaks below 1 GiB.

Vectors are of runs of words out of the corpora (`--model`), or real ones (`--vectors`, repeated as
in large.py). Every side is a new process. SemHash looks for neighbours in an approximate index,
so that what it keeps may hold duplicates; how many is printed. Peers run in `--peers-python`, an
interpreter with faiss-cpu and semhash, which needs nothing of embcli.

    python benchmarks/dedup.py --peers-python /tmp/peers/bin/python
"""

import argparse
from pathlib import Path
from subprocess import DEVNULL, run

import numpy as np
from corpora import sentences
from large import store, tiled, unit
from measure import alternate, cold, figure, leave, program, ratio, table

from embcli import load_encoder
from embcli.core.duplicates import NearPairs, star_groups

PEERS = {
    "FAISS flat range_search": """
import faiss, numpy as np, sys
x, t = np.load(sys.argv[1]), float(sys.argv[2])
index = faiss.IndexFlatIP(x.shape[1]); index.add(x)
pairs, dropped = 0, np.zeros(len(x), bool)
for start in range(0, len(x), 4096):
    lims, _, found = index.range_search(x[start:start + 4096], t)
    for i in range(len(lims) - 1):
        later = found[lims[i]:lims[i + 1]]; later = later[later > start + i]
        pairs += len(later)
        if not dropped[start + i]: dropped[later] = True
print(pairs, dropped.sum())
""",
    "SemHash (approximate)": """
import numpy as np, sys
from semhash import SemHash
x, t = np.load(sys.argv[1]), float(sys.argv[2])
found = SemHash.from_embeddings(x, [str(i) for i in range(len(x))], model=None)
kept = found.self_deduplicate(threshold=t).selected
np.save(sys.argv[3], np.array([int(i) for i in kept]))
print(0, len(x) - len(kept))
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--model", default="static")
    parser.add_argument("--vectors", type=Path, help="real vectors of unit length, .npy")
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/embcli-dedup"))
    parser.add_argument("--peers-python")
    parser.add_argument("--only-embcli", action="store_true", help="of many records")
    arguments = parser.parse_args()

    name = arguments.vectors.stem if arguments.vectors else Path(arguments.model).name
    folder = arguments.cache / f"{name}-{arguments.records}"
    folder.mkdir(parents=True, exist_ok=True)
    vectors = tiled(folder / "vectors.npy", seeds(arguments), arguments.records)
    path = store(folder, vectors, "none")
    sides = {"embcli dedup": command(path, arguments.threshold, folder)}
    if not arguments.only_embcli:
        sides |= peers(arguments.peers_python, folder, arguments.threshold)

    printed = {side: cold(words)[1].split() for side, words in sides.items()}
    costs = alternate(
        {side: lambda words=words: cold(words)[0] for side, words in sides.items()},
        arguments.runs,
        warm=False,
    )
    n = len(vectors)
    table(f"{n:,} x {vectors.shape[1]}, cosine >= {arguments.threshold}", costs)
    figure("peak MiB", costs["embcli dedup"].peak)
    mine = len((folder / "dropped").read_text().splitlines())
    print(f"embcli drops {mine:,} of {n:,}")
    for side in list(sides)[1:]:
        print(f"{side}: drops {int(printed[side][1]):,}")
        ratio(f"{side} / embcli", costs[side], costs["embcli dedup"], ">= 4, of FAISS")
    if not arguments.only_embcli:
        held = np.asarray(vectors)
        compare(held, arguments.threshold, int(printed["FAISS flat range_search"][0]))
        kept = folder / "kept.npy"
        if kept.exists():
            left = star_groups(held[np.load(kept)], arguments.threshold)
            missed = int((left.kept != np.arange(len(left.kept))).sum())
            print(f"of what SemHash keeps, {missed:,} are duplicates of others it keeps")


def seeds(arguments: argparse.Namespace) -> np.ndarray:
    if arguments.vectors:
        return np.load(arguments.vectors)
    kept = arguments.cache / f"{Path(arguments.model).name}-seeds.npy"
    count = min(arguments.records, 100_000)
    if not kept.exists() or len(np.load(kept, mmap_mode="r")) < count:
        np.save(kept, unit(load_encoder(arguments.model).encode(sentences(count, 0))))
    return np.load(kept)[:count]


def command(path: Path, threshold: float, folder: Path) -> list[str]:
    return [
        program("embcli"), "dedup", "-t", str(threshold), "-d", str(path), "-f", "ids",
        "-o", str(folder / "dropped"),
    ]  # fmt: skip


def peers(python: str | None, folder: Path, threshold: float) -> dict[str, list[str]]:
    if python is None:
        leave("the peers need an interpreter: --peers-python PYTHON, with faiss-cpu and semhash")
    needed = ("faiss", "semhash")
    found = [
        side
        for side, module in zip(PEERS, needed, strict=True)
        if run([python, "-c", f"import {module}"], stderr=DEVNULL, check=False).returncode == 0
    ]
    if "FAISS flat range_search" not in found:
        leave("faiss-cpu is not installed there")
    files = [str(folder / "vectors.npy"), str(threshold), str(folder / "kept.npy")]
    return {side: [str(python), "-c", PEERS[side], *files] for side in found}


def compare(vectors: np.ndarray, threshold: float, theirs: int) -> None:
    """Count the pairs, and those so near the threshold that float32 may err about them."""
    pairs = NearPairs(vectors, threshold - 1e-6)
    every = np.arange(len(vectors))
    found = sure = close = 0
    for start in range(0, len(vectors), 1024):
        for candidates in pairs.candidates(every[start : start + 1024], start, len(vectors)):
            cosines = pairs.among(*candidates)[2]
            found += int((cosines >= threshold).sum())
            sure += int((cosines > threshold + 1e-6).sum())
            close += int((cosines <= threshold + 1e-6).sum())
    print(f"pairs: embcli {found:,}, FAISS {theirs:,}; {close:,} within 1e-6 of the threshold")
    same = sure <= theirs <= sure + close
    figure("the same pairs", same)
    print(f"the same but for these: {'yes' if same else 'NO'}")


if __name__ == "__main__":
    main()
