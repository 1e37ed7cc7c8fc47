import pytest

from embcli.errors import InputError
from embcli.formats.wordsets import AnalogySet, SimilaritySet, read_word_set


def read(home, text, name="set.txt"):
    path = home / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_word_set(path)


def test_analogies(home):
    text = ": family\nboy girl  king\tqueen\n\n: gram1\n# no\ngood well bad badly\nfour or 3\n"
    found, problems = read(home, text)
    assert isinstance(found, AnalogySet)
    assert found.sections == {
        "family": [("boy", "girl", "king", "queen")],
        "gram1": [("good", "well", "bad", "badly")],
    }
    assert [(p.line, p.message) for p in problems] == [(7, "expected four words, found 3")]
    assert read(home, "a b c d\n")[0].sections == {"": [("a", "b", "c", "d")]}


@pytest.mark.parametrize(
    "text",
    [
        "cat\tdog\t7.5\nsun\tcar\t1\n",
        "# The collection\n# Word 1\tWord 2\tMean\ncat\tdog\t7.5\nsun\tcar\t1",
        "word1,word2,score\ncat,dog,7.5\nsun,car,1\n",
        '"Word 1","Word 2","Human (mean)",1,2\r\n"cat","dog",7.5,9,8\r\nsun,car,1,2,2\r\n',
        "word1\tword2\tPOS\tSimLex999\tconc\ncat\tdog\tN\t7.5\t3\nsun\tcar\tN\t1\t2\n",
        "cat dog 7.5\nsun car 1\n",
        "cat dog N 7.5\nsun car N 1\n",
        "\ufeffcat;dog;7.5\nsun;car;1\n",
    ],
)
def test_similarities_in_any_table(home, text):
    found, problems = read(home, text)
    assert isinstance(found, SimilaritySet)
    assert found.pairs == [("cat", "dog", 7.5), ("sun", "car", 1.0)]
    assert not problems


def test_what_is_wrong_is_named(home):
    found, problems = read(home, "cat\tdog\t7.5\nsun\tcar\nsea\tsky\tnan\nred\tblue\t2\n")
    assert len(found.pairs) == 2
    assert [problem.line for problem in problems] == [2, 3]


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "one two\n", b"\xff\xfe\x00", ": empty\n"])
def test_what_is_neither(home, text):
    with pytest.raises(InputError):
        read(home, text)


def test_files_that_are_not_there(home):
    with pytest.raises(InputError, match="no such file"):
        read_word_set(home / "none")
    with pytest.raises(InputError, match="is a directory"):
        read_word_set(home)
