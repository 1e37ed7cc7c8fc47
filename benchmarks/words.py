"""Analogies are answered faster than by gensim, with the same answers.

Peer: gensim's KeyedVectors.evaluate_word_analogies on the same 13,784 vectors and 19,544
questions, every word being a possible answer. Both hold the vectors in memory; one process, the
BLAS of each limited alike. Prints accuracy and Spearman of both, too.

    python benchmarks/words.py ../shared/data/words
"""

import argparse
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measure import alternate, figure, inside, ratio, require, table

from embcli import Recipe, Record, Store
from embcli.pipelines.evaluate_words import evaluate_words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="with gnews13k.npz and questions-words.txt")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    require("gensim", "gensim")
    from gensim.models import KeyedVectors

    questions = arguments.folder / "questions-words.txt"
    with np.load(arguments.folder / "gnews13k.npz") as data:
        words, vectors = data["words"].tolist(), data["vecs"]
    peer = KeyedVectors(vectors.shape[1])
    peer.add_vectors(words, vectors)
    found = {}
    with TemporaryDirectory() as folder:
        db = Path(folder, "words.db")
        recipe = Recipe({"model": "gnews", "dim": 300, "normalized": False, "maps": []})
        with Store(db) as store:
            records = [Record(word, word) for word in words]
            store.create_collection("gnews", recipe).add(records, vectors)

        def ours() -> None:
            figures = evaluate_words([questions], db=db, collection="gnews")
            found["embcli eval words"] = figures[-1].value or math.nan

        def theirs() -> None:
            accuracy, _ = peer.evaluate_word_analogies(
                str(questions), restrict_vocab=len(words), case_insensitive=False
            )
            found["gensim"] = accuracy

        sides = {
            "embcli eval words": lambda: inside(ours),
            "gensim": lambda: inside(theirs),
        }
        costs = alternate(sides, arguments.runs, warm=False)
    table(f"19,544 analogies, median of {arguments.runs}", costs)
    print(", ".join(f"{name}: {accuracy:.4f}" for name, accuracy in found.items()))
    figure("accuracies differ by", abs(found["gensim"] - found["embcli eval words"]))
    ratio("gensim / embcli", costs["gensim"], costs["embcli eval words"], ">= 20")


if __name__ == "__main__":
    main()
