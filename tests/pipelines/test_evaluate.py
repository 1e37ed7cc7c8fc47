"""Figures of merit against figures by hand, ir-measures and trec_eval."""

import builtins
import json
from math import log2
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from scipy.stats import ttest_rel

from embcli import encode, search
from embcli.errors import InputError, ModelError, UsageError
from embcli.formats.trec import read_judgments, read_run, write_run
from embcli.pipelines.encode import Listeners
from embcli.pipelines.evaluate import (
    MEASURES,
    compare,
    evaluate_retrieval,
    measure,
    parse_measures,
)
from embcli.pipelines.queries import QueryOptions

JUDGED = {"q1": {"a": 2, "b": 1, "c": 1, "z": 0}, "q2": {"d": 1}, "q3": {"e": 1}}
FOUND = {
    "q1": [("b", 0.9), ("x", 0.8), ("a", 0.7), ("z", 0.6)],
    "q2": [("x", 0.5), ("d", 0.5)],
    "unjudged": [("a", 1.0)],
}
BY_HAND = {
    "nDCG@10": ((1 + 2 / log2(4)) / (2 + 1 / log2(3) + 1 / log2(4)), 1 / log2(3), 0),
    "AP@100": ((1 / 1 + 2 / 3) / 3, 1 / 2, 0),
    "RR@10": (1, 1 / 2, 0),
    "R@100": (2 / 3, 1, 0),
    "P@10": (2 / 10, 1 / 10, 0),
}


class Heard(Listeners):
    """Listeners that remember what they were told."""

    def __init__(self):
        vars(self).update(notes=[], problems=[])
        super().__init__(self.notes.append, self.problems.append)


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def beir(corpus):
    """The five records of the tests as a BEIR folder, with three queries."""
    folder = Path("tiny")
    (folder / "qrels").mkdir(parents=True)
    records = [json.loads(line) for line in corpus.read_text().splitlines()]
    write_jsonl(
        folder / "corpus.jsonl",
        [{"_id": r["id"], "title": "", "text": r["text"]} for r in records],
    )
    write_jsonl(
        folder / "queries.jsonl",
        [
            {"_id": "pets", "text": "animals at home"},
            {"_id": "rates", "text": "interest rates"},
            {"_id": "none", "text": "nobody judged this"},
        ],
    )
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\npets\tcat\t2\npets\tdog\t1\nrates\tbank\t1\nrates\tbond\t1\n"
    )
    return folder


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def values(figures):
    return {figure.measure: figure.value for figure in figures}


@pytest.mark.parametrize("name", MEASURES)
def test_by_hand(name):
    (figure,) = measure(parse_measures([name]), JUDGED, FOUND)
    assert figure.measure == name
    assert list(figure.per_query) == ["q1", "q2", "q3"]
    assert list(figure.per_query.values()) == pytest.approx(BY_HAND[name])
    assert figure.value == pytest.approx(sum(BY_HAND[name]) / 3)


def random_judgments_and_run(seed, queries=40, documents=60):
    rng = np.random.default_rng(seed)
    names = [f"doc {number}" for number in range(documents)]
    judged = {
        f"q{query}": {
            names[document]: int(rng.integers(0, 4)) for document in rng.permutation(documents)[:9]
        }
        for query in range(queries)
    }
    run = {
        query: [(names[document], 1 - place / 100)
                for place, document in enumerate(rng.permutation(documents)[:30])]
        for query in list(judged)[1:]
    }  # fmt: skip
    return judged, run


@pytest.mark.parametrize(
    "name",
    [*MEASURES, "AP", "RR", "P(rel=2)@5", "R(rel=2)@20", "Success@3", "Rprec", "Bpref", "Judged@10",
     "nDCG", "nDCG(gains={1:1,2:3,3:7})@10", "IPrec@0.5", "SetF", "infAP", "Compat(p=0.8)"],
)  # fmt: skip
def test_equals_ir_measures(name):
    judged, run = random_judgments_and_run(len(name))
    (figure,) = measure(parse_measures([name]), judged, run)
    expected = ir_measures.calc(
        [ir_measures.parse_measure(name)], judged, {query: dict(run[query]) for query in run}
    )
    ((_, value),) = expected.aggregated.items()
    assert figure.value == pytest.approx(value, abs=1e-12)
    assert figure.per_query == pytest.approx(
        {result.query_id: result.value for result in expected.per_query}, abs=1e-12
    )


def test_graded_judgments_are_gains_as_trec_eval_has_them():
    judged, run = random_judgments_and_run(5)
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut_10", "map_cut_100"})
    expected = evaluator.evaluate({query: dict(run[query]) for query in run})
    ndcg, ap = measure(parse_measures(["nDCG@10", "AP@100"]), judged, run)
    for query, row in expected.items():
        assert ndcg.per_query[query] == pytest.approx(row["ndcg_cut_10"])
        assert ap.per_query[query] == pytest.approx(row["map_cut_100"])
    assert ndcg.per_query["q0"] == 0


def test_measures_of_packages_that_read_files_of_words():
    judged, run = random_judgments_and_run(6)
    (figure,) = measure(parse_measures(["ERR@20"]), judged, run)
    gains = [judged["q1"].get(document, 0) for document, _ in run["q1"][:20]]
    expected, going_on = 0.0, 1.0
    for place, gain in enumerate(gains, 1):
        satisfied = (2**gain - 1) / 16
        expected += going_on * satisfied / place
        going_on *= 1 - satisfied
    assert figure.per_query["q1"] == pytest.approx(expected, abs=1e-5)


def test_the_order_counts_and_not_the_scores():
    measures = parse_measures(MEASURES)
    tied = {query: [(id, 0.5) for id, _ in found] for query, found in FOUND.items()}
    assert measure(measures, JUDGED, tied) == measure(measures, JUDGED, FOUND)


def test_names_of_measures():
    names = ["MAP@5", "AP@5", "Recall@3", "P( rel = 2 ) @ 10", " nDCG @10 ", "MRR"]
    found = [str(item) for item in parse_measures(names)]
    assert found == ["AP@5", "R@3", "P(rel=2)@10", "nDCG@10", "RR"]


@pytest.mark.parametrize(
    "name",
    ["", "P", "foo@3", "nDCG@0", "nDCG@-1", "nDCG@x", "P@1.5", "nDCG@10@10", "P(10)", "nDCG(",
     "P(foo=1)@3", "P(rel=0)@3", "nDCG(gains={1:-1})@3", "nDCG(gains={1:99999999})@3", "R@1e9",
     "R@99999999999999999999", "__import__('os')", "P(**{})@3", "a b", "IPrec@5", "x\0"],
)  # fmt: skip
def test_what_is_no_measure(name):
    with pytest.raises(UsageError, match="is no measure as ir-measures writes them") as caught:
        parse_measures(["nDCG@10", name])
    assert caught.value.message.startswith(repr(name))


def test_a_measure_whose_package_is_missing(monkeypatch):
    monkeypatch.setattr(
        "ir_measures.DefaultPipeline.supports", lambda item: str(item) != "alpha_nDCG@10"
    )
    with pytest.raises(ModelError, match="no package that is installed computes alpha_nDCG@10"):
        parse_measures(["nDCG@10", "alpha_nDCG@10"])


def test_without_ir_measures(monkeypatch):
    original = builtins.__import__

    def without(name, *arguments):
        if name == "ir_measures":
            raise ImportError(name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError) as caught:
        parse_measures(MEASURES)
    assert caught.value.hint == "pip install 'embcli[eval]'"


def test_a_measure_that_is_not_defined_everywhere():
    judged = {"q1": {"a": 1, "b": 0}, "q2": {"a": 1}}
    (figure,) = measure(parse_measures(["Accuracy"]), judged, {"q1": [("a", 2.0), ("b", 1.0)]})
    assert (figure.value, figure.per_query) == (1, {"q1": 1})
    (compared,) = compare([figure], [figure])
    assert (compared.against.ties, compared.against.p_t) == (1, None)
    rows = list(compared.rows_per_query())
    assert [row["query_id"] for row in rows] == ["q1", "all"]
    with pytest.raises(UsageError, match="Accuracy is not defined for any of the queries"):
        measure(parse_measures(["Accuracy"]), judged, {})


def test_comparison():
    judged, run = random_judgments_and_run(1)
    _, other = random_judgments_and_run(2)
    measures = parse_measures(["nDCG@10", "P@10"])
    one, two = measure(measures, judged, run), measure(measures, judged, other)
    for figure, its, reverse in zip(compare(one, two), two, compare(two, one), strict=True):
        found = figure.against
        pairs = [(value, its.per_query[query]) for query, value in figure.per_query.items()]
        assert found.value == its.value
        assert found.difference == pytest.approx(figure.value - its.value)
        assert found.wins == sum(a > b for a, b in pairs)
        assert found.ties == sum(a == b for a, b in pairs)
        assert found.losses == sum(a < b for a, b in pairs)
        assert found.p_t == pytest.approx(ttest_rel(*zip(*pairs, strict=True)).pvalue)
        assert found.p_randomization == pytest.approx(found.p_t, abs=0.1)
        assert found.permutations == 100_000
        back = reverse.against
        assert (back.wins, back.ties, back.losses) == (found.losses, found.ties, found.wins)
        assert back.difference == pytest.approx(-found.difference)
        assert (back.p_t, back.p_randomization) == pytest.approx((found.p_t, found.p_randomization))
    (same,) = compare(one[:1], one[:1])
    assert (same.against.ties, same.against.p_t, same.against.p_randomization) == (40, 1, 1)


def test_the_corpus_is_encoded_once(beir, heard):
    first = evaluate_retrieval(beir, listeners=heard)
    assert list(values(first)) == list(MEASURES)
    assert values(first)["R@100"] == 1
    assert any("→ 'tiny' in embcli.db (5 records)" in note for note in heard.notes)
    assert "left out 1 query without judgments" in heard.notes
    again = Heard()
    assert evaluate_retrieval(beir, listeners=again) == first
    assert "searching collection 'tiny' as it is (5 records)" in again.notes
    assert not any("encoded" in note for note in again.notes)
    named = Heard()
    assert (
        evaluate_retrieval(
            beir, options=QueryOptions(model="static"), collection="other", listeners=named
        )
        == first
    )
    assert any("encoded 0, reused 5" in note for note in named.notes)


def test_a_model_that_is_not_the_collections(beir):
    evaluate_retrieval(beir)
    with pytest.raises(UsageError, match="'tiny' is in another space"):
        evaluate_retrieval(beir, options=QueryOptions(model="hash"))
    by_hash = evaluate_retrieval(beir, collection="hash", options=QueryOptions(model="hash"))
    assert evaluate_retrieval(beir, collection="hash") == by_hash


def test_it_is_search_that_is_evaluated(beir):
    evaluate_retrieval(beir)
    found = search(["animals at home", "interest rates"], collection="tiny", k=100)
    run = {
        query: [(hit.id, hit.score) for hit in hits]
        for query, hits in zip(["pets", "rates"], found, strict=True)
    }
    judged = read_judgments(beir / "qrels" / "test.tsv", print)
    assert evaluate_retrieval(beir) == measure(parse_measures(MEASURES), judged, run)


def test_options_of_the_search_reach_it(beir):
    encode(["corpus.jsonl"], collection="tiny")
    everything = evaluate_retrieval(beir, measures=["NumRet", "R@100"])
    pets = evaluate_retrieval(
        beir, measures=["NumRet", "R@100"], searching={"where": 'kind = "pet"'}
    )
    assert values(everything) == {"NumRet": 10, "R@100": 1}
    assert values(pets) == {"NumRet": 4, "R@100": 0.5}
    assert evaluate_retrieval(beir, searching={"exact": True}) == evaluate_retrieval(beir)
    nothing = evaluate_retrieval(beir, searching={"threshold": 2.0})
    assert set(values(nothing).values()) == {0}


def test_depth(beir):
    one = evaluate_retrieval(beir, measures=["NumRet", "R@1"], k=1)
    assert values(one)["NumRet"] == 2
    with pytest.raises(UsageError, match="--top 9 is not deep enough for nDCG@10, R@30") as caught:
        evaluate_retrieval(beir, measures=["nDCG@10", "R@30", "P@9"], k=9)
    assert caught.value.hint.startswith("--top 30")
    assert values(evaluate_retrieval(beir, measures=["R@100000"])) == {"R@100000": 1}


def test_a_run_written_is_the_run_evaluated(beir, heard):
    searched = evaluate_retrieval(beir, run="tiny.run")
    assert evaluate_retrieval(beir, from_run="tiny.run", listeners=heard) == searched
    assert heard.notes == []
    judged = read_judgments(beir / "qrels" / "test.tsv", print)
    with open("tiny.run") as file:
        run = pytrec_eval.parse_run(file)
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut_10", "map_cut_100"})
    for query, row in evaluator.evaluate(run).items():
        assert searched[0].per_query[query] == pytest.approx(row["ndcg_cut_10"])
        assert searched[1].per_query[query] == pytest.approx(row["map_cut_100"])


def test_ties_are_evaluated_as_search_shows_them(beir):
    """trec_eval would take the last id first; what a user sees is the first id first."""
    write_jsonl(beir / "corpus.jsonl", [{"_id": id, "text": "the same"} for id in "abc"])
    write_jsonl(beir / "queries.jsonl", [{"_id": "q", "text": "the same"}])
    (beir / "qrels" / "test.tsv").write_text("q\ta\t1\n")
    (shown,) = evaluate_retrieval(beir, measures=["RR"], run="run")
    assert shown.value == 1
    with open("run") as file:
        run = pytrec_eval.parse_run(file)
    evaluator = pytrec_eval.RelevanceEvaluator({"q": {"a": 1}}, {"recip_rank"})
    assert evaluator.evaluate(run)["q"]["recip_rank"] == 1


def test_what_is_not_there_is_counted(beir, heard):
    with (beir / "qrels" / "test.tsv").open("a") as file:
        file.write("pets\tmouse\t1\npets\tbond\t0\nghost\tcat\t1\nrates\trat\t0\nnone\tcat\t0\n")
    figures = evaluate_retrieval(beir, measures=["R@100"], listeners=heard)
    assert values(figures) == pytest.approx({"R@100": (2 / 3 + 1 + 0) / 3})
    assert [note for note in heard.notes if "tiny.db" not in note and "encoded" not in note] == [
        "left out 1 query that tiny/qrels/test.tsv judges and tiny/queries.jsonl does not have",
        "tiny/corpus.jsonl: text = title + text, id = _id, metadata = title",
        "2 of 6 judged documents not in collection 'tiny', and so not found",
        "1 query with no relevant document at all count as 0",
    ]


def test_runs_that_lack_queries(beir, heard):
    write_run("half.run", {"pets": [("cat", 0.5)]})
    figures = evaluate_retrieval(
        beir, measures=["RR"], from_run="half.run", against="half.run", listeners=heard
    )
    assert values(figures) == {"RR": 0.5}
    assert heard.notes == ["half.run lacks 1 query: these count as 0"] * 2
    write_run("other.run", {"x": [("cat", 0.5)]})
    with pytest.raises(InputError, match=r"other.run: tiny/qrels/test.tsv judges none of the"):
        evaluate_retrieval(beir, from_run="other.run")
    with pytest.raises(InputError, match="judges none of the queries of this run"):
        evaluate_retrieval(beir, against="other.run")


def test_lines_that_cannot_be_read(beir, heard):
    path = beir / "qrels" / "test.tsv"
    path.write_text(path.read_text() + "pets\tcat\nrates\tcat\thigh\n")
    figures = evaluate_retrieval(beir, listeners=heard)
    assert [str(problem).partition(": ")[0] for problem in heard.problems] == [
        "tiny/qrels/test.tsv:6",
        "tiny/qrels/test.tsv:7",
    ]
    assert values(figures)["R@100"] == 1
    with pytest.raises(InputError, match=r"test\.tsv:6: expected query-id"):
        evaluate_retrieval(beir, strict=True)


def test_folders_that_cannot_be_used(beir):
    with pytest.raises(InputError, match="nowhere: no such directory"):
        evaluate_retrieval("nowhere")
    with pytest.raises(InputError, match=r"dev\.tsv: no such file") as caught:
        evaluate_retrieval(beir, split="dev")
    assert caught.value.hint.startswith("--split test")
    with pytest.raises(UsageError, match="leave out --run, --model, --via, --top"):
        evaluate_retrieval(beir, from_run="x", run="y")
    with pytest.raises(UsageError, match="nothing is searched"):
        evaluate_retrieval(beir, from_run="x", searching={"where": "a = 1"})
    queries = (beir / "queries.jsonl").read_text()
    numbered = [{"_id": str(number), "text": "x"} for number in range(200)]
    write_jsonl(
        beir / "queries.jsonl", [*numbered, {"_id": "a", "text": "x"}, {"_id": "a", "text": "y"}]
    )
    with pytest.raises(InputError, match="query 'a' is there twice, with different texts"):
        evaluate_retrieval(beir)
    write_jsonl(beir / "queries.jsonl", [{"_id": "a", "text": "x"}])
    with pytest.raises(InputError, match="judges none of these queries"):
        evaluate_retrieval(beir)
    (beir / "queries.jsonl").unlink()
    with pytest.raises(InputError, match=r"queries\.jsonl: no such file \(in BEIR's layout"):
        evaluate_retrieval(beir)
    (beir / "queries.jsonl").write_text(queries)
    (beir / "corpus.jsonl").unlink()
    with pytest.raises(InputError, match=r"corpus\.jsonl: no such file"):
        evaluate_retrieval(beir)
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(InputError, match="there is no judgment in it"):
        evaluate_retrieval(beir)


def test_files_may_be_compressed(beir):
    import gzip

    expected = evaluate_retrieval(beir, collection="plain")
    for path in (beir / "corpus.jsonl", beir / "queries.jsonl", beir / "qrels" / "test.tsv"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert evaluate_retrieval(beir) == expected


@pytest.mark.parametrize(("name", "expected"), [("adi", 0.4453), ("med", 0.6582)])
def test_real_collections(shared, name, expected):
    folder = shared / "beir" / name
    figures = evaluate_retrieval(folder, run="run")
    assert values(figures)["nDCG@10"] == pytest.approx(expected, abs=0.001)
    judged = read_judgments(folder / "qrels" / "test.tsv", print)
    read = read_run("run", print)
    assert measure(parse_measures(MEASURES), judged, read) == figures


def test_real_ids_with_spaces(shared):
    folder = shared / "beir" / "limit-small"
    (searched,) = evaluate_retrieval(folder, measures=["R@2"], run="run")
    assert searched.value == pytest.approx(0.385, abs=0.001)
    (read,) = evaluate_retrieval(folder, measures=["R@2"], from_run="run")
    assert read == searched
