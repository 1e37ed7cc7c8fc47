import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.core.quantize import BITS, Codes, Scorer, bytes_per_vector, errors, quantize

KINDS = pytest.mark.parametrize("kind", BITS)


def unit(x):
    x = np.asarray(x, np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)


def drawn(seed, n, dim):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 30),
    dim=st.integers(1, 40),
    kind=st.sampled_from(list(BITS)),
    size=st.sampled_from([1e-6, 1.0, 1e6]),
    tail=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_errors_are_within_the_bound(seed, n, dim, kind, size, tail):
    vectors = drawn(seed, n, dim) * np.float32(size)
    if tail:
        vectors **= 3
    vectors[::7] = 0
    queries = unit(drawn(seed + 1, 4, dim)).astype(np.float32)
    codes = quantize(vectors, kind)
    again = Codes.from_bytes(codes.to_bytes(), kind, n, dim)
    padding = n if kind == "bits1" else 1
    assert 0 <= len(codes.to_bytes()) - n * bytes_per_vector(kind, dim) < max(padding, 1)
    scores = Scorer(queries * 3)(again)
    alone = np.concatenate([Scorer(query[None] / 3)(again) for query in queries])
    assert alone.dtype == codes.scales.dtype == np.float32
    np.testing.assert_allclose(scores, alone, atol=1e-5)
    assert scores.shape == (4, n)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, queries @ again.vectors().T, atol=1e-5)
    exact = queries.astype(np.float64) @ unit(vectors).T
    assert (np.abs(scores - exact) <= errors(vectors, codes) + 1e-5).all()
    assert (scores[:, ::7] == 0).all()


@KINDS
def test_a_query_in_the_worst_direction_is_off_by_the_bound(kind):
    """Each by its own: the bound is no larger than it has to be."""
    vectors = np.float64([[1e-3], [1], [30], [0]]) * drawn(5, 4, 24)
    codes = quantize(vectors, kind)
    lost = unit(vectors) - codes.vectors()
    bounds = errors(vectors, codes)
    assert bounds.dtype == np.float32
    assert bounds[3] == 0
    off = np.einsum("ij,ij->i", unit(lost), unit(vectors)) - np.diag(unit(lost) @ codes.vectors().T)
    np.testing.assert_allclose(bounds, off, rtol=1e-5)


@KINDS
def test_a_vector_is_coded_alike_wherever_it_stands_and_however_long_it_is(kind):
    vectors = drawn(0, 9, 24)
    together = quantize(vectors, kind).vectors()
    for size in (4, 1 / 256):
        alone = [quantize(vector[None] * size, kind).vectors()[0] for vector in vectors]
        np.testing.assert_array_equal(together, alone)
    single, double = (quantize(vectors.astype(dtype), kind) for dtype in (np.float32, np.float64))
    assert single.to_bytes() == double.to_bytes()


@KINDS
def test_a_query_of_zeros_is_near_nothing(kind):
    codes = quantize(drawn(0, 9, 24), kind)
    for n in (1, 2):
        np.testing.assert_array_equal(Scorer(np.zeros((n, 24), np.float32))(codes), 0)


def test_what_is_hardly_below_zero_is_below():
    codes = quantize(np.float32([[1, -1, -1e-9, 1e-9]]), "bits1")
    assert codes.integers().tolist() == [[1, 0, 0, 1]]
    assert quantize(np.float32([[1, -1, -1e-9, 1e-9]]), "bits4").integers().tolist() == [
        [12, 3, 7, 8]
    ]


def test_int8_is_to_be_read_as_int8():
    codes = quantize(np.float32([[3, -4, 0]]), "int8")
    assert codes.packed.view(np.int8).tolist() == [95, -127, 0]
    np.testing.assert_allclose(codes.vectors(), [[0.6, -0.8, 0]], atol=0.004)


def test_every_bit_is_the_sign_of_what_the_ones_before_left():
    vectors = drawn(1, 50, 64)
    coded = {bits: quantize(vectors, f"bits{bits}") for bits in (1, 4)}
    levels = {bits: codes.integers() for bits, codes in coded.items()}
    np.testing.assert_array_equal(levels[1], vectors >= 0)
    residual = unit(vectors) * 8 / 0.3352  # in steps, of which each bit halves the range
    for number in range(4):
        sign = (levels[4].astype(int) >> (3 - number)) & 1
        clear = np.abs(residual) > 1e-4
        np.testing.assert_array_equal(sign[clear], (residual >= 0)[clear])
        residual -= np.where(sign, 1, -1) * 2.0 ** (2 - number)


@KINDS
def test_a_vector_scores_one_against_itself(kind):
    vectors = unit(drawn(2, 20, 128)).astype(np.float32)
    scores = np.diag(Scorer(vectors)(quantize(vectors, kind)))
    np.testing.assert_allclose(scores, 1, atol=1e-5 if kind != "int8" else 3e-3)


def test_more_bits_are_nearer():
    vectors, queries = drawn(3, 500, 384), unit(drawn(4, 20, 384)).astype(np.float32)
    exact = queries @ unit(vectors).T
    off = {kind: np.sqrt(np.mean((Scorer(queries)(quantize(vectors, kind)) - exact) ** 2))
           for kind in BITS}  # fmt: skip
    # For normal components: of what 1 bit gives, sqrt(pi/2 - 1), the rest by Max's table.
    assert off["bits1"] == pytest.approx((np.pi / 2 - 1) ** 0.5 / 384**0.5, rel=0.05)
    assert off["int8"] < off["bits4"] / 8 < off["bits2"] / 20 < off["bits1"] / 40
