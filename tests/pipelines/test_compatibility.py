"""New queries on old vectors, judged."""

import json

import numpy as np
import pytest

from embcli import Recipe, Record, Store, encode
from embcli.core.alignment import Pairs
from embcli.core.alignment.rbf import rbf
from embcli.core.judged import MEASURES, Judged
from embcli.core.maps import Linear, Map, Transform
from embcli.errors import InputError, ModelError, UsageError
from embcli.pipelines.compatibility import Figure, Vectors, compatibility, measure
from embcli.pipelines.evaluate import evaluate_retrieval

QUERIES = {"q1": "a cat on the sofa", "q2": "bond prices", "q3": "the income tax", "q4": "none"}
JUDGED = {"q1": {"cat": 2, "dog": 1}, "q2": {"bond": 1, "bank": 1}, "q3": {"tax": 1, "gone": 1}}


@pytest.fixture
def judged(corpus):
    """Five records encoded by two models, queries and judgments."""
    folder = corpus.parent / "set"
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": id, "text": text}) for id, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("\n".join(lines))
    rows = [f"{q}\t{d}\t{grade}" for q, grades in JUDGED.items() for d, grade in grades.items()]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(rows))
    encode([corpus], db="embcli.db", collection="old", model="static")
    encode([corpus], db="embcli.db", collection="new", model="hash")
    return folder


def space(collection):
    with Store("embcli.db", readonly=True) as store:
        return store.collection(collection).recipe


def reported(folder, map=None, model="new", old="old", **options):
    notes = []
    report = compatibility(
        map or Map(Transform()),
        space(model),
        old,
        queries=folder / "queries.jsonl",
        judgments=folder / "qrels" / "test.tsv",
        db="embcli.db",
        note=notes.append,
        **options,
    )
    return report, notes


def narrowing(folder):
    """Any map from the hashed space to the static one."""
    dims = space("new").dim, space("old").dim
    return Map(Transform.of(Linear(np.random.default_rng(0).normal(size=dims))))


def test_the_same_model_keeps_everything(judged):
    report, notes = reported(judged, model="old", new="old")
    for figure in report.figures:
        assert figure.value("new_to_old") == figure.value("old_to_old")
        assert (figure.wins, figure.losses, figure.p_sign) == (0, 0, 1)
        assert figure.compatible
        assert figure.update_gain is None
    assert report.losers() == []
    assert notes == [
        "left out 1 query without judgments",
        "1 relevant document not in the collection, and so not found",
    ]


def test_figures_are_those_of_eval_retrieval(judged):
    report, _ = reported(judged, narrowing(judged), new="new")
    names = ("Success@1", "Success@10", "R@10", "nDCG@10", "AP")
    for system, collection in (("old_to_old", "old"), ("new_to_new", "new")):
        expected = evaluate_retrieval(judged, measures=names, db="embcli.db", collection=collection)
        by_cosine = {f.measure: f for f in report.figures if f.retrieval == "nn"}
        assert tuple(by_cosine) == MEASURES
        for figure in expected:
            assert by_cosine[figure.measure].value(system) == pytest.approx(figure.value, abs=1e-9)


def test_rows_and_losers(judged):
    report, _ = reported(judged, narrowing(judged), new="new")
    rows = report.rows()
    assert [row["retrieval"] for row in rows] == ["nn"] * 5 + ["csls"] * 5
    by_cosine = {row["measure"]: row for row in rows[:5]}["nDCG@10"]
    assert by_cosine["wins"] + by_cosine["ties"] + by_cosine["losses"] == 3
    gain = by_cosine["new_to_new"] - by_cosine["old_to_old"]
    if gain > 0:
        assert by_cosine["update_gain"] == pytest.approx(by_cosine["difference"] / gain)
    losers = report.losers()
    assert [row["difference"] for row in losers] == sorted(row["difference"] for row in losers)
    assert len(losers) == by_cosine["losses"] > 0
    assert losers[0]["query"] == QUERIES[losers[0]["query_id"]]
    assert len(report.losers(1)) == 1
    with pytest.raises(UsageError, match=r"no figure P@3 by nn .*nDCG@10 by csls"):
        report.losers(measure="P@3")


def test_without_the_new_models_vectors(judged):
    map = narrowing(judged)
    with_them, without = (reported(judged, map, new=new)[0] for new in ("new", None))
    for one, other in zip(with_them.rows(), without.rows(), strict=True):
        assert other["new_to_new"] is None
        assert other["update_gain"] is None
        assert one["new_to_old"] == pytest.approx(other["new_to_old"])


def test_only_records_of_both_are_searched(judged, corpus):
    with Store("embcli.db") as store:
        store.collection("new").delete(["tax"])
    report, notes = reported(judged, narrowing(judged), new="new")
    assert "left out 1 record that only 'old' has and 0 that only 'new' has" in notes
    third = [figure.per_query["old_to_old"][2] for figure in report.figures]
    assert third == [0] * 10


def test_what_it_refuses(judged, corpus):
    with pytest.raises(UsageError, match="leads to 4096 components, and collection 'old' has 256"):
        reported(judged, Map(Transform.of(Linear(np.eye(space("new").dim, 4096)))))
    with pytest.raises(UsageError, match="takes vectors of 3 components"):
        reported(judged, Map(Transform.of(Linear(np.eye(3, 256)))))
    with pytest.raises(UsageError, match="'old' is not in the space that the map leads from"):
        reported(judged, narrowing(judged), new="old")
    with Store("embcli.db") as store:
        other = store.create_collection("other", space("new"))
        other.add([Record("x", "x")], np.ones((1, space("new").dim), np.float32))
    with pytest.raises(InputError, match="'old' and 'other' have no id in common"):
        reported(judged, narrowing(judged), new="other")
    (judged / "qrels" / "test.tsv").write_text("q1\tgone\t1\n")
    with pytest.raises(InputError, match="none of the relevant documents is in the collection"):
        reported(judged, narrowing(judged))
    (judged / "qrels" / "test.tsv").write_text("q1\tcat\t0\n")
    with pytest.raises(InputError, match="no judgment says that anything is relevant"):
        reported(judged, narrowing(judged))
    (judged / "qrels" / "test.tsv").write_text("q9\tcat\t1\n")
    with pytest.raises(InputError, match="none of these queries has a judgment"):
        reported(judged, narrowing(judged))


def test_a_model_that_has_changed_is_refused(judged):
    settings = dict(space("new").settings) | {"model": "static"}
    with pytest.raises(ModelError, match="not the one that the map leads from"):
        compatibility(
            narrowing(judged), Recipe(settings), "old", queries=judged / "queries.jsonl",
            judgments=judged / "qrels" / "test.tsv", db="embcli.db",
        )  # fmt: skip


def test_csls_is_that_of_its_definition():
    """Ten queries nearest to a document, of those that are asked, led as they are."""
    rng = np.random.default_rng(0)
    asked, stored = rng.normal(size=(40, 6)), rng.normal(size=(60, 6))
    judged = Judged(np.arange(40), np.arange(40), np.ones(40, np.int64), 40)
    vectors = [Vectors(v.astype(np.float32), v.astype(np.float32)) for v in (asked, stored)]
    figures = measure(Map(Transform()), *vectors, judged)
    cosines = _cosines(asked, stored)
    scores = 2 * cosines - np.sort(cosines, axis=0)[-10:].mean(axis=0)
    first = scores.argmax(axis=1) == np.arange(40)
    (found,) = [f for f in figures if (f.retrieval, f.measure) == ("csls", "Success@1")]
    np.testing.assert_array_equal(found.per_query["old_to_old"], first)


def _cosines(a, b):
    return (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T


def test_the_criteria_of_compatible_training():
    figure = Figure(
        "nn",
        "AP",
        {"new_to_old": np.array([0.6, 0.4, 0.5]), "old_to_old": np.array([0.4, 0.4, 0.4]),
         "new_to_new": np.array([0.8, 0.6, 0.4])},
        0,
    )  # fmt: skip
    assert figure.compatible
    assert figure.update_gain == pytest.approx(0.5)
    assert (figure.wins, figure.losses) == (2, 0)
    assert figure.p_sign == 0.5


def test_a_query_that_only_the_map_can_answer_is_won(judged, shared):
    """On real texts: what the new model knows is found in the old model's vectors."""
    folder = shared / "beir" / "adi"
    for name, model in (("before", "hash"), ("after", "static")):
        encode([folder / "corpus.jsonl"], db="embcli.db", collection=name, model=model)
    with Store("embcli.db", readonly=True) as store:
        both = [store.collection(name) for name in ("after", "before")]
        ids = sorted(both[0].names().values())
        each = np.arange(len(ids))
        map = rbf(Pairs(*(side.vectors(ids) for side in both), each, each))
    report = compatibility(
        map, space("after"), "before", queries=folder / "queries.jsonl",
        judgments=folder / "qrels" / "test.tsv", db="embcli.db", new="after",
    )  # fmt: skip
    ndcg = report.rows()[3]
    assert ndcg["measure"] == "nDCG@10"
    assert ndcg["new_to_old"] > 0.9 * ndcg["old_to_old"]
    assert ndcg["new_to_new"] == pytest.approx(0.4446, abs=0.005)
