"""The figure of projections, as drawn."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from embcli.errors import InputError, ModelError, UsageError
from embcli.formats.bias_spec import read_spec
from embcli.viz.bias import _spread, draw_projections, projection_figure
from tests.viz.layout import check_layout

NAMES = {"title": "Words", "positive": "she", "negative": "he"}


def projections(n=120, seed=0):
    rng = np.random.default_rng(seed)
    before = rng.normal(scale=0.1, size=n)
    return [f"word_{i}" for i in range(n)], before, np.where(np.arange(n) < 6, before, 0)


def test_every_word_is_a_point_above_and_below():
    words, before, after = projections()
    figure = draw_projections(words, before, after, **NAMES)
    (axes,) = figure.axes
    above, below = (line for line in axes.lines if line.get_marker() == "o")
    assert np.array_equal(above.get_xdata(), before)
    assert set(above.get_ydata()) == {1}
    assert np.array_equal(below.get_xdata(), after)
    assert set(below.get_ydata()) == {0}
    segments = np.concatenate([of_kind.get_segments() for of_kind in axes.collections])
    assert len(segments) == 120
    both = {(a, b) for a, b in zip(before, after, strict=True)}
    assert {(above, below) for (above, _), (below, _) in segments} == both
    # The zero line, and an axis that is the same to both sides.
    assert any(set(line.get_xdata()) == {0} for line in axes.lines)
    assert axes.get_xlim()[0] == -axes.get_xlim()[1] < -np.abs(before).max()


def test_the_outermost_words_are_named():
    words, before, after = projections()
    written = check_layout(draw_projections(words, before, after, labelled=4, **NAMES))
    order = np.argsort(before)
    outermost = [f"word {i}" for i in (*order[:4], *order[-4:])]
    assert written[:8] == outermost
    below = sorted((w for w in range(6) if abs(after[w]) > 0.03 * np.abs(before).max()),
                   key=lambda w: after[w])  # fmt: skip
    left = [f"word {w}" for w in below if after[w] < 0][:4]
    right = [f"word {w}" for w in below if after[w] > 0][-4:]
    assert written[8 : 9 + len(left) + len(right)] == [*left, "114 words at 0", *right]
    assert f"before\nmean |x| {np.abs(before).mean():.3g}" in written
    assert {"← he", "she →", "Words", "projection on the bias direction, x"} <= set(written)


@pytest.mark.parametrize("labelled", [4, 40])
@pytest.mark.parametrize("kind", ["spread", "crowded", "one side", "one", "zero", "tiny"])
def test_nothing_overlaps_and_nothing_is_cut_off(kind, labelled):
    words, before, after = projections()
    if kind == "crowded":
        before, after = 1 + before * 1e-3, -1 + before * 1e-3
    elif kind == "one side":
        before, after = np.abs(before), np.abs(after) / 2
    elif kind == "one":
        words, before, after = words[:1], before[:1], after[:1]
    elif kind == "zero":
        before = after = np.zeros(120)
    names = NAMES | {
        "title": "A long title of a figure " * 8,
        "positive": "W" * 90,
        "negative": "W" * 90,
    }
    long = [f"{word}_{'antidisestablishmentarian' * (at % 3)}" for at, word in enumerate(words)]
    figure = draw_projections(long, before, after, labelled=labelled, **names)
    written = check_layout(figure)
    if kind == "spread":
        assert sum(text.startswith("word") for text in written[: 2 * labelled]) >= min(
            2 * labelled, 100
        )


def test_characters_that_mean_something_elsewhere():
    words = ["$a_b$", "$", "a\nb", "\\frac{", "%s", "<b>"]
    written = check_layout(draw_projections(words, np.arange(6) - 2.5, np.zeros(6), **NAMES))
    assert written[:6] == ["$a b$", "$", "a b", "\\frac{", "%s", "<b>"]


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"),
                                                ("PDF", b"%PDF")])  # fmt: skip
def test_the_same_words_give_the_same_bytes(home, ending, begins):
    for name in ("one", "other"):
        projection_figure(*projections(), home / f"{name}.{ending}", **NAMES)
    content = (home / f"one.{ending}").read_bytes()
    assert content.startswith(begins)
    assert content == (home / f"other.{ending}").read_bytes()
    # Nor would they differ if they were written a second later.
    assert not any(mark in content for mark in (b"CreationDate", b"dc:date", b"Software"))


def test_a_file_is_whole_or_not_there(home, monkeypatch):
    from matplotlib.figure import Figure

    path = home / "f.png"
    path.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        projection_figure(*projections(), path, **NAMES)

    def torn(self, target, **options):
        target.write_bytes(b"\x89PNG")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", torn)
        with pytest.raises(KeyboardInterrupt):
            projection_figure(*projections(), path, force=True, **NAMES)
    assert path.read_text() == "mine"
    assert [*home.iterdir()] == [path]
    projection_figure(*projections(), path, force=True, **NAMES)
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_what_cannot_be_drawn(home, monkeypatch):
    words, before, after = projections(5)
    for name in ("f.gif", "f", "png"):
        with pytest.raises(UsageError, match=r"ends in one of \.png, \.svg, \.pdf"):
            projection_figure(words, before, after, name, **NAMES)
    with pytest.raises(InputError, match=r"5 words and an array of shape \(4,\) for after"):
        projection_figure(words, before, after[:4], "f.png", **NAMES)
    with pytest.raises(InputError, match="the projection before is not finite"):
        projection_figure(words, before * np.nan, after, "f.png", **NAMES)
    with pytest.raises(InputError, match="at least one word"):
        projection_figure([], [], [], "f.png", **NAMES)
    with pytest.raises(UsageError, match="cannot write"):
        projection_figure(words, before, after, "no/f.png", **NAMES)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModelError, match="not installed"):
        projection_figure(words, before, after, "f.png", **NAMES)
    assert [*home.iterdir()] == []


def test_boxes_instead_of_characters_are_noted(home):
    notes = []
    projection_figure(["護士", "医生"], [1, -1], [0, 0], "f.png", note=notes.append, **NAMES)
    assert notes == ["f.png: the font lacks characters of some words, which show as boxes"]
    projection_figure(["infirmière", "врач"], [1, -1], [0, 0], "g.png", note=notes.append, **NAMES)
    assert len(notes) == 1


def test_settings_of_the_user_and_of_the_process_are_left_alone(home):
    (home / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 30\naxes.facecolor: red\n")
    code = (
        "import sys\nfrom embcli.viz.bias import projection_figure\n"
        "projection_figure(['a', 'b'], [1, -1], [0, 0], sys.argv[1], title='t', positive='p', "
        "negative='n')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "import matplotlib\nassert matplotlib.rcParams['font.size'] == 30\n"
    )
    assert subprocess.run([sys.executable, "-c", code, "own.png"], cwd=home).returncode == 0
    (home / "matplotlibrc").unlink()
    projection_figure(["a", "b"], [1, -1], [0, 0], "plain.png", **NAMES | {
        "title": "t", "positive": "p", "negative": "n"})  # fmt: skip
    assert (home / "own.png").read_bytes() == (home / "plain.png").read_bytes()


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.floats(0.01, 0.1))
def test_labels_are_moved_as_little_as_can_be(wanted, gap):
    wanted = np.sort(wanted)
    moved = _spread(wanted, gap, 1.0)
    assert np.all(np.diff(moved) >= gap - 1e-12)
    assert np.abs(moved).max() <= 1 + 1e-12
    free = isotonic_regression(wanted - gap * np.arange(len(wanted))) + gap * np.arange(len(wanted))
    if np.abs(free).max() <= 1:
        assert np.allclose(moved, free)


def test_professions_of_google_news(shared):
    spec = read_spec("gender")
    with np.load(shared / "words" / "gnews13k.npz") as data:
        row = {word: i for i, word in enumerate(data["words"].tolist())}
        vectors = data["vecs"].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [[row[w] for w in pair] for pair in spec.definitional if all(w in row for w in pair)]
    centred = np.concatenate([vectors[pair] - vectors[pair].mean(axis=0) for pair in pairs])
    direction = np.linalg.svd(centred)[2][0]
    direction *= np.sign((vectors[row["she"]] - vectors[row["he"]]) @ direction)
    words = [word for word in spec.words[0].words if word in row]
    before = vectors[[row[word] for word in words]] @ direction
    neutral = ~np.isin(words, spec.specific)
    written = check_layout(
        draw_projections(words, before, np.where(neutral, 1e-17, before), **NAMES)
    )
    assert f"before\nmean |x| {0.0701}" in written
    assert "115 words at 0" in written
    assert written[:2] == ["businessman", "skipper"]
    assert written[17:20] == ["librarian", "nurse", "actress"]
