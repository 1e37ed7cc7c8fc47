import json

import numpy as np
import pytest

from embcli.errors import InputError
from embcli.formats.vectors import VectorOptions
from embcli.formats.vectors.hdf5 import Hdf5Reader, Hdf5Writer
from tests.formats.vectors.test_contract import RECIPE, batch, joined

h5py = pytest.importorskip("h5py")


@pytest.fixture
def made(home):
    """Make a file with h5py out of datasets."""

    def made(**sets):
        with h5py.File(home / "ann.hdf5", "w") as file:
            for name, values in sets.items():
                file[name] = values
        return home / "ann.hdf5"

    return made


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", "i1"])
def test_ann_benchmarks(made, dtype):
    rng = np.random.default_rng(0)
    train = rng.integers(-9, 9, (50, 4)).astype(dtype)
    path = made(
        train=train,
        test=train[:5],
        neighbors=np.zeros((5, 10), np.int32),
        distances=np.zeros((5, 10), np.float32),
    )
    opened = Hdf5Reader(path, VectorOptions())
    found = joined(opened)
    np.testing.assert_array_equal(found.vectors, train.astype(np.float32))
    assert found.ids[0] == "ann.hdf5:1"
    assert (opened.dim, opened.count, opened.recipe) == (4, 50, None)
    assert bool(opened.notes) == (dtype not in ("<f4", "i1"))
    assert len(joined(Hdf5Reader(path, VectorOptions(vector_field="test"))).ids) == 5


def test_ids_and_texts_of_others(made):
    path = made(embeddings=np.eye(3), keys=np.array([5, 6, 7]), text=[b"a", b"", "ç".encode()])
    found = joined(Hdf5Reader(path, VectorOptions()))
    assert (found.ids, found.texts) == (["5", "6", "7"], ["a", "", "ç"])


def test_labels_of_a_sidecar(made, home):
    (home / "ids.txt").write_text("x\ny\nz\n")
    path = made(train=np.eye(3), ids=["a", "b", "c"])
    found = joined(Hdf5Reader(path, VectorOptions(sidecar=home / "ids.txt")))
    assert found.ids == ["x", "y", "z"]
    (home / "ids.txt").write_text("x\ny\n")
    with pytest.raises(InputError, match="has 2 records"):
        list(Hdf5Reader(path, VectorOptions(sidecar=home / "ids.txt")))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"x": np.eye(2), "y": np.eye(2)}, r"no matrix 'train' .* x \(2, 2\), y \(2, 2\)"),
        ({"train": np.zeros(3)}, r"no matrix 'train' of numbers \(there are: train \(3,\)"),
        ({"train": np.zeros((0, 3))}, "no vectors in it"),
        ({"train": np.zeros((3, 0))}, "no vectors in it"),
        ({"train": np.eye(3), "ids": ["a"]}, r"'ids' has shape \(1,\), expected \(3,\)"),
        ({"train": np.eye(1), "metas": ["{"]}, "metadata are not JSON"),
        ({}, "there are: none"),
    ],
)
def test_files_without_vectors(made, sets, message):
    with pytest.raises(InputError, match=message):
        list(Hdf5Reader(made(**sets), VectorOptions()))


def test_damaged_files(made, home):
    whole = made(train=np.random.default_rng(0).standard_normal((500, 4))).read_bytes()
    for length in (0, 1, 8, 100, len(whole) // 2, len(whole) - 1):
        (home / "cut").write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut: cannot be read") as caught:
            list(Hdf5Reader(home / "cut", VectorOptions()))
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("count", [2, None])
def test_h5py_reads_what_is_written(home, count):
    vectors = np.array([[1, 2], [3, 4]], np.float32)
    writer = Hdf5Writer(home / "x.h5", 2, count, RECIPE)
    writer.write(batch(["a", "ç"], vectors, ["one", ""], [{"y": 1}, {}]))
    writer.close()
    with h5py.File(home / "x.h5") as file:
        np.testing.assert_array_equal(file["train"][:], vectors)
        assert file["train"].dtype == np.float32
        assert file["ids"].asstr()[:].tolist() == ["a", "ç"]
        assert [json.loads(meta) for meta in file["metas"].asstr()[:]] == [{"y": 1}, {}]
        assert file.attrs["distance"] == "angular"
        assert file.attrs["dimension"] == 2


def test_what_hdf5_cannot_hold(home):
    writer = Hdf5Writer(home / "x.h5", 1, 1, RECIPE)
    with pytest.raises(InputError, match=r"record 'a' holds the character U\+0000"):
        writer.write(batch(["a"], np.ones((1, 1), np.float32), ["x\0y"]))
    writer.close()
