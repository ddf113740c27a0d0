"""What both verbs start from: the precision, the start, the data, and the cost with its gradient, traced or eager."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _check_cost, _check_trees, _checks, _derivatives, _integers, _jaxpr
from jaxgd._bounds import Bounds
from jaxgd._check_arrays import is_wide, on_device
from jaxgd._closures import JITTED, fresh
from jaxgd._fixed import Fixed, Held, Layout
from jaxgd._half_precision import Types, narrowed
from jaxgd._marks import Beside, gain, marks
from jaxgd._memory import traced
from jaxgd._program import Traced, explained
from jaxgd._provenance import Origin
from jaxgd._trees import is_leaf, is_traced, pack, parameters_of, select, unpack, with_fields, with_parameters, working_dtype
from jaxgd.methods.lift import check, has_rate, lift, with_shapes
from jaxgd.methods.protocol import Point
from jaxgd.result import Best, History, Result, Starts
from jaxgd.stopping import Stationary, as_rules

_TOGETHER = 2**22  # numbers of the largest array in a gradient, for all directions that are looked at together
_WIDE = frozenset(np.dtype(name) for name in ("float64", "int64", "uint64", "complex128"))


@contextlib.contextmanager
def precision(dtype: Any) -> Iterator[Any]:
    """Run a call in one precision, and give the type to cast to: "float64" switches 64 bits on for the call alone."""
    if dtype is None:
        yield None
        return
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = dtype
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype: expected None, 'float32' or 'float64', got {_checks.show(dtype)}.")
    with jax.enable_x64(name == "float64"):
        yield jnp.dtype(name)


def is_function(value: Any) -> bool:
    """Whether a value is a function, and not a pytree of parameters that can be called."""
    return callable(value) and is_leaf(value)


def table(name: str, data: Any, dtype: Any, like: Any = None) -> tuple[Any, int]:
    """Checked data of one row for each observation, and the number of rows; `like` is data that they have to resemble."""
    arrays = _check_trees.data_arrays(name, data, dtype)
    n_rows = _check_trees.rows(name, arrays)
    if like is not None:
        _check_trees.resembling(name, arrays, like)
    return arrays, n_rows


def parameters(name: str, value: Any, dtype: Any, fixed: Any = None) -> Any:
    """Return the checked parameters, and what else stands among them; what holds some of them, as results do, is none."""
    if isinstance(value, Result | Best):
        field = "params" if isinstance(value, Result) else "best.params"
        raise TypeError(f"{name}: expected the parameters, got a {type(value).__name__}: pass result.{field}.")
    return _check_trees.parameters(name, value, dtype, fixed)


def start_point(start: Any, key: Any, dtype: Any, fixed: Any = None) -> Any:
    """The checked start, drawn with the key if it is a function key -> params."""
    if is_function(start):
        seed = _key_of(start, key)
        with fresh(start):
            start = start(seed)
    return parameters("start", start, dtype, fixed)


def starts(start: Any, key: Any, count: int, dtype: Any, fixed: Any = None) -> Any:
    """The checked starts of many runs, drawn with the key: the parameters with a leading axis."""
    if not is_function(start):
        raise TypeError(f"start: expected a function key -> params where n_starts is {count}, got {_checks.show(start)}.")
    keys = jax.random.split(_key_of(start, key), count)
    join: Any = None

    def draw(key: Any) -> list[Any]:
        nonlocal join
        arrays, join = _check_trees.drawn("start", start(key), fixed)
        return arrays

    with explained("start", eager=True), fresh(start):
        arrays = jax.vmap(draw)(keys)
    return parameters("start", join(arrays), dtype, fixed)


def first_start(draws: Any) -> Any:
    """Return the first of many starts."""
    return jax.tree.map(lambda leaf: leaf[0] if isinstance(leaf, jax.Array | np.ndarray) else leaf, draws)


def _key_of(start: Callable[..., Any], key: Any) -> jax.Array:
    """The key of a random start, whose function is checked."""
    _checks.function("start", start, ("key",), "a function key -> params")
    if key is None:
        _checks.missing_key("a random start")
    return jax.random.key(key) if isinstance(key, int) else key


def free_starts(draws: Any, fixed: Fixed | None, bounds: Bounds | None) -> Any:
    """The free parameters of many starts, moved into the box; what is held has to be the same in all."""
    if fixed is not None:
        fixed.check_alike(draws)
        draws = jax.vmap(fixed.free)(parameters_of(draws))
    return draws if bounds is None else jax.vmap(bounds.project)(draws)


def complete_starts(starts: Starts, fixed: Fixed | None) -> Starts:
    """The ends of many runs with all parameters in the place of the free ones."""
    return starts if fixed is None else with_fields(starts, params=fixed.stacked(starts.params))


def room(start: Any, fixed: Any, bounds: Any, *, drawn: bool) -> tuple[Any, Fixed | None, Bounds | None]:
    """The free parameters at the start, what is held, and the box for the free ones; a start that was `drawn` is moved into it."""
    params = parameters_of(start)
    box = Bounds.of(bounds, params)
    if box is not None:
        if drawn or is_traced(params, box):
            params = box.project(params)
        box.check("start", params, roundings=1)
        start = with_parameters(start, box.rounded(params))
    held = Fixed.of(fixed, start)
    if held is None:
        return start, None, box
    return held.free(start), held, None if box is None else Bounds(held.free(box.lower), held.free(box.upper))


def value(cost: Callable[..., Any], *, has_aux: bool, held: Layout | None = None) -> Callable[..., Any]:
    """The cost alone, checked, in at least 32 bits; what it returns beside its value is dropped."""
    return lambda *arguments: _checked(cost, has_aux, held)(*arguments)[0]


def value_and_gradient(cost: Callable[..., Any], *, has_aux: bool, held: Layout | None = None) -> Callable[..., Any]:
    """The checked cost as a function that returns (cost, gradient, aux)."""
    derived = jax.value_and_grad(_checked(cost, has_aux, held), has_aux=True)

    def evaluate(*arguments: Any) -> tuple[Any, Any, Any]:
        (value, aux), gradient = derived(*arguments)
        return value, gradient, aux

    return evaluate


def hessian(cost: Callable[..., Any], *, has_aux: bool, held: Layout | None = None, one_by_one: bool = False) -> Callable[..., Any]:
    """The matrix of second derivatives of the cost, for the parameters packed into a vector, by forward over reverse mode.

    Where JAX refuses that, it is by reverse over reverse mode. Many directions are looked at together, as many as a limited memory
    allows, or, for a cost that can't be traced, one by one.
    """

    def matrix(params: Any, *arguments: Any) -> jax.Array:
        def packed(x: jax.Array) -> jax.Array:
            return _checked(cost, has_aux, held)(unpack(x, params), *arguments)[0].astype(x.dtype)

        x, gradient = pack(params), jax.grad(packed)
        if one_by_one:
            return _derivatives.hessian(gradient, x, 1, jit=False)
        together = max(1, _TOGETHER // max(x.size, _jaxpr.largest(jax.make_jaxpr(gradient)(x).jaxpr)))
        return _derivatives.hessian(gradient, x, together)

    return matrix


def hessian_eagerly(cost: Callable[..., Any], *, has_aux: bool, held: Layout | None = None) -> Callable[..., Any]:
    """`hessian` of a cost that can't be traced."""
    return hessian(cost, has_aux=has_aux, held=held, one_by_one=True)


def _checked(cost: Any, has_aux: bool, held: Layout | None) -> Callable[..., Any]:
    if isinstance(cost, JITTED):
        cost = cost.__wrapped__  # traced from inside, its closed-over arrays are arguments of the program and not part of it

    def checked(*arguments: Any) -> tuple[Any, Any]:
        with fresh(cost):
            returned = cost(*arguments)
        value, aux = _check_cost.value(returned, has_aux=has_aux)
        wide = value.astype(jnp.float32) if jnp.dtype(value.dtype).itemsize < 4 else value
        return wide, jax.tree.map(_check_cost.aux_array, aux)

    if held is None:
        return checked

    def of_the_free(free: Any, values: Any, *data: Any) -> tuple[Any, Any]:
        return checked(Fixed(values, held).whole(free), *data)

    return of_the_free


def lowered(
    make: Callable[..., Any],
    cost: Callable[..., Any],
    params: Any,
    *data: Any,
    has_aux: bool,
    jit: bool,
    fixed: Fixed | None = None,
    name: str = "cost",
    origin: Origin | None = None,
) -> Callable[..., Any]:
    """`value`, `value_and_gradient` or `hessian` of a cost as a function of the free parameters and the data.

    It is traced for arguments like these, or as it is with its errors, which begin with the `name`, explained. An `origin` that
    several of them share makes all but the first cheaper.
    """
    options: dict[str, Any] = {"has_aux": has_aux, "held": fixed.held if fixed else None}
    if jit:
        values = (fixed.values,) if fixed else ()
        function = traced(make, cost, params, *values, *data, name=name, origin=origin, **options)
    else:
        function = _explained(make(cost, **options), name)
    return Held(function, fixed.values) if fixed else function


def are_wide(*tables: Any) -> bool:
    """Return whether data have columns of 64-bit integers that are still to be settled."""
    return any(map(is_wide, jax.tree.leaves(tables)))


def settled(
    make: Callable[..., Any], *tables: Any, jit: bool, sample: Callable[[Any], Any] = lambda table: table
) -> tuple[tuple[Any, ...], Any]:
    """Data, and validation data, with their 64-bit integers settled (see `_integers`), and what `make` makes for them.

    `make(data, jit=...)` lowers the cost, for a `sample` of the data. A cost that can't be traced takes such integers as they are.
    """
    try:
        traced = make(sample(tables[0]), jit=True)
    except Exception:
        if jit:
            raise
        arrays = jax.tree.map(on_device, tables)
        return arrays, make(sample(arrays[0]), jit=False)
    arrays, floats = _integers.settled(dict(zip(("data", "validation"), tables, strict=False)), traced)
    try:
        return arrays, make(sample(arrays[0]), jit=jit) if floats or not jit else traced
    except Exception as error:
        raise ValueError(_integers.mixed(floats)) from error


def _explained(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def explained_call(*arguments: Any) -> Any:
        with explained(name, eager=True):
            return function(*arguments)

    return explained_call


def empty_point(evaluate: Callable[..., Any], params: Any, *data: Any) -> Point:
    """A point that was not evaluated: its cost is infinite, everything else zero, of the shapes that an evaluation has.

    What was not traced has to be called once to know them, since Python control flow may look at values.
    """
    shapes = getattr(evaluate, "shapes", None) or evaluate(params, *data)
    cost, gradient, aux = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return Point(params, np.full_like(cost, np.inf), gradient, aux)


def infinite_cost(evaluate: Any) -> np.ndarray:
    """The cost of a point that was not evaluated, for a traced cost."""
    cost = evaluate.shapes[0]
    return np.full(cost.shape, np.inf, cost.dtype)


def complete(result: Any, fixed: Fixed | None, types: Types | None = None) -> Any:
    """Return a result, or a sight of the progress, with all parameters in the place of the free ones, and in their own types."""
    return narrowed(result if fixed is None else _with_all(result, fixed), types)


def _with_all(result: Any, fixed: Fixed) -> Any:
    fields: dict[str, Any] = {"params": fixed.whole(result.params), "best": Best(fixed.whole(result.best.params), result.best.cost)}
    if hasattr(result, "gradient"):
        fields["gradient"] = fixed.gradient(result.gradient)
    history = getattr(result, "history", None)
    if history is not None and history.params is not None:
        fields["history"] = with_fields(history, params=fixed.stacked(history.params))
    return with_fields(result, **fields)


def export(tree: Any) -> Any:
    """What leaves a call: arrays of 64 bits leave as NumPy's where JAX, without its 64-bit flag, would cut them to 32."""
    if jnp.result_type(float) == jnp.float64 or is_traced(tree):
        return tree

    left: dict[int, np.ndarray] = {}  # what stands in several places leaves once

    def leave(leaf: Any) -> Any:
        if not (isinstance(leaf, jax.Array) and leaf.dtype in _WIDE and leaf.is_fully_addressable):
            return leaf
        if id(leaf) not in left:
            left[id(leaf)] = np.asarray(leaf)
        return left[id(leaf)]

    exported = jax.tree.map(leave, tree)
    return with_fields(exported, cause=tree.cause) if isinstance(tree, Result) else exported


def told(result: Any, began: float, beside: Beside) -> Any:
    """A result that tells how long ago its call began, and what a run keeps beside it; a traced one has the marks at once."""
    if not is_traced(result.code):
        return with_fields(result, seconds=time.perf_counter() - began, beside=beside)
    found = marks(result.params, result.gradient, result.n_steps, beside)
    return with_fields(result, marks=found, gain=gain(beside, result.state))


def flag(value: Any) -> Any:
    """A truth value as an integer, 0 or 1."""
    return value.astype(jnp.int32) if is_traced(value) else int(value)


def history_of(chunks: list[Any], first: dict[str, Any] | None = None) -> History | None:
    """The rows of all segments as one `History`, after the row of the start where that was made apart."""
    parts = ([jax.tree.map(lambda leaf: leaf[None], first)] if first else []) + chunks
    if not parts:
        return None
    join = jnp.concatenate if is_traced(parts) else np.concatenate
    return History(**jax.tree.map(lambda *leaves: join(leaves), *parts))


def check_choices(method: Any, stop: Any, names: tuple[str, ...], *, whole: bool) -> None:
    """Check the method and the stopping rules as far as they do not depend on the parameters, and whether a history has a rate."""
    if method is not None:
        check(method, whole=whole)
    as_rules(stop, ())
    if "learning_rate" in names and not (has_rate(method) or (method is None and not whole)):
        got = "the default of minimize" if method is None else type(method).__name__
        raise ValueError(f"history: 'learning_rate' needs a method of jaxgd that has one, got {got}.")


def prepare(method: Any, stop: Any, params: Any, fixed: Fixed | None, steps_per_epoch: int, *, whole: bool) -> tuple[Any, Any]:
    """The checked method and stopping rules for all `params`, their numbers as arrays; `whole` says that steps see all rows."""
    lifted = lift(method, params if fixed is None else fixed.movable(params), fixed, steps_per_epoch)
    rules = as_rules(stop, (Stationary(),) if whole and not getattr(lifted, "ends_itself", False) else ())
    working = working_dtype(parameters_of(params))
    return with_shapes(_hyperparameters(lifted, working), fixed), _hyperparameters(rules, working)


def _hyperparameters(tree: Any, dtype: Any) -> Any:
    """Return the numbers in a method or a rule as arrays of one precision, and its callables (schedules of the user's) traced."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, Traced):
            return leaf
        if callable(leaf):
            return traced(_schedule, leaf, jax.ShapeDtypeStruct((), jnp.int32), name="learning_rate")
        return leaf.astype(dtype) if isinstance(leaf, jax.Array) else np.array(leaf, dtype)

    def is_whole(node: Any) -> bool:
        return isinstance(node, list | Traced) or (callable(node) and is_leaf(node))

    return jax.tree.map(convert, tree, is_leaf=is_whole)


def _schedule(schedule: Callable[..., Any]) -> Callable[..., Any]:
    """Return a schedule of the user's as it is to be traced."""

    def rate(step: Any) -> Any:
        with fresh(schedule):
            return schedule(step)

    return rate


def best_of(best: Best, point: Point) -> Best:
    """The best point seen, or the point at hand where no other was finite."""
    if is_traced(best.cost):
        return select(best.cost == jnp.inf, Best(point.params, point.cost), best)
    return Best(point.params, point.cost) if float(best.cost) == float("inf") else best
