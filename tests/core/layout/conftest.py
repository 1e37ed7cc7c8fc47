"""Vectors in a few groups, and their neighbours."""

import numpy as np
import pytest

from embcli.core.knn import knn_graph


def grouped(n=240, groups=4, dim=24, wide=0.12, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % groups
    vectors = np.eye(groups, dim)[labels] + wide * rng.normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.fixture(scope="session")
def groups():
    """Give vectors of length 1, labels, and the graph of 14 neighbours."""
    vectors, labels = grouped()
    return vectors, labels, knn_graph(vectors, 14).neighbours


def degenerate():
    """Name vectors that methods find hard."""
    rng = np.random.default_rng(1)

    def unit(vectors):
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    few = unit(rng.normal(size=(5, 6)))
    far = np.repeat(np.eye(3, 6), 40, axis=0)
    return {
        **{f"{n} rows": few[:n] for n in range(1, 6)},
        "all equal": np.repeat(few[:1], 60, axis=0),
        "two of them, and the rest equal": np.concatenate([few[:2], np.repeat(few[2:3], 60, 0)]),
        "three points, forty times each": far.astype(np.float32),
        "three groups far apart": unit(far + 1e-3 * rng.normal(size=far.shape)),
        "one dimension": unit(rng.normal(size=(30, 1))),
    }
