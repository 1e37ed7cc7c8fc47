import datetime
import json
import re
from contextlib import suppress

import numpy as np
import pytest

from embcli.errors import InputError
from embcli.formats import Problem
from embcli.formats.vectors import VectorOptions
from embcli.formats.vectors.arrow_files import ArrowReader, ParquetReader
from embcli.formats.vectors.arrow_writers import ArrowWriter, ParquetWriter
from embcli.formats.vectors.meta_columns import MetaColumn, MetaKinds
from tests.formats.vectors.test_contract import RECIPE, batch, joined

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write_file(path, table):
    with pa.ipc.new_file(path, table.schema) as sink:
        sink.write_table(table, max_chunksize=2)


def write_stream(path, table):
    with pa.ipc.new_stream(path, table.schema) as sink:
        sink.write_table(table, max_chunksize=2)


def write_compressed(path, table):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(path, table.schema, options=options) as sink:
        sink.write_table(table)


CONTAINERS = {
    "parquet": (pq.write_table, ParquetReader),
    "row groups": (
        lambda table, path: pq.write_table(table, path, row_group_size=2),
        ParquetReader,
    ),
    "file": (lambda table, path: write_file(path, table), ArrowReader),
    "stream": (lambda table, path: write_stream(path, table), ArrowReader),
    "compressed": (lambda table, path: write_compressed(path, table), ArrowReader),
}


@pytest.fixture(params=CONTAINERS)
def through(request, home):
    """Write a table with pyarrow, and open it with the reader."""
    write, reader = CONTAINERS[request.param]

    def through(columns, **options):
        path = home / "table"
        write(columns if isinstance(columns, pa.Table) else pa.table(columns), path)
        return reader(str(path), VectorOptions(**options))

    return through


VALUES = [[1.5, -0.25], [3.0, 65504.0], [0.0, 1e-3]]


@pytest.mark.parametrize("value", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("kind", ["fixed", "list", "large"])
def test_lists_of_any_float(through, value, kind):
    types = {
        "fixed": pa.list_(value, 2), "list": pa.list_(value), "large": pa.large_list(value)
    }  # fmt: skip
    cells = [np.array(row, value.to_pandas_dtype()) for row in VALUES]
    opened = through({"emb": pa.array(cells, types[kind]), "id": [7, 8, 9]})
    found = joined(opened)
    np.testing.assert_array_equal(found.vectors, np.array(cells).astype(np.float32))
    assert found.ids == ["7", "8", "9"]
    assert [bool(opened.notes)] == [value != pa.float32()]


def test_what_data_frames_hold(through):
    day = datetime.date(2020, 2, 29)
    table = {
        "Text": ["one", None, "three"],
        "embedding": pa.array(VALUES, pa.list_(pa.float32(), 2)),
        "when": [day, None, day],
        "part": [{"a": 1, "b": None}, {"a": 2, "b": [0.5]}, None],
        "score": [0.5, float("nan"), None],
        "image": [b"x", b"y", b"z"],
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
        "other": pa.array([[1.0], [2.0], [3.0]], pa.list_(pa.float64())),
    }
    opened = through(table)
    found = joined(opened)
    assert found.ids == ["table:1", "table:2", "table:3"]
    assert found.texts == ["one", "", "three"]
    assert found.metas == [
        {"when": "2020-02-29", "part": {"a": 1, "b": None}, "score": 0.5, "kind": "x"},
        {"part": {"a": 2, "b": [0.5]}, "score": None, "kind": "y"},
        {"when": "2020-02-29", "kind": "x"},
    ]
    (note,) = opened.notes
    assert re.fullmatch(r"left out: image \(binary\), other \(list<\w+: double>\)", note)


def test_fields_may_be_named(through):
    table = {
        "a": pa.array(VALUES, pa.list_(pa.float32(), 2)),
        "b": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int8())),
        "x": ["p", "q", "r"],
        "y": ["s", "t", "u"],
    }
    found = joined(through(table, vector_field="b", id_field="y", text_fields=("y", "x")))
    assert found.vectors.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert (found.ids, found.texts[0]) == (["s", "t", "u"], "s\np")
    with pytest.raises(InputError, match="column 'x' holds no lists of numbers"):
        through(table, vector_field="x")
    with pytest.raises(InputError, match="no field 'z'"):
        through(table, id_field="z")


def test_rows_without_a_good_vector_are_named(through):
    cells = [None, [1.0, 2.0], [1.0], [float("nan"), 1.0], [3.0, 4.0], [None, 1.0]]
    opened = through({"vec": pa.array([[0.0, 1.0], *cells], pa.list_(pa.float32()))})
    results = list(opened)
    kept = [result for result in results if not isinstance(result, Problem)]
    assert [place for one in kept for place in one.places] == [1, 3, 6]
    assert np.concatenate([one.vectors for one in kept]).tolist() == [[0, 1], [1, 2], [3, 4]]
    messages = [str(result).partition(": ")[2] for result in results if result not in kept]
    assert messages == [
        "row 2: no vector, not 2", "row 4: 1 components, not 2",
        "row 5: component 1 of 'table:5' is nan", "row 7: component 1 of 'table:7' is nan",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": ["x"], "b": [1.0]}, r"no column of vectors \(there are: a \(string\), b \(double\)"),
        ({"p": pa.array([[1.0]]), "q": pa.array([[1.0]])}, "several columns of vectors"),
        ({"emb": pa.array([], pa.list_(pa.float32(), 3))}, "no vectors in it"),
        ({"emb": pa.array([[]], pa.list_(pa.float32()))}, "no vectors in it"),
        ({"emb": pa.array([None], pa.list_(pa.float32()))}, "no vectors in it"),
        (pa.table([[1], [2]], ["a", "a"]), "two columns have the same name"),
    ],
)
def test_tables_without_vectors(through, columns, message):
    with pytest.raises(InputError, match=message):
        list(through(columns))


@pytest.mark.parametrize(("writer", "reader"), [
    (ParquetWriter, ParquetReader), (ArrowWriter, ArrowReader),
])  # fmt: skip
def test_damaged_files(home, writer, reader):
    vectors = np.random.default_rng(0).standard_normal((500, 4)).astype(np.float32)
    made = writer(home / "good", 4, 500, RECIPE)
    made.write(batch([f"id{n}" for n in range(500)], vectors, ["text"] * 500))
    made.close()
    whole = (home / "good").read_bytes()
    rng = np.random.default_rng(1)
    for length in (0, 1, 5, 12, len(whole) // 2, len(whole) - 1):
        (home / "cut").write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut: cannot be read"):
            list(reader(home / "cut", VectorOptions()))
    for _ in range(60):
        broken = bytearray(whole)
        at = rng.integers(len(whole) - 8)
        broken[at : at + 8] = rng.bytes(8)
        (home / "broken").write_bytes(broken)
        # What is read of numbers that are wrong nobody can tell; but nothing else may go wrong.
        with suppress(InputError):
            list(reader(home / "broken", VectorOptions()))


def test_pyarrow_reads_what_is_written(home):
    metas = [
        {"year": 1999, "id": "x", "tags": ["a"], "mixed": 1, "maybe": None},
        {"year": 2000, "rare": 0.5, "mixed": "two", "maybe": True},
    ]
    vectors = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    for writer, read in (
        (ParquetWriter, pq.read_table),
        (ArrowWriter, lambda path: pa.ipc.open_file(path).read_all()),
    ):
        made = writer(str(home / "x"), 3, 2, RECIPE)
        made.write(batch(["a", "b"], vectors, ["one", "two"], metas))
        made.close()
        table = read(str(home / "x"))
        kinds = {field.name: str(field.type) for field in table.schema}
        assert table.schema.field("vector").type == pa.list_(pa.float32(), 3)
        del kinds["vector"]
        assert kinds == {
            "id": "string", "text": "string", "year": "int64", "meta.id": "string",
            "tags": kinds["tags"], "mixed": "string", "maybe": "bool", "rare": "double",
        }  # fmt: skip
        assert table["year"].to_pylist() == [1999, 2000]
        assert table["tags"].to_pylist() == [["a"], None]
        assert table["mixed"].to_pylist() == ["1", '"two"']
        flat = table["vector"].combine_chunks().flatten().to_numpy()
        np.testing.assert_array_equal(flat.reshape(2, 3), vectors)
        assert json.loads(table.schema.metadata[b"embcli"]) == {"recipe": RECIPE}
        assert [path.name for path in home.iterdir()] == ["x"]


def test_a_column_for_each_field_only_while_they_are_few():
    kinds = MetaKinds()
    kinds.see([{f"field {n}": n for n in range(100)}])
    assert {column.kind for column in kinds.columns()} == {"int"}
    kinds.see({f"other {n}": n} for n in range(200))
    assert kinds.columns() == [MetaColumn(None, "json")]
    metas = [{"a": 1}, {}, {"meta": [None]}]
    filled = [{}, {}, {}]
    MetaColumn(None, "json").fill(filled, MetaColumn(None, "json").values(metas))
    assert filled == metas
