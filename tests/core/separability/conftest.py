import csv

import numpy as np
import pytest

from embcli import load_encoder
from tests.conftest import SHARED


@pytest.fixture(scope="session")
def banking():
    """Questions of 77 intents in the static space: vectors, labels, texts."""
    if not SHARED.is_dir():
        pytest.skip("needs the project's shared data folder, which is not part of the repository")
    with (SHARED / "banking77" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    texts = [row["text"] for row in rows]
    labels = np.unique([row["category"] for row in rows], return_inverse=True)[1]
    return load_encoder("static").encode(texts, "document"), labels, texts


@pytest.fixture(scope="session")
def news():
    """News of four classes in the static space: vectors and labels."""
    if not SHARED.is_dir():
        pytest.skip("needs the project's shared data folder, which is not part of the repository")
    with (SHARED / "ag_news" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    labels = np.unique([row[0] for row in rows], return_inverse=True)[1]
    texts = [f"{title} {body}" for _, title, body in rows]
    return load_encoder("static").encode(texts, "document"), labels


@pytest.fixture
def blobs():
    """Make classes of Gaussians: blobs(sizes, dim, apart, seed) gives vectors and labels."""

    def make(sizes=(40, 25, 60), dim=6, apart=1.5, seed=0):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        means = apart * rng.normal(size=(len(sizes), dim))
        vectors = means[labels] + rng.normal(size=(len(labels), dim)) * rng.uniform(0.5, 2, dim)
        return vectors.astype(np.float32), labels

    return make
