"""Real spaces with known pairs, and how many of them a map finds."""

import numpy as np

from embcli import load_encoder
from embcli.core.alignment import Pairs
from embcli.core.matching import densities, nearest


def spanish_and_english(shared):
    """Word vectors with MUSE's dictionary: pairs to fit, and pairs of other words to test."""
    sides = [
        _word2vec(shared / "bli" / "es-en" / f"word2vec.{language}") for language in ("es", "en")
    ]
    (rows, source), (columns, target) = sides
    dictionaries = []
    for name in ("0-5000", "5000-6500"):
        text = (shared / "bli" / "es-en" / f"es-en.{name}.txt").read_text(encoding="utf-8")
        pairs = [line.split() for line in text.splitlines()]
        known = [(rows[a], columns[b]) for a, b in pairs if a in rows and b in columns]
        dictionaries.append(Pairs(source, target, *np.array(known).T))
    return dictionaries


def english_and_french(shared, n):
    """N captions and their translations to fit, and 1,000 others to test, in the static space."""
    encoder = load_encoder("static")
    parts = []
    for name, count in (("train", n), ("test_2016_flickr", 1000)):
        sides = []
        for language in ("en", "fr"):
            path = shared / "multi30k" / f"{name}.{language}"
            sides.append(encoder.encode(path.read_text(encoding="utf-8").split("\n")[:count]))
        parts.append(Pairs(*sides, np.arange(count), np.arange(count)))
    return parts


def found(map, pairs, csls=True):
    """Share of the sources for which a right target comes first among all targets, P@1."""
    source, target = (side.astype(np.float32) for side in (
        map.source.apply(pairs.source), map.target.apply(pairs.target)
    ))  # fmt: skip
    rows = np.unique(pairs.rows)
    density = None
    if csls:
        crowd = densities(nearest(source, target, 10), len(source))
        density = crowd[rows], densities(nearest(target, source, 10), len(target))
    best = nearest(source[rows], target, 1, density=density)
    right = np.isin(rows * len(target) + best.columns, pairs.rows * len(target) + pairs.columns)
    return right.mean()


def _word2vec(path):
    words, numbers = [], []
    for line in path.read_text(encoding="utf-8").split("\n")[1:]:
        if line:
            word, *values = line.rstrip().split(" ")
            words.append(word)
            numbers.append(values)
    return {word: row for row, word in enumerate(words)}, np.array(numbers, np.float32)
