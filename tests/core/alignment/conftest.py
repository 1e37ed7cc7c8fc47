"""Real vectors of two languages, and their dictionaries."""

from typing import NamedTuple

import numpy as np
import pytest

from embcli.core.alignment import Pairs
from tests.conftest import SHARED

BLI = SHARED / "bli" / "es-en"


class Bli(NamedTuple):
    """Pairs to fit to, and rows and columns of those to test with."""

    pairs: Pairs
    gold: tuple


def read_vectors(path):
    lines = path.read_text("utf-8").rstrip("\n").split("\n")[1:]
    cells = [line.rstrip().rsplit(" ", 50) for line in lines]
    places = {word: place for place, (word, *_) in enumerate(cells)}
    return places, np.array([numbers for _, *numbers in cells], np.float32)


def read_pairs(path, source, target):
    words = [line.split() for line in path.read_text("utf-8").splitlines()]
    known = [(source[a], target[b]) for a, b in words if a in source and b in target]
    return tuple(np.array(known, np.int64).T)


@pytest.fixture(scope="session")
def bli():
    """Spanish to English, MUSE's split."""
    if not BLI.exists():
        pytest.skip(f"{BLI} is absent")
    (spanish, x), (english, y) = (read_vectors(BLI / f"word2vec.{name}") for name in ("es", "en"))
    train, test = (
        read_pairs(BLI / f"es-en.{name}.txt", spanish, english) for name in ("0-5000", "5000-6500")
    )
    return Bli(Pairs(x, y, *train), test)
