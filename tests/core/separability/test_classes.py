import numpy as np
import pytest

from embcli.core.separability import classes
from embcli.core.separability.classes import class_sizes, class_sums, too_small
from embcli.core.separability.vectors import check_vectors
from embcli.errors import InputError


def test_sizes_and_sums(blobs):
    vectors, labels = blobs()
    assert class_sizes(vectors, labels).tolist() == [40, 25, 60]
    sums = class_sums(vectors, labels, 3)
    expected = [vectors[labels == c].astype(float).sum(axis=0) for c in range(3)]
    np.testing.assert_allclose(sums, expected, rtol=1e-12)
    units = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    expected = [units[labels == c].sum(axis=0) for c in range(3)]
    np.testing.assert_allclose(class_sums(vectors, labels, 3, directions=True), expected, rtol=1e-9)


def test_blocks_make_no_difference(blobs, monkeypatch):
    vectors, labels = blobs()
    whole = class_sums(vectors, labels, 3)
    monkeypatch.setattr(classes, "ROWS", 7)
    np.testing.assert_allclose(class_sums(vectors, labels, 3), whole, rtol=1e-12)
    class_sizes(vectors, labels)
    vectors[100] = np.nan
    with pytest.raises(InputError, match="vector 100 has a number that is not finite"):
        class_sizes(vectors, labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0, 0, 0], "all records are of one class: at least two"),
        ([0, 0, 1, 1, 1], "4 vectors and 5 labels"),
        ([0, 0, 2, 2], "class 1 has no record"),
        ([-1, 0, 0, -1], "class -1 has a negative number"),
        ([0, 0, 0, 1], "every class needs at least 2 records; fewer have: 1"),
    ],
)
def test_labels_that_cannot_be_used(labels, message):
    with pytest.raises(InputError, match=message):
        class_sizes(np.eye(4), np.array(labels))


def test_classes_too_small_are_named():
    labels = np.repeat(np.arange(15), [5, *[2] * 12, 4, 1])
    vectors = np.ones((len(labels), 2))
    names = [f"class {chr(97 + i)}" for i in range(15)]
    with pytest.raises(InputError) as caught:
        class_sizes(vectors, labels, fewest=3, names=names)
    assert "at least 3 records; fewer have: class b, class c" in str(caught.value)
    assert str(caught.value).endswith("class k and 3 more")
    assert too_small(labels, 3).tolist() == [*range(1, 13), 14]
    assert too_small(np.array([3, 3, 7]), 2).tolist() == [7]


def test_vectors_that_cannot_be_used():
    with pytest.raises(InputError, match="2 vectors: at least 3 are needed"):
        class_sizes(np.eye(2), np.array([0, 1]))
    with pytest.raises(InputError, match="vector 2 is zeros only"):
        check_vectors(np.array([[1.0, 0], [0, 1], [0, 0]]))
    check_vectors(np.array([[1.0, 0], [0, 1], [0, 0]]), directions=False)
    with pytest.raises(InputError, match="vector 1 has a number that is not finite"):
        check_vectors(np.array([[1.0, 0], [np.inf, 1], [1, 0]]), directions=False)
