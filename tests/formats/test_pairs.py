import gzip

import pytest

from embcli.errors import InputError
from embcli.formats.pairs import read_pairs


def pairs(path):
    found, problems = read_pairs(path)
    return [(pair.source, pair.target) for pair in found], [str(problem) for problem in problems]


def test_words_divided_by_white_space(home):
    (home / "d.txt").write_text("perro dog\nperro\u00a0hound\n\ngato  cat\ngato cat\nperro dog\n")
    found, problems = read_pairs("d.txt")
    assert [tuple(pair) for pair in found] == [
        ("perro", "dog", 1), ("perro", "hound", 2), ("gato", "cat", 4),
    ]  # fmt: skip
    assert problems == []


def test_a_tab_divides_what_has_spaces(home):
    (home / "d.tsv").write_text("el perro\tthe dog\t0.9\r\nun gato\ta cat\r\n")
    assert pairs("d.tsv") == ([("el perro", "the dog"), ("un gato", "a cat")], [])


def test_a_line_that_is_too_long_needs_no_other_encoding(home):
    (home / "d.txt").write_text("uno one\n" + "x" * (1 << 26) + "\n")
    assert pairs("d.txt") == (
        [("uno", "one")], ["d.txt:2: this line is larger than 67,108,864 bytes"]
    )  # fmt: skip


def test_bad_lines_are_named_and_the_rest_is_kept(home):
    (home / "d.txt").write_bytes(b"uno one\ndos\ntres three 3\ncinco \xff\ncuatro four\n")
    found, problems = pairs("d.txt")
    assert found == [("uno", "one"), ("cuatro", "four")]
    assert problems[0] == (
        "d.txt:2: expected two words, found only one (a tab divides what has spaces)"
    )
    assert "d.txt:3: expected two words, found 3 words" in problems[1]
    assert "d.txt:4: byte 0xff" in problems[2]
    (home / "t.tsv").write_text("a\tb\n\tc\nd\t \n")
    assert len(pairs("t.tsv")[1]) == 2


def test_files_without_any_pair(home):
    for content in ("", "\n\n", "word\n"):
        (home / "d.txt").write_text(content)
        with pytest.raises(InputError, match=r"d\.txt: there is no pair in it"):
            read_pairs("d.txt")
    with pytest.raises(InputError, match=r"none\.txt"):
        read_pairs("none.txt")


def test_what_is_no_text(home):
    (home / "d.bin").write_bytes(b"a b\n\0\0\1")
    with pytest.raises(InputError, match=r"d\.bin: this is no text"):
        read_pairs("d.bin")


def test_compressed_and_other_encodings(home):
    (home / "d.txt.gz").write_bytes(gzip.compress("año year\n".encode()))
    assert pairs("d.txt.gz") == ([("año", "year")], [])
    (home / "d.txt").write_bytes("año\tyear\n".encode("utf-16"))
    assert pairs("d.txt") == ([("año", "year")], [])


def test_dictionaries_of_one_to_many(shared):
    found, problems = pairs(shared / "sinhala" / "wiki_en-si_testset_1500_5000_200k.txt")
    assert problems == []
    assert found[:3] == [("encounter", "හමුවීම"), ("emily", "එමිලි"), ("emily", "එමලි")]
    found, problems = pairs(shared / "bli" / "es-en" / "es-en.0-5000.txt")
    assert (len({source for source, _ in found}), problems) == (5000, [])
