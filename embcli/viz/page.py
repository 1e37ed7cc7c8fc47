"""A map of records as one HTML file that opens anywhere, with nothing fetched from anywhere."""

import base64
import hashlib
import html
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, ModelError, UsageError
from embcli.formats.target import complete_files
from embcli.viz.colours import FAINT, GROUND, INK, categorical, neutral, sequential

Value = str | float | None

# Above this a browser takes too long: see benchmarks/page.py.
MOST_POINTS = 1_000_000
# Without a graphics card every step takes seconds from here on.
_MANY = 250_000
# Characters of a text that are kept, to be searched; a page shows fewer.
_LONGEST = 500
# Classes with a colour of their own; what is less frequent shares one.
_CLASSES = 250


def check_page(path: str | os.PathLike[str], count: int, *, force: bool = False) -> None:
    """Refuse a page that could not be written, before what it is to show is computed.

    Parameters
    ----------
    path, force
        As of `write_page`.
    count : int
        Of points.

    Raises
    ------
    UsageError
        There is no such folder, a file is there, or there are too many points.
    ModelError
        Bokeh is not installed.
    """
    path = Path(path)
    if not path.resolve().parent.is_dir():
        raise UsageError(f"cannot write {path} (No such file or directory)")
    if path.exists() and not force:
        raise UsageError(f"{path} is there already", hint="--force")
    if count > MOST_POINTS:
        raise UsageError(
            f"browsers do not draw {count:,} points; a page takes {MOST_POINTS:,} at most",
            hint=f"--sample {MOST_POINTS // 10}",
        )
    if find_spec("bokeh") is None:
        raise ModelError(
            "pages take Bokeh, which is not installed", hint="pip install 'embcli[plot]'"
        )


def write_page(
    path: str | os.PathLike[str],
    points: ArrayLike,
    *,
    ids: Sequence[str],
    texts: Sequence[str],
    columns: Mapping[str, Sequence[Value]],
    color: str | None = None,
    names: Sequence[tuple[float, float, str]] = (),
    title: str = "",
    subtitle: str = "",
    dark: bool = False,
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Write a map that can be moved, searched, coloured and selected from, as one HTML file.

    Parameters
    ----------
    path : path
        It appears when it is complete. The same values give the same bytes.
    points : float array, shape (n, 2)
    ids, texts : sequences of str, n of each
        Of texts the first 500 characters are kept.
    columns : mapping of name to sequence of str, float or None, n of each
        What is shown with a record and can be coloured by: numbers by a scale, where all that are
        there are numbers, else classes.
    color : str, optional
        The column that is coloured by at first; one colour for all if None.
    names : sequence of (x, y, text)
        Written into the map where there is room, those that come first before others.
    title, subtitle : str
    dark : bool
        Begin with the dark theme.
    force : bool
        Replace a file that is there.
    note : callable
        Told if texts were cut, and if not every computer can draw so many points.

    Raises
    ------
    UsageError
        A file is there, the system refuses to write, there are too many points, or `color` is no
        column.
    InputError
        There is no point, a coordinate is not finite, or not as many values as points.
    ModelError
        Bokeh is not installed.

    Notes
    -----
    Records are data: they are embedded as JSON in which no ``<`` is left, and what is shown is
    text, never markup. A Content Security Policy lets the page run the three scripts that it came
    with, by their hashes, and connect to nothing. Bokeh's WebGL compiles functions, which the
    policy has to allow.
    """
    places = _checked(points, ids, texts, columns, color)
    check_page(path, len(places), force=force)
    if len(places) > _MANY:
        note(f"{os.fspath(path)}: {len(places):,} points take a computer with a graphics card")
    if any(len(text) > _LONGEST for text in texts):
        note(f"{os.fspath(path)}: texts are shown and searched up to character {_LONGEST}")
    data: dict[str, Any] = {
        "points": _encoded(places.T, "<f4"),
        "ids": list(ids),
        "texts": [text[:_LONGEST] for text in texts],
        "columns": [_column(name, values) for name, values in columns.items()],
        "color": color,
        "names": [[float(x), float(y), name] for x, y, name in names],
        "themes": {"light": _theme(dark=False), "dark": _theme(dark=True)},
    }
    page = _page(data, title, subtitle, dark)
    with complete_files(path, force=force) as target:
        target.write_bytes(page.encode("utf-8"))


def _checked(
    points: ArrayLike,
    ids: Sequence[str],
    texts: Sequence[str],
    columns: Mapping[str, Sequence[Value]],
    color: str | None,
) -> NDArray[np.float32]:
    places = np.asarray(points, np.float32)
    if places.ndim != 2 or places.shape[1] != 2 or not len(places):
        raise InputError(f"a page takes at least one point (n, 2), and got shape {places.shape}")
    if not np.isfinite(places).all():
        raise InputError("not all coordinates of the map are finite")
    for name, values in {"ids": ids, "texts": texts, **columns}.items():
        if len(values) != len(places):
            raise InputError(f"{name}: {len(values):,} values for {len(places):,} points")
    if color is not None and color not in columns:
        raise UsageError(f"there is no column {color!r} to colour by")
    return places


def _column(name: str, values: Sequence[Value]) -> dict[str, Any]:
    """Put a column as the page reads it: numbers, or classes by falling frequency."""
    there = [value for value in values if value is not None]
    if there and all(type(value) in (int, float) for value in there):
        numbers = np.array(values, np.float64)
        # In an empty place as in others that no scale has room for.
        numbers[~np.isfinite(numbers)] = np.nan
        return {"name": name, "numbers": _encoded(numbers, "<f8")}
    counts = Counter(str(value) for value in there)
    order = sorted(counts, key=lambda value: (-counts[value], value))
    codes = {value: code for code, value in enumerate(order)}
    coded = [-1 if value is None else codes[str(value)] for value in values]
    own = min(len(order), _CLASSES)
    return {"name": name, "values": order, "own": own, "codes": _encoded(np.array(coded), "<i4")}


def _theme(*, dark: bool) -> dict[str, Any]:
    return {
        "classes": categorical(_CLASSES, dark),
        "numbers": sequential(dark),
        "neutral": neutral(dark),
    }


def _page(data: dict[str, Any], title: str, subtitle: str, dark: bool) -> str:
    scripts = [*_library(), _read("page.js")]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    grounds = {
        f"{name}_{theme}": shades[theme == "dark"]
        for name, shades in (("ground", GROUND), ("ink", INK), ("faint", FAINT))
        for theme in ("light", "dark")
    }
    return Template(_read("page.html")).substitute(
        theme="dark" if dark else "light",
        policy=(
            f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; "
            "img-src data: blob:; base-uri 'none'; form-action 'none'"
        ),
        title=_written(title),
        subtitle=_written(subtitle),
        style=Template(_read("page.css")).substitute(grounds),
        plot=_json(_plot()),
        data=_json(data),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _plot() -> dict[str, Any]:
    """Describe the plot to Bokeh, without any data: the page's own script fills it."""
    from bokeh.embed import json_item
    from bokeh.models import (
        BoxSelectTool,
        ColumnDataSource,
        LassoSelectTool,
        PanTool,
        Plot,
        Range1d,
        Scatter,
        WheelZoomTool,
    )

    empty: dict[str, list[float]] = {"x": [], "y": [], "color": []}
    plot = Plot(
        x_range=Range1d(start=0, end=1), y_range=Range1d(start=0, end=1),
        output_backend="webgl", min_border=0, sizing_mode="stretch_both", toolbar_location=None,
        background_fill_alpha=0, border_fill_alpha=0, outline_line_color=None, lod_threshold=None,
        stylesheets=[".bk-Canvas { --outline-width: 0px; }"],
    )  # fmt: skip
    all_points, _ = (
        plot.add_glyph(
            ColumnDataSource(empty),
            Scatter(x="x", y="y", size=4, fill_color="color", line_color=None),
            selection_glyph=None,
            nonselection_glyph=None,
        )
        for _ in range(2)
    )
    pan, wheel = PanTool(), WheelZoomTool()
    lasso, box = LassoSelectTool(renderers=[all_points]), BoxSelectTool(renderers=[all_points])
    for tool in (lasso, box):
        tool.overlay.update(
            fill_color="#808080", fill_alpha=0.15, line_color="#808080", line_dash="solid"
        )
    plot.add_tools(pan, wheel, lasso, box)
    plot.toolbar.active_drag = pan
    plot.toolbar.active_scroll = wheel
    item = json.dumps(json_item(plot))
    # Bokeh counts its models through the life of a process.
    numbers: dict[str, str] = {}
    plain = re.sub(
        r'"p\d+"', lambda found: numbers.setdefault(found[0], f'"m{len(numbers)}"'), item
    )
    described: dict[str, Any] = json.loads(plain)
    return described


def _library() -> list[str]:
    """Read BokehJS and its WebGL part."""
    from bokeh.resources import Resources

    inline = Resources(mode="inline", components=["bokeh", "bokeh-gl"], minified=True)
    return list(inline.js_raw)


def _read(name: str) -> str:
    return (files("embcli.viz") / name).read_text("utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _encoded(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def _json(value: Any) -> str:
    """Write JSON that HTML does not look into, and that can be encoded."""
    return _RISKY.sub(_escape, json.dumps(value, ensure_ascii=False, allow_nan=False))


# What ends a script or begins a comment in it, ends lines in JavaScript, or is no character.
_RISKY = re.compile("[<>&\u007f-\u009f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _written(text: str) -> str:
    """Write text into HTML."""
    return html.escape(" ".join(text.encode("utf-8", "replace").decode("utf-8").split()))
