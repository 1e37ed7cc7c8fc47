"""The page on a space's health, as drawn."""

import numpy as np
import pytest
from scipy.stats import poisson

from embcli.errors import InputError
from embcli.viz.diagnose import by_chance, draw_health
from tests.viz.layout import check_layout


def health(n=500, dim=32, seed=0, **other):
    rng = np.random.default_rng(seed)
    given = {
        "title": "Health",
        "spectrum": rng.exponential(size=dim),
        "rank": 20.25,
        "cosines": rng.normal(0.2, 0.1, 1000),
        "occurrences": rng.poisson(10 * rng.exponential(size=n)),
        "norms": rng.gamma(20, size=n),
        "hubs": [("a hub", 50), ("another one", 48)],
    }
    return given | other


def panels(**given):
    figure = draw_health(**health(**given))
    return figure, figure.axes, check_layout(figure)


def test_four_panels():
    given = health()
    _, (spectrum, cosines, occurrences, norms), written = panels()
    assert {"Health", "Spectrum", "Cosines of pairs", "k-occurrence", "Norms"} <= set(written)
    variances, line = spectrum.lines
    falling = np.sort(given["spectrum"])[::-1]
    assert np.allclose(variances.get_ydata(), falling / falling.sum())
    assert variances.get_xdata().tolist() == [*range(1, 33)]
    assert spectrum.get_yscale() == "log"
    assert set(line.get_xdata()) == {20.25}
    assert "effective rank 20.2 of 32" in written
    half = np.flatnonzero(np.cumsum(falling) >= falling.sum() / 2)[0] + 1
    assert f"half of the variance in {half} components" in written
    for axes, values in ((cosines, given["cosines"]), (norms, given["norms"])):
        heights, edges, _ = axes.patches[0].get_data()
        assert heights.sum() == len(values)
        assert (edges[0], edges[-1]) == (values.min(), values.max())
    assert f"mean {given['cosines'].mean():.3g}" in written
    assert set(cosines.lines[-1].get_xdata()) == {given["cosines"].mean()}
    assert f"median {np.median(given['norms']):.3g}" in written
    assert (occurrences.get_xscale(), occurrences.get_yscale()) == ("log", "log")


def test_which_share_comes_up_at_least_so_often():
    _, (_, _, axes, _), written = panels(occurrences=[0, 0, 1, 1, 3, 7], hubs=[("x_y", 7)])
    chance, found, hubs = axes.lines
    assert found.get_xdata().tolist() == [1, 3, 7]
    assert found.get_ydata() == pytest.approx([4 / 6, 2 / 6, 1 / 6])
    assert hubs.get_xydata().tolist() == [pytest.approx([7, 1 / 6])]
    assert "33.3% are nobody's neighbour; one is a neighbour of 7" in written
    assert "comes up most:\n7 × x_y" in written
    assert chance.get_ydata() == pytest.approx(by_chance(2, 6))


@pytest.mark.parametrize(("k", "n"), [(0.5, 10), (10, 1_000_000), (100, 50_000)])
def test_what_chance_would_do(k, n):
    shares = by_chance(k, n)
    wanted = poisson.sf(np.arange(len(shares) + 1), k)
    assert shares == pytest.approx(wanted[:-1], rel=1e-9)
    assert wanted[-1] < 0.5 / n <= wanted[-2]


@pytest.mark.parametrize("rank", [1.0, 5.0, 16.0, 31.9])
@pytest.mark.parametrize("spectrum", ["even", "steep", "one"])
def test_nothing_overlaps(rank, spectrum):
    values = {"even": np.ones(32), "steep": 10.0 ** -np.arange(32), "one": np.eye(32)[0]}[spectrum]
    hubs = [("W" * 300, 12_345), ("$a$", 5_000), ("a\nb", 40), ("d", 30), ("e", 20), ("f", 10)]
    _, _, written = panels(
        title="A long title " * 20, spectrum=values, rank=rank, hubs=hubs,
        cosines=np.linspace(-rank / 40, 1, 99), occurrences=[0] * 99 + [20, 30, 40, 5_000, 12_345],
        norms=1e6 * np.arange(99.0),
    )  # fmt: skip
    lines = f"comes up most:\n12,345 × {'W' * 55}…\n5,000 × $a$\n40 × a b\n30 × d\n20 × e"
    assert lines in written
    assert "from 0 to 9.8e+07; 99 vectors, 1 of zeros only" in written
    assert any(text.startswith("effective rank") for text in written)
    if spectrum == "one":
        assert "half of the variance in 1 component; 31 of 32 have none" in written


def test_a_sentence_where_there_is_nothing_to_draw():
    norms = 1 + np.random.default_rng(0).normal(scale=1e-6, size=1234)
    _, axes, written = panels(norms=norms, spectrum=np.zeros(8), hubs=())
    assert "all 1,234 vectors have norm 1" in written
    assert "all vectors are equal: there is no variance" in written
    assert not axes[0].lines
    assert not axes[3].patches
    assert not any("comes up most" in text for text in written)
    assert "all 3 vectors have norm 0" in panels(norms=np.zeros(3))[2]
    # A hundredth is a difference.
    assert "norm" in panels(norms=[1, 1.01, 1.02])[2]


def test_extremes():
    equal = panels(cosines=np.ones(5), occurrences=np.full(9, 4), hubs=())[2]
    assert "mean 1" in equal
    assert "0.0% are nobody's neighbour; one is a neighbour of 4" in equal
    panels(spectrum=[1.0], rank=1.0, cosines=[0.1], occurrences=[1, 1, 1], norms=[1])
    assert "mean −0.25" in panels(mean_cosine=-0.25, cosines=np.linspace(-1, 0.5))[2]


def test_what_cannot_be_drawn():
    for name in ("spectrum", "cosines", "occurrences", "norms"):
        with pytest.raises(InputError, match=f"{name}: a figure takes at least one number"):
            draw_health(**health(**{name: []}))
        with pytest.raises(InputError, match=f"{name}: not all numbers are finite"):
            draw_health(**health(**{name: [1, np.nan]}))
    for name in ("spectrum", "occurrences", "norms"):
        with pytest.raises(InputError, match=f"{name}: a number is negative"):
            draw_health(**health(**{name: [1, -1]}))
    with pytest.raises(InputError, match="effective rank: not all"):
        draw_health(**health(rank=np.nan))
    with pytest.raises(InputError, match="no vector is a neighbour"):
        draw_health(**health(occurrences=[0, 0]))


def test_hubs_among_google_news(shared):
    from embcli.core.matching import nearest

    with np.load(shared / "words" / "gnews13k.npz") as data:
        words, vectors = data["words"][:3000], data["vecs"][:3000].astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1)
    unit = vectors / norms[:, None]
    near = nearest(unit, unit, 10, twins=np.arange(3000)).columns
    counts = np.bincount(near.ravel(), minlength=3000)
    most = np.argsort(-counts, kind="stable")[:3]
    figure = draw_health(
        title="Google News", spectrum=np.linalg.eigvalsh(np.cov(unit.T))[::-1], rank=280.0,
        cosines=(unit[:-1] * unit[1:]).sum(axis=1), occurrences=counts, norms=norms,
        hubs=[(words[row], int(counts[row])) for row in most],
    )  # fmt: skip
    written = check_layout(figure)
    assert (
        "comes up most:\n" + "\n".join(f"{counts[row]} × {words[row]}" for row in most) in written
    )
    chance, found, _ = figure.axes[2].lines
    # There are hubs: some words come up more than twice as often as any would by chance.
    assert found.get_xdata()[-1] > 2 * chance.get_xdata()[-1]
