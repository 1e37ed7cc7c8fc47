import numpy as np
import pytest

from embcli import Store
from embcli.pipelines.analogy import analogy, near_spellings, parse_terms

WORDS = ("-c", "words")


def test_king_and_queen(run, family):
    result = run("analogy", "king", "-", "man", "+", "woman", *WORDS)
    assert result.code == 0
    assert list(result.rows[0]) == ["rank", "id", "score", "text", "meta"]
    assert [row["id"] for row in result.rows][:2] == ["queen", "Queen"]
    assert {row["id"] for row in result.rows} == {"the", "queen", "Queen", "apple", "pear"}
    assert run("analogy", "king - man + woman", *WORDS).out == result.out
    assert run("analogy", "woman", "\N{MINUS SIGN}", "man", "+", "king", *WORDS).out == result.out


def test_fewer_and_more_terms(run, family):
    alone = [row["id"] for row in run("analogy", "apple", *WORDS, "-k", "1").rows]
    assert alone == ["pear"]
    many = run("analogy", "king", "+", "woman", "+", "queen", "-", "man", "-", "the", *WORDS)
    assert many.rows[0]["id"] == "Queen"


@pytest.mark.parametrize("method", ["3cosadd", "3cosmul"])
def test_methods(run, family, method):
    result = run("analogy", "king - man + woman", *WORDS, "--method", method)
    assert result.rows[0]["id"] == "queen"


def test_case(run, family):
    result = run("analogy", "KING - man + woman", *WORDS)
    assert (result.code, result.out) == (1, "")
    assert result.err == "error: collection 'words' has no record 'KING'; try: --ignore-case\n"
    found = run("analogy", "KING - Man + woman", "-i", *WORDS).rows
    assert found[0]["id"] == "queen"
    other = [row["id"] for row in run("analogy", "queen - woman + man", "-i", *WORDS).rows]
    assert "Queen" not in other
    assert other[0] == "king"


def test_words_that_are_not_there(run, family):
    result = run("analogy", "kinf - man + woman", *WORDS)
    assert result.err == "error: collection 'words' has no record 'kinf'; try: king\n"
    result = run("analogy", "zebra", *WORDS)
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "embcli show" in result.err


@pytest.mark.parametrize(
    "words",
    [
        ["king", "man"], ["king", "-"], ["king", "-", "+", "man"], ["-", "-", "king"],
        ["-", "king"], [""], ["king", "-", " "], ["-"],
    ],
)  # fmt: skip
def test_what_is_no_expression(run, family, words):
    result = run("analogy", *words, *WORDS)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1


def test_expressions():
    assert parse_terms(["a", "-", "b", "+", "c d"]) == (["a", "c d"], ["b"])
    assert parse_terms(["-", "b", "+", "a"]) == (["a"], ["b"])
    assert parse_terms(["well-known + C++ - x"]) == (["well-known", "C++"], ["x"])
    assert parse_terms(["New York", "-", "x-y"]) == (["New York"], ["x-y"])


def test_near_spellings():
    assert near_spellings("Kingg", ["queen", "king", "kin", "kings"])[0] in ("king", "kings")
    assert near_spellings("x", []) == []


def test_chunked_collections_take_the_mean(run, corpus):
    run("encode", "corpus.jsonl", "--chunk", "characters=20", "-c", "cut")
    hits = analogy(["cat", "bank"], ["bond"], collection="cut", k=2)
    with Store("embcli.db", readonly=True) as store:
        cat, bank, bond, *others = store.collection("cut").vectors(
            ["cat", "bank", "bond", "dog", "tax"]
        )
    scores = np.array(others) @ (cat + bank - bond)
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)


def test_nothing_else_is_there(run, family):
    with Store("embcli.db") as store:
        store.collection("words").delete(["the", "man", "woman", "queen", "Queen", "apple", "pear"])
    result = run("analogy", "king", *WORDS)
    assert (result.code, result.out) == (1, "")


def test_real_vectors(run, gnews):
    found = run("analogy", "king - man + woman", "-c", "gnews", "-d", gnews, "-k", "1").rows
    assert found[0]["id"] == "queen"
    hits = analogy(["Paris", "Germany"], ["France"], db=gnews, collection="gnews", k=1)
    assert hits[0].id == "Berlin"
