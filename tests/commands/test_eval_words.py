import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from embcli import Store
from embcli.core.analogy import answer
from embcli.pipelines.evaluate_words import evaluate_words

QUESTIONS = """: family
man woman king queen
man woman king duchess
king queen man woman
: gram1-fruit
apple pear king queen
Man woman king queen
"""
SIMILAR = "w1\tw2\tscore\nking\tqueen\t9\napple\tpear\t10\napple\tking\t1\nman\tzebra\t2\n"


@pytest.fixture
def sets(home):
    (home / "questions.txt").write_text(QUESTIONS)
    (home / "similar.tsv").write_text(SIMILAR)
    return "questions.txt", "similar.tsv"


def figures(run, *words):
    result = run("eval", "words", *words, "-c", "words")
    assert result.code == 0, result.err
    return {(row["measure"], row["section"]): row for row in result.rows}


def test_figures(run, family, sets):
    found = figures(run, *sets)
    row = found["3CosAdd", "family"]
    assert row == {
        "set": "questions.txt",
        "section": "family",
        "measure": "3CosAdd",
        "value": 1.0,
        "covered": 2,
        "missing": 1,
    }
    assert [section for _, section in found] == [
        "family", "gram1-fruit", "semantic", "syntactic", "total", "total"
    ]  # fmt: skip
    total = found["3CosAdd", "total"]
    assert (total["covered"], total["missing"]) == (3, 2)
    assert found["Spearman", "total"]["covered"] == 3
    assert found["Spearman", "total"]["value"] == pytest.approx(1)


def test_missing_words_are_named(run, family, sets):
    result = run("eval", "words", *sets, "-c", "words")
    assert (
        "note: questions.txt: 2 words not in collection 'words', such as Man, duchess\n"
        in result.err
    )
    assert "note: similar.tsv: 1 word not in collection 'words', such as zebra\n" in result.err


def test_case(run, family, sets):
    found = figures(run, *sets, "-i")
    assert found["3CosAdd", "total"]["missing"] == 1
    assert found["3CosAdd", "gram1-fruit"]["covered"] == 2


def test_restricted_to_the_first_words(run, family, sets):
    found = figures(run, *sets, "--restrict", "5")
    assert found["3CosAdd", "gram1-fruit"]["value"] is None
    assert found["Spearman", "total"]["covered"] == 1
    assert found["Spearman", "total"]["value"] is None


def test_both_methods(run, family, sets):
    found = figures(run, "questions.txt", "--method", "both")
    assert {measure for measure, _ in found} == {"3CosAdd", "3CosMul"}


def test_nothing_covered(run, family, home):
    (home / "other.tsv").write_text("KING\tQUEEN\t3\n")
    result = run("eval", "words", "other.tsv", "-c", "words")
    assert (result.code, result.out) == (1, "")
    assert "--ignore-case" in result.err.splitlines()[-1]


def test_lines_that_cannot_be_read(run, family, home):
    (home / "bad.txt").write_text(": s\nman woman king queen\nman woman\n")
    result = run("eval", "words", "bad.txt", "-c", "words")
    assert result.code == 3
    assert "skipped: bad.txt:3: expected four words, found 2\n" in result.err
    assert len(result.rows) == 2
    assert run("eval", "words", "none.txt", "-c", "words").code == 3


def test_the_figures_of_the_google_news_vectors(shared, gnews):
    files = [shared / "words" / name for name in ("questions-words.txt", "wordsim353.tsv",
             "simlex999.txt")]  # fmt: skip
    found = evaluate_words(files, db=gnews, collection="gnews")
    totals = {figure.set: figure for figure in found if figure.section == "total"}
    assert totals["questions-words.txt"].value == pytest.approx(0.7554, abs=5e-5)
    assert totals["questions-words.txt"].covered + totals["questions-words.txt"].missing == 19_544
    assert totals["wordsim353.tsv"].value == pytest.approx(0.6927, abs=5e-5)
    assert totals["simlex999.txt"].value == pytest.approx(0.4333, abs=5e-5)


def test_an_independent_count(shared, gnews):
    """Brute force in float64 over every twentieth question, and SciPy for the correlation."""
    with Store(gnews, readonly=True) as store:
        source = store.collection("gnews")
        rows = {word: row for row, word in enumerate(source.names().values())}
        vectors = source.matrix()[1]
    lines = (shared / "words" / "questions-words.txt").read_text().splitlines()
    questions = [line.split() for line in lines if not line.startswith(":")]
    known = [[rows[w] for w in q] for q in questions if all(w in rows for w in q)][::20]
    unit = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    expected = []
    for a, b, c, _ in known:
        scores = unit @ (unit[b] + unit[c] - unit[a])
        scores[[a, b, c]] = -2
        expected.append(scores.argmax())
    assert answer(np.array(known)[:, :3], vectors).tolist() == expected
    lines = (shared / "words" / "simlex999.txt").read_text().splitlines()
    pairs = [line.split("\t") for line in lines if not line.startswith("#")]
    pairs = [pair for pair in pairs if pair[0] in rows and pair[1] in rows]
    cosines = [unit[rows[a]] @ unit[rows[b]] for a, b, _ in pairs]
    rho = spearmanr(cosines, [float(score) for *_, score in pairs]).statistic
    (found,) = evaluate_words([shared / "words" / "simlex999.txt"], db=gnews, collection="gnews")
    assert found.value == pytest.approx(rho)


def test_keys_in_json(run, family, sets):
    rows = json.loads(run("eval", "words", *sets, "-c", "words", "-f", "json").out)
    assert all(list(row) == list(rows[0]) for row in rows)
    assert run("eval", "words", *sets, "-c", "words", "-f", "table", tty=True).out.count("\n") > 6
