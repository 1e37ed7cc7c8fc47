"""The interactive page against Plotly's WebGL scatter plot: size, time to draw, moving, hovering.

Both pages hold the same points with ids, 20 classes and a text of 100 characters that appears
under the mouse, and are opened by Debian's Chromium, drawn by software (SwiftShader): without a
graphics card, as the worst case. A move is a step of a drag, from the event to the frame after
the next; hovering is taken in the same way.

    python benchmarks/page.py --points 100000
"""

import argparse
import os
import shutil
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measure import figure, grid, require

FRAMES = "new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))"
ARGUMENTS = [
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]  # fmt: skip


def corpus(count):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 2)) * 5
    group = rng.integers(0, 20, count)
    points = (centres[group] + rng.normal(size=(count, 2)) * 0.5).astype(np.float32)
    words = np.array(["card", "bank", "rate", "loan", "money", "exchange", "pin", "lost", "stolen"])
    texts = [" ".join(line) for line in words[rng.integers(0, len(words), (count, 20))].tolist()]
    return points, group, [f"r{row}" for row in range(count)], texts


def embcli_page(path, points, group, ids, texts):
    from embcli.viz.page import write_page

    columns = {"cluster": [f"topic {each}" for each in group]}
    write_page(path, points, ids=ids, texts=texts, columns=columns, color="cluster")


def plotly_page(path, points, group, ids, texts):
    import plotly.graph_objects as go

    shown = [f"{id}<br>{text}" for id, text in zip(ids, texts, strict=True)]
    marker = {"size": 3, "color": group.astype(np.float32)}
    figure = go.Figure(
        go.Scattergl(
            x=points[:, 0], y=points[:, 1], mode="markers", marker=marker, text=shown,
            hoverinfo="text",
        )
    )  # fmt: skip
    figure.update_layout(dragmode="pan")
    figure.write_html(path, include_plotlyjs=True, config={"scrollZoom": True})


SIDES = {
    "embcli": (embcli_page, "html[data-ready]", "#tip:not([hidden])"),
    "plotly": (plotly_page, ".gl-canvas", ".hoverlayer .hovertext"),
}


def measure(browser, path, ready, tip):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(300_000)
    begin = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector(ready, state="attached")
    page.evaluate(FRAMES)
    loaded = time.perf_counter() - begin
    page.mouse.move(440, 400)
    page.evaluate(FRAMES)
    page.mouse.down()
    moves = [_took(page, 440 + 4 * step, 400 + 2 * step) for step in range(1, 21)]
    page.mouse.up()
    page.wait_for_timeout(1000)
    hovers = [_took(page, 400 + 19 * step, 300 + 11 * step) for step in range(15)]
    if not page.locator(tip).count():
        print("nothing was shown under the mouse")
    page.close()
    return loaded, statistics.median(moves), max(moves), statistics.median(hovers)


def _took(page, x, y):
    begin = time.perf_counter()
    page.mouse.move(x, y)
    page.evaluate(FRAMES)
    return 1000 * (time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000)
    arguments = parser.parse_args()
    for name in ("bokeh", "plotly", "playwright"):
        require(name, name)
    from playwright.sync_api import sync_playwright

    data = corpus(arguments.points)
    print(f"{arguments.points:,} points, {os.cpu_count()} cores")
    print("page    written, CPU s   MB     shown s   move ms (worst)   hover ms")
    path = shutil.which("chromium") or "/usr/bin/chromium"
    with TemporaryDirectory() as folder, sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=ARGUMENTS)
        rows, moves = {}, {}
        for name, (write, ready, tip) in SIDES.items():
            target = Path(folder, f"{name}.html")
            begin = time.process_time()
            write(target, *data)
            took = time.process_time() - begin
            loaded, move, worst, hover = measure(browser, target, ready, tip)
            print(
                f"{name:<8}{took:>10.2f}{target.stat().st_size / 1e6:>12.1f}{loaded:>9.1f}"
                f"{move:>10.0f} ({worst:,.0f}){hover:>12.0f}",
                flush=True,
            )
            moves[name] = move
            figure(f"{name}, move, ms", move)
            cells = took, target.stat().st_size / 1e6, loaded, move, worst, hover
            rows[name] = [f"{value:,.2f}" for value in cells]
        heads = ["written, CPU s", "MB", "shown after s", "a move ms", "worst", "hover ms"]
        grid(f"{arguments.points:,} points", heads, rows)
        figure("plotly / embcli, move", moves["plotly"] / moves["embcli"])
        browser.close()


if __name__ == "__main__":
    main()
