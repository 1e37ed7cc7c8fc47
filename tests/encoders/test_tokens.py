import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.encoders import EncoderOptions, load_encoder
from embcli.encoders.static import SPACE_MARK
from embcli.encoders.tokens import choose_tokens

PIECES = st.sampled_from(
    ["the ", "Measurement", " ", "  ", "\n", SPACE_MARK, "<s>", "été", "日本語", "🙂", "ÄÖÜ ", ".",
     "-- ", "http://a.b/c?d=e", "1234567", "ПРИВЕТ ", "MEASUREMENT ", "İ", "\u2003"]
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("static", EncoderOptions(pooling="none"))


def chosen(text, offsets, special=None, kind="document"):
    kept, spans = choose_tokens(text, offsets, special or [0] * len(offsets), kind)
    assert kept.sum() == len(spans)
    return [text[start:end] for start, end in spans.tolist()]


def test_documents_lose_punctuation_and_white_space():
    text = "a, b .\n"
    offsets = [(0, 1), (1, 2), (2, 4), (4, 6), (6, 7)]
    assert chosen(text, offsets) == ["a", "b"]
    assert chosen(text, offsets, kind="query") == ["a", ",", "b", "."]
    assert chosen(text, offsets, [1, 0, 0, 0, 0]) == ["b"]
    assert chosen("?!", [(0, 1), (1, 2)]) == ["?", "!"]
    assert chosen("", []) == []
    assert chosen("x", [(0, 0), (0, 1)]) == ["x"]


@given(text=st.lists(PIECES, max_size=12).map("".join), kind=st.sampled_from(["document", "query"]))
@settings(max_examples=150, deadline=None)
def test_static_tokens_cover_the_text(encoder, text, kind):
    (tokens,) = encoder.encode_tokens([text], kind)
    norms = np.linalg.norm(tokens.vectors, axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-6)
    covered = np.zeros(len(text), bool)
    for start, end in tokens.spans.tolist():
        assert 0 <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        covered[start:end] = True
    left = "".join(np.array(list(text))[~covered].tolist()).replace(SPACE_MARK, "")
    if kind == "query":
        assert not left.strip()
    else:
        assert all(c in " .-:/?=<>" or c.isspace() for c in left) or not covered.any()


def test_the_mean_of_static_tokens_points_where_the_pooled_vector_does():
    # Words without punctuation, and vectors before they are scaled.
    texts = ["the boundary layer of a wing", "Bond prices fell"]
    pooled, per_token = (
        load_encoder("static"),
        load_encoder("static", EncoderOptions(pooling="none")),
    )
    for text, expected, tokens in zip(
        texts, pooled.encode(texts), per_token.encode_tokens(texts), strict=True
    ):
        ids = pooled.tokenizer().encode(text, add_special_tokens=False).ids
        rows = pooled._table[ids].astype(np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        total = (tokens.vectors * lengths).sum(axis=0)
        np.testing.assert_allclose(total / np.linalg.norm(total), expected, atol=1e-5)
