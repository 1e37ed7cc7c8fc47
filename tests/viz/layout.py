"""Where texts are in a figure."""

import numpy as np
from matplotlib.image import AxesImage
from matplotlib.text import Text


def _ticks(axis):
    low, high = sorted(axis.get_view_interval())
    labels = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
    minor = zip(axis.get_minorticklocs(), axis.get_ticklabels(minor=True), strict=True)
    return [label for place, label in (*labels, *minor) if low <= place <= high]


def texts(figure):
    """What is written, with its box in pixels."""
    # Ticks are made, and axes placed, when a figure is drawn; images take most of that time.
    for image in figure.findobj(AxesImage):
        image.set_visible(False)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    written = []
    for axes in figure.axes:
        written += [*axes.texts, axes.title, axes._left_title, axes._right_title]
        if axes.axison:
            for axis in (axes.xaxis, axes.yaxis):
                written += [*_ticks(axis), axis.label, axis.get_offset_text()]
        if axes.get_legend():
            written += axes.get_legend().get_texts()
    written += figure.texts
    # Of a text with a line to its point, the box of the text alone.
    return [(t.get_text(), Text.get_window_extent(t, renderer)) for t in written if t.get_text()]


def check_layout(figure):
    """No text may touch another one, or leave the figure."""
    found = texts(figure)
    boxes = np.array([box.extents for _, box in found])
    low, high = boxes[:, None, :2], boxes[None, :, 2:]
    touch = ((low < high) & (low.swapaxes(0, 1) < high.swapaxes(0, 1))).all(axis=2)
    for one, other in np.argwhere(np.triu(touch, 1)).tolist():
        raise AssertionError(f"{found[one][0]!r} touches {found[other][0]!r}")
    inside = (boxes[:, :2] >= 0).all(axis=1) & (
        boxes[:, 2:] <= figure.get_size_inches() * figure.dpi
    ).all(axis=1)
    assert inside.all(), [found[at][0] for at in np.flatnonzero(~inside)]
    return [text for text, _ in found]
