"""The Google News vectors and the published word lists."""

import json

import numpy as np
import pytest

from tests.conftest import SHARED


class News:
    """Word vectors, and lists of words."""

    def __init__(self):
        with np.load(SHARED / "words" / "gnews13k.npz") as data:
            self.vectors = data["vecs"]
            self.rows = {word: row for row, word in enumerate(data["words"].tolist())}
        self.weat = {name: self[words] for name, words in self.list("WEAT").items()}
        found = [pair for pair in self.list("definitional_pairs") if set(pair) <= set(self.rows)]
        self.pairs = np.stack([self[pair] for pair in found])
        specific = set(self.list("gender_specific_full"))
        professions = [word for word, *_ in self.list("professions")]
        self.neutral = [word for word in professions if word in self.rows and word not in specific]

    def list(self, name):
        return json.loads((SHARED / "debias" / f"{name}.json").read_text("utf-8"))

    def __getitem__(self, words):
        """Look up vectors; words that have none are left out."""
        words = words.split() if isinstance(words, str) else words
        return self.vectors[[self.rows[word] for word in words if word in self.rows]]


@pytest.fixture(scope="session")
def news():
    if not SHARED.is_dir():
        pytest.skip("needs the project's shared data folder, which is not part of the repository")
    return News()
