"""What every figure shares: Matplotlib without its state, one way of saving, plain numbers."""

import logging
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, ModelError, UsageError
from embcli.formats.target import complete_files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

FORMATS = ("png", "svg", "pdf")

# In points.
SMALL, TEXT, TITLE = 8.0, 9.0, 11.0
# Of a title, in an inch.
_LETTERS = 10
# Of no date and no random names, so that the same data give the same bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None},
}  # fmt: skip


def check_figure(path: str | os.PathLike[str], *, extra: str, force: bool = False) -> None:
    """Refuse a figure that could not be written, before what it is to show is computed.

    Parameters are as of `save_figure`.

    Raises
    ------
    UsageError
        The ending is none of a figure's, there is no such folder, or a file is there.
    ModelError
        Matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower().removeprefix(".") not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS)
        raise UsageError(f"a figure ends in one of {endings}, not as {os.fspath(path)!r} does")
    if not path.resolve().parent.is_dir():
        raise UsageError(f"cannot write {path} (No such file or directory)")
    if path.exists() and not force:
        raise UsageError(f"{path} is there already", hint="--force")
    if find_spec("matplotlib") is None:
        raise ModelError(
            "figures take Matplotlib, which is not installed", hint=f"pip install 'embcli[{extra}]'"
        )


def save_figure(
    draw: Callable[[], "Figure"],
    path: str | os.PathLike[str],
    *,
    extra: str,
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw a figure and write it, the same bytes whatever the user's settings.

    Parameters
    ----------
    draw : callable
        Makes the figure. It is not called if the figure cannot be written.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete.
    extra : str
        Of embcli's, the one that Matplotlib comes with.
    force : bool
        Replace a file that is there.
    note : callable
        Told if characters cannot be shown.

    Raises
    ------
    UsageError
        The ending is another one, a file is there, or the system refuses to write.
    ModelError
        Matplotlib is not installed.
    """
    check_figure(path, extra=extra, force=force)
    from matplotlib import style

    format = Path(path).suffix.lower().removeprefix(".")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with (
        style.context(["default", {"svg.hashsalt": "embcli"}]),
        warnings.catch_warnings(record=True) as caught,
        complete_files(path, force=force) as target,
    ):
        warnings.simplefilter("always")
        draw().savefig(target, format=format, metadata=_METADATA[format])
    if any("missing from" in str(warning.message) for warning in caught):
        note(f"{os.fspath(path)}: the font lacks characters of some words, which show as boxes")


def new_figure(width: float = 8.0, height: float = 6.0, dpi: float = 150) -> "Figure":
    """Make an empty figure, in inches, that can be measured before it is saved."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def measured(figure: "Figure", texts: Iterable["Text"]) -> NDArray[np.float64]:
    """Measure the boxes of texts in inches, shape (n, 2), widths first; without their arrows."""
    from matplotlib.text import Text

    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [Text.get_window_extent(text, renderer) for text in texts]
    return np.array([(box.width, box.height) for box in boxes]).reshape(-1, 2) / figure.dpi


def text_sizes(texts: Iterable[str], size: float) -> NDArray[np.float64]:
    """Measure texts as they will be written, in inches, shape (n, 2), widths first."""
    figure = new_figure()
    return measured(
        figure, [figure.text(0, 0, text, fontsize=size, parse_math=False) for text in texts]
    )


def fitted(text: str, size: float, across: float) -> str:
    """Put a text, or as much of its beginning as is so many inches wide, on one line."""
    plain = shown(text, 200)
    while len(plain) > 1 and (wide := text_sizes([plain], size)[0, 0]) > across:
        plain = shown(plain, max(min(int(len(plain) * across / wide), len(plain) - 1), 1))
    return plain


def shown(text: str, longest: int) -> str:
    """Put a text, or its beginning, on one line.

    Control characters are spaces: an SVG file that has them is not XML.
    """
    plain = " ".join(_printable(text).split())
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"


def title_lines(title: str, across: float) -> list[str]:
    """Break a title into lines that are so many inches wide."""
    return wrap(_printable(title), max(int(across * _LETTERS), 10))


def _printable(text: str) -> str:
    return "".join(" " if unicodedata.category(char) in ("Cc", "Cs") else char for char in text)


def number(value: float, place: object = None) -> str:
    """Write a number as it stands on an axis, with no power of ten beside the axis."""
    return f"{value:g}".replace("-", "−")


def finite(values: ArrayLike, name: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """Give an array of float64 that can be drawn.

    Raises
    ------
    InputError
        It has another shape (if none is wanted, is not a row of at least one number), or a number
        is not finite.
    """
    array = np.asarray(values, np.float64)
    if array.shape != shape if shape is not None else array.ndim != 1 or not array.size:
        wanted = "at least one number" if shape is None else f"an array of shape {shape}"
        raise InputError(f"{name}: a figure takes {wanted}, and got shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{name}: not all numbers are finite")
    return array


def bare(axes: "Axes", *sides: str) -> None:
    """Take away the lines at sides where nothing is read off, and make numbers small."""
    for side in sides or ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=SMALL)
