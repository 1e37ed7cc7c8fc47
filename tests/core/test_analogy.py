import numpy as np
import pytest

from embcli.core.analogy import EPSILON, METHODS, Analogy, answer, combine


def literally(vectors, positive, negative, method):
    """Scores of all words, a pair of vectors at a time, as the paper writes them."""

    def cos(a, b):
        return np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))

    scores = []
    for x in vectors.astype(np.float64):
        added = [cos(x, vectors[i].astype(np.float64)) for i in positive]
        taken = [cos(x, vectors[i].astype(np.float64)) for i in negative]
        if method == "3cosadd":
            scores.append(sum(added) - sum(taken))
        else:
            above = np.prod([(c + 1) / 2 for c in added])
            scores.append(above / np.prod([(c + 1) / 2 + EPSILON for c in taken]))
    return np.array(scores)


@pytest.fixture
def words():
    return np.random.default_rng(0).normal(size=(3000, 20)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("positive", "negative"), [([1, 2], [3]), ([4], []), ([5, 6, 7], [8, 9])])
def test_one_analogy_is_what_the_paper_says(words, method, positive, negative):
    scores = literally(words, positive, negative, method)
    found = Analogy(words[positive], words[negative], 12, method)
    for start in range(0, len(words), 700):
        keys = np.arange(start, min(start + 700, len(words)))
        found.add(keys, words[keys] * 3)  # lengths do not matter
    results = found.results()
    assert [key for key, _ in results] == np.argsort(-scores)[:12].tolist()
    assert [score for _, score in results] == pytest.approx(np.sort(-scores)[:12] * -1, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_many_questions_are_answered_as_one_by_one(words, method):
    questions = np.random.default_rng(1).integers(0, len(words), (300, 3))
    found = answer(questions, words, method)
    for (a, b, c), best in zip(questions[::20].tolist(), found[::20].tolist(), strict=True):
        scores = literally(words, [b, c], [a], method)
        scores[[a, b, c]] = -np.inf
        assert best == scores.argmax()


def test_the_words_of_the_question_are_no_answers():
    vectors = np.eye(4, dtype=np.float32)
    questions = np.array([[0, 1, 2], [3, 3, 3]])
    assert answer(questions, vectors).tolist() == [3, 0]


@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_matter(words, method):
    questions = np.random.default_rng(2).integers(0, len(words), (50, 3))
    found = answer(questions, words, method)
    assert np.array_equal(answer(questions, words * 7, method), found)
    assert np.array_equal(answer(questions[:, [0, 2, 1]], words, method), found)


def test_of_equal_candidates_the_first():
    vectors = np.array([[1, 0], [0, 1], [1, 1], [2, 2]], np.float32)
    assert answer(np.array([[0, 0, 1]]), vectors).tolist() == [2]
    found = Analogy(vectors[:1], vectors[:0], 2)
    found.add(np.array([8, 7]), vectors[2:])
    assert [key for key, _ in found.results()] == [7, 8]


def test_no_questions():
    assert answer(np.empty((0, 3), np.int64), np.eye(3, dtype=np.float32)).tolist() == []


def test_one_large_term_does_not_decide_a_product():
    # Of Levy and Goldberg's reasons: 3CosAdd takes what one term likes, 3CosMul what all do.
    positive, negative = np.array([[0.9, 0.5], [0.1, 0.45]]), np.array([[-0.1, -0.1]])
    added = combine(positive, negative, "3cosadd")
    multiplied = combine(positive, negative, "3cosmul")
    assert added[0] > added[1]
    assert multiplied[1] > multiplied[0]
