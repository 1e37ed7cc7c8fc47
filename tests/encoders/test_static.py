import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.encoders import load_encoder, static
from embcli.encoders.static import StaticEncoder, _is_mostly_upper
from embcli.errors import ModelError

# What people paste: runs of spaces, the tokenizer's own space mark, control tokens, any script.
PIECES = st.one_of(
    st.sampled_from(
        ["the", "Measurement", " ", "  ", "    ", "\n", "\t", static.SPACE_MARK, "<s>", "</s>",
         "<unk>", "été", "日本語のテキスト", "🙂", "\x00", "ÄÖÜ", "def f(x):", "http://a.b/c?d=e",
         "1234567", "ПРИВЕТ"]
    ),
    st.text(max_size=12),
)  # fmt: skip
TEXTS = st.lists(PIECES, min_size=1, max_size=12).map("".join).filter(str.strip)


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("static")


def plain_mean(encoder, text):
    """Tokenize the whole text at once and average: the definition, without the word cache."""
    ids = encoder._tokenizer.encode(text.strip(), add_special_tokens=False).ids
    mean = encoder._table[ids].astype(np.float64).mean(axis=0)
    return mean / np.linalg.norm(mean)


@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_equals_the_plain_mean_of_all_tokens(encoder, texts):
    texts = [text.lower() for text in texts]
    expected = [plain_mean(encoder, text) for text in texts]
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=2e-6)


@given(text=TEXTS)
@settings(deadline=None)
def test_counts_the_tokens_of_the_whole_text(encoder, text):
    whole = encoder._tokenizer.encode(text.strip(), add_special_tokens=False)
    assert encoder.count_tokens([text]).tolist() == [len(whole.ids)]


def test_no_token_spans_the_start_of_a_word(encoder):
    # The word cache rests on this property of the vocabulary.
    mark = static.SPACE_MARK
    assert not [token for token in encoder._tokenizer.get_vocab() if mark in token.lstrip(mark)]


def test_equals_wordllama_itself(encoder):
    # An independent implementation of the same mean, fed the same packaged files.
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    weights, tokenizer = encoder._files
    peer = WordLlamaInference(
        np.array(static._read_table(weights)), Tokenizer.from_file(str(tokenizer))
    )
    texts = ["The central bank raised its key rate.", "a  b", "Grüße aus Köln", "x" * 3000]
    np.testing.assert_allclose(encoder.encode(texts), peer.embed(texts, norm=True), atol=2e-6)


def test_a_vector_depends_on_its_text_alone(encoder):
    texts = ["first text", "second, rather longer text here", "first text", "third"]
    together = encoder.encode(texts)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_array_equal(StaticEncoder().encode([text])[0], vector)


@given(texts=st.lists(TEXTS, min_size=1, max_size=8), per_line=st.integers(1, 4))
@settings(deadline=None)
def test_tokenizing_words_by_the_line_changes_nothing(encoder, texts, per_line):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(static, "_WORDS_PER_LINE", per_line)
        fresh = StaticEncoder()
        counts = fresh.count_tokens(texts)
        vectors = fresh.encode(texts)
    whole = [encoder._tokenizer.encode(t.strip(), add_special_tokens=False) for t in texts]
    assert counts.tolist() == [len(encoding.ids) for encoding in whole]
    np.testing.assert_allclose(vectors, encoder.encode(texts), atol=1e-6)


def test_the_size_of_groups_changes_nothing(encoder, monkeypatch):
    texts = ["one two  three", "   a b", "c" * 50, "x  y z " * 30, "\u2581d e", ""]
    expected, counts = encoder.encode(texts), encoder.count_tokens(texts)
    for size in (1, 2, 7, 20):
        monkeypatch.setattr(static, "_CHARACTERS_AT_ONCE", size)
        np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-6)
        np.testing.assert_array_equal(encoder.count_tokens(texts), counts)


def test_a_text_of_many_distinct_words_fits_into_memory(encoder):
    # Each word takes a kilobyte in the cache while it is there.
    text = " ".join(str(n) for n in range(300_000))
    fresh = StaticEncoder()
    vector = fresh.encode([text])[0]
    assert len(fresh._sums) < 200_000
    np.testing.assert_allclose(vector, plain_mean(fresh, text), atol=1e-5)


def test_forgetting_words_changes_nothing(encoder, monkeypatch):
    monkeypatch.setattr(static, "_CACHED_WORDS", 3)
    small = StaticEncoder()
    batches = [[f"word{i} and {j} more" for j in range(5)] for i in range(10)]
    for batch in batches:
        np.testing.assert_array_equal(small.encode(batch), encoder.encode(batch))
    assert len(small._words) <= 3


def test_vectors_are_unit_length(encoder):
    vectors = encoder.encode(["a", "some words", "日本語"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, encoder.dim) == (3, 256)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_nothing_gives_a_row_of_zeros(encoder):
    assert not encoder.encode(["", "   "]).any()
    assert encoder.encode([]).shape == (0, 256)


def test_long_text_is_not_cut(encoder):
    long = "alpha " * 20_000
    with_end = encoder.encode([long + "omega " * 20_000])
    assert encoder.count_tokens([long])[0] >= 20_000
    assert float(with_end[0] @ encoder.encode([long])[0]) < 0.999


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("MEASUREMENT OF DIELECTRIC CONSTANT OF LIQUIDS", True),
        ("ПРИВЕТ МИР, КАК ДЕЛА", True),
        ("NASA", False),
        ("Measurement of DC", False),
        ("2024-01-01", False),
    ],
)
def test_text_in_capitals_is_folded_when_that_helps(encoder, text, folded):
    assert encoder._fold_upper_case([text]) == [text.lower() if folded else text]


@given(st.text())
def test_mostly_upper_agrees_with_counting(text):
    upper, lower = sum(map(str.isupper, text)), sum(map(str.islower, text))
    assert _is_mostly_upper(text) == (upper > lower)


def test_recipe_names_the_weights(encoder):
    settings = encoder.recipe().settings
    assert settings["weights"].startswith("sha256:")
    assert json.loads(encoder.recipe().json) == settings
    assert encoder.recipe().hash == StaticEncoder().recipe().hash


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(static, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="wordllama") as caught:
        StaticEncoder()
    assert caught.value.hint == "pip install wordllama"


def test_unknown_model_lists_those_there_are():
    with pytest.raises(ModelError, match="static, hash"):
        load_encoder("bert-colossal")
