"""Suites of files that others have made to break parsers."""

import json
import re

import pytest

PLACE = re.compile(r"^skipped: (?P<file>[^:]+):(?P<line>\d+): \S", re.MULTILINE)


def texts_of(value):
    """The texts a JSON value holds, as encode reads it."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value if isinstance(item, str | dict) for text in texts_of(item)]
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return list(value.values())
    return []


def test_json_test_suite(run, shared, home):
    """Valid texts come back byte for byte; invalid files are named, with exit code 3."""
    stored = 0
    for path in sorted((shared / "jsontestsuite" / "test_parsing").glob("*.json")):
        target = home / path.name
        target.write_bytes(path.read_bytes())
        collection = path.stem.replace("\x7f", "")
        result = run("encode", path.name, "-c", collection)
        assert result.code in (0, 3), (path.name, result.err)
        assert "Traceback" not in result.err
        if path.name.startswith("n_"):
            assert result.code == 3, path.name
        if result.code == 3:
            place = PLACE.search(result.err)
            assert place, (path.name, result.err)
            assert place["file"] == path.name
            lines = path.read_bytes().count(b"\n") + 1
            assert 1 <= int(place["line"]) <= lines, path.name
        if path.name.startswith("y_"):
            wanted = texts_of(json.loads(path.read_text()))
            wanted = sorted(text for text in wanted if text.strip())
            listed = run("search", "x", "-k", "99", "-c", collection, "-f", "json")
            ids = [row["id"] for row in json.loads(listed.out or "[]")]
            shown = run("show", *ids, "-c", collection).rows if ids else []
            assert sorted(row["text"] for row in shown) == wanted, path.name
            stored += len(wanted)
    assert stored > 50


def test_naughty_strings(run, shared):
    """Every string that is not blank comes back as it was."""
    path = shared / "blns" / "blns.json"
    strings = [text for text in json.loads(path.read_text()) if not (not text or text.isspace())]
    result = run("encode", path)
    assert result.code in (0, 3)
    listed = run("search", "x", "-k", "9999").rows
    shown = run("show", *(row["id"] for row in listed)).rows
    assert len(shown) == len(strings)
    assert sorted(row["text"] for row in shown) == sorted(strings)
    for row in listed[::10]:
        assert run("search", "--like", row["id"], "-k", "1").code == 0


def test_naughty_queries_and_ids(run, shared, corpus, home):
    strings = json.loads((shared / "blns" / "blns.json").read_text())
    run("encode", "corpus.jsonl")
    for text in strings[::3]:
        if text == "-":  # means standard input
            continue
        result = run("search", "--", text)
        assert result.code == (0 if text.strip() else 2), (text, result.err)
        assert "Traceback" not in result.err
        result = run("search", "x", "--where", f"kind = {text}")
        assert result.code in (0, 1, 2)
    named = [{"id": text, "text": f"text {n}"} for n, text in enumerate(strings) if text.strip()]
    (home / "ids.jsonl").write_text("\n".join(map(json.dumps, named)))
    run("encode", "ids.jsonl", "-c", "ids")
    ids = list(dict.fromkeys(record["id"] for record in named))
    assert [row["id"] for row in run("show", "-c", "ids", "--", *ids).rows] == ids


@pytest.mark.parametrize(
    ("name", "code", "texts", "line"),
    [
        ("bad-header-less-fields.csv", 3, [], 2),
        ("bad-header-more-fields.csv", 3, [], 2),
        ("bad-header-wrong-header.csv", 0, [], None),
        ("bad-missing-quote.csv", 3, [], 2),
        ("bad-quotes-with-unescaped-quote.csv", 3, [], 2),
        ("bad-unescaped-quote.csv", 0, ['This "quotes" must be escaped'], None),
        ("quotes-with-newline.csv", 0, ["No man is an island,\nEntire of itself"], None),
        ("spectrum-latin1-coordinates.csv", 3, [], 2),
        ("spectrum-newlines_cr.csv", 0, ["Once upon \ra time"], None),
        ("spectrum-null.csv", 0, ["NULL", "NULL"], None),
    ],
)
def test_bad_csv(run, shared, home, name, code, texts, line):
    (home / name).write_bytes((shared / "bad_csv" / name).read_bytes())
    result = run("encode", name)
    assert result.code == code, result.err
    if line is not None:
        place = PLACE.search(result.err)
        assert place, result.err
        assert (place["file"], int(place["line"])) == (name, line)
    found = run("search", "x").rows if texts else []
    assert [row["text"] for row in found if row["text"] in texts] == texts


def test_ten_rows_of_banking77_hold_line_breaks(run, shared):
    run("encode", shared / "banking77" / "train.csv", "-q")
    (info,) = run("collections", "info").rows
    assert info["records"] == 10_003


def test_a_table_without_header(run, shared):
    result = run("encode", shared / "ag_news" / "test.csv", "--no-header", "-q")
    assert result.code == 0
    (row,) = run("search", "stock market falls", "-k", "1").rows
    assert set(row["meta"]) == {"1", "2"}
    assert run("search", "football", "--where", "`1` = 2", "-k", "3").rows[0]["meta"]["1"] == 2
