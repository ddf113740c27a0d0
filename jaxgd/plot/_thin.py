"""Fewer points that look the same: of lines, of clouds and of paths, with every extreme among them.

Each function returns the indices to keep, ascending.
"""

import numpy as np


def envelope(values: np.ndarray, most: int = 4000) -> np.ndarray:
    """What to keep of a line over equal steps: the lowest and the highest value of each of `most / 2` stretches, and both ends."""
    count = len(values)
    if count <= most:
        return np.arange(count)
    edges = np.linspace(0, count, most // 2 + 1).astype(np.int64)
    lows = np.where(np.isnan(values), np.inf, values)
    highs = np.where(np.isnan(values), -np.inf, values)
    kept = [(first + np.argmin(lows[first:last]), first + np.argmax(highs[first:last])) for first, last in _stretches(edges)]
    return np.unique(np.concatenate([[0, count - 1], np.ravel(kept)]))


def cloud(x: np.ndarray, y: np.ndarray, *, cells: tuple[int, int] = (240, 180), most: int = 5000) -> np.ndarray:
    """What to keep of many points: one, drawn by lot, of each cell of a grid over them, and those at the extremes.

    Of kinds that share a cell each is kept as often as it is common there. Points that are not finite are dropped.
    """
    finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(finite) <= most:
        return finite
    lot = finite[np.random.default_rng(0).permutation(len(finite))]
    places = [_cells(values[lot], size) for values, size in zip((x, y), cells, strict=True)]
    _, first = np.unique(places[0] * cells[1] + places[1], return_index=True)
    extremes = [finite[find(values[finite])] for values in (x, y) for find in (np.argmin, np.argmax)]
    return np.unique(np.concatenate([lot[first], extremes]))


def trail(points: np.ndarray, low: np.ndarray, high: np.ndarray, most: int = 4000) -> np.ndarray:
    """What to keep of a path, points (n, k) in the order in which they were visited.

    Where it stays in one of 1000 cells along each axis between `low` and `high`, the first of its points there; where that is still
    too many, the extremes along each axis of equal stretches; and in any case those of the whole.
    """
    count = len(points)
    if count <= most:
        return np.arange(count)
    cells = np.floor(1000 * (points - low) / (high - low))
    moves = np.any(cells[1:] != cells[:-1], axis=1)
    kept = np.concatenate([[0], 1 + np.flatnonzero(moves), [count - 1]])
    if len(kept) > most:
        sparse = [envelope(column, most // points.shape[1]) for column in points[kept].T]
        kept = kept[np.concatenate(sparse)]
    return np.unique(np.concatenate([kept, np.argmin(points, axis=0), np.argmax(points, axis=0)]))


def _cells(values: np.ndarray, count: int) -> np.ndarray:
    low, high = np.min(values), np.max(values)
    scaled = (values / 2 - low / 2) / max(high / 2 - low / 2, np.finfo(np.float64).tiny)  # halves, which can't overflow
    return np.minimum((count * scaled).astype(np.int64), count - 1)


def _stretches(edges: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
