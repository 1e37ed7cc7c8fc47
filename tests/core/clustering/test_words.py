"""Words of texts in many scripts."""

import unicodedata

import pytest

from embcli.core.clustering.words import akin, unspaced, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The bank's cards don't work!", ["the", "bank", "cards", "don't", "work", ""]),
        ("L’homme qu'il a vu aujourd'hui", ["", "homme", "", "il", "", "vu", "aujourd'hui"]),
        ("read_csv(path_name)", ["read", "csv", "", "path", "name", ""]),
        ("Covid-19, état-major", ["covid", "19", "", "état", "major"]),
        ("Straße ÄRGER", ["straße", "ärger"]),
        ("हिन्दी में किताब", ["हिन्दी", "में", "किताब"]),
        ("השלום עליכם", ["השלום", "עליכם"]),
        ("می‌خواهم کتاب", ["می‌خواهم", "کتاب"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("人工智能AI很好", ["人工", "工智", "智能", "ai", "很好"]),
        ("東京。京都", ["東京", "", "京都"]),
        ("ที่นี่", ["ที่นี่"]),
        ("", []),
        ("😀 \x00", ["", ""]),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


def test_composed_and_decomposed_texts_give_the_same_words():
    text = "Ärger über Ébène が ガ"
    assert words_of(unicodedata.normalize("NFD", text)) == words_of(text)


def test_scripts_without_spaces():
    assert unspaced("人工")
    assert unspaced("ที่นี่")
    assert not unspaced("한국어")
    assert not unspaced("हिन्दी")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("rate", "rates"), ("pin", "pins"), ("transfer", "transferring"), ("walk", "walking"),
        ("hund", "hunde"), ("marchent", "marchant"), ("人工", "工智"), ("card", "card"),
    ],
)  # fmt: skip
def test_forms_of_one_word(a, b):
    assert akin(a, b)
    assert akin(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("card", "cash"),
        ("interest", "international"),
        ("transfer", "transaction"),
        ("人工", "智能"),
    ],
)
def test_different_words(a, b):
    assert not akin(a, b)
    assert not akin(b, a)
