"""What is written for Embedding Atlas."""

import shlex

import numpy as np
import pyarrow.parquet as parquet
import pytest

from embcli.core.neighbours import Neighbours, among_themselves, without_own
from embcli.errors import InputError, UsageError
from embcli.formats.atlas import atlas_command, write_atlas


def records(n):
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(n, 8)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    ids = [f"r{i}" for i in range(n)]
    metas = [{"year": 2000 + i, "text": "a field", "tags": ["a"]} if i else {} for i in range(n)]
    return ids, [f"text {i}" for i in range(n)], metas, rng.normal(size=(n, 2)), unit


def test_the_columns_are_as_embedding_atlas_reads_them(tmp_path):
    ids, texts, metas, points, unit = records(40)
    found = without_own(among_themselves(unit, 6), np.arange(40))
    write_atlas(tmp_path / "map.parquet", ids, texts, metas, points, found)
    rows = parquet.read_table(tmp_path / "map.parquet").to_pylist()
    assert [row["id"] for row in rows] == ids
    assert [row["text"] for row in rows] == texts
    assert np.allclose([(row["projection_x"], row["projection_y"]) for row in rows], points)
    assert rows[0]["year"] is None
    assert (rows[5]["year"], rows[5]["meta.text"], rows[5]["tags"]) == (2005, "a field", ["a"])
    # By brute force: the nearest by cosine distance, itself included.
    distances = 1 - unit.astype(float) @ unit.T.astype(float)
    for at, row in enumerate(rows):
        near = np.argsort(distances[at], kind="stable")[:6]
        assert row["__neighbors"]["ids"] == near.tolist()
        assert np.allclose(row["__neighbors"]["distances"], distances[at, near], atol=1e-5)
        assert min(row["__neighbors"]["distances"]) == 0
    with pytest.raises(UsageError):
        write_atlas(tmp_path / "map.parquet", ids, texts, metas, points, found)


def test_what_is_there_is_written_and_what_does_not_fit_is_not(tmp_path):
    write_atlas(tmp_path / "one.parquet", ["\ud800"], ["\ud800"], [{"a\udfff": "b"}], [[1, 2]])
    (row,) = parquet.read_table(tmp_path / "one.parquet").to_pylist()
    assert row == {"id": "?", "text": "?", "projection_x": 1, "projection_y": 2, "a?": "b"}
    near = Neighbours(np.zeros((2, 1), np.int64), np.zeros((2, 1), np.float32))
    for points, found in (([[1, np.inf]], None), ([[1, 2], [3, 4]], None), ([[1, 2]], near)):
        with pytest.raises(InputError):
            write_atlas(tmp_path / "two.parquet", ["a"], ["b"], [{}], points, found)
    assert not (tmp_path / "two.parquet").exists()


def test_the_command_can_be_pasted():
    command = shlex.split(atlas_command("-my map.parquet"))
    assert command[:2] == ["embedding-atlas", "./-my map.parquet"]
    options = dict(zip(command[2::2], command[3::2], strict=True))
    assert options == {
        "--text": "text",
        "--x": "projection_x",
        "--y": "projection_y",
        "--neighbors": "__neighbors",
    }
