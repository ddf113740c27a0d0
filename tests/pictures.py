"""Look at a figure as a careful reader would: what is in it, and can all that is written be read?"""

import itertools
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

_TOUCH = 1.0  # pixels by which neighbouring texts may touch


class _Reader(RendererAgg):
    """A renderer that remembers the texts that it draws."""

    def __init__(self, figure: Figure) -> None:
        width, height = figure.get_size_inches() * figure.dpi
        super().__init__(width, height, figure.dpi)
        self.texts: list[Any] = []

    def draw_text(self, *arguments: Any, mtext: Any = None, **options: Any) -> None:
        if mtext is not None and mtext not in self.texts:
            self.texts.append(mtext)
        super().draw_text(*arguments, mtext=mtext, **options)


def check(figure: Figure) -> np.ndarray:
    """Draw a figure, and assert that it is not empty, that no text is cut off by its edge, and that no two texts overlap.

    Returns the picture: an array (height, width, 4) of bytes.
    """
    reader = _Reader(figure)
    figure.draw(reader)
    picture = np.asarray(reader.buffer_rgba())
    height, width = picture.shape[:2]
    assert 100 <= min(width, height) and max(width, height) <= 4000, f"the figure has {width} x {height} pixels"
    background = picture[0, 0]
    inked = np.mean(np.any(picture != background, axis=-1))
    assert inked > 0.002, f"the figure is empty: {inked:.2%} of the picture differ from its background"
    boxes = [(text.get_text(), text.get_window_extent(reader)) for text in reader.texts]
    for name, box in boxes:
        inside = box.x0 >= -_TOUCH and box.y0 >= -_TOUCH and box.x1 <= width + _TOUCH and box.y1 <= height + _TOUCH
        assert inside, f"{name!r} is cut off by the edge of the figure: {box}"
    for (name, box), (other, second) in itertools.combinations(boxes, 2):
        across = min(box.x1, second.x1) - max(box.x0, second.x0)
        along = min(box.y1, second.y1) - max(box.y0, second.y0)
        assert across <= _TOUCH or along <= _TOUCH, f"{name!r} and {other!r} overlap by {across:.0f} x {along:.0f} pixels"
    return picture


def lines(ax: Any, gid: str) -> list[np.ndarray]:
    """The points (n, 2) of each of the lines of one kind."""
    return [one.get_xydata() for one in ax.get_lines() if one.get_gid() == gid]


def marked(ax: Any, label: str) -> np.ndarray:
    """The points (n, 2) of what has a label."""
    return next(one.get_xydata() for one in ax.get_lines() if one.get_label() == label)


def legend(ax: Any) -> list[str]:
    """What the legend says."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def arrows(ax: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where the arrows of a path begin, (n, 2), and how far they go, (n, 2)."""
    (found,) = (one for one in ax.collections if isinstance(one, Quiver))
    drawn: Any = found
    return np.stack([drawn.X, drawn.Y], axis=1), np.stack([drawn.U, drawn.V], axis=1)
