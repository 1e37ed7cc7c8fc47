import csv

import numpy as np
import pytest

from embcli import load_encoder
from embcli.core.alignment import Pairs
from embcli.core.alignment.simplex import _classes, simplex
from embcli.core.matching import nearest
from embcli.errors import InputError, UsageError


def clusters(count=5, n=200, dims=(8, 11), noise=1.0, seed=0):
    """Two spaces with clusters of the same classes, of other things and in other places."""
    rng = np.random.default_rng(seed)
    sides, labels = [], []
    for dim in dims:
        centres = 3 * rng.normal(size=(count, dim))
        labels.append(rng.integers(0, count, n))
        sides.append((centres[labels[-1]] + noise * rng.normal(size=(n, dim))).astype(np.float32))
    return Pairs(*sides, *same_class(*labels, n // 2)), labels


def same_class(left, right, n):
    """A chain of pairs through the members of every class among the first n of both sides."""
    rows, columns = [], []
    for label in np.unique(left[:n]):
        a, b = np.flatnonzero(left[:n] == label), np.flatnonzero(right[:n] == label)
        longest = max(len(a), len(b))
        rows.append(np.resize(a, longest))
        columns.append(np.resize(b, longest))
        rows.append(a)  # and all of them to the first one
        columns.append(np.full(len(a), b[0]))
        rows.append(np.full(len(b), a[0]))
        columns.append(b)
    return np.concatenate(rows), np.concatenate(columns)


def right_class(map, pairs, labels, start):
    """Share of the sources from `start` on whose nearest target from there on is of their class."""
    source = map.source.apply(pairs.source[start:]).astype(np.float32)
    target = map.target.apply(pairs.target[start:]).astype(np.float32)
    best = nearest(source, target, 1)
    return (labels[0][start:][best.rows] == labels[1][start:][best.columns]).mean()


def test_things_not_seen_come_to_their_class():
    pairs, labels = clusters()
    assert right_class(simplex(pairs), pairs, labels, 100) > 0.95


def test_means_of_classes_are_the_vertices_of_a_regular_simplex():
    pairs, labels = clusters(noise=0.05)
    map = simplex(pairs, ridge=1e-9)
    for side, transform, of in zip(
        (pairs.source, pairs.target), (map.source, map.target), labels, strict=True
    ):
        mapped = transform.apply(side[:100].astype(np.float64))
        means = np.array([mapped[of[:100] == label].mean(axis=0) for label in range(5)])
        cosines = means @ means.T / np.outer(*[np.linalg.norm(means, axis=1)] * 2)
        off = cosines[~np.eye(5, dtype=bool)]
        np.testing.assert_allclose(off, -1 / 4, atol=0.02)


def test_a_side_is_fitted_by_itself():
    """Another target leaves the source where it is, but for the order of the classes."""
    pairs, _ = clusters()
    one = simplex(pairs)
    other = simplex(pairs._replace(target=pairs.target[:, ::-1] * 2))
    assert (one.source.apply(pairs.source) == other.source.apply(pairs.source)).all()


def test_classes_are_what_pairs_connect():
    networkx = pytest.importorskip("networkx")
    rng = np.random.default_rng(0)
    for size in (5, 40, 60):
        ends = rng.integers(0, 50, (2, size))
        pairs = Pairs(np.zeros((50, 2), np.float32), np.zeros((50, 2), np.float32), *ends)
        rows, columns, labels = _classes(pairs)
        graph = networkx.Graph([(("a", a), ("b", b)) for a, b in ends.T.tolist()])
        names = [*(("a", row) for row in rows.tolist()), *(("b", row) for row in columns.tolist())]
        classes = {}
        for name, label in zip(names, labels.tolist(), strict=True):
            classes.setdefault(label, set()).add(name)
        expected = {frozenset(part) for part in networkx.connected_components(graph)}
        assert {frozenset(part) for part in classes.values()} == expected


def test_what_makes_no_sense_is_refused():
    pairs, _ = clusters()
    with pytest.raises(UsageError, match="ridge must be above 0"):
        simplex(pairs, ridge=0.0)
    single = pairs._replace(rows=np.arange(9), columns=np.arange(9))
    with pytest.raises(InputError, match="connect 9 sources and 9 targets to 9 classes"):
        simplex(single)
    with pytest.raises(InputError, match="to 1 class;"):
        simplex(single._replace(columns=np.zeros(9, np.int64)))


def test_intents_of_questions(shared):
    """Two encoders, other questions for each to fit, and others again to find each other."""
    with (shared / "banking77" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    _, of = np.unique([row["category"] for row in rows], return_inverse=True)
    orders = np.random.default_rng(0).permutation(len(rows)), np.random.default_rng(1)
    orders = orders[0], orders[1].permutation(len(rows))
    sides = [
        load_encoder(name).encode([rows[i]["text"] for i in order])
        for name, order in zip(("hash", "static"), orders, strict=True)
    ]
    labels = [of[order] for order in orders]
    pairs = Pairs(*sides, *same_class(*labels, 2000))
    assert right_class(simplex(pairs), pairs, labels, 2000) > 0.5
