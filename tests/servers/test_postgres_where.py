"""How filters are written for PostgreSQL; what they find is in tests/engines."""

import re
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embcli.errors import UsageError
from embcli.store.where import parse_where

pytest.importorskip("psycopg", reason="needs the package psycopg: pip install .[pg]")

from embcli.servers.postgres_where import compile_node, glob_regex

PIECES = st.lists(st.sampled_from([*"abÄ-^[]*?.\\!_%\n😀"]), max_size=8).map("".join)


@given(PIECES, PIECES)
def test_globs_are_those_of_sqlite(pattern, text):
    connection = sqlite3.connect(":memory:")
    (expected,) = connection.execute("SELECT ? GLOB ?", (text, pattern)).fetchone()
    connection.close()
    # $ of PostgreSQL is the very end.
    regex = re.sub(r"\$$", r"\\Z", glob_regex(pattern))
    assert (re.search(regex, text, re.DOTALL) is not None) == bool(expected)


def test_values_never_become_sql():
    hostile = "x'); DROP TABLE t --%s"
    for expression in (
        f'p = "{hostile}"', f'p > "{hostile}"', f'p in ("{hostile}", 3, true)',
        f'p like "{hostile}"', f'p glob "{hostile}"', f'p contains "{hostile}"',
        f'id = "{hostile}" or not text < "{hostile}"', "p between 1 and 2 and q != 3.5",
    ):  # fmt: skip
        sql, values = compile_node(parse_where(expression), None)
        assert "DROP" not in sql
        assert sql.count("%s") == len(values)


def test_names_are_quoted():
    sql, _ = compile_node(parse_where("`it's %s \\` is null"), None)
    assert "'it''s %%s \\\\'" in sql


def test_texts_of_chunked_records_are_looked_up_in_their_first_row():
    sql, values = compile_node(parse_where('not text contains "a" and p = 1'), '"t"')
    assert sql.count('(key IN (SELECT key FROM "t" WHERE chunk = 0 AND ') == 1
    assert values == ["a", ["1"]]


@pytest.mark.parametrize("expression", ["cluster = 1", "p = 1 and not (cluster.topics in (1, 2))"])
def test_clusters_are_refused(expression):
    with pytest.raises(UsageError, match="clusters are in stores"):
        compile_node(parse_where(expression, {"topics": 1}), None)
