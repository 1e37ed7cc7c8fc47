"""Files that fuzzing found: each once made a reader stumble, and is now refused in one line."""

import io
import json
import sqlite3
import struct
import zipfile

import numpy as np
import pytest

from embcli.errors import InputError, ModelError
from embcli.formats.vectors import VectorOptions, open_vectors

VECTORS = np.ones((2, 3), np.float32)


def npy(array=VECTORS, **changed):
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **changed}
    sink = io.BytesIO()
    np.lib.format.write_array_header_1_0(sink, header)
    return sink.getvalue() + array.tobytes()


def npz(**members):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return sink.getvalue()


def safetensors(**entries):
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + bytes(24)


TENSOR = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
FILES = {
    "npy: an open bracket": npy().replace(b"}", b" ", 1),
    "npy: larger than the file": npy(shape=(2**40, 3)),
    "npy: overflowing": npy(shape=(2**62, 2**62)),
    "npz: a header that is no expression": npz(vectors=npy().replace(b"}", b"(", 1)),
    "npz: another place of the directory": npz(vectors=npy())[:-6] + b"\xff\xff\xff\x7f\0\0",
    "npz: ids larger than the archive": npz(
        vectors=npy(), ids=npy(np.array(["a", "b"]), descr="<U99999999")
    ),
    "npz: what is no character": npz(
        vectors=npy(), ids=npy(np.full(2, 2**31 - 1, "<u4"), descr="<U1")
    ),
    "npz: metadata that are no objects": npz(vectors=npy(), meta=npy(np.array(["1", "{"]))),
    "safetensors: no dtype": safetensors(x={"shape": [2, 3], "data_offsets": [0, 24]}),
    "safetensors: infinity": safetensors(x=TENSOR | {"shape": [2, float("inf")]}),
    "safetensors: negative": safetensors(x=TENSOR | {"shape": [-2, -3]}),
    "safetensors: before the file": safetensors(x=TENSOR | {"data_offsets": [-24, 0]}, y=TENSOR),
    "safetensors: no objects": safetensors(x=[]),
    "safetensors: a long header": (90_000_000).to_bytes(8, "little") + b'{"' + bytes(60),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_refused(home, case):
    (home / "file").write_bytes(FILES[case])
    with pytest.raises(InputError) as error:
        list(open_vectors(home / "file", VectorOptions(format=case.partition(":")[0])))
    assert "\n" not in error.value.message


def test_names_of_llm_that_are_none(home):
    with sqlite3.connect(home / "file") as db:
        db.executescript(
            "CREATE TABLE collections (id, name, model); "
            "CREATE TABLE embeddings (collection_id, id, embedding, content, metadata); "
            "INSERT INTO collections VALUES (1, NULL, 'm'), (2, 3, 4)"
        )
    db.close()
    with pytest.raises(InputError, match="has no collection 'x'"):
        open_vectors(home / "file", VectorOptions(format="llm", collection="x"))


def test_a_parquet_schema_that_is_not_utf_8(home):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"nämé": pa.array(["a"]), "vector": pa.array([[1.0, 2.0]])})
    parquet.write_table(table, home / "file", store_schema=False, compression="none")
    (home / "file").write_bytes(
        (home / "file").read_bytes().replace("nämé".encode(), b"n\xff\xfem\xff\xff")
    )
    with pytest.raises(InputError, match="cannot be read"):
        list(open_vectors(home / "file", VectorOptions(format="parquet")))


def test_short_lines_take_no_memory_of_long_ones(home):
    """A header that promises 100,000 components, and as many lines as there are characters."""
    (home / "file").write_bytes(b"1 100000\n" + b"\n" * 250_000)
    reader = open_vectors(home / "file", VectorOptions(format="word2vec"))
    with pytest.raises(InputError, match="promises 1 vector"):
        list(reader)


def test_an_index_of_faiss_that_promises_more(home):
    (home / "file").write_bytes(
        b"IxFI" + struct.pack("<iqqq?iQ", 3, 2**40, 0, 0, True, 0, 3 * 2**40)
    )
    with pytest.raises(InputError, match="cut off"):
        open_vectors(home / "file", VectorOptions(format="faiss"))


def test_a_wide_dataset_that_was_never_written(home):
    h5py = pytest.importorskip("h5py")
    with h5py.File(home / "file", "w") as file:
        file.create_dataset("train", (2, 1 << 30), "f4", chunks=(1, 1 << 16))
    with pytest.raises(InputError, match="1,073,741,824 components"):
        open_vectors(home / "file", VectorOptions(format="hdf5"))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("modules.json", [{"type": "x.Transformer", "path": "../other"}]),
        ("modules.json", [{"type": "x.Transformer", "path": "/etc"}]),
        ("model.safetensors.index.json", {"weight_map": {"a": "../../model.safetensors"}}),
        ("config_sentence_transformers.json", {"truncate_dim": 1e400}),
    ],
)
def test_models_that_point_elsewhere_or_nowhere(home, file, content):
    from embcli.encoders.model_files import ModelFiles

    (home / "config.json").write_text('{"model_type": "bert", "hidden_size": 8}')
    (home / file).write_text(json.dumps(content))
    with pytest.raises(ModelError):
        ModelFiles(home)


def test_a_model_folder_with_a_tree_that_is_too_deep(home):
    from embcli.encoders.model_files import ModelFiles

    (home / "config.json").write_text('{"a":' * 100_000)
    with pytest.raises(ModelError, match="not a readable model file"):
        ModelFiles(home)
