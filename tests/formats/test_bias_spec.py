import json
import subprocess
import sys

import numpy as np
import pytest

from embcli.errors import InputError, UsageError
from embcli.formats.bias_spec import AssociationTest, WordSet, read_pairs_spec, read_spec, specs

TEST = {
    "name": "t",
    "targets": {"X": ["a", "b"], "Y": ["c"]},
    "attributes": {"A": ["d"], "B": ["e"]},
}


def written(home, value):
    text = value if isinstance(value, str) else json.dumps(value)
    (home / "my.json").write_text(text)
    return "my.json"


def lists(shared, name):
    return json.loads((shared / "debias" / f"{name}.json").read_text())


def test_gender_has_the_published_lists(shared):
    spec = read_spec("gender")
    assert [list(pair) for pair in spec.definitional] == lists(shared, "definitional_pairs")
    assert list(spec.specific) == lists(shared, "gender_specific_full")
    professions = [name for name, *_ in lists(shared, "professions")]
    assert spec.words == (WordSet("professions", tuple(professions)),)
    assert len(spec.words[0].words) == 320
    published = lists(shared, "equalize_pairs")
    assert {frozenset(pair) for pair in spec.equalize} == set(map(frozenset, published))
    # As published, all pairs but two have the male word first; here all have it last.
    reversed_ = [pair for pair, other in zip(spec.equalize, published, strict=True)
                 if list(pair) != other]  # fmt: skip
    assert len(spec.equalize) - len(reversed_) == 2
    assert ("wives", "husbands") in spec.equalize
    assert ("ex_girlfriend", "ex_boyfriend") in spec.equalize


def test_equalize_pairs_point_the_way_definitional_pairs_do(shared):
    spec = read_spec("gender")
    with np.load(shared / "words" / "gnews13k.npz") as data:
        row = {word: i for i, word in enumerate(data["words"].tolist())}
        vectors = data["vecs"]

    def differences(pairs):
        known = [pair for pair in pairs if all(word in row for word in pair)]
        return known, [vectors[row[a]] - vectors[row[b]] for a, b in known]

    direction = np.mean(differences(spec.definitional)[1], axis=0)
    pairs, along = differences(spec.equalize)
    assert len(pairs) == 21
    assert [pair for pair, d in zip(pairs, along, strict=True) if d @ direction <= 0] == []


def test_weat_has_all_ten_tests(shared):
    tests = read_spec("weat").tests
    assert [test.name for test in tests] == [f"WEAT{i}" for i in range(1, 11)]
    published = {frozenset(words) for words in lists(shared, "WEAT").values()}
    used = {frozenset(words.words) for test in tests for words in (*test.targets, *test.attributes)}
    assert used == published
    assert read_spec("gender").tests == tests[5:8]
    sizes = [[len(words.words) for words in test.targets] for test in tests]
    assert sizes == [[25, 25], [25, 25], [32, 32], [18, 18], [18, 18]] + [[8, 8]] * 3 + [
        [6, 6], [8, 8],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "effect"),
    [("WEAT1", 1.539), ("WEAT2", 1.628), ("WEAT6", 1.890), ("WEAT7", 0.966), ("WEAT8", 1.244),
     ("WEAT9", 1.297)],
)  # fmt: skip
def test_effect_sizes_are_the_reference_figures(shared, name, effect):
    test = next(test for test in read_spec("weat").tests if test.name == name)
    with np.load(shared / "words" / "gnews13k.npz") as data:
        row = {word: i for i, word in enumerate(data["words"].tolist())}
        unit = data["vecs"] / np.linalg.norm(data["vecs"], axis=1, keepdims=True)
    x, y, a, b = (
        unit[[row[word] for word in words.words if word in row]]
        for words in (*test.targets, *test.attributes)
    )
    s, t = ((side @ a.T).mean(1) - (side @ b.T).mean(1) for side in (x, y))
    assert (s.mean() - t.mean()) / np.concatenate([s, t]).std(ddof=1) == pytest.approx(
        effect, abs=6e-4
    )


def test_sets_of_three():
    for name, sets in (("race", 6), ("religion", 5)):
        spec = read_spec(name)
        assert {len(words) for words in spec.definitional} == {3}
        assert len(spec.definitional) == sets
        assert len(spec.words) == 3
        assert "Manzini" in spec.source


def test_all_that_are_built_in_are_named():
    found = specs()
    assert list(found) == ["gender", "race", "religion", "weat"]
    assert found["gender"] == (
        "10 definitional pairs, 52 equalize pairs, 1,441 specific words, 320 professions, WEAT6, "
        "WEAT7, WEAT8"
    )
    assert found["race"].startswith("6 definitional sets of 3, 5 stereotypes of black")
    assert all(read_spec(name).name == name and read_spec(name).source for name in found)


def test_a_file_of_the_users(home):
    file = written(
        home,
        {
            "name": "mine",
            "definitional": [["a", "b"], ["a", "c"], ["a", "b"]],
            "specific": ["x", "y", "x"],
            "words": {"w": ["Ünïcode"]},
            "tests": [TEST],
        },
    )
    spec = read_spec(file)
    assert spec.definitional == (("a", "b"), ("a", "c"))
    assert (spec.specific, spec.source, spec.equalize) == (("x", "y"), "", ())
    assert spec.words == (WordSet("w", ("Ünïcode",)),)
    assert spec.tests == (
        AssociationTest(
            "t",
            (WordSet("X", ("a", "b")), WordSet("Y", ("c",))),
            (WordSet("A", ("d",)), WordSet("B", ("e",))),
        ),
    )
    assert read_spec(written(home, "\ufeff" + json.dumps({"name": "bare"}))).summary() == ""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"name": "x",\n "words": {,}}', "my.json:2: not JSON: "),
        ('{"name": "x", "words": {"a": ["b"], "a": ["c"]}}', "my.json: the key 'a' is there twice"),
        ("[" * 100_000, "my.json: not JSON: nested too deeply"),
        (["a"], 'my.json: expected an object, found ["a"]'),
        ({}, "my.json: name: expected a name, found null"),
        ({"name": " "}, 'my.json: name: expected a name, found " "'),
        ({"name": "x", "pairs": []}, "expected keys among name, source, definitional, "),
        ({"name": "x", "source": 1}, "my.json: source: expected a string, found 1"),
        ({"name": "x", "definitional": {}}, "my.json: definitional: expected an array, found {}"),
        ({"name": "x", "definitional": [["a", "b"], ["c"]]}, "definitional[1]: expected two or"),
        ({"name": "x", "definitional": [["a", "a"]]}, "definitional[0]: expected two or"),
        (
            {"name": "x", "equalize": [["a", "b"], ["c", "d", "e"]]},
            'equalize[1]: expected 2 words, as in equalize[0], found ["c", "d", "e"]',
        ),
        (
            {"name": "x", "definitional": [["she", "he"], ["his", "she"]]},
            "definitional: 'she' is number 1 of one set and number 2 of another",
        ),
        ({"name": "x", "specific": []}, "my.json: specific: expected words, found []"),
        ({"name": "x", "specific": ["a", 3]}, "my.json: specific[1]: expected a word, found 3"),
        ({"name": "x", "words": {"w": ["a", ""]}}, 'words.w[1]: expected a word, found ""'),
        (
            {"name": "x", "tests": [TEST | {"targets": {"X": ["a"]}}]},
            "tests[0].targets: expected two named sets, found 1",
        ),
        (
            {"name": "x", "tests": [TEST | {"targets": {"X": ["a"], "Y": ["b", "a"]}}]},
            "tests[0].targets: 'a' is in both sets",
        ),
        ({"name": "x", "tests": [TEST, TEST]}, "tests[1]: there are two tests of the name 't'"),
    ],
)
def test_what_is_wrong_is_named(home, value, message):
    with pytest.raises(InputError) as caught:
        read_spec(written(home, value))
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 250


def test_no_such_spec(home):
    with pytest.raises(UsageError, match=r"no spec 'gendr' \(there are: gender, race, religion"):
        read_spec("gendr")
    for name in ("my.json", "folder/gender"):
        with pytest.raises(InputError, match=f"{name}: no such file"):
            read_spec(name)
    (home / "latin.json").write_bytes(b'{"name": "\xe9"}')
    with pytest.raises(InputError, match=r"latin.json: not UTF-8 \(byte 10\)"):
        read_spec("latin.json")
    (home / "gender").write_text('{"name": "of mine"}')
    assert read_spec("gender").name == "gender"
    assert read_spec("./gender").name == "of mine"


def test_pairs_of_a_table(home):
    (home / "pairs.tsv").write_text("she\the\nshe\the\nqueen\tqueen\nwoman\tman\nlone\n")
    spec, problems = read_pairs_spec("pairs.tsv")
    assert (spec.name, spec.source) == ("pairs", "pairs.tsv")
    assert spec.definitional == (("she", "he"), ("woman", "man"))
    assert [(p.line, p.message) for p in problems] == [
        (5, "expected two words, found only one (a tab divides what has spaces)"),
        (3, "'queen' is paired with itself"),
    ]
    (home / "pairs.tsv").write_text("she\the\nhis\tshe\n")
    with pytest.raises(InputError, match="'she' is number 1 of one set and number 2"):
        read_pairs_spec("pairs.tsv")
    (home / "pairs.tsv").write_text("she\tshe\n")
    with pytest.raises(InputError, match="no pair of different words"):
        read_pairs_spec("pairs.tsv")


def test_the_reader_needs_no_numpy():
    code = (
        "import sys; from embcli.formats.bias_spec import specs; specs(); "
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
