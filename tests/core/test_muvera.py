import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.core.cosine import unit
from embcli.core.maxsim import maxsim
from embcli.core.muvera import Muvera


def by_loops(muvera, vectors, is_document):
    """The encoding as the paper has it, bucket by bucket, with the random numbers of `muvera`."""
    planes, projections, sketch = muvera._random
    width = min(muvera.width, muvera.dim)
    units = unit(vectors)
    blocks = []
    for r in range(muvera.repetitions):
        cut = planes[:, r * muvera.planes : (r + 1) * muvera.planes]
        project = np.eye(muvera.dim)
        if width < muvera.dim:
            project = projections[:, r * width : (r + 1) * width]
        buckets = [
            sum(int(side) << j for j, side in enumerate(x @ cut > 0))
            for x in units.astype(np.float32)
        ]
        for bucket in range(2**muvera.planes):
            inside = [x for x, number in zip(units, buckets, strict=True) if number == bucket]
            if inside:
                block = sum(inside) / (len(inside) if is_document else 1)
            elif is_document:
                distances = [(number ^ bucket).bit_count() for number in buckets]
                block = units[distances.index(min(distances))]
            else:
                block = np.zeros(muvera.dim)
            blocks.append(block @ project)
    encoding = np.concatenate(blocks) / np.sqrt(muvera.repetitions)
    if muvera.final is None:
        return encoding
    result = np.zeros(muvera.final)
    for value, place in zip(encoding, sketch, strict=True):
        result[abs(place) - 1] += np.sign(place) * value
    return result


@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.integers(2, 8),
    planes=st.integers(1, 4),
    repetitions=st.integers(1, 4),
    width=st.integers(1, 9),
    final=st.sampled_from([None, 7]),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
)
@settings(max_examples=80, deadline=None)
def test_equals_the_slow_way(seed, dim, planes, repetitions, width, final, sizes):
    muvera = Muvera(dim, planes, repetitions, width, final, seed)
    rng = np.random.default_rng(seed)
    sets = [rng.normal(size=(n, dim)).astype(np.float32) for n in sizes]
    for is_document, encode in enumerate((muvera.encode_queries, muvera.encode_documents)):
        encodings = encode(sets)
        assert encodings.shape == (len(sets), muvera.size)
        for encoding, vectors in zip(encodings, sets, strict=True):
            np.testing.assert_allclose(encoding, by_loops(muvera, vectors, is_document), atol=2e-5)


def sets_around(rng, n, size, dim=32):
    """Sets whose vectors come from a few places, as those of tokens do."""
    places = rng.normal(size=(40, dim))
    return [
        places[rng.integers(0, 40, size)] + 0.1 * rng.normal(size=(size, dim)) for _ in range(n)
    ]


def errors(muvera, queries, documents):
    exact = [[maxsim(unit(q), unit(d)) / len(q) for d in documents] for q in queries]
    found = muvera.encode_queries(queries) @ muvera.encode_documents(documents).T
    return found / len(queries[0]) - np.array(exact)


def test_products_approach_maxsim():
    rng = np.random.default_rng(0)
    queries, documents = sets_around(rng, 10, 6), sets_around(rng, 20, 12)
    spread = [errors(Muvera(32, 4, r, 8), queries, documents).std() for r in (1, 4, 16, 64)]
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] < spread[0] / 2
    # Finer buckets hold fewer vectors that are not the nearest.
    bias = [abs(errors(Muvera(32, p, 40, 32), queries, documents).mean()) for p in (1, 3, 6)]
    assert bias == sorted(bias, reverse=True)


def test_without_a_projection_products_are_never_above_maxsim():
    rng = np.random.default_rng(1)
    queries, documents = sets_around(rng, 10, 6), sets_around(rng, 20, 12)
    assert errors(Muvera(32, 3, 10, 32), queries, documents).max() < 1e-5


def test_a_set_is_like_itself():
    rng = np.random.default_rng(2)
    sets = sets_around(rng, 30, 8)
    muvera = Muvera(32, 5, 20, 16)
    scores = muvera.encode_queries(sets) @ muvera.encode_documents(sets).T
    assert (scores.argmax(axis=1) == np.arange(30)).all()
    # One vector alone is in every bucket of its own: nothing but the projection is approximate.
    alone = [vectors[:1] for vectors in sets]
    exact = Muvera(32, 5, 20, 32)
    products = (exact.encode_queries(alone) * exact.encode_documents(alone)).sum(axis=1)
    np.testing.assert_allclose(products, 1, atol=1e-5)


def test_the_last_projection_keeps_products_on_average():
    rng = np.random.default_rng(3)
    queries, documents = sets_around(rng, 4, 6), sets_around(rng, 4, 12)
    whole = Muvera(32, 4, 8, 8)
    exact = whole.encode_queries(queries) @ whole.encode_documents(documents).T
    # The same hyperplanes and projections, and sketches of many sizes.
    sketched = [Muvera(32, 4, 8, 8, final) for final in range(400, 440)]
    found = [m.encode_queries(queries) @ m.encode_documents(documents).T for m in sketched]
    # Of forty, the mean lies within four of its own standard errors.
    off = np.abs(np.mean(found, axis=0) - exact)
    assert (off < 4 * np.std(found, axis=0) / np.sqrt(40)).all()


def test_seeds_decide_for_ever():
    vectors = [np.arange(1, 13, dtype=np.float32).reshape(3, 4)]
    once, again, other = (
        Muvera(4, 2, 2, 2, 6, seed=seed).encode_documents(vectors) for seed in (5, 5, 6)
    )
    assert (once == again).all()
    assert not np.allclose(once, other)
    # Stores keep these: whoever changes them makes searches wrong.
    np.testing.assert_allclose(once[0], FROZEN, atol=1e-6)


FROZEN = (0.0, -1.3176441, -0.9341203, 0.8648132, -1.8257418, -0.1825742)


@pytest.mark.parametrize("width", [3, 4, 9])
def test_sizes(width):
    assert Muvera(4, 3, 5, width).size == 5 * 8 * min(width, 4)
    assert Muvera(4, 3, 5, width, 11).size == 11
