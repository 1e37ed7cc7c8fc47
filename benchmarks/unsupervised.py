"""Maps without a single pair: words of two languages, and sentences of two encoders.

Claims: Spanish to English, word vectors of 50 components and no dictionary: P@1 by CSLS of at least
80 % on the full MUSE dictionary, in less than two minutes, from at least 4 of 5 seeds. Sentences,
one half of a corpus encoded by MiniLM and the other by the static model: from MiniLM to static at
least 76.6 % of held-out sentences come first and 97.4 % among ten, by cosine.

    OPENBLAS_NUM_THREADS=1 python benchmarks/unsupervised.py ../shared/data
"""

import argparse
import time
from pathlib import Path

import numpy as np
from measure import figure, grid
from models import minilm

from embcli import load_encoder
from embcli.core.alignment import Pairs, method
from embcli.core.alignment.confidence import confidence
from embcli.core.alignment.evaluation import translation
from embcli.core.matching import nearest

NONE = np.empty(0, np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--what", choices=["words", "sentences", "both"], default="both")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/embcli-unsupervised"))
    arguments = parser.parse_args()
    if arguments.what != "sentences":
        words(arguments.data / "bli" / "es-en", arguments.seeds)
    if arguments.what != "words":
        sentences(arguments.data / "multi30k", arguments.seeds, arguments.cache)


def words(folder: Path, seeds: int) -> None:
    (rows, source), (columns, target) = (vectors(folder / f"word2vec.{n}") for n in ("es", "en"))
    entries = [line.split() for line in (folder / "es-en.txt").read_text("utf-8").splitlines()]
    known = [(rows[a], columns[b]) for a, b in entries if a in rows and b in columns]
    gold = tuple(np.array(known).T)
    pairs = Pairs(source, target, NONE, NONE)
    print(f"{'es-en, seed':24} {'P@1':>6} {'wall s':>7} {'CPU s':>7} {'ratio':>6}")
    heads = ["P@1", "wall s", "CPU s", "ratio"]
    rows = {}
    for seed in range(seeds):
        map, wall, cpu = fitted("unsupervised", pairs, seed)
        score = 100 * translation(map, pairs, gold).precision[1]
        ratio = confidence(pairs, map, seed=seed).ratio
        print(f"{seed:<24} {score:6.1f} {wall:7.1f} {cpu:7.1f} {ratio:6.2f}", flush=True)
        rows[str(seed)] = score, wall, cpu, ratio
    grid("es-en, seed", heads, {seed: [f"{x:.2f}" for x in row] for seed, row in rows.items()})
    figure("es-en, share of seeds at 80 or more", np.mean([row[0] >= 80 for row in rows.values()]))
    figure("es-en, slowest, CPU s", max(row[2] for row in rows.values()))


def sentences(folder: Path, seeds: int, cache: Path) -> None:
    models = {"MiniLM": str(minilm()), "static": "static"}
    encoded = {name: encode(model, folder, cache / name) for name, model in models.items()}
    print(
        f"{'sentences, seed':24} {'top 1':>6} {'top 10':>6} {'wall s':>7} {'CPU s':>7} {'ratio':>6}"
    )
    heads = ["top 1", "top 10", "wall s", "CPU s", "ratio"]
    rows = {}
    for one, other in (("MiniLM", "static"), ("static", "MiniLM")):
        (train, test), (other_train, other_test) = encoded[one], encoded[other]
        half = len(train) // 2
        pairs = Pairs(train[:half], other_train[half:], NONE, NONE)
        for seed in range(seeds):
            map, wall, cpu = fitted("mini-vec2vec", pairs, seed)
            found = nearest(map.source.apply(test), map.target.apply(other_test), 10)
            right = found.ranks[found.rows == found.columns]
            first, ten = 100 * (right == 1).sum() / len(test), 100 * len(right) / len(test)
            ratio = confidence(pairs, map, seed=seed).ratio
            what = f"{one} to {other}, {seed}"
            rows[what] = first, ten, wall, cpu, ratio
            print(
                f"{what:24} {first:6.1f} {ten:6.1f} {wall:7.1f} {cpu:7.1f} {ratio:6.2f}", flush=True
            )
        there = [row for what, row in rows.items() if what.startswith(one)]
        figure(f"{one} to {other}, least top 1", min(row[0] for row in there))
        figure(f"{one} to {other}, least top 10", min(row[1] for row in there))
    shown = {what: [f"{x:.2f}" for x in row] for what, row in rows.items()}
    grid("sentences without pairs, seed", heads, shown)


def fitted(name, pairs, seed):
    wall, cpu = time.perf_counter(), time.process_time()
    map = method(name).fit(pairs, seed=seed)
    return map, time.perf_counter() - wall, time.process_time() - cpu


def vectors(path: Path):
    lines = path.read_text("utf-8").rstrip("\n").split("\n")[1:]
    cells = [line.rstrip().rsplit(" ", 50) for line in lines]
    places = {word: place for place, (word, *_) in enumerate(cells)}
    return places, np.array([numbers for _, *numbers in cells], np.float32)


def encode(model: str, folder: Path, cache: Path):
    """Encode the training captions and 1,000 held out; kept from run to run."""
    cache.mkdir(parents=True, exist_ok=True)
    parts = []
    for name in ("train.en", "test_2016_flickr.en"):
        path = cache / f"{name}.npy"
        if not path.exists():
            lines = (folder / name).read_text("utf-8").rstrip("\n").split("\n")
            np.save(path, load_encoder(model).encode(lines))
        parts.append(np.load(path))
    return parts


if __name__ == "__main__":
    main()
