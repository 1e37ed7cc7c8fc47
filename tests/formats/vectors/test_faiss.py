import numpy as np
import pytest

from embcli.errors import InputError
from embcli.formats import Problem
from embcli.formats.vectors import VectorOptions
from embcli.formats.vectors.faiss_index import FaissReader, FaissWriter
from tests.formats.vectors.test_contract import RECIPE, batch, joined

# Its extension modules warn when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss")


@pytest.fixture
def vectors():
    return np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)


@pytest.mark.parametrize("metric", ["METRIC_INNER_PRODUCT", "METRIC_L2", "METRIC_L1", "METRIC_Lp"])
@pytest.mark.parametrize("mapped", [None, "IndexIDMap", "IndexIDMap2"])
def test_what_faiss_writes_is_read(home, faiss, vectors, metric, mapped):
    index = faiss.IndexFlat(5, getattr(faiss, metric))
    labels = np.arange(100, 120)
    if mapped:
        index = getattr(faiss, mapped)(index)
        index.add_with_ids(vectors, labels)
    else:
        index.add(vectors)
    faiss.write_index(index, str(home / "x.faiss"))
    opened = FaissReader(home / "x.faiss", VectorOptions())
    found = joined(opened)
    np.testing.assert_array_equal(found.vectors, vectors)
    assert found.ids == [str(label) for label in (labels if mapped else range(20))]
    assert (opened.dim, opened.count) == (5, 20)


def test_faiss_reads_what_is_written(home, faiss, vectors):
    writer = FaissWriter(home / "x.faiss", 5, None, RECIPE)
    writer.write(batch([f"a{n}" for n in range(15)], vectors[:15]))
    writer.write(batch([f"b{n}" for n in range(5)], vectors[15:]))
    writer.close()
    index = faiss.read_index(str(home / "x.faiss"))
    assert isinstance(index, faiss.IndexFlatIP)
    assert (index.ntotal, index.d) == (20, 5)
    np.testing.assert_array_equal(index.reconstruct_n(0, 20), vectors)
    scores, _ = index.search(vectors[:3], 20)
    np.testing.assert_allclose(scores[:, 0], (vectors[:3] @ vectors.T).max(axis=1), rtol=1e-6)
    faiss.write_index(index, str(home / "y.faiss"))
    assert (home / "y.faiss").read_bytes() == (home / "x.faiss").read_bytes()


@pytest.mark.parametrize("factory", ["IVF2,Flat", "HNSW8,Flat", "PQ5x4np", "SQ8"])
def test_indexes_that_are_not_flat(home, faiss, vectors, factory):
    index = faiss.index_factory(5, factory)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(home / "x.faiss"))
    with pytest.raises(InputError, match="no flat FAISS index"):
        FaissReader(home / "x.faiss", VectorOptions())


def test_damaged_files(home, vectors):
    writer = FaissWriter(home / "x.faiss", 5, 20, RECIPE)
    writer.write(batch([str(n) for n in range(20)], vectors))
    writer.close()
    whole = (home / "x.faiss").read_bytes()
    for length in range(len(whole)):
        (home / "cut").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut: (cut off|no flat FAISS index)"):
            list(FaissReader(home / "cut", VectorOptions()))
    (home / "cut").write_bytes(whole[:8] + b"\xff" * 8 + whole[16:])
    with pytest.raises(InputError, match=r"-1 vectors of 5 components announced, 100 components"):
        FaissReader(home / "cut", VectorOptions())
    (home / "x.faiss.jsonl").write_text('{"id": "a"}\n' * 19)
    with pytest.raises(InputError, match="has 19 records"):
        list(FaissReader(home / "x.faiss", VectorOptions()))
    (home / "x.faiss.jsonl").write_text('{"id": "a"}\n' * 21)
    with pytest.raises(InputError, match="more records"):
        list(FaissReader(home / "x.faiss", VectorOptions()))


def test_vectors_that_are_not_finite_are_named(home, vectors):
    vectors[3, 1] = np.inf
    writer = FaissWriter(home / "x.faiss", 5, 20, RECIPE)
    writer.write(batch([str(n) for n in range(20)], vectors))
    writer.close()
    results = list(FaissReader(home / "x.faiss", VectorOptions()))
    assert [str(r) for r in results if isinstance(r, Problem)] == [
        f"{home / 'x.faiss'}: row 4: component 2 of '3' is inf"
    ]
