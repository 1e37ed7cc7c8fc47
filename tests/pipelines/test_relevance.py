"""Lists that end where relevance ends, and what judgments teach about it."""

import json

import numpy as np
import pytest

from embcli import Recipe, Record, Store, encode, search
from embcli.core.relevance import DEFAULT
from embcli.errors import InputError, StoreError, UsageError
from embcli.pipelines.ranking import Feedback, Ranking
from embcli.pipelines.relevance import Judge, Profile, calibrate
from embcli.pipelines.search import nearest
from embcli.store import checks

RELEVANT = Ranking(relevant=True)


@pytest.fixture
def encoded(examples):
    encode([examples / "corpus.jsonl"])


def profile(db="embcli.db"):
    with Store(db, readonly=True) as store:
        text = store.collection("default").calibration
    return None if text is None else Profile.from_json(text)


def test_a_list_ends_where_relevance_ends(encoded):
    (cut,) = search("vaccine against smallpox", k=50, ranking=RELEVANT)
    (plain,) = search("vaccine against smallpox", k=50)
    assert 1 <= len(cut) < 20
    assert [hit.id for hit in cut] == [hit.id for hit in plain[: len(cut)]]
    assert [hit.score for hit in cut] == [hit.score for hit in plain[: len(cut)]]
    probabilities = [hit.relevance for hit in cut]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 1 > probabilities[0] > 0.5 > probabilities[-1] > 0
    assert plain[0].relevance is None
    assert "relevance" in cut[0].row()
    assert "relevance" not in plain[0].row()


def test_it_takes_everything_that_goes_by_cosine(encoded):
    notes = []
    where = 'language = "en"'
    (hits,) = search("space flight", k=2, where=where, ranking=RELEVANT, note=notes.append)
    assert len(hits) == 2
    assert {hit.meta["language"] for hit in hits} == {"en"}
    assert notes[0].endswith("results seem relevant; --top 2 ends before")
    (like,) = search(like="apollo-11-moon-1969-en", ranking=RELEVANT)
    assert 0 < len(like) <= 10
    assert like[0].id != "apollo-11-moon-1969-en"
    (diverse,) = search("space flight", ranking=Ranking(relevant=True, mmr=0.5, explain=True))
    assert {hit.id for hit in diverse} <= {
        hit.id for hit in search("space flight", k=100, ranking=RELEVANT)[0]
    }
    for other in (Ranking("lexical"), Ranking("hybrid"), Ranking(feedback=Feedback())):
        with pytest.raises(UsageError, match="--relevant goes by the cosines"):
            Ranking(**{**vars(other), "relevant": True})


def test_chunks_are_judged_by_the_nearest(examples):
    encode([examples / "corpus.jsonl"], chunk="characters=200")
    (hits,) = search("vaccine against smallpox", ranking=RELEVANT)
    assert hits[0].chunk is not None
    assert hits[0].relevance > 0.5


def test_too_few_records_show_nothing(corpus):
    encode([corpus])
    with pytest.raises(UsageError, match="5 records: too few"):
        search("cats", ranking=RELEVANT)
    assert search("cats", where='kind = "none"') == [[]]


def test_a_filter_that_nothing_passes(encoded):
    assert search("moon", where='language = "xx"', ranking=RELEVANT) == [[]]


def test_what_was_found_out_is_kept_until_the_collection_changes(encoded, examples):
    assert profile() is None
    search("moon", ranking=RELEVANT)
    first = profile()
    assert first.records == 324
    assert 0 < first.neighbours.mean < 1
    search("sun", ranking=RELEVANT)
    assert profile() == first
    with Store("embcli.db") as store:
        collection = store.collection("default")
        collection.delete([record.id for record in list(collection.records())[:100]])
    search("sun", ranking=RELEVANT)
    assert profile().records == 224
    assert profile().neighbours != first.neighbours


def test_a_store_that_cannot_be_written_is_searched_all_the_same(encoded):
    before = [hit.id for hit in search("moon", ranking=RELEVANT)[0]]
    with Store("embcli.db") as store:
        store._db.execute("UPDATE collections SET calibration = NULL")
        checks.seal_all(store._db.connection)
        with store._db.transaction():  # nobody else can write meanwhile
            assert [hit.id for hit in search("moon", ranking=RELEVANT)[0]] == before
    assert profile() is None


def test_other_collections_do_not_matter(encoded):
    before = search("moon", k=100, ranking=RELEVANT)
    with Store("embcli.db") as store:
        source = store.collection("default")
        rows = source.sample(7)
        other = store.create_collection("other", source.recipe)
        vectors = np.random.default_rng(0).normal(size=(3000, 256)).astype(np.float32)
        other.add([Record(str(i), "t") for i in range(3000)], vectors)
        source.set_calibration(profile().json.replace("324", "999"))  # to be made anew
        assert np.array_equal(source.sample(7), rows)
        assert len(source.sample(256)) == 256
        assert len(source.sample(1000)) == 324
    assert search("moon", k=100, ranking=RELEVANT) == before


def test_judgments_against_the_cosines_are_refused(encoded, home):
    lists = search(["moon", "storm", "music"], k=100)
    lines = [f"{n}\t{hit.id}\t1" for n, hits in enumerate(lists, 1) for hit in hits[60:]]
    (home / "qrels.tsv").write_text("\n".join(lines))
    (home / "q.txt").write_text("moon\nstorm\nmusic\n")
    with pytest.raises(InputError, match="the more relevant"):
        calibrate("qrels.tsv", "q.txt")


def test_neighbours_equal_brute_force():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    with Store("s.db") as store:
        recipe = Recipe({"model": "x", "dim": 8, "normalized": False, "maps": []})
        collection = store.create_collection("default", recipe)
        collection.add([Record(f"{i:02}", "t") for i in range(60)], vectors)
        found = Judge(collection).profile.neighbours
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    best = cosines.max(axis=1)
    assert found.mean == pytest.approx(best.mean(), abs=1e-6)
    assert found.spread == pytest.approx(best.std(), abs=1e-6)


# Judgments


def test_calibrate_learns_from_judgments_and_forgets(encoded, examples):
    judgments = examples / "beir" / "qrels" / "test.tsv"
    default, fitted = calibrate(judgments, str(examples / "beir" / "queries.jsonl"))
    assert (default.calibration, fitted.calibration) == ("default", "fitted")
    assert fitted.queries == default.queries == profile().queries > 2
    assert fitted.brier < default.brier
    assert profile().calibration.weights[2] == DEFAULT.weights[2]
    fit = search("smallpox vaccine", k=100, ranking=RELEVANT)[0][0].relevance
    assert calibrate() == []
    assert profile().calibration is None
    assert search("smallpox vaccine", k=100, ranking=RELEVANT)[0][0].relevance != fit
    with Store("embcli.db", readonly=True) as store:
        assert [run.command for run in store.runs(2)] == ["calibrate", "calibrate"]


def test_what_calibrate_refuses(encoded, home):
    with pytest.raises(UsageError, match="go together"):
        calibrate("qrels.tsv")
    (home / "q.jsonl").write_text('{"_id": "q", "text": "moon"}\n')
    (home / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\tnobody\t1\n")
    with pytest.raises(InputError, match="has a relevant record in collection"):
        calibrate("qrels.tsv", "q.jsonl")
    with pytest.raises(StoreError, match="no collection"):
        calibrate(collection="none")
    assert profile() is None


@pytest.mark.parametrize(("name", "least"), [("med", 0.43), ("cranfield", 0.2)])
def test_real_judgments(shared, name, least):
    """On real sets probabilities become frequencies, and lists end well: F1 over queries."""
    folder = shared / "beir" / name
    encode([folder / "corpus.jsonl"])
    judged = (folder / "qrels" / "test.tsv", str(folder / "queries.jsonl"))
    default, fitted = calibrate(*judged)
    assert fitted.calibration == "fitted, cross-validated"
    assert fitted.ece < 0.03
    assert fitted.f1 > least
    assert fitted.brier < default.brier + 1e-4
    # Queries of other sets are about nothing that is here.
    lines = (shared / "beir" / "cosqa" / "queries.jsonl").read_text().splitlines()[:50]
    calibrate()
    strange = search([json.loads(line)["text"] for line in lines], ranking=RELEVANT)
    assert np.mean([not hits for hits in strange]) > 0.85


def test_codes_serve_it_too(shared):
    encode([shared / "beir" / "med" / "corpus.jsonl"])
    before = search("heart valve surgery", k=50, ranking=RELEVANT)
    from embcli.pipelines.compress import compress

    compress("embcli.db", "default", kind="int8")
    assert search("heart valve surgery", k=50, ranking=RELEVANT, exact=False) == before
    with Store("embcli.db", readonly=True) as store, store.snapshot():
        collection = store.collection("default")
        assert nearest(collection, collection.sample(4), 3, exact=False)
