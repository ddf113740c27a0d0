"""What sets the scale of a picture: which numbers count, and whether a logarithm helps."""

from typing import Any

import numpy as np

from jaxgd.result import Status

_DECADE = 10.0


def helps(values: np.ndarray) -> bool:
    """Whether costs are seen better on a logarithmic scale: none is negative, and they span a decade or more.

    A cost of exactly zero, which sums of squares do reach, is drawn at the lower edge of such a scale.
    """
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    return (
        positive.size > 1 and positive.size > 0.5 * finite.size and finite.min() >= 0 and positive.max() / _DECADE >= positive.min()
    )


def floor(values: np.ndarray) -> float | None:
    """Where zeros, which a logarithmic scale does not have, are drawn: below all else; None where there are none."""
    positive = values[np.isfinite(values) & (values > 0)]
    if np.all(values != 0) or not positive.size:
        return None
    low, high = np.log10([positive.min(), positive.max()])
    return float(10 ** max(low - max(0.3, 0.05 * (high - low)), -200))


def blown_up(costs: np.ndarray, code: Any) -> bool:
    """Whether a run left for infinity: by its status, or by costs that had grown without an end when its steps were over."""
    finite = costs[np.isfinite(costs)]
    if list(Status)[int(code)].nonfinite or finite.size == 0:
        return True
    return bool(finite[-1] / 1e4 > abs(finite[0]) and finite[-1] / 1e2 > abs(np.median(finite / 2) * 2))


def window(points: np.ndarray, anchors: np.ndarray, *, cut: bool) -> tuple[np.ndarray, np.ndarray]:
    """The limits of a picture that shows the points (n, k) and the anchors (m, k) with some room around them.

    Of a run that is `cut` because it left for infinity, only the points near the anchors count.
    """
    low, high = np.min(anchors, axis=0), np.max(anchors, axis=0)
    size = high - low
    kept = points[np.all(np.isfinite(points), axis=1)]
    if cut:
        room = np.where(size > 0, 2 * size, np.maximum(1.0, abs(low)))
        kept = kept[np.all((kept >= low - room) & (kept <= high + room), axis=1)]
    shown = np.concatenate([anchors, kept])
    low, high = np.min(shown, axis=0), np.max(shown, axis=0)
    room = 0.12 * (high - low)
    least = 1e-6 * np.maximum(abs(low), abs(high))
    room = np.where(room > least, room, np.where(low == 0, 1.0, 0.1 * abs(low)))
    return low - room, high + room
