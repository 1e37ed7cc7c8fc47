"""Keywords tell clusters apart: by hand, by brute force, and on real texts."""

import csv
import math
from collections import Counter

import numpy as np
import pytest

from embcli.core.clustering.keywords import Keyword, keywords, label_of, labels_of
from embcli.core.clustering.words import words_of
from embcli.errors import InputError

TEXTS = [
    "the card has not arrived in the post",
    "my new card: where is it in the post?",
    "the card is lost: post",
    "what is the exchange rate for euros",
    "the exchange rate of the dollar is wrong",
    "why is this exchange rate so low",
]
LABELS = np.array([0, 0, 0, 1, 1, 1])


def test_words_of_a_cluster_and_of_no_other():
    first, second = keywords(TEXTS, LABELS)
    assert {word.word for word in first[:2]} == {"card", "post"}
    assert second[0] == Keyword("exchange rate", second[0].weight, 3)
    every = {part for one in (first, second) for word in one for part in word.word.split()}
    assert not every & {"the", "is"}
    for one in (first, second):
        weights = [word.weight for word in one]
        assert weights == sorted(weights, reverse=True)
        assert min(weights) > 0


def test_weights_are_those_of_the_formula():
    found = {word.word: word for one in keywords(TEXTS, LABELS, top=99)[:1] for word in one}
    having = [set(words_of(text)) - {""} for text in TEXTS]
    total = Counter(word for words in having for word in words)
    average = sum(total.values()) / 2
    for word in ("card", "post"):
        inside = sum(word in words for words in having[:3])
        idf = math.log(1 + average / total[word])
        lift = inside / 3 / ((total[word] - inside + 2) / (3 + 2))
        weight = (inside - 0.9 * math.sqrt(inside)) / 3 * idf**2 * math.log(lift)
        assert found[word].weight == pytest.approx(weight)
        assert found[word].count == inside


def test_noise_is_no_cluster_but_what_others_are_compared_with():
    apart = keywords([*TEXTS, *["card, card and card"] * 40], np.append(LABELS, [-1] * 40))
    assert len(apart) == 2
    assert "card" not in [word.word for word in apart[0][:1]]
    assert keywords(["card"] * 3, np.full(3, -1)) == []


def test_the_order_of_texts_does_not_matter():
    order = np.random.default_rng(0).permutation(len(TEXTS))
    assert keywords([TEXTS[i] for i in order], LABELS[order]) == keywords(TEXTS, LABELS)


def test_few_and_empty_texts():
    assert keywords([], np.empty(0, np.int64)) == []
    assert keywords(["", "!"], np.array([0, 1])) == [[], []]
    assert [word.word for word in keywords(["a lost card"], np.array([0]))[0]] == ["card", "lost"]
    gap = keywords(["one two", "three four"], np.array([0, 2]))
    assert [len(one) > 0 for one in gap] == [True, False, True]
    # A cluster of texts that are all the same words as elsewhere has none.
    assert keywords(["same words"] * 4, np.array([0, 0, 1, 1])) == [[], []]


@pytest.mark.parametrize("texts", [TEXTS[:5], [*TEXTS, "more"]])
def test_as_many_texts_as_labels(texts):
    with pytest.raises(InputError, match="texts for 6 labels"):
        keywords(texts, LABELS)


def test_scripts_without_spaces_and_pairs_there():
    texts = ["银行卡丢失了", "我的银行卡呢", "汇率是多少", "今天的汇率低"]
    first, second = keywords(texts, np.array([0, 0, 1, 1]))
    assert first[0].word in ("银行", "行卡")
    assert second[0].word == "汇率"
    shown = [word.word for word in first]
    assert not {"银行", "行卡"} <= set(shown)


def test_memory_is_bounded_and_what_matters_is_kept():
    draw = np.random.default_rng(0)
    topics = [["rocket", "orbit"], ["goal", "striker"], ["bread", "oven"]]
    labels = draw.integers(0, 3, 3000)
    texts = [
        " ".join([*topics[label], *(f"w{word}" for word in draw.integers(0, 10**6, 6))])
        for label in labels
    ]
    whole = keywords(texts, labels, top=2)
    few = keywords(texts, labels, top=2, most_counts=2000)
    for full, least, topic in zip(whole, few, topics, strict=True):
        assert " ".join(topic) in full[0].word
        assert set(topic) & set(least[0].word.split())
        assert full[0].count == least[0].count


def test_labels_are_short_and_all_different():
    def of(*words):
        return [Keyword(word, 1.0, 1) for word in words]

    assert label_of(of("card", "arrived", "delivery", "post")) == "card, arrived, delivery"
    assert label_of([]) == ""
    run = [of("a", "b", "c", "d"), of("a", "b", "c", "e"), of("x"), of("x"), [], of("a", "b", "c")]
    assert labels_of(run) == [
        "a, b, c, d", "a, b, c, e", "x (2)", "x (3)", "cluster 4", "a, b, c",
    ]  # fmt: skip
    assert labels_of([]) == []
    clash = labels_of([of("cluster 1"), []])
    assert len(set(clash)) == 2


@pytest.mark.slow
def test_banking77_keywords_say_what_the_intent_is(shared):
    """Of true intents: most names of intents have a word among the three first keywords."""
    with open(shared / "banking77" / "test.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    names, labels = np.unique([row["category"] for row in rows], return_inverse=True)
    found = keywords((row["text"] for row in rows), labels)
    hits = [
        any(part[:4] in name.lower() for word in one[:3] for part in word.word.split())
        for name, one in zip(names, found, strict=True)
    ]
    assert np.mean(hits) >= 0.8, [name for name, hit in zip(names, hits, strict=True) if not hit]
    firsts = [one[0].word for one in found]
    assert not set(firsts) & {"the", "my", "is", "to", "for", "do", "in", "it", "of", "can"}
    assert len(set(labels_of(found))) == 77
