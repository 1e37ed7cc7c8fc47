"""The page in a browser without a network: what is seen, searched, selected, and never run."""

import shutil
import string
from pathlib import Path

import numpy as np
import pytest

from embcli.viz.page import write_page

pytestmark = pytest.mark.browser

ARGUMENTS = [
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
EVIL = "</script><script>window.pwned=1</script><!-- <img src=x onerror=window.pwned=1>\u2028\ud800"
# Three groups at corners, so far apart that a part of the map is a part of the records.
GROUPS = {"red apples": (0, 0), "blue seas": (10, 0), "green hills": (5, 8)}
PUNCTUATION = string.punctuation
LONG = "a word " * 3000
SIZE = {"width": 900, "height": 580}


@pytest.fixture(scope="module")
def browser():
    """Chromium, as Debian has it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = shutil.which("chromium") or "/usr/bin/chromium"
    if not Path(path).exists():
        pytest.skip("needs Debian's chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def write(path, n=300, **options):
    rng = np.random.default_rng(0)
    names = list(GROUPS)
    groups = [names[row % 3] for row in range(n)]
    points = np.array([GROUPS[group] for group in groups]) + rng.normal(0, 0.5, (n, 2))
    texts = [f"{group}, number {row}" for row, group in enumerate(groups)]
    texts[0] = f"red apples {PUNCTUATION} {EVIL}"
    columns = {
        "cluster": [None if row % 10 == 9 else group for row, group in enumerate(groups)],
        "year": [None if row % 50 == 0 else float(2000 + row % 20) for row in range(n)],
        EVIL: [EVIL if row < 6 else "plain" for row in range(n)],
        **{f"more {at}": [f"{LONG}{at}"] * n for at in range(30)},
    }
    ids = [EVIL if row == 1 else f"r{row}\nline" if row == 2 else f"r{row}" for row in range(n)]
    labels = [(x, y, name) for name, (x, y) in GROUPS.items()]
    write_page(
        path, points, ids=ids, texts=texts, columns=columns, color="cluster",
        names=[*labels, (5.0, 4.0, EVIL)], title=f"Fruit & {EVIL}", subtitle=EVIL, **options,
    )  # fmt: skip
    return points, ids, texts, groups


class Page:
    """A page that is open, with what happened on it."""

    def __init__(self, browser, path):
        self.requests, self.errors = [], []
        self.context = browser.new_context(viewport=SIZE, accept_downloads=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda said: (
                self.errors.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]")
        self.settle()

    def settle(self):
        """Wait until what was asked for has been drawn."""
        self.page.evaluate(
            "new Promise((done) => setTimeout(() => requestAnimationFrame("
            "() => requestAnimationFrame(done)), 160))"
        )

    def found(self):
        return self.page.inner_text("#found")

    def data(self, renderer):
        """What Bokeh draws: all points, or those on top of them."""
        return self.page.evaluate(
            "(at) => { const { data } = Bokeh.documents[0].roots()[0].renderers[at].data_source;"
            " return Object.fromEntries(Object.entries(data).map("
            "([name, values]) => [name, Array.from(values)])); }",
            renderer,
        )

    def pixels(self):
        """The map as seen, without what is written on it."""
        from io import BytesIO

        from PIL import Image

        self.page.evaluate("document.querySelector('#labels').hidden = true")
        shot = Image.open(BytesIO(self.page.locator("#stage").screenshot())).convert("RGB")
        self.page.evaluate("document.querySelector('#labels').hidden = false")
        return np.asarray(shot).reshape(-1, 3).astype(int)

    def place(self, x, y):
        """Where a point of the map is on the screen."""
        return self.page.evaluate(
            "([x, y]) => { const plot = Bokeh.documents[0].roots()[0],"
            " frame = document.querySelector('#map').getBoundingClientRect(),"
            " part = (value, range) => (value - range.start) / (range.end - range.start);"
            " return [frame.left + part(x, plot.x_range) * frame.width,"
            " frame.bottom - part(y, plot.y_range) * frame.height]; }",
            [float(x), float(y)],
        )

    def drag(self, *corners):
        mouse = self.page.mouse
        mouse.move(*self.place(*corners[0]))
        mouse.down()
        for corner in corners[1:]:
            mouse.move(*self.place(*corner), steps=3)
        mouse.up()
        self.settle()

    def check(self):
        """Nothing was asked for, nothing went wrong, and no record was obeyed."""
        assert [
            url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))
        ] == []
        assert len([url for url in self.requests if url.startswith("file:")]) == 1
        assert self.errors == []
        assert self.page.evaluate("window.pwned") is None
        self.context.close()


def near(pixels, colour, tolerance=40):
    """How many pixels are of a colour."""
    rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return int((np.abs(pixels - rgb).max(axis=1) < tolerance).sum())


def test_search_hover_and_records_that_are_only_data(browser, tmp_path):
    points, _, texts, _ = write(tmp_path / "map.html")
    page = Page(browser, tmp_path / "map.html")
    assert page.found() == "300 records"
    before = page.pixels()
    # Okabe and Ito's blue is the first group's; the ground is white.
    assert near(before, "#ffffff") > 0.8 * len(before)
    colours = [near(before, colour) for colour in ("#0072b2", "#e69f00", "#009e73")]
    assert min(colours) > 500

    page.page.keyboard.press("/")
    page.page.keyboard.type("BLUE sea")
    page.settle()
    wanted = [row for row, text in enumerate(texts) if "blue sea" in text]
    assert page.found() == f"{len(wanted)} of 300 records"
    drawn = page.data(1)
    assert np.allclose(np.stack([drawn["x"], drawn["y"]], axis=1), points[wanted], atol=1e-4)
    assert all(colour & 255 == 255 for colour in drawn["color"])
    after = page.pixels()
    # The other groups have lost their colours, this one not.
    colour = page.data(1)["color"][-1] >> 8
    kept = near(after, f"#{colour:06x}")
    assert kept > 500
    assert sum(near(after, each) for each in ("#0072b2", "#e69f00", "#009e73")) < 1.3 * kept
    assert near(after, "#ffffff") > 0.8 * len(after)

    # What would be a pattern is a text, and a column is searched where it is chosen.
    page.page.fill("#search", "blue.*")
    page.settle()
    assert page.found() == "0 of 300 records"
    # All that could mean something to a pattern is in the first text, and nothing is an error.
    page.page.fill("#search", PUNCTUATION)
    page.settle()
    assert page.found() == "1 of 300 records"
    page.page.fill("#search", "onerror=")
    page.settle()
    assert page.found() == "2 of 300 records"
    page.page.select_option("#where", label="year")
    page.page.fill("#search", "2007")
    page.settle()
    assert page.found() == "15 of 300 records"
    page.page.keyboard.press("Escape")
    page.settle()
    assert page.found() == "300 records"

    # The record that would like to be a program, by its text, its id, its column and its title.
    for row in (0, 1):
        page.page.mouse.move(*page.place(*points[row]))
        page.settle()
        assert "window.pwned=1" in page.page.inner_text("#tip")
    # The tip stays in the window, begins with what is coloured by, and counts what has no room.
    tip = page.page.locator("#tip")
    assert tip.bounding_box()["y"] >= 0
    assert tip.bounding_box()["y"] + tip.bounding_box()["height"] <= SIZE["height"]
    listed = tip.locator("dt").all_inner_texts()
    assert listed[0] == "cluster"
    assert 3 <= len(listed) <= 12
    assert tip.locator(".more").inner_text() == f"and {33 - len(listed)} more"
    assert page.page.inner_text("h1").startswith("Fruit & </script><script>")
    assert page.page.evaluate("document.querySelectorAll('img').length") == 0
    page.page.mouse.move(*page.place(5, 4))
    page.settle()
    assert page.page.is_hidden("#tip")
    page.check()


def test_lasso_box_and_the_list_of_ids(browser, tmp_path):
    points, ids, _, groups = write(tmp_path / "map.html")
    page = Page(browser, tmp_path / "map.html")
    page.page.keyboard.press("l")
    page.drag((-1.6, -1.6), (2, -1.6), (2, 2), (-1.6, 2), (-1.6, -1.6))
    inside = [row for row, group in enumerate(groups) if group == "red apples"]
    assert page.found() == f"{len(inside)} of 300 records"
    with page.page.expect_download() as download:
        page.page.click("#save")
    lines = Path(download.value.path()).read_text("utf-8").split("\n")
    assert lines == [*(ids[row].replace("\n", "\\n") for row in inside), ""]
    # Of what is selected, what is searched for.
    page.page.fill("#search", "number 3")
    page.settle()
    wanted = [row for row in inside if row in (3, *range(30, 40), *range(300, 400))]
    assert page.page.locator("#list button .id").all_inner_texts() == [ids[row] for row in wanted]
    page.page.click("#list button >> nth=0")
    assert page.page.inner_text("#tip .id") == ids[wanted[0]]
    page.page.click("#clear")
    page.page.click("#reset")
    page.page.click("#box")
    page.drag((8, -1.6), (11.6, 2))
    boxed = ((points > (8, -1.6)) & (points < (11.6, 2))).all(axis=1)
    assert page.found() == f"{boxed.sum()} of 300 records"
    assert boxed.sum() > 95
    # A class that is hidden is not selected.
    page.page.get_by_role("button", name="blue seas 90").click()
    page.settle()
    assert page.found() == f"{(boxed & (np.arange(300) % 10 == 9)).sum()} of 300 records"
    page.check()


def test_colours_classes_and_themes(browser, tmp_path):
    points, *_ = write(tmp_path / "map.html", dark=True)
    page = Page(browser, tmp_path / "map.html")
    dark = page.pixels()
    assert near(dark, "#14171a") > 0.8 * len(dark)
    shown = page.page.locator(".class .show").all_inner_texts()
    assert [text.split("\n")[0] for text in shown] == [*sorted(GROUPS), "(no value)"]
    page.page.get_by_role("button", name="green hills 90").dblclick()
    page.settle()
    assert page.found() == "90 of 300 records"
    assert sum(colour & 255 > 0 for colour in page.data(0)["color"]) == 90
    visible = page.page.locator("#labels span:visible").all_inner_texts()
    assert "green hills" in visible
    assert "red apples" not in visible
    page.page.click("#every")
    page.page.select_option("#by", label="year")
    page.settle()
    # Names are of clusters, and come back with them.
    assert page.page.is_hidden("#labels")
    assert page.page.is_disabled("#names")
    page.page.mouse.move(*page.place(*points[4]))
    assert page.page.locator("#tip dt").all_inner_texts()[:2] == ["year", "cluster"]
    scale = page.page.locator(".scale span").all_inner_texts()
    assert scale == ["2000", "2009.5", "2019"]
    # Equal years have equal colours, and the grey is for those without.
    colours = np.array(page.data(0)["color"])
    years = np.arange(300) % 20
    without = np.arange(300) % 50 == 0
    assert len(set(colours[without])) == 1
    assert all(len(set(colours[(years == year) & ~without])) == 1 for year in range(20))
    assert len(set(colours)) == 21
    page.page.select_option("#by", label="cluster")
    assert page.page.is_visible("#labels")
    page.page.keyboard.press("n")
    assert page.page.is_hidden("#labels")
    page.page.select_option("#by", label="year")
    page.page.keyboard.press("t")
    page.settle()
    light = page.pixels()
    assert near(light, "#ffffff") > 0.8 * len(light)
    assert set(page.data(0)["color"]) != set(colours)
    # The window gets narrower: the whole map stays in sight.
    page.page.set_viewport_size({"width": 400, "height": 700})
    page.settle()
    for x, y in GROUPS.values():
        left, top = page.place(x, y)
        assert 0 < left < 400
        assert top > 0
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 400
    page.check()


def test_one_point_and_no_value(browser, tmp_path):
    write_page(tmp_path / "one.html", [[3, 4]], ids=["a"], texts=["only"], columns={"x": [None]})
    page = Page(browser, tmp_path / "one.html")
    assert page.found() == "1 record"
    page.page.mouse.move(*page.place(3, 4))
    page.settle()
    assert page.page.inner_text("#tip") == "a\nonly"
    page.check()
