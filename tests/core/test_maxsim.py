import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.core.cosine import unit
from embcli.core.maxsim import MaxSim, matches, maxsim


def by_loops(query, vectors):
    """The definition: for every token of the query, the greatest cosine."""

    def cosine(x, y):
        x, y = x.astype(np.float64), y.astype(np.float64)
        norms = np.linalg.norm(x) * np.linalg.norm(y)
        return x @ y / norms if norms else 0.0

    return sum(max(cosine(q, v) for v in vectors) for q in query)


@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.integers(1, 9),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=8),
    block=st.integers(1, 9),
    scattered=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_blocks_give_what_loops_give(seed, dim, lengths, sizes, block, scattered):
    rng = np.random.default_rng(seed)
    queries = [rng.normal(size=(n, dim)).astype(np.float32) for n in lengths]
    keys = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    vectors = rng.normal(size=(len(keys), dim)).astype(np.float32)
    if seed % 2 == 0:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[rng.random(len(keys)) < 0.05] = 0
    if scattered:
        order = rng.permutation(len(keys))
        keys, vectors = keys[order], vectors[order]
    score = MaxSim(queries, unit_length=seed % 2 == 0)
    found = {}
    for start in range(0, len(keys), block):
        part = slice(start, start + block)
        last = ~np.isin(keys[part], keys[start + block :])
        done, scores = score.add(keys[part], vectors[part], last)
        assert not found.keys() & set(done.tolist())
        found |= dict(zip(done.tolist(), scores.T, strict=True))
    assert sorted(found) == list(range(1, len(sizes) + 1))
    for key, scores in found.items():
        own = vectors[keys == key]
        expected = [by_loops(query, own) for query in queries]
        np.testing.assert_allclose(scores, expected, atol=score.slack)
        exact = [maxsim(unit(query), unit(own)) for query in queries]
        np.testing.assert_allclose(exact, expected, atol=2e-9)


def test_a_query_finds_all_of_itself_in_itself():
    vectors = np.random.default_rng(0).normal(size=(12, 5))
    assert maxsim(unit(vectors), unit(vectors)) == 12
    which, cosines = matches(vectors, vectors[::-1])
    assert which.tolist() == list(range(12))[::-1]
    np.testing.assert_allclose(cosines, 1)


def test_vectors_are_of_any_length_unless_told():
    queries = [np.float32([[2, 0], [0, 3]]), np.float32([[1, 0]])]
    score = MaxSim(queries)
    assert 0 < score.slack < 1e-4
    vectors = np.float32([[0.6, 0.8], [0, 0.5]]) * 7
    keys, scores = score.add(np.array([4, 4]), vectors, np.array([True, True]))
    assert keys.tolist() == [4]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [[1.6], [0.6]], atol=1e-6)
    which, cosines = matches(queries[0], vectors)
    assert which.tolist() == [0, 1]
    np.testing.assert_allclose(cosines, [0.6, 1], atol=1e-6)
