"""`embcli import` of word2vec's files against gensim's `KeyedVectors.load_word2vec_format`.

The files have real words (those of the English captions of Multi30k, then numbered ones) and
random vectors, the text with six decimals. Every run is a process of its own. gensim keeps what
it loads in memory, or also saves it in its own format, which loads without parsing; embcli
stores it, with a full-text index of the words. "embcli, reading alone" is the reader without the
store. Claims, in CPU time: text at least 3x faster, with storing and all; binary at least 3x
faster read, but slower where it is also stored; and less memory, which does not grow with the
file.

    python benchmarks/import.py --peers-python /tmp/gensim/bin/python
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measure import Cost, alternate, cold, figure, program, ratio, table

BLOCK = 2_000
LOAD = (
    "import sys; from gensim.models import KeyedVectors; "
    "k = KeyedVectors.load_word2vec_format(sys.argv[1], binary=sys.argv[1].endswith('bin')); "
    "assert len(k) == int(sys.argv[2])"
)
SAVE = f"{LOAD}; k.save(sys.argv[3])"
READ = (
    "import sys; from embcli.formats.vectors import VectorOptions, open_vectors; "
    "assert sum(len(batch.ids) for batch in open_vectors(sys.argv[1], VectorOptions())) "
    "== int(sys.argv[2])"
)
CAPTIONS = Path(__file__).parents[2] / "shared" / "data" / "multi30k" / "train.en"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--words", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the files here")
    parser.add_argument("--peers-python", required=True)
    arguments = parser.parse_args()

    with TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        count = str(arguments.words)
        files = write(folder, arguments.words, arguments.dim)
        peer = [arguments.peers_python, "-c"]
        memory = []
        for kind, file in files.items():
            sides = {
                "embcli import": lambda file=file: imported(file),
                "embcli, reading alone": lambda file=file: cold(
                    [sys.executable, "-c", READ, str(file), count]
                )[0],
                "gensim, load": lambda file=file: cold([*peer, LOAD, str(file), count])[0],
                "gensim, load and save": lambda file=file: cold(
                    [*peer, SAVE, str(file), count, str(folder / "saved.kv")]
                )[0],
            }
            costs = alternate(sides, arguments.runs, warm=False)
            megabytes = file.stat().st_size / 1e6
            table(
                f"{kind}, {arguments.words:,} x {arguments.dim}, {megabytes:.0f} MB, median of "
                f"{arguments.runs}",
                costs,
                arguments.words,
            )
            ours, reading, load, save = costs.values()
            claimed = "> 3" if kind == "text" else "none"
            ratio(f"{kind}: gensim, load / embcli import", load, ours, claimed)
            ratio(f"{kind}: gensim, load and save / embcli import", save, ours, "none")
            ratio(f"{kind}: gensim, load / embcli, reading alone", load, reading, "> 3")
            memory.append(load.peak / ours.peak)
            print(f"ratio {kind}: memory, gensim / embcli import: {memory[-1]:.2f}")
        figure("least memory, gensim / embcli import", min(memory))


def imported(file: Path) -> Cost:
    store = file.with_suffix(".db")
    for old in file.parent.glob(f"{store.name}*"):
        old.unlink()
    return cold([program("embcli"), "import", str(file), "-d", str(store), "-q"])[0]


def write(folder: Path, count: int, dim: int) -> dict[str, Path]:
    """Write the same words as text and binary, with vectors that do not come from one another."""
    files = {"text": folder / f"{count}.vec", "binary": folder / f"{count}.bin"}
    if all(file.exists() for file in files.values()):
        return files
    words = list(dict.fromkeys(CAPTIONS.read_text().split()))[:count] if CAPTIONS.exists() else []
    words += [f"word{number}" for number in range(count - len(words))]
    rng = np.random.default_rng(1)
    with files["text"].open("w") as text, files["binary"].open("wb") as binary:
        text.write(f"{count} {dim}\n")
        binary.write(f"{count} {dim}\n".encode())
        for start in range(0, count, BLOCK):
            block = words[start : start + BLOCK]
            vectors = rng.standard_normal((len(block), dim), np.float32) * np.float32(0.1)
            for word, row in zip(block, vectors, strict=True):
                text.write(f"{word} {' '.join([f'{number:.6f}' for number in row.tolist()])}\n")
                binary.write(word.encode() + b" " + row.tobytes())
    return files


if __name__ == "__main__":
    main()
