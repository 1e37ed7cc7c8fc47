"""Filters for Milvus, and the rows they are evaluated on, without a server."""

import json

import numpy as np
import pytest

from embcli.errors import InputError, UsageError
from embcli.servers.milvus_rows import LONGEST, rows_to_write, whole_texts
from embcli.servers.milvus_where import Flattener, compile_node, literal, matching
from embcli.store.collection import Batch
from embcli.store.where import parse_where


def compiled(expression, *, infix=True, **options):
    return compile_node(parse_where(expression, **options), infix)


def batch_of(id="a", text="", meta="{}"):
    return Batch([id], [text], [meta], ["f:1"], ["h"], np.ones((1, 2), np.float32), None)


def test_metadata_stand_there_as_texts_and_as_numbers():
    meta = {
        "n": 2020, "f": 2.50, "s": "07", "w": "word", "yes": True, "none": None,
        "a": {"b.c": {"d": 1}}, "big": 2**70, "tags": ["x", 2, 2.5, False, None, "x"],
    }  # fmt: skip
    fields = Flattener()(json.dumps(meta))
    assert fields.values["t.n"] == "2020"
    assert fields.values["n.n"] == 2020
    assert fields.values["t.f"] == "2.5"
    assert (fields.values["t.s"], fields.values["n.s"]) == ("07", 7)
    assert "n.w" not in fields.values
    assert (fields.values["t.yes"], fields.values["n.yes"], fields.values["b.yes"]) == (
        "1",
        1,
        True,
    )
    assert not any(name.endswith(".none") for name in fields.values)
    assert fields.values["n.a.b%2Ec.d"] == 1
    assert fields.values["n.big"] == 2.0**70
    assert fields.lists["tags"] == ["s:x", "s:2", "n:2", "s:2.5", "n:2.5", "b:false", "s:x"]
    assert fields.lists["a"] == ["k:b.c"]


@pytest.mark.parametrize("value", ['"', "\\", '\\"', "a\nb\r", "'", '" or "" == "', "é😀", ""])
def test_values_stay_values(value):
    written = literal(value)
    assert written[0] == written[-1] == '"'
    # No quote ends it before its end, and it is the value again.
    assert json.loads(written) == value


def test_negations_do_not_hold_where_the_field_is_missing():
    there = '(exists $meta["t.year"])'
    assert compiled("year != 5").text.startswith(f"{there} and not (")
    assert compiled("not year = 5").text == compiled("year != 5").text
    assert compiled("not year != 5").text == compiled("year = 5").text
    assert compiled("year is not null").text == there


@pytest.mark.parametrize(
    ("expression", "exact"),
    [
        ('a = "x" and not b in (1, "2", true)', True),
        ("a between 1 and 2 or a is null", True),
        ('id = "x" or source < "b" or id in ("y", "z")', True),
        ('a like "x%"', False),
        ('a glob "x*" and b = 1', False),
        ('text contains "x"', False),
        ("id = 5", False),
        ('a contains "x"', True),
        ('a contains "100%"', False),
    ],
)
def test_what_the_server_evaluates_is_known(expression, exact):
    assert compiled(expression).exact is exact


def test_what_is_inside_of_texts_takes_2_4():
    assert not compiled('a contains "x"', infix=False).exact


def test_clusters_are_refused():
    with pytest.raises(UsageError, match="clusters are in stores"):
        compiled("a = 1 or cluster = 3", clusterings={"x": 1})


def test_filters_evaluated_here_mean_what_they_mean_in_stores():
    rows = [("a", "One Cup", "f:1", "{}"), ("b", "none", "f:2", '{"x": "Q"}')]
    assert list(matching(parse_where('text like "%cup%" or x like "q"'), rows)) == [True, True]
    assert list(matching(parse_where('x != "a"'), rows)) == [False, True]
    with pytest.raises(UsageError, match="too much for SQLite"):
        list(matching(parse_where(f'text like "{"%" * 60_000}"'), rows))


@pytest.mark.parametrize("length", [0, LONGEST, LONGEST + 1, 200_001])
@pytest.mark.parametrize("letter", ["a", "é", "漢", "😀"])
def test_long_texts_are_cut_between_letters_and_put_together_again(length, letter):
    text = "x" + letter * (length // len(letter.encode()))
    rest, first = rows_to_write(batch_of(text=text), [1], "float32", Flattener())
    assert all(len(row["text"].encode()) <= LONGEST for row in rest + first)
    assert first[0]["rows"] == 1 + len(rest)
    assert whole_texts([*reversed(rest), *first])["a"][1] == text


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        (batch_of(id="x" * 70_000), "id"),
        (batch_of(meta=json.dumps({"a": "x" * 70_000})), "metadata"),
        (batch_of(meta=json.dumps({"a": [[n] for n in range(9_000)]})), "metadata"),
    ],
)
def test_what_cannot_be_held_is_named_before_anything_is_written(batch, what):
    with pytest.raises(InputError, match=rf"record '.*': Milvus holds 65,535 bytes of its {what}"):
        rows_to_write(batch, [1], "float32", Flattener())
