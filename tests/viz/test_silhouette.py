"""Silhouettes by cluster, as drawn."""

import numpy as np
import pytest

from embcli.errors import InputError
from embcli.viz.silhouette import draw_silhouette
from tests.viz.layout import check_layout


def silhouettes(clusters, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(clusters), rng.integers(2, 90, clusters))
    return np.clip(rng.normal(0.2, 0.2, len(labels)), -1, 1), labels


@pytest.mark.parametrize(
    ("clusters", "dark"), [(1, False), (2, True), (4, False), (12, True), (13, False), (80, True)]
)
def test_every_cluster_has_its_silhouettes_name_mean_and_size(clusters, dark):
    values, labels = silhouettes(clusters)
    names = [f"cluster_{at} of questions" for at in range(clusters)]
    figure = draw_silhouette(values, labels, names, title="A title " * 20, dark=dark)
    written = check_layout(figure)
    axes = figure.axes[0]
    assert len(axes.patches) == clusters
    for at, patch in enumerate(axes.patches):
        of_cluster = values[labels == at]
        assert np.array_equal(patch.get_data().values, np.sort(of_cluster)[::-1])
        mean = f"{of_cluster.mean():.3f}".replace("-", "−")
        assert f"{mean}  ({len(of_cluster)})" in written
        assert f"cluster_{at} of questions" in written
    (whole,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert np.allclose(whole.get_xdata(), values.mean())
    assert any(f"{(values < 0).mean():.0%} below 0" in text for text in written)


def test_clusters_are_as_high_as_they_are_large_so_far_as_there_is_room():
    values, labels = np.zeros(1003), np.repeat([0, 1, 2], [1, 2, 1000])
    patches = draw_silhouette(values, labels, ["a", "b", "c"]).axes[0].patches
    high = [np.ptp(patch.get_data().edges) for patch in patches]
    assert np.isclose(high[0], high[1])
    assert high[1] < high[2] / 5


def test_noise_and_what_is_not_defined_are_left_out():
    values, labels = [0.5, np.nan, np.nan, 0.3, 0.3], [0, 1, -1, -1, 2]
    figure = draw_silhouette(values, labels, ["a", "b", "c"])
    written = check_layout(figure)
    assert "b" not in written
    assert {"0.500  (1)", "0.300  (1)"} <= set(written)
    assert "; 2 in no group, 1 alone in theirs are left out" in " ".join(written)
    written = check_layout(draw_silhouette(values[:2], labels[:2], ["a", "b"]))
    assert "; 1 alone in theirs is left out" in " ".join(written)


def test_names_of_any_length_and_kind():
    names = ["W" * 300, "$a_b$", "", "a\nb\0", "$\\frac{", "%s"]
    values, labels = np.full(12, -0.2), np.repeat(np.arange(6), 2)
    assert {"$a_b$", "a b", "$\\frac{", "%s"} <= set(
        check_layout(draw_silhouette(values, labels, names, title="$" * 200))
    )


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match="one of each for every record"):
        draw_silhouette([0.1], [0, 1], ["a", "b"])
    with pytest.raises(InputError, match="a label is 1, and there are 1 name"):
        draw_silhouette([0.1], [1], ["a"])
    with pytest.raises(InputError, match="no record of a cluster has one"):
        draw_silhouette([np.nan, 0.1], [0, -1], ["a"])
    with pytest.raises(InputError, match="between −1 and 1"):
        draw_silhouette([1.5], [0], ["a"])
