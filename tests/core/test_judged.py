import ir_measures
import numpy as np
import pytest

from embcli.core.judged import MEASURES, Judged, figures, ranks


@pytest.fixture
def case():
    """Queries with few, many or no relevant documents, of several grades; ties; absent ones."""
    rng = np.random.default_rng(0)
    queries = rng.integers(-2, 3, size=(30, 4)).astype(np.float32)
    documents = rng.integers(-2, 3, size=(200, 4)).astype(np.float32)
    graded = {}
    for row in range(28):
        for column in rng.choice(201, rng.integers(1, 20), replace=False):
            graded[row, column - 1] = int(rng.integers(1, 4))
    keys = np.array(list(graded))
    return queries, documents, Judged(*keys.T, np.array(list(graded.values())), 30)


def by_ir_measures(order, judged):
    qrels = {str(row): {} for row in range(judged.queries)}
    for row, column, grade in zip(*judged[:3], strict=True):
        qrels[str(row)][f"d{column}"] = int(grade)
    run = {
        str(row): {f"d{column}": float(len(of_row) - place) for place, column in enumerate(of_row)}
        for row, of_row in enumerate(order.tolist())
    }
    found = {name: np.zeros(judged.queries) for name in MEASURES}
    wanted = [ir_measures.parse_measure(name) for name in MEASURES]
    for result in ir_measures.iter_calc(wanted, qrels, run):
        found[str(result.measure)][int(result.query_id)] = result.value
    return found


def test_they_are_those_of_ir_measures(case):
    queries, documents, judged = case
    norms = [np.linalg.norm(v.astype(float), axis=1, keepdims=True) for v in (queries, documents)]
    cosines = (queries / np.maximum(norms[0], 1e-9)) @ (documents / np.maximum(norms[1], 1e-9)).T
    for penalties in (None, np.random.default_rng(1).integers(0, 3, 200) / 10):
        scores = cosines.round(9) - (0 if penalties is None else penalties)
        order = np.argsort(-scores.round(9), axis=1, kind="stable")
        found = figures(ranks(queries, documents, judged, penalties), judged)
        for name, expected in by_ir_measures(order, judged).items():
            np.testing.assert_allclose(found[name], expected, atol=1e-9, err_msg=name)


def test_blocks_of_queries_change_nothing(case, monkeypatch):
    queries, documents, judged = case
    whole = ranks(queries, documents, judged)
    monkeypatch.setattr("embcli.core.judged._NUMBERS_AT_ONCE", 700)
    np.testing.assert_array_equal(ranks(queries, documents, judged), whole)


def test_by_hand():
    judged = Judged(np.array([0, 0, 1]), np.array([1, 2, -1]), np.array([1, 2, 1]), 3)
    found = figures(np.array([2, 11, 0]), judged)
    assert found["Success@1"].tolist() == [0, 0, 0]
    assert found["Success@10"].tolist() == [1, 0, 0]
    assert found["R@10"].tolist() == [0.5, 0, 0]
    np.testing.assert_allclose(found["AP"], [(1 / 2 + 2 / 11) / 2, 0, 0])
    np.testing.assert_allclose(found["nDCG@10"], [(1 / np.log2(3)) / (2 + 1 / np.log2(3)), 0, 0])
