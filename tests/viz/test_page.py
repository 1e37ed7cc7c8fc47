"""The page as it is written, without a browser."""

import base64
import json
import re

import numpy as np
import pytest

import embcli.viz.page
from embcli.errors import InputError, UsageError
from embcli.viz.groups import is_scale
from embcli.viz.page import check_page, write_page


def write(path, n=4, **changes):
    options = {
        "points": np.arange(2 * n).reshape(n, 2),
        "ids": [f"r{row}" for row in range(n)],
        "texts": ["text"] * n,
        "columns": {"kind": ["a"] * n},
    }
    points = changes.pop("points", options.pop("points"))
    write_page(path, points, **(options | changes))
    return path.read_bytes()


def test_nothing_of_a_record_is_markup_and_nothing_is_fetched(tmp_path):
    evil = "</script><!--<img src=x onerror=alert(1)>\u2028\u2029\ud800\x00\x7f"
    columns = {"kind": [evil, None, "b", "b"], evil: [1, None, 2.5, np.nan]}
    page = write(
        tmp_path / "a.html", ids=[evil] * 4, texts=[evil] * 4, columns=columns, title=evil,
        subtitle=evil, names=[(0, 1, evil)],
    ).decode()  # fmt: skip
    embedded = re.search('id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert not set(embedded) & set("<>&\u2028\u2029\ud800\x00\x7f")
    data = json.loads(embedded)
    assert data["texts"] == data["ids"] == [evil] * 4
    assert [column["name"] for column in data["columns"]] == ["kind", evil]
    # By falling frequency.
    assert data["columns"][0]["values"] == ["b", evil]
    # Five scripts of ours, of which three run; no address of anything but names in comments.
    assert page.count("<script") == page.count("</script>") == page.count("<script>") + 2
    assert page.count("<script>") == page.count("'sha256-") >= 3
    assert "default-src 'none'" in page
    assert "<img" not in page.partition("<style>")[0]
    assert not re.search(r"<(script|link|img|iframe)[^>]* (src|href)=.(?!data:,)", page)


def column_of(path, values, **options):
    page = write(path, len(values), columns={"x": values}, **options).decode()
    data = json.loads(re.search('id="data">(.*?)</script>', page, re.DOTALL)[1])
    return data["columns"][0]


def test_numbers_are_a_scale_or_classes(tmp_path):
    # No number of which there is a float is as large; twelve different ones are classes.
    few = [10**400, np.nan, None, *(float(10 - row % 12) for row in range(30))]
    assert not is_scale(few)
    classes = column_of(tmp_path / "few.html", few)
    assert classes["values"] == [str(float(number)) for number in range(-1, 11)]
    codes = np.frombuffer(base64.b64decode(classes["codes"]), "<i4")
    assert codes[:5].tolist() == [-1, -1, -1, 11, 10]
    assert is_scale([*few, 0.5])
    scale = column_of(tmp_path / "many.html", [*few, 0.5])
    numbers = np.frombuffer(base64.b64decode(scale["numbers"]), "<f8")
    assert np.isnan(numbers[:3]).all()
    assert numbers[3:].tolist() == [*few[3:], 0.5]
    for words in (["a", *range(20)], [True, *range(20)], [], [None], [-(10**5000)] * 20):
        assert not is_scale(words)


def test_classes_that_are_cut_stay_different(tmp_path):
    said = []
    long = ["a" * 20_000 + str(row) for row in range(12)]
    values = column_of(tmp_path / "a.html", [*long, "b", "a" * 119 + "…"], note=said.append)[
        "values"
    ]
    assert len(set(values)) == 14
    assert max(map(len, values)) == 120
    assert {"b", "a" * 119 + "…", "a" * 115 + "… (2)", "a" * 114 + "… (13)"} <= set(values)
    assert [line.endswith("up to character 120") for line in said] == [True]


def test_the_same_values_give_the_same_bytes(tmp_path):
    assert write(tmp_path / "a.html") == write(tmp_path / "b.html")
    assert write(tmp_path / "c.html", dark=True) != write(tmp_path / "a.html", force=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"points": np.zeros((0, 2)), "ids": [], "texts": [], "columns": {}},
        {"points": [[0, 1], [2, 3], [4, 5], [6, np.nan]]},
        {"points": np.zeros((4, 3))},
        {"texts": ["one"]},
        {"columns": {"kind": ["one"]}},
    ],
)
def test_what_cannot_be_shown(tmp_path, changes):
    with pytest.raises(InputError):
        write(tmp_path / "a.html", **changes)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path, monkeypatch):
    write(tmp_path / "a.html")
    with pytest.raises(UsageError, match="there already"):
        write(tmp_path / "a.html")
    with pytest.raises(UsageError, match="No such file"):
        write(tmp_path / "no" / "a.html")
    with pytest.raises(UsageError, match="no column 'nothing'"):
        write(tmp_path / "b.html", color="nothing")
    monkeypatch.setattr(embcli.viz.page, "MOST_POINTS", 3)
    with pytest.raises(UsageError, match="4 points") as raised:
        check_page(tmp_path / "b.html", 4)
    assert "--sample" in raised.value.hint


def test_what_is_cut_is_said(tmp_path):
    said = []
    write(tmp_path / "a.html", texts=["a" * 501, "b", "c", "d"], note=said.append)
    assert len(said) == 1
    assert "500" in said[0]
