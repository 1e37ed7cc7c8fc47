import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embcli import Recipe, Record, Store, encode, load_encoder, search
from embcli.errors import InputError, ModelError, NothingFoundError, StoreError, UsageError
from embcli.pipelines.queries import QueryOptions
from embcli.pipelines.search import nearest, read_queries
from embcli.store import checks


@pytest.fixture
def encoded(corpus):
    encode([corpus])


def ids(hits):
    return [hit.id for hit in hits]


def test_finds_what_is_meant(encoded):
    (hits,) = search("an animal resting on furniture", k=1)
    assert ids(hits) == ["cat"]
    assert hits[0].rank == 1
    assert hits[0].text == "A cat sleeps on the warm sofa."
    assert hits[0].meta == {"kind": "pet", "year": 2019}


def test_scores_are_cosines_of_the_encoder(encoded):
    (hits,) = search("interest rates")
    encoder = load_encoder("static")
    expected = encoder.encode([hit.text for hit in hits]) @ encoder.encode(["interest rates"])[0]
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-6)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert sorted(expected, reverse=True) == pytest.approx(expected)


def test_many_queries_equal_one_at_a_time(encoded):
    queries = ["pets", "money", "law and politics"]
    assert search(queries, k=3) == [search(query, k=3)[0] for query in queries]


def test_like_leaves_the_record_itself_out(encoded):
    (hits,) = search(like="bond", k=2)
    assert ids(hits)[0] == "bank"
    assert "bond" not in ids(hits)
    assert len(hits) == 2
    with pytest.raises(NothingFoundError, match="no record 'nobody'"):
        search(like="nobody")


def test_threshold_cuts(encoded):
    (every,) = search("rates", k=5)
    middle = every[2].score
    assert ids(search("rates", k=5, threshold=middle)[0]) == ids(every)[:3]
    assert search("rates", threshold=1.1) == [[]]


def test_where_works_inside_the_search(encoded):
    (hits,) = search("prices and interest rates", k=2, where='kind = "pet"')
    assert sorted(ids(hits)) == ["cat", "dog"]
    assert ids(search("x", where='kind = "pet" and year > 2020')[0]) == ["dog"]
    assert search("x", where='kind = "none"') == [[]]


def test_ties_go_by_id(home):
    rows = [{"id": f"r{i:02}", "text": "the same"} for i in (5, 3, 9, 1, 7)]
    (home / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    encode(["a.jsonl"])
    assert ids(search("the same", k=3)[0]) == ["r01", "r03", "r05"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"query": " "}, UsageError, "the query is empty"),
        ({"query": None}, UsageError, "one of a query, the id"),
        ({"query": "x", "like": "cat"}, UsageError, "one of a query, the id"),
        ({"query": "x", "k": 0}, UsageError, "at least 1"),
        ({"query": "x", "where": "kind ="}, UsageError, "--where: expected a value"),
        (
            {"query": "x", "options": QueryOptions(model="hash")},
            UsageError,
            "encoded with 'static', not 'hash'",
        ),
        ({"query": "x", "collection": "no"}, StoreError, "no collection 'no'"),
        ({"query": "x", "db": "no.db"}, StoreError, "there is no store at no.db"),
    ],
)
def test_what_cannot_be_searched(encoded, options, error, message):
    with pytest.raises(error, match=message):
        search(**options)


def test_a_model_that_changed_is_not_used(encoded):
    with Store("embcli.db") as store:
        settings = {**store.collection("default").recipe.settings, "weights": "sha256:old"}
        recipe = Recipe(settings)
        store._db.execute("UPDATE spaces SET hash = ?, recipe = ?", (recipe.hash, recipe.json))
        checks.seal_all(store._db.connection)
    with pytest.raises(ModelError, match="weights: sha256:old → sha256:"):
        search("x")
    assert ids(search(like="bond", k=1)[0]) == ["bank"]


def test_vectors_made_elsewhere_are_searched_by_example(home):
    recipe = Recipe({"model": "elsewhere", "dim": 2, "normalized": False, "maps": []})
    with Store("embcli.db") as store:
        store.create_collection("v", recipe).add(
            [Record(name, f"text {name}") for name in "abc"],
            np.float32([[10, 0], [0.1, 0.01], [0, 5]]),
        )
    assert ids(search(like="a", collection="v")[0]) == ["b", "c"]
    with pytest.raises(ModelError, match="'elsewhere', which is not here"):
        search("x", collection="v")


def test_queries_from_files(home):
    (home / "q.jsonl").write_text('{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "two"}\n')
    (home / "q.txt").write_text("one\n\ntwo\n")
    assert read_queries("q.jsonl") == [("q1", "one"), ("q2", "two")]
    assert read_queries("q.txt") == [("1", "one"), ("3", "two")]
    (home / "bad.jsonl").write_text("{\n")
    (home / "none.txt").write_text("\n")
    with pytest.raises(InputError, match=r"bad\.jsonl:1"):
        read_queries("bad.jsonl")
    with pytest.raises(InputError, match="no query in it"):
        read_queries("none.txt")


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 120),
    k=st.integers(1, 20),
    unit=st.booleans(),
    dtype=st.sampled_from(["float32", "float16"]),
    deleted=st.sampled_from([0.0, 0.3, 0.9]),
    where=st.sampled_from([None, "n < 0", "n < 10", "n >= 40 and n != 50"]),
)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_equals_brute_force(home, seed, n, k, unit, dtype, deleted, where):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 6)).astype(np.float32)
    vectors = vectors[rng.integers(0, n, n)]
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    recipe = Recipe({"model": "elsewhere", "dim": 6, "normalized": unit, "maps": [], "seed": seed})
    records = [Record(f"{(i * 37) % 1000:03}", f"text {i}", {"n": i}) for i in range(n)]
    gone = {record.id for record in records if rng.random() < deleted}
    (home / "p.db").unlink(missing_ok=True)
    with Store(home / "p.db") as store:
        collection = store.create_collection("c", recipe, dtype)
        for start in range(0, n, 50):
            collection.add(records[start : start + 50], vectors[start : start + 50])
        collection.delete(gone)
        queries = rng.normal(size=(3, 6)).astype(np.float32)
        wanted = None if where is None else collection.filter(where)
        with store.snapshot():
            found = nearest(collection, queries, k, wanted=wanted)
    stored = vectors.astype(dtype).astype(np.float64)
    passes = {"n < 0": lambda i: False, "n < 10": lambda i: i < 10}
    passes["n >= 40 and n != 50"] = lambda i: i >= 40 and i != 50
    live = [
        i for i, r in enumerate(records)
        if r.id not in gone and (where is None or passes[where](i))
    ]  # fmt: skip
    for query, hits in zip(queries.astype(np.float64), found, strict=True):
        scores = {
            records[i].id: round(
                float(stored[i] @ query / np.linalg.norm(stored[i]) / np.linalg.norm(query)), 9
            )
            for i in live
        }
        expected = sorted(scores, key=lambda id: (-scores[id], id))[:k]
        assert [found.record.id for found in hits] == expected
        assert {found.span for found in hits} <= {None}
        np.testing.assert_allclose(
            [found.score for found in hits], [scores[i] for i in expected], atol=2e-9
        )
