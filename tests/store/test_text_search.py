"""Search by words."""

import csv
import json
import math

import ir_measures
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ir_measures import R, nDCG

from embcli import Recipe, Record, Store
from embcli.store.text_index import MOST_WORDS, words

RECIPE = Recipe({"model": "elsewhere", "dim": 2, "normalized": False, "maps": []})
# The stemmer leaves these as they are.
VOCABULARY = ("fox", "dog", "crow", "emu", "ant", "yak", "gnu", "cod")


def fill(store, texts, name="c", metas=None):
    collection = store.create_collection(name, RECIPE)
    records = [Record(id, text, {} if metas is None else metas[id]) for id, text in texts.items()]
    collection.add(records, np.ones((len(records), 2), np.float32))
    store.index_texts()
    return collection


def bm25(texts, query, k1=1.2, b=0.75):
    """Robertson's formula as SQLite has it: no idf below 1e-6."""
    split = {id: text.split() for id, text in texts.items()}
    mean = sum(map(len, split.values())) / len(split)
    scores = {}
    for id, tokens in split.items():
        for word in dict.fromkeys(query):
            n = sum(word in other for other in split.values())
            idf = max(math.log((len(split) - n + 0.5) / (n + 0.5)), 1e-6)
            tf = tokens.count(word)
            if tf:
                norm = tf + k1 * (1 - b + b * len(tokens) / mean)
                scores[id] = scores.get(id, 0) + idf * tf * (k1 + 1) / norm
    return scores


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    k=st.integers(1, 20),
    where=st.sampled_from([None, "n < 10"]),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_equals_the_formula(home, seed, n, k, where):
    rng = np.random.default_rng(seed)
    texts = {
        f"{(i * 37) % 1000:03}": " ".join(rng.choice(VOCABULARY, rng.integers(1, 12)))
        for i in range(n)
    }
    number = {id: i for i, id in enumerate(texts)}
    query = list(dict.fromkeys(rng.choice(VOCABULARY, 3).tolist()))
    (home / "p.db").unlink(missing_ok=True)
    with Store(home / "p.db") as store:
        collection = fill(store, texts, metas={id: {"n": i} for id, i in number.items()})
        gone = {id for id in texts if rng.random() < 0.2}
        collection.delete(gone)
        texts = {id: text for id, text in texts.items() if id not in gone}
        found = collection.find_words(query, k, where)
        again = collection.score_words(query, [id for id, _ in found])
    scores = bm25(texts, query) if texts else {}
    live = {id: s for id, s in scores.items() if where is None or number[id] < 10}
    expected = sorted(live, key=lambda id: (-round(live[id], 12), id))[:k]
    assert sorted(id for id, _ in found) == sorted(expected) or len(live) > k
    np.testing.assert_allclose([s for _, s in found], [live[id] for id in expected], rtol=1e-9)
    for id, score in found:
        assert score == pytest.approx(live[id])
        assert again[id] == score > 0


def test_ties_go_by_id(home):
    with Store("s.db") as store:
        collection = fill(store, dict.fromkeys(("r5", "r1", "r3"), "the same") | {"x": "other"})
        assert [id for id, _ in collection.find_words(["same"], 2)] == ["r1", "r3"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('foo OR "bar" NEAR(x, 2) AND NOT y*', ["foo", "or", "bar", "near", "x", "2", "and"]),
        ("text : ^a -b +c {d}", ["text", "a", "b", "c", "d"]),
        ('"', []),
        ("nul\0byte", ["nul", "byte"]),
        ("naïve CAFÉ cafe\u0301", ["naive", "cafe"]),
        ("high-speed a_b C++", ["high", "speed", "a", "b", "c"]),
        ("日本語 テスト 😀", ["日本語", "テスト"]),
        ("\ud83d lone", ["lone"]),
        ("same Same SAME", ["same"]),
        ("", []),
    ],
)
def test_words_of_a_query(query, expected):
    assert words([query])[0][: len(expected)] == expected
    assert words(["x", query, "y"]) == [["x"], *words([query]), ["y"]]


def test_nothing_a_person_types_is_syntax(home, shared):
    naughty = json.loads((shared / "blns" / "blns.json").read_text(encoding="utf-8"))
    with Store("s.db") as store:
        texts = {str(number): text for number, text in enumerate(naughty) if text.strip()}
        collection = fill(store, texts)
        of_each = words(list(texts.values()))
        for id, terms in zip(texts, of_each, strict=True):
            found = dict(collection.find_words(terms, len(texts)))
            assert (id in found) == bool(terms)


def test_long_queries_are_cut(home):
    many = [f"w{number}" for number in range(MOST_WORDS + 1)]
    with Store("s.db") as store:
        collection = fill(store, {"first": many[0], "last": many[-1], "x": "x", "y": "y"})
        assert [id for id, _ in collection.find_words(many, 5)] == ["first"]


def test_collections_are_apart(home):
    with Store("s.db") as store:
        first = fill(store, {"a": "one fox", "b": "none"}, "first")
        second = fill(store, {"a": "no", "c": "two foxes"}, "second")
        assert [id for id, _ in first.find_words(["fox"], 5)] == ["a"]
        assert [id for id, _ in second.find_words(["fox"], 5)] == ["c"]
        assert second.score_words(["fox"], ["a", "c"]).keys() == {"c"}


def test_a_sample_is_spread_over_the_collection(home):
    with Store("s.db") as store:
        fill(store, {f"x{i}": "x" for i in range(50)}, "other")
        mine = store.create_collection("mine", RECIPE)
        vectors = np.arange(200, dtype=np.float32).reshape(100, 2)
        mine.add([Record(f"r{i}", "x") for i in range(100)], vectors)
        mine.delete(["r0"])
        sample = mine.sample(10)
        assert 5 <= len(sample) <= 10
        assert len(np.unique(sample[:, 0])) == len(sample)
        assert sample[:, 0].min() >= 2
        assert np.ptp(sample[:, 0]) > 100
        assert (mine.sample(10) == sample).all()
        assert len(mine.sample(1000)) == 99
        assert store.create_collection("empty", RECIPE).sample(10).shape == (0, 2)


# The reference of ../shared/data/README.md: FTS5 with the same tokenizer.
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("adi", 0.4855), ("med", 0.7005), ("cranfield", 0.361), ("npl", 0.4317),
        ("cosqa", 0.3873), ("limit-small", 0.9915),
    ],
)  # fmt: skip
def test_real_collections(shared, home, name, least):
    folder = shared / "beir" / name
    with (folder / "qrels" / "test.tsv").open() as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    judged = [ir_measures.Qrel(query, document, int(grade)) for query, document, grade in rows]
    known = {qrel.query_id for qrel in judged}
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    queries = [query for query in queries if query["_id"] in known]
    documents = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    texts = {d["_id"]: f"{d.get('title', '')}\n{d['text']}".strip() for d in documents}
    with Store("s.db") as store:
        collection = fill(store, {id: text for id, text in texts.items() if text})
        run = [
            ir_measures.ScoredDoc(query["_id"], id, -float(rank))
            for query, terms in zip(queries, words([q["text"] for q in queries]), strict=True)
            for rank, (id, _) in enumerate(collection.find_words(terms, 10))
        ]
    found = ir_measures.calc_aggregate([nDCG @ 10, R @ 2], judged, run)
    assert round(found[nDCG @ 10], 4) >= least
    if name == "limit-small":
        assert found[R @ 2] > 0.97
