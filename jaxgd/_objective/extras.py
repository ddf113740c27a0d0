"""The extras of a cost: a random key, a state of its own, and whether it is being trained, by the names of its parameters.

    key        a fresh one in every step of `fit`, folded from the run's key and the number of the step; one for all in `minimize`
    state      the state after the step before; the cost then returns (value, state), or (value, state, aux)
    training   True in the steps of a run, False where a cost is only measured: over all rows, and on validation data

Where a cost is only measured, its state stays as it is, and its key is one for the whole run.
"""

import functools
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check, check_cost
from jaxgd._checks.check import Refused
from jaxgd._checks.check_trees import layout
from jaxgd._frozen import PartialObjective
from jaxgd._trees import pytree, static
from jaxgd.squares import name_of

NAMES = ("key", "state", "training")
_NAMES = frozenset(NAMES)
_APART = 0x6A616778  # folded into the run's key, so that a step's key is none that the start or the order of rows was drawn with
_MEASURED = np.uint32(2**32 - 1)  # the number in the place of a step's, where a cost is only measured


class Carried(NamedTuple):
    """The rest of what a cost with a state returns: its next state, and the aux."""

    state: Any
    aux: Any


@pytree
class Extras:
    """The extras of a cost in a run.

    Attributes:
        key: the data of the key that those of the steps are folded from; None where the cost takes none.
        state: the state at the start; None where it has none.
        names: the names of those that the cost takes.
        implementation: that of the key.
        every: in `minimize`, after how many evaluations there is a new key; None for never.
    """

    key: Any
    state: Any
    names: tuple[str, ...] = static()
    implementation: str | None = static(default=None)
    every: int | None = static(default=0)

    def given(self, state: Any, step: Any) -> tuple[dict[str, Any]]:
        """Return what the cost gets in a step after its parameters; `step` is the number of the evaluation."""
        found: dict[str, Any] = {}
        if self.key is not None:
            number = jnp.asarray(step).astype(jnp.uint32)
            if self.every != 0:
                number = number * np.uint32(0) if self.every is None else number // np.uint32(self.every)
            found["key"] = jax.random.fold_in(jax.random.wrap_key_data(self.key, impl=self.implementation), number)
        if "state" in self.names:
            found["state"] = state
        return (found,)

    def measured(self, state: Any) -> tuple[dict[str, Any]]:
        """Return what the cost gets where it is only measured."""
        found = self.given(state, 0)[0]
        if self.key is not None:
            found["key"] = jax.random.fold_in(jax.random.wrap_key_data(self.key, impl=self.implementation), _MEASURED)
        return (found,)


@pytree
class Bound(PartialObjective):
    """A function of parameters, extras and data, as one of parameters and data; `values` are the extras."""


def rebound(function: Any, given: tuple[Any, ...]) -> Any:
    """Return a function, or what holds some, with other extras bound."""
    if not given:
        return function

    def bind(node: Any) -> Any:
        return Bound(node.function, given[0]) if isinstance(node, Bound) else node

    return jax.tree.map(bind, function, is_leaf=lambda node: isinstance(node, Bound))


def taken(cost: Any, n_arguments: int) -> tuple[str, ...]:
    """Return the names of the extras that a cost takes, as far as it tells: parameters after the first few, by name.

    What `functools.partial` has given already is none of them.
    """
    code = getattr(cost, "__code__", None)
    if code is not None and not hasattr(cost, "__wrapped__") and not _NAMES.intersection(code.co_varnames):
        return ()
    try:
        parameters = list(inspect.signature(cost).parameters.values())
    except (TypeError, ValueError):
        return ()
    bound = cost.keywords if isinstance(cost, functools.partial) else {}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    places = [one for one in parameters if one.kind != inspect.Parameter.KEYWORD_ONLY]
    later = places[n_arguments:] + [one for one in parameters if one.kind == inspect.Parameter.KEYWORD_ONLY]
    names = {one.name for one in later if one.kind in by_name}
    return tuple(name for name in NAMES if name in names and name not in bound)


def checked(cost: Any, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Check that a cost takes the arguments that it will get, and return the names of its extras."""
    names = taken(cost, len(arguments))
    check_cost.signature(cost, arguments, names, name=name_of(cost))
    return names


def needs(cost: Any, name: str) -> bool:
    """Return whether a cost can't be called without one of its extras."""
    return inspect.signature(cost).parameters[name].default is inspect.Parameter.empty


def extras(cost: Any, names: tuple[str, ...], key: Any, state: Any, dtype: Any, every: int | None = 0) -> Extras | None:
    """Check the key and the state of a cost, and return its extras; None where it takes none.

    Floats of the state are in `dtype`, or in their own where that is None.
    """
    if "key" in names and key is None:
        if needs(cost, "key"):
            check.missing_key("a cost with a parameter key")
        names = tuple(name for name in names if name != "key")
    if "state" in names and state is None:
        if needs(cost, "state"):
            raise ValueError("cost_state: expected the first state of the cost, which has a parameter state, got None.")
        names = tuple(name for name in names if name != "state")
    if "state" not in names and state is not None:
        raise ValueError("cost_state: expected None, since the cost has no parameter state.")
    if every and "key" not in names:
        raise ValueError("resample_every: expected None, since the cost has no parameter key.")
    if not names:
        return None
    data = implementation = None
    if "key" in names:
        key = jax.random.key(key) if isinstance(key, int) else key
        implementation = str(jax.random.key_impl(key))
        data = jax.random.key_data(jax.random.fold_in(key, _APART))
    return Extras(data, None if state is None else _state(state, dtype), names, implementation, every)


def _state(state: Any, dtype: Any) -> Any:
    """Check the first state of a cost, and return it as arrays."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        is_array = isinstance(leaf, jax.Array) or (isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "fiubcV")
        if not (is_array or isinstance(leaf, float | int)):
            raise TypeError(f"cost_state{jax.tree_util.keystr(path)}: expected a pytree of arrays, got {check.show(leaf)}.")

    def convert(leaf: Any) -> jax.Array:
        array = jnp.asarray(leaf)
        wide = dtype is not None and jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize >= 4
        return jnp.asarray(leaf, dtype) if wide else array

    return jax.tree.map(convert, state)


def check_constant(evaluate: Any, method: Any, extras: Extras | None) -> None:
    """Check that a cost stays the same under a method that compares costs, as far as its trace tells."""
    if extras is None or not method.traits.can_reject:
        return
    why = f"{type(method).__name__} compares the costs of steps: use a first-order method, such as Adam"
    if extras.every is not None:
        raise ValueError(f"resample_every: expected None, since the cost then changes from step to step, and {why}.")
    function = getattr(evaluate, "function", evaluate)
    is_state = jax.tree_util.DictKey("state")
    if "state" in extras.names and hasattr(function, "depends") and function.depends(lambda path: is_state in path[1:3])[0]:
        raise ValueError(f"cost: its value depends on its state, which changes from step to step, and {why}.")


def split(returned: Any, state: Any, *, has_aux: bool) -> tuple[Any, Any]:
    """Return what a cost with a state returned beside it, as other costs do, and the next state, checked."""
    count, expected = (3, "(value, state, aux)") if has_aux else (2, "(value, state)")
    if not isinstance(returned, tuple | list) or len(returned) != count:
        raise Refused(f"cost: with a parameter state it must return {expected}, it returned {check.show(returned)}.")
    after = returned[1]
    if jax.tree.structure(after) != jax.tree.structure(state):
        raise Refused(f"cost: it must return a state like the one it got, {layout(state)}, it returned {layout(after)}.")

    def alike(path: Any, old: Any, new: Any) -> Any:
        new = jnp.asarray(new)
        if new.shape != old.shape:
            place = "state" + jax.tree_util.keystr(path)
            raise Refused(f"cost: it must return {place} of shape {old.shape}, as it got it, it returned {new.shape}.")
        return jax.lax.stop_gradient(new if new.dtype == old.dtype else new.astype(old.dtype))

    after = jax.tree_util.tree_map_with_path(alike, state, after)
    return ((returned[0], returned[2]) if has_aux else returned[0]), after
