"""The setting of a profile: the minimum, the curvature there, and the program that follows conditional minima."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _problem
from jaxgd._checks import check, check_trees
from jaxgd._chosen import default_method, with_method
from jaxgd._compile.program import program_for
from jaxgd._frozen import FrozenParameters
from jaxgd._minimize import minimize
from jaxgd._objective import extras
from jaxgd._objective.curvature import held_back
from jaxgd._objective.evaluation import empty_point, value_and_gradient
from jaxgd._objective.half_precision import narrowed
from jaxgd._products import matmul
from jaxgd._profiles.lanes import Lanes, Line
from jaxgd._run.objective import Objective
from jaxgd._run.state import RunSpec
from jaxgd._trees import is_traced, number_names, pack, parameters_of, pytree, safe_divisor, static, unpack
from jaxgd.data.source import AllRows
from jaxgd.result import Result, Status
from jaxgd.squares import SumOfSquares

_ROUNDINGS = 16.0  # for each parameter, below which a curvature relative to the others' is nothing


class Options(NamedTuple):
    """The options that all profiles share."""

    bounds: Any = None
    fixed: Any = None
    dtype: Any = None
    has_aux: bool = False
    jit: bool = True


class Curvature(NamedTuple):
    """The curvature at the minimum.

    Attributes:
        covariance: the inverse of the curvature, of parameters that no bound holds back, (n, n); zero for the others, and along
            directions in which the cost is flat.
        errors: the lengths over which the cost rises by 1/2, (n,), as far as its curvature, or at a bound its slope, tells.
        cost: the cost there.
    """

    covariance: Any
    errors: Any
    cost: Any


@pytree
class Setting:
    """All that the profiles of a cost share.

    Attributes:
        everything: all that are parameters.
        frozen: what is held; None where all is free.
        objective: the cost and its Hessian.
        spec: the spec of a run.
        x: the free parameters at the minimum, packed, (n,).
        low: their lower bounds, packed; None where there are no bounds.
        high: their upper bounds.
        curvature: the curvature there.
        sound: whether it is a minimum.
        types: the types of parameters of fewer than 32 bits; None where there are none.
        free: the places of the free parameters among all, (n,).
        names: the names of all parameters.
    """

    everything: Any
    frozen: FrozenParameters | None
    objective: Objective
    spec: RunSpec
    x: Any
    low: Any
    high: Any
    curvature: Curvature
    sound: Any
    types: Any = static()
    free: tuple[int, ...] = static()
    names: tuple[str, ...] = static()

    def lanes(self, lines: Line, policy: Any) -> Lanes:
        """Return chains of conditional minima along some lines."""
        return Lanes(self.spec, self.objective, self.low, self.high, lines, policy)

    def complete(self, points: Any) -> Any:
        """Return the parameters for points of the free ones packed into vectors, with leading axes."""
        like, shape = self.spec.empty.params, points.shape[:-1]

        def one(x: Any) -> Any:
            params = unpack(x, like)
            return parameters_of(params if self.frozen is None else self.frozen.merge(params))

        rows = jax.vmap(one)(points.reshape(-1, points.shape[-1]))
        return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), rows)

    def narrowed(self, points: Any) -> Any:
        """Return parameters in the types of the user."""
        return points if self.types is None else narrowed(points, self.types)


class Known(NamedTuple):
    """The parameters that were given: all of them, the places of the free ones among all numbers, and the names of all."""

    start: Any
    free: tuple[int, ...]
    names: tuple[str, ...]

    @staticmethod
    def of(result: Any, options: Options, to: Any) -> "Known":
        """Check the parameters at the minimum, those of a `Result` or the ones given, and which of them are fixed."""
        at = result.params if isinstance(result, Result) else result
        start = _problem.parameters("result", at, to, options.fixed)
        frozen, everything = FrozenParameters.of(options.fixed, start), parameters_of(start)
        names = number_names(everything)
        return Known(start, tuple(range(len(names))) if frozen is None else tuple(frozen.places(everything).tolist()), names)


def setting(cost: Callable[..., Any], known: Known, data: Any, options: Options, to: Any) -> tuple[Setting, Any]:
    """Return the setting of profiles about a minimum, and all parameters there.

    It is in the precision of the call, whose type is `to`.
    """
    flags: dict[str, Any] = {"has_aux": options.has_aux, "jit": options.jit}
    lowest = minimize(cost, known.start, data, bounds=options.bounds, fixed=options.fixed, dtype=options.dtype, **flags)
    given = _problem.problem(cost, lowest.params, None, options.fixed, options.bounds, to, **flags)
    arrays = () if data is None else (check_trees.data_arrays("data", data, to),)
    arrays = given.settled(*arrays)
    evaluate = given.trace(value_and_gradient, *arrays)
    empty = empty_point(evaluate, given.params, *arrays)
    plain = default_method(given.params, evaluate) if isinstance(cost, SumOfSquares) else None  # all see one gradient and Hessian
    objective, method, rules, _ = with_method(given, evaluate, given.trace, arrays, plain, None)
    spec = RunSpec(
        empty=empty._replace(aux=None),
        method=method,
        rules=rules,
        source=AllRows(arrays),
        bounds=None,
        n_epochs=np.int32(method.traits.default_max_steps + 1),
        returns_current=True,
    )
    plan = objective, given.params, arrays, given.box
    x, low, high, curvature = (program_for(_curvature, *plan) if options.jit else _curvature)(*plan)
    ended = np.array([status.code for status in Status if status.converged or status is Status.STALLED])
    found = Setting(
        everything=parameters_of(given.start),
        frozen=given.frozen,
        objective=objective,
        spec=spec,
        x=x,
        low=low,
        high=high,
        curvature=curvature,
        sound=(jnp if is_traced(lowest.code) else np).any(lowest.code == ended),
        types=given.types,
        free=known.free,
        names=known.names,
    )
    return found, lowest.params


def check_arguments(cost: Any, data: Any, scale: Any, **flags: Any) -> None:
    """Check the arguments that all profiles share."""
    takes = extras.checked(cost, ("params",) if data is None else ("params", "data"))
    for name in takes:
        if extras.needs(cost, name):
            raise ValueError(f"cost: expected none that needs a parameter {name}, which a profile does not have.")
    check.positive("scale", scale)
    check.options(**flags)


def _curvature(objective: Objective, params: Any, arrays: Any, box: Any) -> tuple[Any, Any, Any, Curvature]:
    """Return the minimum and its bounds, packed, and the curvature there."""
    x = pack(params)
    low, high = (None, None) if box is None else (pack(box.lower).astype(x.dtype), pack(box.upper).astype(x.dtype))
    return x, low, high, _inverted(objective, params, x, arrays, low, high)


def _inverted(objective: Objective, params: Any, x: Any, arrays: Any, low: Any, high: Any) -> Curvature:
    """Return the curvature at the minimum."""
    cost, gradient, _ = objective.evaluate(params, *arrays)
    g, n = pack(gradient).astype(x.dtype), x.size
    held = jnp.zeros(n, bool) if low is None else held_back(x, g, low, high)
    if objective.hessian is None:
        unknown = jnp.maximum(jnp.abs(x), 1) / 10
        return Curvature(jnp.zeros((n, n), x.dtype), unknown, cost)
    hessian = objective.hessian(params, *arrays)
    hessian = jnp.where(jnp.isfinite(hessian), hessian, 0)
    h = jnp.diagonal(hessian)
    size = safe_divisor(jnp.sqrt(jnp.abs(h)))
    free = ~held
    scaled = jnp.where(free[:, None] & free, hessian / size[:, None] / size, 0) + jnp.diag(jnp.where(free, 0, jnp.ones_like(x)))
    values, vectors = jnp.linalg.eigh(scaled)
    known = values > _ROUNDINGS * n * jnp.finfo(x.dtype).eps
    roots = jnp.where(known, vectors / jnp.sqrt(jnp.where(known, values, 1)), 0)
    inverse = jnp.where(free[:, None] & free, matmul(roots, roots.T), 0)
    errors = jnp.sqrt(jnp.maximum(jnp.diagonal(inverse), 1)) / size
    push, bend = jnp.where(free, 0, jnp.abs(g)), jnp.maximum(h, 0)
    sloped = push + jnp.sqrt(push**2 + bend)
    errors = jnp.where(free & (h > 0), errors, jnp.where(sloped > 0, 1 / safe_divisor(sloped), jnp.maximum(jnp.abs(x), 1)))
    return Curvature(inverse / size[:, None] / size, errors, cost)
