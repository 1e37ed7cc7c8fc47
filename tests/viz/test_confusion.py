"""The map of confusions, as drawn."""

import csv

import numpy as np
import pytest

from embcli.errors import InputError
from embcli.viz.confusion import COUNTED, NAMED, confused_order, draw_confusion
from tests.viz.layout import check_layout


def confusions(n, seed=0):
    rng = np.random.default_rng(seed)
    return [f"class_{i}" for i in range(n)], rng.poisson(0.1, (n, n)) + np.diag(rng.poisson(30, n))


def shares(figure):
    (image,) = figure.axes[0].images
    return np.asarray(image.get_array())


@pytest.mark.parametrize("n", [2, 3, COUNTED, COUNTED + 1, NAMED])
def test_all_classes_are_named_and_nothing_overlaps(n):
    names, counts = confusions(n)
    written = check_layout(draw_confusion(names, counts, title="A title of some length " * 3))
    for name in names:
        assert written.count(name) == 2, name
    right, total = np.trace(counts), counts.sum()
    assert f"{right:,} of {total:,} records of {n} classes right ({right / total:.1%})" in written


def test_rows_are_shares_of_the_class():
    figure = draw_confusion(["a", "b"], [[3, 1], [0, 0]], title="t")
    assert np.array_equal(shares(figure), [[0.75, 0.25], [0, 0]])
    written = check_layout(figure)
    assert {"75%", "–", "3", "1"} <= set(written)
    # 999 of 1,000 are not all.
    assert "99%" in check_layout(draw_confusion(["a", "b"], [[999, 1], [0, 9]], title="t"))


def test_counts_are_written_where_there_is_room():
    names, _ = confusions(COUNTED)
    counts = np.full((COUNTED, COUNTED), 1_234_567) - np.arange(COUNTED)
    assert check_layout(draw_confusion(names, counts, title="t")).count("1,234,567") == COUNTED
    names, counts = confusions(COUNTED + 1)
    counts[0, 0] = 1234
    assert "1,234" not in check_layout(draw_confusion(names, counts, title="t"))


@pytest.mark.parametrize("count", [8, 400, 511, 513, 600, 990])
def test_numbers_stand_out_from_their_colour(count):
    figure = draw_confusion(["a", "b"], [[999 - count, count], [0, 7]], title="t")
    (image,) = figure.axes[0].images
    (text,) = [text for text in figure.axes[0].texts if text.get_text() == str(count)]
    red, green, blue, _ = image.cmap(image.norm(count / 999))
    # WCAG's contrast, of black or white on it.
    parts = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
    ]
    luminance = float(np.dot(parts, [0.2126, 0.7152, 0.0722]))
    white = text.get_color() == "white"
    contrast = 1.05 / (luminance + 0.05) if white else (luminance + 0.05) / 0.05
    assert contrast > 4.5


def test_colours_are_readable_in_grey():
    (image,) = draw_confusion(["a", "b"], np.eye(2), title="t").axes[0].images
    grey = image.cmap(np.linspace(0, 1, 50))[:, :3] @ [0.299, 0.587, 0.114]
    assert np.all(np.diff(grey) < 0)
    # A hundredth is a tenth of the way, which can be told from nothing.
    assert image.norm(0.01) == pytest.approx(0.1)


def test_too_many_classes_are_thinned_as_the_figure_says():
    names, counts = confusions(NAMED + 40)
    figure = draw_confusion(names, counts, title="t", ordered=False)
    written = check_layout(figure)
    assert [text for text in written if text.startswith("class_")] == 2 * [
        f"class_{i}" for i in range(0, NAMED + 40, 2)
    ]
    assert any(text.endswith("; one name in 2 is written") for text in written)
    assert shares(figure).shape == (NAMED + 40, NAMED + 40)


def test_confused_classes_are_neighbours():
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(40)
    pair_of = np.empty(40, np.int64)
    pair_of[shuffled] = np.arange(40) // 2
    counts = 30 * np.eye(40) + 10 * (pair_of[:, None] == pair_of)
    order = confused_order(counts)
    assert sorted(order) == [*range(40)]
    assert np.array_equal(pair_of[order][::2], pair_of[order][1::2])
    figure = draw_confusion([f"c{i}" for i in range(40)], counts, title="t")
    assert np.trace(shares(figure), 1) == pytest.approx(20 * 0.2)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        f"c{i}" for i in order
    ]
    given = draw_confusion([f"c{i}" for i in range(40)], counts, title="t", ordered=False)
    assert np.array_equal(shares(given), counts / counts.sum(axis=1, keepdims=True))


def test_names_of_any_length_and_kind():
    names = ["W" * 300, "$a_b$", "", "a\nb", "$\\frac{", "%s"]
    written = check_layout(draw_confusion(names, np.eye(6), title="$x$ " * 90))
    assert {"W" * 39 + "…", "$a_b$", "a b", "$\\frac{", "%s"} <= set(written)


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match="at least two classes"):
        draw_confusion(["a"], [[1]], title="t")
    with pytest.raises(InputError, match=r"an array of shape \(2, 2\), and got shape \(2, 3\)"):
        draw_confusion(["a", "b"], np.ones((2, 3)), title="t")
    for bad in ([[1, -1], [0, 1]], np.zeros((2, 2))):
        with pytest.raises(InputError, match="not negative, and some are above 0"):
            draw_confusion(["a", "b"], bad, title="t")
    with pytest.raises(InputError, match="not all numbers are finite"):
        draw_confusion(["a", "b"], [[1, np.nan], [0, 1]], title="t")


def test_intents_of_banking_questions(shared):
    """Nearest of the other questions: of 77 intents those confused are put side by side."""
    from embcli.core.matching import nearest
    from embcli.encoders.static import StaticEncoder

    with (shared / "banking77" / "test.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names, labels = np.unique([row["category"] for row in rows], return_inverse=True)
    vectors = StaticEncoder().encode([row["text"] for row in rows])
    near = nearest(vectors, vectors, 1, twins=np.arange(len(rows))).columns
    counts = np.zeros((77, 77), np.int64)
    np.add.at(counts, (labels, labels[near]), 1)
    figure = draw_confusion(names.tolist(), counts, title="banking77-test")
    written = check_layout(figure)
    assert any("of 3,080 records of 77 classes right" in text for text in written)
    drawn = shares(figure)
    wrong = drawn - np.diag(np.diagonal(drawn))
    plain = draw_confusion(names.tolist(), counts, title="t", ordered=False)
    # Of all confusions, those with a class at most three places away.
    near_by = sum(np.trace(wrong, by) + np.trace(wrong, -by) for by in (1, 2, 3)) / wrong.sum()
    as_given = shares(plain) - np.diag(np.diagonal(shares(plain)))
    before = sum(np.trace(as_given, by) + np.trace(as_given, -by) for by in (1, 2, 3))
    assert near_by > 0.4 > 0.25 > before / as_given.sum()
