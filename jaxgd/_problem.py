"""The common beginning of both verbs: the precision, the start, the data, and the cost as a function of the free parameters."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check, check_trees
from jaxgd._checks.check_arrays import is_wide, on_device
from jaxgd._compile.closures import fresh
from jaxgd._compile.explained import explained
from jaxgd._compile.memory import traced
from jaxgd._compile.program import Traced
from jaxgd._compile.provenance import Origin
from jaxgd._frozen import FrozenParameters
from jaxgd._marks import Beside, beside
from jaxgd._objective import integers
from jaxgd._objective.evaluation import trace_objective, value_and_gradient
from jaxgd._objective.extras import Bound, Extras
from jaxgd._objective.half_precision import Types, half_types, narrowed, of_wide, widened
from jaxgd._objective.penalised import Penalties, of_whole, penalised, slope_of
from jaxgd._objective.transformed import Change, transformed
from jaxgd._trees import (
    detached,
    in_64_bits,
    is_leaf,
    is_staged,
    is_traced,
    parameters_of,
    with_fields,
    with_parameters,
    working_dtype,
)
from jaxgd.bounds import Bounds
from jaxgd.data.chunks import ChunkFeed, Chunks, as_chunks
from jaxgd.data.feed import Feed
from jaxgd.data.stream import Stream, StreamFeed
from jaxgd.methods.adapters import as_method, check_method, has_rate, seeing_full_arrays
from jaxgd.methods.automatic import Automatic
from jaxgd.methods.protocol import Method
from jaxgd.result import Best, Result
from jaxgd.squares import name_of
from jaxgd.stopping import Stationary, as_rules


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
        raise ValueError(f"dtype: expected None, 'float32' or 'float64', got {check.show(dtype)}.")
    if name == "float64" and not in_64_bits() and is_staged():
        cure = "leave dtype out, or call the outer program in 64 bits, with jax.enable_x64(True)"
        raise ValueError(f"dtype: expected None or 'float32' inside jax.jit and the like in 32 bits, got 'float64': {cure}.")
    with jax.enable_x64(name == "float64"):
        yield jnp.dtype(name)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A cost with its start, and what of its parameters a run may move.

    Attributes:
        cost: the cost, a function of all parameters and rows.
        start: all parameters at the start, and what else stands among them.
        params: the free parameters there.
        frozen: what is held; None where all is free.
        box: the bounds of the free parameters; None for none.
        bounds: the bounds as they were given.
        types: the types of parameters of fewer than 32 bits, which a run moves in 32; None where there are none.
        draws: the starts of many runs; None for one run.
        has_aux: whether the cost returns a pair.
        jit: whether it is traced.
        extras: what the cost gets beside parameters and rows; None for nothing.
        change: the change of variables, where a run moves unconstrained numbers, which all of this is about then; None elsewhere.
        penalty: the penalty of the free parameters; None for none.
    """

    cost: Callable[..., Any]
    start: Any
    params: Any
    frozen: FrozenParameters | None
    box: Bounds | None
    bounds: Any
    types: Types | None
    draws: Any
    has_aux: bool
    jit: bool
    extras: Extras | None = None
    change: Change | None = None
    penalty: Penalties | None = None

    @functools.cached_property
    def trace(self) -> Callable[..., Callable[..., Any]]:
        """Return what makes functions of the cost in a step: of the free parameters, extras, and data like those given."""
        if self.extras is None:
            return self._trace
        given, traced = jax.eval_shape(self.first), functools.partial(self._trace, takes=self.extras.names)
        return lambda make, *data, **jit: traced(make, *given, *data, **jit)

    def measure(self, make: Callable[..., Any], *data: Any) -> Callable[..., Any]:
        """Return what a maker makes of the cost where it is only measured: a function of the free parameters and such data."""
        if self.extras is None:
            return self._trace(make, *data)
        given = self.extras.measured(self.extras.state)
        return Bound(self._trace(make, *given, *data, takes=self.extras.names, training=False), *given)

    def first(self) -> tuple[Any, ...]:
        """Return the extras of the first evaluation, a tuple that is empty where the cost takes none."""
        return () if self.extras is None else self.extras.given(self.extras.state, np.uint32(0))

    def bound(self, evaluate: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of a step with the extras of the first."""
        return evaluate if self.extras is None else Bound(evaluate, *self.first())

    @functools.cached_property
    def _trace(self) -> Callable[..., Callable[..., Any]]:
        options: dict[str, Any] = {"has_aux": self.has_aux, "jit": self.jit, "fixed": self.frozen, "origin": Origin(self.cost)}
        options["name"] = name_of(self.cost)
        trace = functools.partial(trace_objective, self.cost, self.params, **options)
        return trace if self.penalty is None else of_whole(trace, self.penalty)

    def settle(self, feed: Feed, *tables: Any, sample: Callable[[Any], Any]) -> tuple[Any, ...]:
        """Settle the dtypes of the rows of a feed, and return other tables like them in these."""
        arrays, *others = self.settled(feed.extremes(), *tables, sample=sample)
        feed.settle(arrays)
        return tuple(others)

    def settled(self, *tables: Any, sample: Callable[[Any], Any] = lambda table: table) -> tuple[Any, ...]:
        """Return data, and validation data, with their 64-bit integers on the device, see `integers`."""
        return settled(functools.partial(self.trace, value_and_gradient), *tables, jit=self.jit, sample=sample)

    def prepared(self, method: Any, stop: Any, steps_per_epoch: int, *, all_rows: bool) -> tuple[Method, Any]:
        """Return the checked method and stopping rules, their numbers as arrays; `all_rows` says what steps see."""
        params = self.start if self.frozen is None else self.frozen.movable(self.start)
        adapted = as_method(method, params, self.frozen, steps_per_epoch)
        default = (Stationary(),) if all_rows and not adapted.traits.checks_convergence else ()
        working = working_dtype(parameters_of(self.start))
        rules = _hyperparameters(as_rules(stop, default), working)
        return seeing_full_arrays(_hyperparameters(adapted, working), self.frozen), rules

    def complete(self, result: Any) -> Any:
        """Return a result, or a view of the progress, with all parameters of the user, in their own types."""
        if self.penalty is not None and getattr(result, "gradient", None) is not None:
            result = slope_of(self.penalty, result, self.box)
        if self.frozen is not None:
            result = _with_params(result, self.frozen.merge, self.frozen.gradient, self.frozen.stacked)
        if self.change is not None:
            result = _with_params(result, self.change.forward, lambda gradient: gradient, self.change.forward_each)
        if self.types is not None:
            result = _with_params(result, *[functools.partial(narrowed, types=self.types)] * 3)
        return result

    def detached(self) -> "Problem":
        """Return the problem of which an outer derivative sees constants alone, but for what the cost closes over."""
        fields = ("start", "params", "frozen", "box", "bounds", "draws", "extras", "change", "penalty")
        if not is_traced([getattr(self, name) for name in fields]):
            return self
        return dataclasses.replace(self, **{name: detached(getattr(self, name)) for name in fields})

    def beside(self, method: Any = None) -> Beside:
        """Return what is kept beside the result."""
        start = self.start if self.change is None else self.change.forward(self.start)
        unmarked = self.draws is not None or self.penalty is not None  # zeros of a penalty never moved, and for a good reason
        return beside(start, self.bounds, self.frozen, method, one_of_many=unmarked)

    def free_starts(self) -> Any:
        """Return the free parameters of many starts, moved into the box. Frozen ones have to be the same in all."""
        if self.frozen is not None:
            self.frozen.check_alike(self.draws)
        draws = self.free_of_each(parameters_of(self.draws))
        draws = draws if self.penalty is None else jax.vmap(self.penalty.project)(draws)
        return draws if self.box is None else jax.vmap(self.box.project)(draws)

    def free_of_each(self, params: Any) -> Any:
        """Return the free ones among the parameters of many runs, or anything like them with a leading axis."""
        return params if self.frozen is None else jax.vmap(self.frozen.free)(params)


def problem(
    cost: Callable[..., Any],
    start: Any,
    key: Any,
    fixed: Any,
    bounds: Any,
    dtype: Any,
    *,
    has_aux: bool,
    jit: bool,
    n_starts: int = 1,
    draws: Any = None,
    extras: Extras | None = None,
    transform: Any = None,
    penalty: Any = None,
) -> Problem:
    """Check a start, drawn with the key if it is a function key -> params, and what holds its parameters.

    `draws` are the starts of many runs, checked, where the caller has them.
    """
    draws = random_starts(start, key, n_starts, dtype, fixed) if n_starts > 1 else draws
    everything = start_point(start, key, dtype, fixed) if draws is None else first_of(draws)
    everything, box = within("start", everything, bounds, drawn=is_function(start))
    params, frozen, box = split_parameters(everything, fixed, box)
    types = half_types(everything)
    if types:
        cost, (everything, params, frozen, box, draws) = of_wide(cost, types), widened((everything, params, frozen, box, draws))
    given = Problem(cost, everything, params, frozen, box, bounds, types, draws, has_aux, jit, extras)
    return penalised(transformed(given, transform), penalty, drawn=is_function(start))


def check_choices(method: Any, stop: Any, names: tuple[str, ...], *, all_rows: bool) -> Any:
    """Check the method, the stopping rules and the history as far as no parameters are needed; return the method.

    That is None where it is left to `minimize`.
    """
    if method is not None:
        check_method(method, all_rows=all_rows)
    as_rules(stop, ())
    if "learning_rate" in names and not (has_rate(method) or (method is None and not all_rows)):
        got = "the default of minimize" if method is None else type(method).__name__
        raise ValueError(f"history: 'learning_rate' needs a method of jaxgd that has one, got {got}.")
    return Automatic() if method is None and not all_rows else method


def is_function(value: Any) -> bool:
    """Return whether a value is a function, and not a pytree of parameters that can be called."""
    return callable(value) and is_leaf(value)


def table(name: str, data: Any, dtype: Any, like: Any = None) -> tuple[Any, int]:
    """Return checked data with one row for each observation, and the number of rows. `like` is data that they have to resemble."""
    if isinstance(data, Chunks | Stream):
        raise TypeError(f"{name}: expected arrays, got {data}.")
    arrays = check_trees.data_arrays(name, data, dtype)
    n_rows = check_trees.rows(name, arrays)
    if like is not None:
        check_trees.resembling(name, arrays, like)
    return arrays, n_rows


def open_feed(data: Any, dtype: Any) -> Feed | None:
    """Return where data come from that come chunk by chunk; None where they are arrays."""
    if isinstance(data, Iterator):
        cure = "pass jaxgd.data.Stream(make_batches), whose function makes an iterator for every epoch"
        raise TypeError(f"data: expected arrays, got {check.show(data)}: {cure}.")
    found = data if isinstance(data, Stream) else as_chunks(data)
    if found is None:
        return None
    if is_staged():
        raise ValueError(f"data: expected arrays inside jax.jit, jax.vmap or jax.grad, got {found}.")
    return StreamFeed(found, dtype) if isinstance(found, Stream) else ChunkFeed(found, dtype)


def parameters(name: str, value: Any, dtype: Any, fixed: Any = None) -> Any:
    """Return the checked parameters, and what else stands among them; a result that holds some is refused."""
    if isinstance(value, Result | Best):
        field = "params" if isinstance(value, Result) else "best.params"
        raise TypeError(f"{name}: expected the parameters, got a {type(value).__name__}: pass result.{field}.")
    return check_trees.parameters(name, value, dtype, fixed)


def start_point(start: Any, key: Any, dtype: Any, fixed: Any = None) -> Any:
    """Return the checked start, drawn with the key if it is a function key -> params."""
    if is_function(start):
        seed = _key_of(start, key)
        with fresh(start):
            start = start(seed)
    return parameters("start", start, dtype, fixed)


def random_starts(start: Any, key: Any, count: int, dtype: Any, fixed: Any = None) -> Any:
    """Return the checked starts of many runs, drawn with the key: the parameters with a leading axis."""
    if not is_function(start):
        raise TypeError(f"start: expected a function key -> params where n_starts is {count}, got {check.show(start)}.")
    seed, together = _key_of(start, key), getattr(start, "many", None)
    join: Any = None

    def draw(key: Any) -> list[Any]:
        nonlocal join
        arrays, join = check_trees.drawn("start", start(key), fixed)
        return arrays

    with explained("start", eager=True), fresh(start):
        if together is None:
            arrays = jax.vmap(draw)(jax.random.split(seed, count))
        else:
            arrays, join = check_trees.drawn("start", together(seed, count), fixed, count)
    return parameters("start", join(arrays), dtype, fixed)


def first_of(draws: Any) -> Any:
    """Return the first of many starts, or the first row of data."""
    return jax.tree.map(lambda leaf: leaf[0, ...] if isinstance(leaf, jax.Array | np.ndarray) else leaf, draws)


def _key_of(start: Callable[..., Any], key: Any) -> jax.Array:
    """Return the key of a random start, whose function is checked."""
    check.function("start", start, ("key",), "a function key -> params")
    if key is None:
        check.missing_key("a random start")
    return jax.random.key(key) if isinstance(key, int) else key


def within(name: str, start: Any, bounds: Any, *, drawn: bool = False, roundings: float = 1.0) -> tuple[Any, Bounds | None]:
    """Return a start moved into the box of its bounds, and that box.

    One that is not `drawn` may lie beyond them by a number of roundings.
    """
    params = parameters_of(start)
    box = Bounds.of(bounds, params)
    if box is None:
        return start, None
    if drawn or is_traced(params, box):
        return with_parameters(start, box.project(params)), box
    box.check(name, params, roundings)
    return with_parameters(start, box.rounded(params)), box


def split_parameters(start: Any, fixed: Any, box: Bounds | None) -> tuple[Any, FrozenParameters | None, Bounds | None]:
    """Return the free parameters at the start, the fixed ones, and the box for the free ones."""
    frozen = FrozenParameters.of(fixed, start)
    if frozen is None:
        return start, None, box
    return frozen.free(start), frozen, None if box is None else Bounds(frozen.free(box.lower), frozen.free(box.upper))


def settled(
    make: Callable[..., Any],
    *tables: Any,
    jit: bool,
    sample: Callable[[Any], Any] = lambda table: table,
    n_rows: int | None = None,
) -> tuple[Any, ...]:
    """Return data, and validation data, with their 64-bit integers on the device, see `integers`.

    `make(data, jit=...)` traces the cost, for a `sample` of the data. A cost that can't be traced takes such integers as they are.
    `n_rows` are those that the cost gets, where these are not all.
    """
    if not any(map(is_wide, jax.tree.leaves(tables))):
        return tables
    try:
        traced = make(sample(tables[0]), jit=True)
    except Exception:
        if jit:
            raise
        return jax.tree.map(on_device, tables)
    arrays, floats = integers.settled(dict(zip(("data", "validation"), tables, strict=False)), traced, n_rows)
    if floats:
        try:
            make(sample(arrays[0]), jit=jit)
        except Exception as error:
            raise ValueError(integers.mixed(floats)) from error
    return arrays


def _with_params(result: Any, change: Callable[..., Any], gradient: Callable[..., Any], stacked: Callable[..., Any]) -> Any:
    """Return a result, or a view of the progress, with its parameters, its gradient, and its stacks of parameters changed."""
    fields: dict[str, Any] = {"params": change(result.params), "best": Best(change(result.best.params), result.best.cost)}
    if getattr(result, "gradient", None) is not None:
        fields["gradient"] = gradient(result.gradient)
    for name in ("history", "starts"):
        part = getattr(result, name, None)
        if part is not None and part.params is not None:
            fields[name] = with_fields(part, params=stacked(part.params))
    return with_fields(result, **fields)


def _hyperparameters(tree: Any, dtype: Any) -> Any:
    """Return a method or a rule with its numbers in one precision and its callables traced."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, Traced):
            return leaf
        if callable(leaf):
            return traced(_schedule, leaf, jax.ShapeDtypeStruct((), jnp.int32), name="learning_rate")
        return leaf.astype(dtype) if isinstance(leaf, jax.Array) else np.array(leaf, dtype)

    def is_one_leaf(node: Any) -> bool:
        return isinstance(node, list | Traced) or (callable(node) and is_leaf(node))

    return jax.tree.map(convert, tree, is_leaf=is_one_leaf)


def _schedule(schedule: Callable[..., Any]) -> Callable[..., Any]:
    """Return a schedule of the user's as it is to be traced."""
    return fresh(schedule)(schedule)
