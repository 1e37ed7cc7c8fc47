"""What is kept, measured before and after."""

import json

import numpy as np
import pytest

from embcli import Store, encode, load_encoder
from embcli.core.maps import Linear, Map, Transform
from embcli.core.space_similarity import neighbour_overlap
from embcli.errors import InputError, ModelError, NothingFoundError, UsageError
from embcli.formats.bias_spec import read_spec
from embcli.pipelines.align_apply import apply_map
from embcli.pipelines.debias_kept import measure_kept
from tests.conftest import SHARED, store_words

KEYS = ["measure", "set", "before", "after", "change", "n"]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def hard_debiased(words, vectors):
    """Neutralize, equalize: Bolukbasi et al. 2016, as simply as can be."""
    spec, row = read_spec("gender"), {word: i for i, word in enumerate(words)}
    out = unit(vectors.astype(np.float64))
    pairs = [[row[w] for w in pair] for pair in spec.definitional if all(w in row for w in pair)]
    centred = [out[i] - out[pair].mean(axis=0) for pair in pairs for i in pair]
    direction = np.linalg.svd(np.array(centred))[2][0]
    neutral = [i for i, word in enumerate(words) if word not in set(spec.specific)]
    out[neutral] = unit(out[neutral] - np.outer(out[neutral] @ direction, direction))
    cases = [tuple(f(w) for w in pair) for pair in spec.equalize
             for f in (str.lower, str.title, str.upper)]  # fmt: skip
    for a, b in dict.fromkeys(cases):
        if a in row and b in row:
            left, right = out[row[a]], out[row[b]]
            middle = (left + right) / 2
            middle = middle - middle @ direction * direction
            along = np.sign((left - right) @ direction) * np.sqrt(1 - middle @ middle)
            out[row[a]], out[row[b]] = middle + along * direction, middle - along * direction
    return out.astype(np.float32)


@pytest.fixture(scope="module")
def debiased(tmp_path_factory):
    if not SHARED.is_dir():
        pytest.skip("needs the project's shared data folder, which is not part of the repository")
    path = tmp_path_factory.mktemp("debiased") / "words.db"
    with np.load(SHARED / "words" / "gnews13k.npz") as data:
        words, vectors = data["words"].tolist(), data["vecs"]
    store_words(path, "before", words, vectors)
    store_words(path, "after", words, hard_debiased(words, vectors))
    return path, vectors


def test_google_news_after_hard_debias(debiased, shared):
    db = debiased[0]
    files = [shared / "words" / name for name in
             ("questions-words.txt", "wordsim353.tsv", "simlex999.txt")]  # fmt: skip
    notes = []
    rows = measure_kept("before", "after", words=files, sample=500, db=db, note=notes.append)
    assert [note.partition(":")[0] for note in notes] == [file.name for file in files]
    assert all(list(row) == KEYS for row in rows)
    found = {(row["measure"], row["set"]): row for row in rows}
    analogies = found["3CosAdd", "questions-words.txt"]
    assert 100 * analogies["before"] == pytest.approx(75.54, abs=0.01)
    assert 100 * analogies["after"] == pytest.approx(75.43, abs=0.05)
    assert analogies["change"] == analogies["after"] - analogies["before"]
    assert analogies["n"] > 5000
    wordsim, simlex = found["Spearman", "wordsim353.tsv"], found["Spearman", "simlex999.txt"]
    assert [wordsim["before"], wordsim["after"]] == pytest.approx([0.6927, 0.6899], abs=6e-4)
    assert [simlex["before"], simlex["after"]] == pytest.approx([0.4333, 0.4358], abs=6e-4)
    overlap = found["overlap@10", "500 of 13,784 records"]
    assert overlap["n"] == 500
    assert overlap["before"] == 1
    assert 0.9 < overlap["after"] < 1
    # Sections sum up in these; the single ones are for embcli eval words.
    assert {set for measure, set in found if measure == "3CosAdd"} == {
        "questions-words.txt", "questions-words.txt: semantic", "questions-words.txt: syntactic",
    }  # fmt: skip


def test_the_sample_is_seeded_and_its_neighbours_are_any(debiased):
    db, vectors = debiased
    (row,) = measure_kept("before", "after", sample=200, seed=1, db=db)
    with Store(db, readonly=True) as store:
        after = store.collection("after").matrix()[1]
    chosen = np.random.default_rng(1).permutation(len(vectors))[:200]
    shares = []
    for side in (unit(vectors.astype(np.float64)), unit(after.astype(np.float64))):
        cosines = side[chosen] @ side.T
        cosines[np.arange(200), chosen] = -2
        shares.append(np.argsort(-cosines, axis=1)[:, :10])
    both = [len({*a} & {*b}) / 10 for a, b in zip(*map(np.ndarray.tolist, shares), strict=True)]
    assert row["after"] == pytest.approx(np.mean(both))
    assert measure_kept("before", "after", sample=200, seed=1, db=db) == [row]
    assert measure_kept("before", "after", sample=200, seed=2, db=db) != [row]


def labelled(labels, seed=0, dims=(6, 9)):
    """Two collections in the store of this folder; label is along the first axis of "before"."""
    rng = np.random.default_rng(seed)
    n = len(labels)
    before = rng.normal(size=(n, dims[0])).astype(np.float32)
    before[:, 0] += [5.0 * (label == "a") for label in labels]
    after = np.zeros((n, dims[1]), np.float32)
    after[:, : dims[0] - 1] = before[:, 1:]
    ids = [f"r{i}" for i in range(n)]
    metas = [{} if label is None else {"kind": label} for label in labels]
    store_words("embcli.db", "before", ids, before, metas)
    store_words("embcli.db", "after", ids, after)
    return before, after


def test_classes_of_the_users(home):
    before, after = labelled(["a", "b"] * 100)
    overlap, accuracy, f1 = measure_kept("before", "after", label="kind")
    assert overlap["after"] == pytest.approx(neighbour_overlap(before, after))
    assert (overlap["set"], overlap["n"]) == ("all records", 200)
    assert (accuracy["measure"], accuracy["set"], accuracy["n"]) == ("accuracy", "kind", 200)
    assert accuracy["before"] > 0.95
    assert accuracy["after"] == pytest.approx(0.5, abs=0.12)
    assert f1["measure"] == "macro-F1"
    assert f1["before"] > 0.95
    again = measure_kept("before", "before", label="kind")
    assert [row["change"] for row in again] == [0, 0, 0]


def test_small_classes_and_records_without_a_label_are_left_out(home):
    labelled(["a", "b"] * 20 + ["c"] * 4 + [None] * 3)
    notes = []
    rows = measure_kept("before", "after", label="kind", note=notes.append)
    assert rows[1]["n"] == 40
    assert notes == [
        "kind: left out 1 class of fewer than 5 records (c)",
        "kind: left out 3 records without it",
    ]


def test_one_class_is_refused(home):
    labelled(["a"] * 20 + ["c"] * 4)
    with pytest.raises(InputError, match=r"two of at least 5 records each, and in 'before' there"):
        measure_kept("before", "after", label="kind")
    with pytest.raises(InputError, match="no record of 'before' has a field 'sort'"):
        measure_kept("before", "after", label="sort")


def test_what_only_one_has_is_left_out(home):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 4)).astype(np.float32)
    ids = [f"r{i}" for i in range(30)]
    store_words("embcli.db", "before", ids, vectors)
    store_words(
        "embcli.db",
        "after",
        [*ids[::-1][:25], "x"],
        np.vstack([vectors[::-1][:25], [[1, 2, 3, 4]]]).astype(np.float32),
    )
    notes = []
    (row,) = measure_kept("before", "after", note=notes.append)
    assert (row["after"], row["n"]) == (1, 25)
    assert notes == ["left out 5 records that only 'before' has and 1 that only 'after' has"]
    store_words("embcli.db", "other", ["y", "z"], vectors[:2])
    with pytest.raises(InputError, match="'before' and 'other' have no id in common"):
        measure_kept("before", "other")


def test_queries_are_led_to_the_space_of_the_second(home, corpus):
    encode(corpus, collection="before")
    matrix = np.random.default_rng(0).normal(size=(256, 3))
    with Store("embcli.db") as store:
        source = store.collection("before")
        ids = [record.id for record in source.records()]
        vectors = source.vectors(ids)
        side = Transform.of(Linear(matrix))
        store.maps.add(
            "m", Map(side, side), method="test", source=source.recipe, target=source.recipe, fit={}
        )
    apply_map("m", "before", "after")
    texts = {"pets": "animals at home", "rates": "interest rates", "no": "nobody judged it"}
    lines = (json.dumps({"_id": id, "text": text}) + "\n" for id, text in texts.items())
    (home / "queries.jsonl").write_text("".join(lines))
    (home / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\npets\tdog\t2\nrates\tbank\t1\n")
    notes = []
    files = {"queries": "queries.jsonl", "judgments": "qrels.tsv"}
    *_, row = measure_kept("before", "after", neighbours=1, note=notes.append, **files)
    assert (row["measure"], row["set"], row["n"]) == ("nDCG@10", "queries.jsonl", 2)
    assert notes == ["left out 1 query without judgments"]
    asked = load_encoder("static").encode([texts["pets"], texts["rates"]], "query")
    for key, change in (("before", np.eye(256)), ("after", matrix)):
        cosines = unit(asked @ change) @ unit(vectors @ change).T
        ranks = [
            1 + (of_query > of_query[ids.index(relevant)]).sum()
            for of_query, relevant in zip(cosines, ("dog", "bank"), strict=True)
        ]
        assert row[key] == pytest.approx(np.mean(1 / np.log2(1 + np.array(ranks))))
    assert row["change"] != 0


def test_a_package_that_is_missing_is_named(home, monkeypatch):
    labelled(["a", "b"] * 10)
    monkeypatch.setattr("embcli.pipelines.debias_kept.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="takes scikit-learn, which is not installed"):
        measure_kept("before", "after", label="kind")
    assert len(measure_kept("before", "after")) == 1


def test_what_does_not_make_sense(home):
    labelled(["a", "b"] * 10)
    with pytest.raises(UsageError, match="--queries and --qrels go together"):
        measure_kept("before", "after", queries="q.jsonl")
    with pytest.raises(UsageError, match="--sample must be at least 1, not 0"):
        measure_kept("before", "after", sample=0)
    store_words("embcli.db", "few", ["r0", "r1"], np.eye(2, dtype=np.float32))
    notes = []
    assert measure_kept("few", "few", note=notes.append) == []
    assert notes == ["neighbours are not compared: both have only 2 records"]
    (home / "set.tsv").write_text("cat\tdog\t7\n")
    with pytest.raises(NothingFoundError, match="'before' has the words of no question"):
        measure_kept("before", "after", words=["set.tsv"])
