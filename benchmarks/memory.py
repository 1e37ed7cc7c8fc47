"""`embcli encode` of a 2 GB file stays below 1 GB of memory.

Writes a JSON Lines file (id, a text of 50 to 400 characters made of real words, two fields of
metadata), encodes it with the default model in a process of its own, and deletes it all. There
is no peer: the claim is about memory.

    python benchmarks/memory.py
    python benchmarks/memory.py --gigabytes 0.1
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from corpora import texts
from measure import cold, figure, program, table

GIGA = 10**9
ROOM = 8  # the store takes about five times the file, its write-ahead log and index come to it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where to write")
    arguments = parser.parse_args()

    size = int(arguments.gigabytes * GIGA)
    free = shutil.disk_usage(arguments.folder).free
    if free < ROOM * size:
        print(
            f"{arguments.folder} has {free / GIGA:.1f} GB free, this needs "
            f"{ROOM * size / GIGA:.1f} GB: give another --folder or fewer --gigabytes",
            file=sys.stderr,
        )
        raise SystemExit(2)

    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        corpus, db = Path(name, "corpus.jsonl"), Path(name, "store.db")
        count = write_corpus(corpus, size)
        command = [program("embcli"), "encode", str(corpus), "-d", str(db)]
        cost, _ = cold(command)
        print(f"corpus {corpus.stat().st_size / GIGA:.2f} GB, {count:,} records")
        print(f"store {db.stat().st_size / GIGA:.2f} GB")

    table("embcli encode, one run", {"static": cost}, count)
    figure("peak GB", cost.peak * 2**20 / GIGA)
    print(f"peak memory {cost.peak * 2**20 / GIGA:.3f} GB (claim: < 1 GB)")


def write_corpus(path: Path, size: int) -> int:
    """Write records until the file has `size` bytes; return how many they are."""
    written = count = 0
    with path.open("wb") as out:
        for text in passages(seed=1):
            record = {
                "id": f"doc-{count}",
                "text": text,
                "year": 1950 + count % 75,
                "language": ("en", "fr", "de")[count % 3],
            }
            written += out.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            count += 1
            if written >= size:
                return count
    raise AssertionError("passages never end")


def passages(seed: int) -> Iterator[str]:
    """Put two places of running text together, 50 to 400 characters in all, without end."""
    running = " ".join(" ".join(texts()).split())
    rng = np.random.default_rng(seed)
    while True:
        lengths = rng.integers(35, 205, (10_000, 2))
        starts = rng.integers(0, len(running) - 205, (10_000, 2))
        for (a, b), (c, d) in zip(starts.tolist(), (starts + lengths).tolist(), strict=True):
            yield f"{whole_words(running[a:c])}. {whole_words(running[b:d])}"


def whole_words(text: str) -> str:
    """Drop the words that were cut at both ends, unless nothing else is there."""
    return text.partition(" ")[2].rpartition(" ")[0] or text


if __name__ == "__main__":
    main()
