"""A map of records as one HTML file that opens anywhere, with nothing fetched from anywhere."""

import base64
import hashlib
import html
import json
import math
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
from embcli.viz.groups import as_number, is_scale

Value = str | float | None

# Above this a browser takes too long: see benchmarks/page.py.
MOST_POINTS = 1_000_000
# Without a graphics card every step takes seconds from here on.
_MANY = 250_000
# Characters of a text that are kept, to be searched; a page shows fewer.
_LONGEST = 500
# Characters of a class, of a name in the map, of a column and of the title that are kept.
_NAME = 120
# Classes that are put in the order of their numbers, if they are numbers.
_FEW = 50
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
        What is shown with a record and can be coloured by: a scale where
        `embcli.viz.groups.is_scale` says so, else classes. These come by falling frequency, or by
        number if they are at most 50 numbers. A number that is infinite or beyond float64 is no
        value. Of classes, and of the names of columns, the first 120 characters are kept; those
        that are the same so far get a number.
    color : str, optional
        The column that is coloured by at first; one colour for all if None.
    names : sequence of (x, y, text)
        Of the classes of `color`: written into the map where there is room, those that come
        first before others, and only while no other column is coloured by. The first 120
        characters.
    title, subtitle : str
        The first 120 characters of each.
    dark : bool
        Begin with the dark theme.
    force : bool
        Replace a file that is there.
    note : callable
        Told if texts or classes were cut, and if not every computer can draw so many points.

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
    if any(
        isinstance(value, str) and len(value) > _NAME
        for values in columns.values()
        for value in values
    ):
        note(f"{os.fspath(path)}: values are shown and searched up to character {_NAME}")
    titles = _cut(list(columns))
    data: dict[str, Any] = {
        "points": _encoded(places.T, "<f4"),
        "ids": list(ids),
        "texts": [text[:_LONGEST] for text in texts],
        "columns": [_column(*column) for column in zip(titles, columns.values(), strict=True)],
        "color": None if color is None else list(columns).index(color),
        "names": [[float(x), float(y), _short(name)] for x, y, name in names],
        "themes": {"light": _theme(dark=False), "dark": _theme(dark=True)},
    }
    page = _page(data, _short(title), _short(subtitle), dark)
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
    """Put a column as the page reads it: numbers, or classes in order."""
    if is_scale(values):
        # What is no number is None here.
        numbers = [
            as_number(value) if isinstance(value, int | float) else np.nan for value in values
        ]
        return {"name": name, "numbers": _encoded(np.array(numbers), "<f8")}
    written = [
        None if value is None or (not isinstance(value, str) and math.isnan(as_number(value)))
        else str(value)
        for value in values
    ]  # fmt: skip
    counts = Counter(value for value in written if value is not None)
    order = sorted(counts, key=lambda value: (-counts[value], value))
    if len(order) <= _FEW and not any(math.isnan(_read_number(value)) for value in order):
        order.sort(key=_read_number)
    codes = {value: code for code, value in enumerate(order)}
    coded = [-1 if value is None else codes[value] for value in written]
    return {
        "name": name, "values": _cut(order), "own": min(len(order), _CLASSES),
        "codes": _encoded(np.array(coded), "<i4"),
    }  # fmt: skip


def _read_number(text: str) -> float:
    try:
        return as_number(float(text))
    except ValueError:
        return math.nan


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _cut(names: Sequence[str]) -> list[str]:
    """Cut different names to 120 characters each, so that they stay different."""
    taken = {name for name in names if len(name) <= _NAME}
    found, alike = [], Counter[str]()
    for name in names:
        short = _short(name)
        while name != short and short in taken:
            alike[name[:100]] += 1
            ending = f"… ({alike[name[:100]] + 1})"
            short = name[: _NAME - len(ending)] + ending
        taken.add(short)
        found.append(short)
    return found


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
