import pytest

from embcli.options import Format
from embcli.output import Column, Output, moment, pairs, plain, printable, size, whole

ROWS = [
    {"id": "a\\b", "text": 'one,\t"two"\nthree', "meta": {"k": [1, None]}, "n": None},
    {"id": "c\nd", "text": "é\u2028", "meta": {}, "n": 0.5},
]
COLUMNS = (Column("id", "id"), Column("n", "n", right=True))
EXPECTED = {
    "json": '[\n  {"id": "a\\\\b", "text": "one,\\t\\"two\\"\\nthree", "meta": {"k": [1, null]}, '
    '"n": null},\n  {"id": "c\\nd", "text": "é\\u2028", "meta": {}, "n": 0.5}\n]\n',
    "ndjson": '{"id": "a\\\\b", "text": "one,\\t\\"two\\"\\nthree", "meta": {"k": [1, null]}, '
    '"n": null}\n{"id": "c\\nd", "text": "é\\u2028", "meta": {}, "n": 0.5}\n',
    "csv": 'id,text,meta,n\na\\b,"one,\t""two""\nthree","{""k"": [1, null]}",\n'
    '"c\nd",é\u2028,{},0.5\n',
    "tsv": 'id\ttext\tmeta\tn\na\\\\b\tone,\\t"two"\\nthree\t{"k": [1, null]}\t\n'
    "c\\nd\té\u2028\t{}\t0.5\n",
    "ids": "a\\b\nc\\nd\n",
}


@pytest.mark.parametrize("format", EXPECTED)
def test_formats_to_the_byte(capsys, format):
    Output(Format(format)).rows(ROWS, COLUMNS)
    assert capsys.readouterr().out == EXPECTED[format]


@pytest.mark.parametrize(
    ("format", "expected"), [("json", "[]\n"), ("ndjson", ""), ("csv", ""), ("table", "")]
)
def test_no_rows(capsys, format, expected):
    Output(Format(format)).rows([], COLUMNS)
    assert capsys.readouterr().out == expected


def test_table(capsys):
    Output(Format.table).rows(ROWS, COLUMNS)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0].split() == ["id", "n"]
    assert lines[2:] == ["a\\b", "c d   0.5000"]


def test_a_file_appears_only_when_it_is_complete(home):
    def rows():
        yield ROWS[0]
        raise RuntimeError("half-way")

    (home / "o.json").write_text("old")
    with pytest.raises(RuntimeError):
        Output(out=home / "o.json").rows(rows(), COLUMNS)
    assert (home / "o.json").read_text() == "old"
    assert [path.name for path in home.iterdir()] == ["o.json"]


def test_cells():
    assert printable("a\x1b[31m\u202eb\tc\x9b") == "a\\x1b[31m\\u202eb\tc\\x9b"
    assert plain(" two\n words ") == "two words"
    assert plain([1, "é"]) == '[1, "é"]'
    assert whole("one\n two\x07") == "one\n two\\x07"
    assert pairs({"a": 1, "b": "x", "c": None}) == "a: 1, b: x, c: null"
    assert moment("2026-11-20T16:05:01.123+00:00") == "2026-11-20 16:05"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2**50 * 3, "3072.0 TiB")],
)  # fmt: skip
def test_sizes(count, shown):
    assert size(count) == shown
