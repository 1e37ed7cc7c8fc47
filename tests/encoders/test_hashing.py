import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.encoders.hashing import HashEncoder

WORDS = st.text(alphabet="abcdeé日 ", min_size=1, max_size=40).filter(str.strip)


def slow(text, dim, n_min=3, n_max=5):
    """The same features one at a time, with Python's integers."""
    mask = 2**64 - 1
    text = f" {' '.join(text.lower().split())} "
    totals = [0.0] * dim
    for n in range(n_min, n_max + 1):
        for i in range(len(text) - n + 1):
            x = 0
            for character in text[i : i + n]:
                x = (x * 0x100000001B3 + ord(character)) & mask
            x = (x + n * 0x9E3779B97F4A7C15) & mask
            x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
            x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
            x ^= x >> 31
            totals[(x >> 1) % dim] += 1 - 2 * (x & 1)
    vector = np.sign(totals) * np.sqrt(np.abs(totals))
    return vector / (np.linalg.norm(vector) or 1)


@given(texts=st.lists(WORDS, min_size=1, max_size=4))
@settings(deadline=None)
def test_equals_the_slow_way(texts):
    expected = [slow(text, 64) for text in texts]
    np.testing.assert_allclose(HashEncoder(64).encode(texts), expected, atol=1e-6)


def test_is_the_same_everywhere():
    # Part of the space's identity: a change here makes stored vectors incomparable.
    vector = HashEncoder().encode(["The quick brown fox"])[0]
    assert np.flatnonzero(vector)[:6].tolist() == [3, 33, 39, 44, 50, 97]
    assert HashEncoder().recipe().hash.startswith("59fe05a84fae852e")


def test_nearness_follows_shared_letters():
    a, b, c = HashEncoder().encode(["colour television", "color televisions", "bond prices"])
    assert a @ b > 0.4 > a @ c


def test_many_texts_are_encoded_one_by_one():
    texts = [f"text number {i}" for i in range(600)]
    encoder = HashEncoder(128)
    together = encoder.encode(texts)
    np.testing.assert_array_equal(together[::97], encoder.encode(texts[::97]))


def test_short_or_no_text():
    vectors = HashEncoder().encode(["", "a"])
    assert not vectors[0].any()
    assert vectors[1].any()
