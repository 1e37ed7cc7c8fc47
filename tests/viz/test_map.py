"""Maps of points, as drawn."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.patheffects import Normal
from matplotlib.text import Text

import embcli.viz.map
from embcli.errors import InputError
from embcli.viz.cloud import RASTERIZED, density, fit
from embcli.viz.colours import GROUND, categorical, luminance, neutral
from embcli.viz.groups import LISTED, grouped, readable
from embcli.viz.labels import densest, place_names, write_names
from embcli.viz.map import draw_map, map_figure
from embcli.viz.sheet import new_sheet
from tests.viz.layout import check_layout


def blobs(groups, each=20, dim=2, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=9, size=(groups, dim))
    points = np.repeat(centres, each, axis=0) + rng.normal(size=(groups * each, dim))
    return points, [f"group_{at}" for at in range(groups) for _ in range(each)]


def one_line(text):
    return text.replace("_\n", "_").replace("\n", " ")


def cloud(figure):
    (points,) = [found for found in figure.axes[0].collections if isinstance(found, PathCollection)]
    return points


@pytest.mark.parametrize(
    ("groups", "dark"), [(1, False), (2, True), (LISTED, False), (LISTED + 1, True), (40, False)]
)
def test_groups_are_listed_or_named_in_the_map(groups, dark):
    points, of_rows = blobs(groups)
    of_rows[3] = of_rows[4] = None
    figure = draw_map(points, groups=of_rows, title="A title of some length " * 5, dark=dark)
    written = [one_line(text) for text in check_layout(figure)]
    assert f"{len(points)} records in {groups} group" in " ".join(written)
    assert any("grey: 2 in no group" in text for text in written)
    if groups <= LISTED:
        assert {"group_0  18", "in no group  2"} <= set(written)
        assert {f"group_{at}  20" for at in range(1, groups)} <= set(written)
    else:
        assert {f"group_{at}" for at in range(groups)} <= set(written)
        assert "in no group  2" not in written


@pytest.mark.parametrize("dim", [2, 3])
def test_every_point_has_its_place_and_colour(dim):
    points, of_rows = blobs(3, dim=dim)
    of_rows[0] = None
    figure = draw_map(points, groups=of_rows)
    offsets = np.asarray(cloud(figure).get_offsets())
    assert offsets.shape == (60, 2)
    if dim == 3:
        check_layout(figure)
        return
    order = np.lexsort(points.T)
    assert np.allclose(offsets[np.lexsort(offsets.T)], points[order])
    # In a random order, but for grey, which is lowest.
    assert np.array_equal(offsets[0], points[0])
    assert not np.array_equal(offsets[1:], points[1:])
    colours = dict(zip(map(tuple, offsets), cloud(figure).get_facecolors(), strict=True))
    expected = {"group_0": 2, "group_1": 0, "group_2": 1, None: 3}
    shades = [*categorical(3), neutral()]
    for point, name in zip(points, of_rows, strict=True):
        assert to_hex(colours[tuple(point)]) == shades[expected[name]]


def test_both_axes_have_the_same_scale():
    points = np.random.default_rng(0).normal(size=(50, 2)) * [30, 1]
    for axes_titles in (None, ["PC1 (23%)", "PC2 (9%)"]):
        figure = draw_map(points, groups=["a"] * 50, axes_titles=axes_titles)
        written = check_layout(figure)
        axes = figure.axes[0]
        box = axes.get_position().size * figure.get_size_inches()
        units = [np.ptp(axes.get_xlim()) / box[0], np.ptp(axes.get_ylim()) / box[1]]
        assert np.isclose(*units)
        assert axes.axison == (axes_titles is not None)
        assert set(axes_titles or []) <= set(written)


def test_numbers_are_colours_with_a_bar():
    points, of_rows = blobs(3)
    values = np.linspace(-5, 5, 60)
    values[:4] = np.nan
    figure = draw_map(points, values=values, value_title="score")
    written = check_layout(figure)
    assert {"score", "−4", "4"} <= set(written)
    assert "60 records; grey: 4 without a value" in written
    shades = cloud(figure).get_facecolors()
    # Lower ones are lighter on white, and none is lost.
    assert len(np.unique(shades, axis=0)) == 57
    # Groups are not what colours mean, but have their names.
    figure = draw_map(points, values=values, groups=of_rows)
    assert {"group_0", "group_1", "group_2"} <= set(check_layout(figure))
    for same in (np.full(60, np.nan), np.zeros(60), np.full(60, 7.0)):
        check_layout(draw_map(points, values=same, value_title="same"))


def test_long_tails_are_drawn_as_logarithms_or_roots():
    points, _ = blobs(10, each=30)
    rng = np.random.default_rng(0)
    tail = np.exp(rng.normal(scale=1.5, size=300))
    assert "log scale" in check_layout(draw_map(points, values=tail, value_title="size"))
    counts = rng.poisson(tail)
    assert counts.min() == 0
    assert "square-root scale" in check_layout(draw_map(points, values=counts))
    for plain in (rng.normal(size=300), rng.uniform(size=300), -tail):
        assert not any("scale" in text for text in check_layout(draw_map(points, values=plain)))


def test_names_that_are_given_are_written_where_the_groups_are():
    points, of_rows = blobs(4, each=100)
    figure = draw_map(points, groups=of_rows, names={"group_1": "Sphinx", "group_9": "nobody"})
    written = check_layout(figure)
    assert {"Sphinx", "Sphinx  100", "group_0  100"} <= set(written)
    assert "nobody" not in written
    (name,) = [text for text in figure.axes[0].texts if text.get_text() == "Sphinx"]
    members = points[[name == "group_1" for name in of_rows]]
    reach = np.ptp(points, axis=0).max()
    assert np.linalg.norm(members - name.get_position(), axis=1).min() < 0.06 * reach


def test_a_name_lies_on_a_bent_group():
    angle = np.random.default_rng(0).uniform(0, np.pi, 900)
    banana = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 10
    assert np.isclose(np.linalg.norm(densest(banana)), 10)
    assert np.linalg.norm(banana.mean(axis=0)) < 7
    # Most of this group is far from its mean.
    two = np.concatenate([np.random.default_rng(1).normal(size=(n, 2)) + x for n, x in
                          ((300, 0), (100, 50))])  # fmt: skip
    assert np.linalg.norm(densest(two)) < 2


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 4)), min_size=1, max_size=25),
    st.floats(0.1, 2),
    st.sampled_from([None, 0.05]),
)
def test_placed_names_are_apart(points, width, clear):
    points = np.array(points)
    sizes = np.full((len(points), 2), [width, 0.15])
    centres = place_names(points, sizes, (5.0, 4.0), points, clear=clear)
    assert not np.isnan(centres[0]).any() or clear is not None
    placed = ~np.isnan(centres[:, 0])
    low, high = (centres - sizes / 2)[placed], (centres + sizes / 2)[placed]
    assert np.all(low >= 0)
    assert np.all(high <= [5, 4])
    for at in range(len(low)):
        others = np.arange(len(low)) != at
        assert np.all(((low[at] >= high[others]) | (high[at] <= low[others])).any(axis=1))
        if clear is not None:
            assert np.all(((low[at] >= points) | (high[at] <= points)).any(axis=1))


def test_names_without_room_are_counted():
    points = np.random.default_rng(0).normal(size=(90, 2))
    names = [f"a name of some length, which is {at}" for at in range(90)]
    figure = draw_map(points, groups=names, size=(3.5, 3.5))
    written = check_layout(figure)
    there = sum(one_line(text).startswith("a name of") for text in written)
    assert 10 < there < 90
    assert any(f"{there} of 90 names have room" in text for text in written)


def test_as_many_groups_as_points(monkeypatch):
    monkeypatch.setattr(embcli.viz.map, "_TRIED", 90)
    points = np.random.default_rng(0).normal(size=(100, 2))
    written = check_layout(draw_map(points, groups=[str(at) for at in range(100)], size=(2, 2)))
    there = sum(text.isdigit() for text in written)
    assert there == 90
    assert f"{there} of 100 names have room" in " ".join(written)


def test_no_line_of_a_name_covers_another_one():
    """On a plain ground, halos cannot be seen: what is drawn is as without."""
    drawn = []
    for haloed in (True, False):
        figure, axes = new_sheet(False)
        where = fit(np.array([[0.0, 0.0], [1.0, 1.0]]), (2.0, 2.0), 1.0)
        where.apply(axes)
        axes.set_axis_off()
        write_names(
            axes, where, ["gqypj\nTEllT"], np.ones((1, 2)), np.ones((1, 2)), np.ones((1, 2)),
            colours=["#000000"], size=6.5, dark=False,
        )  # fmt: skip
        (name,) = axes.texts
        if not haloed:
            name = Text(
                *name.get_position(), name.get_text(), fontsize=6.5, color="#000000", ha="center",
                va="center", linespacing=1.05, transform=axes.transData, path_effects=[Normal()],
            )  # fmt: skip
            axes.texts[0].remove()
            axes.add_artist(name)
        figure.canvas.draw()
        drawn.append(np.asarray(figure.canvas.buffer_rgba()))
    assert drawn[0].min() < 20
    assert np.abs(drawn[0].astype(int) - drawn[1]).max() < 60


@pytest.mark.parametrize("count", [1, 5, 300, 8000])
def test_points_are_visible_and_do_not_fill_the_map(count):
    points = np.random.default_rng(0).normal(size=(count, 2))
    where = fit(points, (7.5, 6.5), 3.0)
    diameter, opaque = density(where.inches(points), where.box)
    assert 0.9 <= diameter <= 6.5
    assert 0.25 <= opaque <= 0.9
    ink = count * np.pi / 4 * diameter**2 / (where.box[0] * where.box[1] * 72**2)
    assert ink < 0.5
    assert density(np.zeros((count, 2)), (3, 3))[0] == 6.5


@pytest.mark.parametrize("kind", ["one", "equal", "line", "huge", "tiny", "far"])
@pytest.mark.parametrize("dim", [2, 3])
def test_degenerate_maps(kind, dim):
    points = np.random.default_rng(0).normal(size=(1 if kind == "one" else 30, dim))
    if kind == "equal":
        points[:] = 3
    elif kind == "line":
        points[:, 1:] = 0
    elif kind in ("huge", "tiny"):
        points *= 1e200 if kind == "huge" else 1e-200
    elif kind == "far":
        points[0] = 1e6
    groups = ["a" if at % 2 else "b" for at in range(len(points))]
    check_layout(draw_map(points, groups=groups, legend="map"))


def test_names_of_any_length_and_kind():
    points, of_rows = blobs(6)
    named = dict(zip(sorted(set(of_rows)), ["W" * 300, "$a_b$", "", "a\nb\0", "$\\frac{", "%s"],
                     strict=True))  # fmt: skip
    odd = [named[name] for name in of_rows]
    for legend in ("beside", "map"):
        written = check_layout(
            draw_map(points, groups=odd, legend=legend, title="$x$ \x1b" * 90, subtitle="$\\frac{")
        )
        assert any(text.startswith("$a_b$") for text in written)
        assert any(text.startswith("a b") for text in written)


def test_many_points_are_an_image_in_a_drawing(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("few", RASTERIZED), ("many", 30_000)):
        map_figure(rng.normal(size=(count, 2)), tmp_path / f"{name}.svg", title="t\x0ct")
    few, many = ((tmp_path / f"{name}.svg").read_text("utf-8") for name in ("few", "many"))
    assert "<image" in many
    assert "<image" not in few
    assert max(len(few), len(many)) < 2.5e6
    assert "\x0c" not in many


@pytest.mark.parametrize("dark", [False, True])
def test_names_in_a_colour_can_be_read(dark):
    for colour in categorical(100, dark):
        low, high = sorted([luminance(readable(colour, dark)), luminance(GROUND[dark])])
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_groups_by_size():
    groups = grouped(["b", None, "a", "c", "c", None], 6, dark=False)
    assert groups.names == ["c", "a", "b"]
    assert groups.counts == [2, 1, 1]
    assert groups.of_row.tolist() == [2, -1, 1, 0, 0, -1]
    assert groups.without == 2


def test_what_cannot_be_drawn():
    points = np.ones((4, 2))
    with pytest.raises(InputError, match="at least one record"):
        draw_map(np.zeros((0, 2)))
    with pytest.raises(InputError, match=r"two or three numbers each, and got shape \(4, 5\)"):
        draw_map(np.ones((4, 5)))
    with pytest.raises(InputError, match="not all numbers are finite"):
        draw_map([[1, np.nan]])
    with pytest.raises(InputError, match="3 groups of 4 points"):
        draw_map(points, groups=["a"] * 3)
    with pytest.raises(InputError, match="size: 4 points take a number each"):
        draw_map(points, values=[1, 2], value_title="size")
    with pytest.raises(InputError, match="size: a number is infinite"):
        draw_map(points, values=[1, 2, 3, np.inf], value_title="size")
    with pytest.raises(InputError, match="1 titles of 2 axes"):
        draw_map(points, axes_titles=["PC1"])


def test_intents_of_banking_questions(shared):
    """Of 77 intents in a map of two components, each name that is written is at its questions."""
    from embcli.encoders.static import StaticEncoder

    with (shared / "banking77" / "test.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    vectors = StaticEncoder().encode([row["text"] for row in rows])
    centred = vectors - vectors.mean(axis=0)
    points = centred @ np.linalg.eigh(centred.T @ centred)[1][:, :-3:-1]
    intents = np.array([row["category"] for row in rows])
    figure = draw_map(points, groups=intents.tolist(), axes_titles=["PC1", "PC2"])
    written = [one_line(text) for text in check_layout(figure)]
    shown = [name for name in set(intents) if name in written]
    assert len(shown) > 70
    assert any("3,080 records in 77 groups" in text for text in written)
    axes = figure.axes[0]
    inch = np.ptp(axes.get_xlim()) / (axes.get_position().width * figure.get_size_inches()[0])
    places = {one_line(text.get_text()): text.get_position() for text in axes.texts}
    for name in shown:
        away = points[intents == name] - places[name]
        assert np.linalg.norm(away, axis=1).min() < 2.5 * inch
