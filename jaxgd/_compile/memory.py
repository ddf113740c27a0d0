"""The memory of traced costs: a cost that has not changed is not traced again.

Tracing is most of the time of a short run. `jax.jit` remembers a function by its identity, and so overlooks whatever the function
depends on when that changes; here a function is known by its `dependencies`: its code and the values of all that it looks at. Where
one of these is something that can't be told to be unchanged, nothing is remembered and the function is traced as usual. The same
holds where tracing changes what the function looks at, since that is to happen in every call.

What is remembered holds large arrays of the user's by weak references, and goes when one of them does.
"""

import contextlib
import functools
import operator
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

from jaxgd._compile import fingerprint, jaxprs
from jaxgd._compile.classes import classes_in
from jaxgd._compile.codes import Unknown
from jaxgd._compile.dependencies import Dependencies
from jaxgd._compile.jaxprs import Identity
from jaxgd._compile.program import Traced, current_settings, trace
from jaxgd._compile.provenance import Origin
from jaxgd._trees import is_traced

_SIZE = 64  # functions that are remembered
_SHAPES = 16  # for each of them, arguments of other shapes or precisions
_MOST = 2**27  # bytes of arrays that the memory keeps by itself
_made: OrderedDict[Hashable, dict[Hashable, "_Made"]] = OrderedDict()
_lock = threading.Lock()


class Known:
    """A value of the user in the structure of a program, equal to others known to do the same."""

    def __init__(self, value: Any) -> None:
        self.value = value
        try:
            walk = Dependencies(everything=True)
            self.key = walk.key(value)
            self.is_sure = not walk.large
        except Unknown:
            self.is_sure = False
        self.key = self.key if self.is_sure else Identity(value)

    def __repr__(self) -> str:
        return f"Known {fingerprint.of_key(self.key)}"

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and self.key == other.key


class _Made:
    """A traced function as it is remembered.

    Attributes:
        parts: its structure and its constants, each an array, or the place of one of JAX among the large arrays that the function
            looks at; None where an array has gone.
        same: what has to be the same object, since the program calls Python that looks at it.
    """

    def __init__(self, traced: Traced, walk: Dependencies) -> None:
        self.large = walk.large
        arrays = [large.array for large in self.large]
        self.weak = [weakref.ref(array, self.forget) for array in arrays]
        constants = [_apart(constant, arrays) for constant in traced.constants]
        self.parts: tuple[Any, list[Any]] | None = traced.code, constants
        self.same = walk.mutable if jaxprs.calls_python(traced.code.jaxpr) else []
        self.nbytes = sum(one.nbytes for one in constants if not isinstance(one, int)) + sum(one.nbytes for one in self.large)

    def forget(self, _: Any = None) -> None:
        """Let go of what is held for an array that is no more."""
        self.parts, self.nbytes = None, 0
        for large in self.large:
            large.forget()

    def again(self, walk: Dependencies) -> Traced | None:
        """Return the traced function for the arrays that were found now; None if it has to be traced anew."""
        parts = self.parts
        if parts is None or (self.same and not _are_same(self.same, walk.mutable)):
            return None
        code, constants = parts
        return Traced(tuple([walk.large[one].array if isinstance(one, int) else one for one in constants]), code)


def traced(
    make: Callable[..., Any],
    function: Callable[..., Any],
    *arguments: Any,
    name: str,
    origin: Origin | None = None,
    **options: Hashable,
) -> Traced:
    """`make(function, **options)` traced for arguments like these; see `trace`."""
    walk, key, place = Dependencies(), None, None
    with contextlib.suppress(Unknown):
        key, place = _name(make, function, options, arguments, walk)
        found = _found(key, place, walk)
        if found is not None:
            return found
        for large in walk.large:
            large.copy()
    wanted = functools.partial((origin or Origin(function)).wanted, functools.partial(make, **options))
    new = trace(make(function, **options), *arguments, name=name, wanted=wanted)
    if key is not None and not is_traced(new.constants) and _is_unchanged(key, walk, make, function, options, arguments):
        _keep(key, place, _Made(new, walk), walk)
    return new


def _found(key: Hashable, place: Hashable, walk: Dependencies) -> Traced | None:
    """Return what is remembered under these names, if anything is."""
    with _lock:
        made = _made.get(key, {}).get(place)
        if made is None:
            return None
        _made.move_to_end(key)
    return made.again(walk)


def _name(make: Any, function: Any, options: dict[str, Hashable], arguments: Any, walk: Dependencies) -> tuple[Hashable, Hashable]:
    """Return the names of a function and of arguments: those of the same types, under the same settings, give the same trace."""
    options_key = tuple(sorted(options.items()))
    if not _is_sure(options_key):
        raise Unknown
    try:
        leaves, structure = jax.tree.flatten(arguments)
        classes, of_library = classes_in(structure)
        place = structure, tuple([jax.typeof(leaf) for leaf in leaves]), Identity(current_settings()), is_traced(leaves)
    except Exception:  # raised again where the function is traced
        raise Unknown from None
    walk.everything |= of_library
    return (make, walk.key((function, *classes)), options_key), place


def _is_sure(value: Hashable) -> bool:
    """Return whether values of the user among some options are known by all that they look at."""
    return all(map(_is_sure, value)) if isinstance(value, tuple) else not isinstance(value, Known) or value.is_sure


def _is_unchanged(
    key: Hashable, walk: Dependencies, make: Any, function: Any, options: dict[str, Hashable], arguments: Any
) -> bool:
    """Return whether a function is the same as it was before it was traced."""
    try:
        return _name(make, function, options, arguments, Dependencies(names=walk.names, everything=walk.everything))[0] == key
    except Unknown:
        return False


def _keep(key: Hashable, place: Hashable, made: _Made, walk: Dependencies) -> None:
    """Remember a traced function for as long as its large arrays live. Those unused for longest are dropped."""
    if made.nbytes > _MOST:
        return
    for large in walk.large:
        large.weaken()
    with _lock:
        places = _made[key] = _made.pop(key, {})
        places[place] = made
        if len(places) > _SHAPES:
            del places[next(iter(places))]
        while len(_made) > _SIZE or sum(one.nbytes for places in _made.values() for one in places.values()) > _MOST:
            _made.popitem(last=False)


def _apart(constant: Any, arrays: list[Any]) -> Any:
    """Return the place of a constant among the large arrays, or a constant that shares no memory with them."""
    for place, array in enumerate(arrays):
        if constant is array and isinstance(array, jax.Array):
            return place
        if (
            isinstance(array, np.ndarray)
            and not isinstance(constant, jax.Array)
            and np.may_share_memory(np.asarray(constant), array)
        ):
            return np.array(constant)
    return constant


def _are_same(ones: list[Any], others: list[Any]) -> bool:
    return len(ones) == len(others) and all(map(operator.is_, ones, others))
