import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.core.topk import DECIMALS, Shortlist, TopK


def brute_force(queries, vectors, k, threshold=None):
    """All cosines in float64, sorted; ties by key."""

    def unit(x):
        x = x.astype(np.float64)
        norms = np.linalg.norm(x, axis=1, keepdims=True)
        return np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)

    scores = np.round(unit(queries) @ unit(vectors).T, DECIMALS)
    results = []
    for row in scores:
        order = np.lexsort((np.arange(len(row)), -row))[:k]
        results.append([int(i) for i in order if threshold is None or row[i] >= threshold])
    return results


def in_blocks(queries, vectors, k, size, **options):
    top = TopK(queries, k, **options)
    for start in range(0, len(vectors), size):
        block = vectors[start : start + size]
        top.add(np.arange(start, start + len(block)), block)
    return [[int(c.keys[i]) for i in np.lexsort((c.keys, -c.scores))[:k]] for c in top.results()]


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 400),
    dim=st.integers(1, 24),
    k=st.integers(1, 40),
    size=st.integers(1, 100),
    n_queries=st.integers(1, 5),
    repeats=st.booleans(),
    unit=st.booleans(),
    threshold=st.sampled_from([None, -0.5, 0.0, 0.4]),
)
@settings(max_examples=300, deadline=None)
def test_equals_brute_force(seed, n, dim, k, size, n_queries, repeats, unit, threshold):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    if repeats:
        vectors = vectors[rng.integers(0, n, n)]
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = rng.normal(size=(n_queries, dim)).astype(np.float32)
    found = in_blocks(queries, vectors, k, size, unit=unit, threshold=threshold)
    assert found == brute_force(queries, vectors, k, threshold)


def test_ties_at_the_end_are_all_kept():
    vectors = np.tile(np.float32([[0.6, 0.8]]), (50, 1))
    top = TopK(np.float32([[1, 0]]), 3)
    top.add(np.arange(25), vectors[:25])
    top.add(np.arange(25, 50), vectors[25:])
    assert sorted(top.results()[0].keys.tolist()) == list(range(50))


def test_equal_vectors_tie_wherever_they_stand():
    rng = np.random.default_rng(0)
    vector = rng.normal(size=(1, 301)).astype(np.float32)
    query = rng.normal(size=(1, 301)).astype(np.float32)
    scores = set()
    for size in (1, 2, 3, 7, 64, 65):
        top = TopK(query, size)
        top.add(np.arange(size), np.tile(vector, (size, 1)))
        scores |= set(top.results()[0].scores.tolist())
    assert len(scores) == 1


def test_a_vector_of_zeros_scores_zero():
    top = TopK(np.float32([[1, 0]]), 2, unit=False)
    top.add(np.arange(2), np.float32([[0, 0], [-1, 0]]))
    (found,) = top.results()
    assert found.keys.tolist() == [0, 1]
    assert found.scores.tolist() == [0.0, -1.0]


def test_float16_storage_finds_what_float64_finds():
    rng = np.random.default_rng(1)
    exact = rng.normal(size=(3000, 64))
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    stored = exact.astype(np.float16).astype(np.float32)
    queries = rng.normal(size=(8, 64)).astype(np.float32)
    found = in_blocks(queries, stored, 10, 512, slack=1e-3)
    assert found == brute_force(queries, stored, 10)


def test_no_block_at_all():
    assert [len(c.keys) for c in TopK(np.ones((3, 2), np.float32), 5).results()] == [0, 0, 0]


@pytest.mark.parametrize("k", [1, 7, 100])
def test_queries_do_not_disturb_each_other(k):
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(2000, 16)).astype(np.float32)
    queries = rng.normal(size=(40, 16)).astype(np.float32)
    together = in_blocks(queries, vectors, k, 256, unit=False)
    alone = [in_blocks(q[None], vectors, k, 256, unit=False)[0] for q in queries]
    assert together == alone


def test_many_ties_are_broken_by_name_on_the_way(monkeypatch):
    monkeypatch.setattr("embcli.core.topk._MANY_TIES", 0)
    rng = np.random.default_rng(3)
    vectors = np.float32([[1, 0], [0.6, 0.8]])[rng.integers(0, 2, 3000)]
    names = {i: f"{(i * 7919) % 3000:04}" for i in range(3000)}
    queries = np.float32([[1, 0], [0, 1], [1, 1]])
    top = TopK(queries, 5, names=lambda keys: names)
    for start in range(0, 3000, 100):
        top.add(np.arange(start, start + 100), vectors[start : start + 100])
    scores = np.round(queries.astype(np.float64) @ vectors.T.astype(np.float64), 6)
    for row, found in zip(scores, top.results(), strict=True):
        expected = sorted(range(3000), key=lambda i: (-row[i], names[i]))[:5]
        assert len(found.keys) <= 40
        best = sorted(zip(-found.scores, [names[k] for k in found.keys.tolist()], strict=True))[:5]
        assert [name for _, name in best] == [names[i] for i in expected]


def test_what_is_better_than_many_ties_stays(monkeypatch):
    monkeypatch.setattr("embcli.core.topk._MANY_TIES", 0)
    vectors = np.tile(np.float32([[0.6, 0.8]]), (300, 1))
    vectors[[40, 250]] = [[1, 0], [0.8, 0.6]]
    names = {i: f"{(i * 7919) % 300:03}" for i in range(300)}
    top = TopK(np.float32([[1, 0]]), 5, names=lambda keys: {key: names[key] for key in keys})
    for start in range(0, 300, 60):
        top.add(np.arange(start, start + 60), vectors[start : start + 60])
    (found,) = top.results()
    ties = sorted(set(range(300)) - {40, 250}, key=names.get)
    assert sorted(found.keys.tolist()) == sorted([40, 250, *ties[:3]])


@pytest.mark.parametrize("unit", [True, False])
def test_vectors_are_compared_in_another_space(monkeypatch, unit):
    """And scored again a few pairs at a time."""
    monkeypatch.setattr("embcli.core.topk._PAIRS_AT_ONCE", 7)
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(12, 6))
    vectors = rng.normal(size=(400, 12)).astype(np.float32)
    queries = rng.normal(size=(3, 6)).astype(np.float32)

    def within(rows):
        mapped = rows @ matrix.astype(rows.dtype)
        return mapped / np.linalg.norm(mapped, axis=1, keepdims=True) if unit else mapped

    found = in_blocks(queries, vectors, 10, 64, unit=unit, within=within)
    assert found == brute_force(queries, vectors.astype(np.float64) @ matrix, 10)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 300),
    owners=st.integers(1, 60),
    dim=st.integers(1, 12),
    k=st.integers(1, 40),
    size=st.integers(1, 100),
    n_queries=st.integers(1, 4),
    repeats=st.booleans(),
    unit=st.booleans(),
    runs=st.booleans(),
    threshold=st.sampled_from([None, -0.5, 0.0, 0.4]),
    named=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_shared_keys_equal_brute_force(
    seed, n, owners, dim, k, size, n_queries, repeats, unit, runs, threshold, named
):
    """Vectors of one key lie together or anywhere, in one block or in several."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    if repeats:
        vectors = vectors[rng.integers(0, 1 + n // 4, n)]
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keys = rng.integers(0, owners, n) * 3
    keys = np.sort(keys) if runs else keys
    places = rng.permutation(n) + 1000
    queries = rng.normal(size=(n_queries, dim)).astype(np.float32)
    names = {int(key): f"{(int(key) * 7919) % 1009:04}" for key in keys}
    options = {"unit": unit, "threshold": threshold}
    with pytest.MonkeyPatch.context() as patch:
        if named:
            patch.setattr("embcli.core.topk._MANY_TIES", 0)
            options["names"] = lambda keys: names
        top = TopK(queries, k, shared=True, **options)
        for start in range(0, n, size):
            part = slice(start, start + size)
            top.add(keys[part], vectors[part], places[part])
        results = top.results()

    def exact(x):
        return x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)

    for row, found in zip(
        np.round(exact(queries) @ exact(vectors).T, DECIMALS), results, strict=True
    ):
        best = {}
        for i in sorted(range(n), key=lambda i: (-row[i], places[i])):
            best.setdefault(int(keys[i]), (row[i], int(places[i])))
        expected = [
            (key, score, place)
            for key, (score, place) in sorted(best.items(), key=lambda b: (-b[1][0], names[b[0]]))
            if threshold is None or score >= threshold
        ][:k]
        assert len(set(found.keys.tolist())) == len(found.keys) >= len(expected)
        columns = zip(found.keys.tolist(), found.scores.tolist(), found.places, strict=True)
        ours = sorted(columns, key=lambda c: (-c[1], names[c[0]]))[:k]
        assert [(key, place) for key, _, place in ours] == [
            (key, place) for key, _, place in expected
        ]
        np.testing.assert_allclose([c[1] for c in ours], [c[1] for c in expected], atol=2e-9)


def test_one_key_with_most_of_the_best_vectors_takes_one_place():
    rng = np.random.default_rng(4)
    query = np.float32([[1, 0, 0]])
    vectors = rng.normal(size=(6000, 3)).astype(np.float32)
    vectors[:5000, 0] = 50  # near the query, all of one key
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keys = np.concatenate([np.full(5000, 7), np.arange(100, 1100)])
    shuffled = rng.permutation(6000)
    keys, vectors = keys[shuffled], vectors[shuffled]
    top = TopK(query, 5, shared=True)
    for start in range(0, 6000, 512):
        top.add(keys[start : start + 512], vectors[start : start + 512])
    (found,) = top.results()
    best = {}
    for i in np.argsort(-vectors[:, 0].astype(np.float64), kind="stable").tolist():
        best.setdefault(int(keys[i]), i)
    assert len(found.keys) == 5
    assert dict(zip(found.keys.tolist(), found.places.tolist(), strict=True)) == dict(
        list(best.items())[:5]
    )


def test_vectors_are_called_by_their_number_unless_told():
    top = TopK(np.float32([[1, 0]]), 2, shared=True)
    top.add(np.array([5, 5, 6]), np.float32([[0, 1], [1, 0], [0, 1]]))
    top.add(np.array([], np.int64), np.empty((0, 2), np.float32))
    top.add(np.array([6, 7]), np.float32([[0.6, 0.8], [-1, 0]]))
    (found,) = top.results()
    assert sorted(zip(found.keys.tolist(), found.places.tolist(), strict=True)) == [(5, 1), (6, 3)]


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 300),
    owners=st.integers(1, 60),
    count=st.integers(1, 50),
    size=st.integers(1, 100),
    n_queries=st.integers(0, 4),
    levels=st.sampled_from([3, 50, 10**6]),
    shared=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_a_shortlist_has_the_best_keys_with_ties(
    seed, n, owners, count, size, n_queries, levels, shared
):
    rng = np.random.default_rng(seed)
    scores = np.float32(rng.integers(0, levels, (n_queries, n)) / levels)
    keys = rng.integers(0, owners, n) if shared else rng.permutation(n)
    places = rng.permutation(n) + 1000
    short = Shortlist(n_queries, count, shared=shared, slack=1e-9)
    for start in range(0, n, size):
        part = slice(start, start + size)
        short.add(keys[part], scores[:, part], places[part])
    results = short.results()
    assert len(short) == sum(len(found.keys) for found in results)
    assert len(results) == n_queries
    for row, found in zip(scores, results, strict=True):
        best = {}
        for key, score in zip(keys.tolist(), row.tolist(), strict=True):
            best[key] = max(score, best.get(key, 0))
        last = sorted(best.values(), reverse=True)[count - 1] if len(best) >= count else 0
        assert set(found.places.tolist()) == set(places[row >= last].tolist())
        assert (np.diff(found.scores) <= 0).all()


def test_a_shortlist_by_default():
    """Keys are all different, and what differs by rounding ties."""
    short = Shortlist(1, 2)
    scores = np.float32([[0.65, 0.7, 0.65 - 5e-6, 0.65 - 1e-4, 0.5]])
    short.add(np.array([1, 1, 2, 3, 4]), scores, np.arange(5))
    assert short.results()[0].places.tolist() == [1, 0, 2]
    short.add(np.array([9]), np.float32([[0.9]]), np.array([9]))
    assert len(short) == 4
    (found,) = short.results()
    assert found.places.tolist() == [9, 1]
    assert found.scores.dtype == np.float64
