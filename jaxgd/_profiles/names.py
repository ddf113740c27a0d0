"""The names of parameters, as users write them."""

from typing import Any

import numpy as np

from jaxgd import _text
from jaxgd._checks.check import show
from jaxgd._trees import short_name


def place(argument: str, parameter: Any, names: tuple[str, ...], free: tuple[int, ...]) -> int:
    """Return the place of a parameter among the free ones, from its name or its place among all."""
    if parameter is None and len(free) == 1:
        return 0
    if isinstance(parameter, int | np.integer) and not isinstance(parameter, bool):
        k = int(parameter) if 0 <= parameter < len(names) else None
    elif isinstance(parameter, str):
        k = next((k for k, name in enumerate(names) if parameter in (name, short_name(name))), None)
    else:
        raise TypeError(f"{argument}: expected the name of a parameter, such as {short_name(names[0])!r}, got {show(parameter)}.")
    if k is None:
        known = _text.several([short_name(name) for name in names])
        raise ValueError(f"{argument}: expected one of {known}, got {show(parameter)}.")
    if k not in free:
        raise ValueError(f"{argument}: expected a parameter that is free, got {show(parameter)}, which is fixed.")
    return free.index(k)


def pair(argument: str, parameters: Any, names: tuple[str, ...], free: tuple[int, ...]) -> tuple[int, int]:
    """Return the places of two parameters among the free ones."""
    if parameters is None and len(free) == 2:
        return 0, 1
    if not isinstance(parameters, tuple | list) or len(parameters) != 2:
        known = _text.several([short_name(name) for name in names])
        raise TypeError(f"{argument}: expected the names of two parameters, of {known}, got {show(parameters)}.")
    one, other = (place(f"{argument}[{k}]", each, names, free) for k, each in enumerate(parameters))
    if one == other:
        raise ValueError(f"{argument}: expected two different parameters, got {show(parameters)}.")
    return one, other
