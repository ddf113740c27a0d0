"""The constraints of a call: checked, traced, and reported at the end of its run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check, check_cost
from jaxgd._compile.program import program_for
from jaxgd._compile.provenance import Origin
from jaxgd._frozen import FrozenParameters
from jaxgd._objective.constraints import MAKERS, WEIGHTED, ConstraintFunctions
from jaxgd._objective.evaluation import trace_objective
from jaxgd._objective.half_precision import of_wide
from jaxgd._objective.tangent import active, lagrangian
from jaxgd._trees import is_traced, with_fields
from jaxgd.constraints import NAMES, Constraints
from jaxgd.methods.protocol import Method

DENSE = "linearised", "curved"  # the first is for the end of a run, too, and for the derivatives of a minimum
MATRIX_FREE = "linearised", "values", "pulled"
_TAKES = "InteriorPoint and AugmentedLagrangian take constraints: leave the method out, or pass one of them"


class Functions(NamedTuple):
    """The functions of the constraints as they were given; None for none."""

    equality: Callable[..., Any] | None
    inequality: Callable[..., Any] | None

    @staticmethod
    def of(
        equality: Any, inequality: Any, arguments: tuple[str, ...], method: Any, **others: tuple[Any, Any]
    ) -> "Functions | None":
        """Check the functions; return None where there are none.

        `others` are arguments of the call that can't be given beside them, each with the value that leaves it alone.
        """
        given = Functions(equality, inequality)
        names = [name for name, one in zip(NAMES, given, strict=True) if one is not None]
        needs = isinstance(method, Method) and method.traits.takes_constraints
        if not names:
            if needs:
                raise ValueError(f"method: {type(method).__name__} is for constraints: pass equality= or inequality= as well.")
            return None
        for name, one in zip(NAMES, given, strict=True):
            if one is not None:
                check_cost.signature(one, arguments, name=name)
        if method is not None and not needs:
            raise ValueError(f"method: expected one that takes constraints, got {type(method).__name__}: {_TAKES}.")
        for name, (value, alone) in others.items():
            if value is not alone and value != alone:
                raise ValueError(f"{name}: expected {alone!r} together with {names[0]}, got {check.show(value)}.")
        return given

    def traced(
        self,
        params: Any,
        frozen: FrozenParameters | None,
        arrays: tuple[Any, ...],
        makers: tuple[str, ...] = DENSE,
        *,
        types: Any = None,
        change: Any = None,
    ) -> ConstraintFunctions:
        """Return what `makers` make of the functions, of free parameters and data like these.

        `types` are those of a `Problem` and `change` is that of its variables.
        """
        made: dict[str, list[Any]] = {maker: [] for maker in makers}
        values: Any = None
        sizes, names = [], []
        for name, function in zip(NAMES, self, strict=True):
            if function is None:
                continue
            own: Any = of_wide(function, types) if types else function
            own = own if change is None else change.of_own(own)
            options: dict[str, Any] = {"has_aux": False, "jit": True, "fixed": frozen, "name": name, "origin": Origin(own)}

            weights: tuple[Any, ...] = ()
            for maker, some in made.items():
                more = weights if maker in WEIGHTED else ()
                some.append(trace_objective(own, params, MAKERS[name][maker], *arrays, *more, **options))
                if maker == "linearised":
                    values = some[-1].shapes[0]
                    weights = (jnp.zeros(values.shape, values.dtype),)
            sizes.append(values.size)
            names.append(name)
        return ConstraintFunctions({maker: tuple(some) for maker, some in made.items()}, tuple(sizes), tuple(names))


def along_constraints(constraints: ConstraintFunctions, functions: Any, value: Any, params: Any, *others: Any) -> tuple[Any, ...]:
    """Return the plan of a covariance along its active constraints."""
    plan = functions, constraints, params, *others[:2]
    found = active(*plan) if is_traced(plan) else program_for(active, *plan)(*plan)
    return *lagrangian(functions, value, constraints, found.multipliers), params, *others, found.rows


def with_constraints(result: Any, functions: ConstraintFunctions | None, method: Any, arrays: tuple[Any, ...]) -> Any:
    """Return a result, in the free parameters, with its `Constraints`."""
    if functions is None:
        return result
    plan = functions, method, result.params, result.state.method, arrays
    found = _of_one(*plan) if is_traced(plan) else program_for(_of_one, *plan)(*plan)
    return with_fields(result, constraints=found)


def constraints_of_many(ends: Any, functions: ConstraintFunctions | None, fits: Any) -> Any:
    """Return the `Constraints` of all fits; None where there are none."""
    if functions is None:
        return None
    plan = functions, ends.params, ends.details.prices, fits.each.data, fits.each.frozen, fits.source.data
    return _of_many(*plan) if is_traced(plan) else program_for(_of_many, *plan)(*plan)


def _of_one(functions: ConstraintFunctions, method: Any, params: Any, state: Any, arrays: tuple[Any, ...]) -> Constraints:
    return reported(functions, method.multipliers(params, state), params, arrays)


def _of_many(functions: ConstraintFunctions, params: Any, prices: Any, data: Any, frozen: Any, arrays: tuple[Any, ...]) -> Any:
    def one(params: Any, prices: Any, data: Any, frozen: Any) -> Constraints:
        own = functions if frozen is None else functions.with_values(frozen)
        return reported(own, prices, params, arrays if data is None else (data, *arrays[1:]))

    return jax.vmap(one)(params, prices, data, frozen)


def reported(functions: ConstraintFunctions, prices: Any, params: Any, arrays: tuple[Any, ...]) -> Constraints:
    """Return the constraints at the point that a method returned, with its multipliers."""
    values, multipliers, active = {}, {}, {}
    worst, at = jnp.zeros((), prices.multipliers.dtype), 0
    for one, size, name in zip(functions.made["linearised"], functions.sizes, functions.names, strict=True):
        vector, _, tree = one(params, *arrays)
        part = slice(at, at + size)
        misses = jnp.abs(vector) if name == NAMES[0] else jnp.maximum(-vector, 0)
        worst = jnp.maximum(worst, jnp.max(misses, initial=0.0).astype(worst.dtype))
        values[name] = tree
        multipliers[name] = _like(prices.multipliers[part], tree)
        active[name] = _like(prices.active[part], tree)
        at += size
    return Constraints(values, multipliers, active, worst)


def _like(vector: jax.Array, tree: Any) -> Any:
    """Return a vector in the shapes of a tree, in its own dtype."""
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([0, *(leaf.size for leaf in leaves)])
    parts = [vector[a:b].reshape(leaf.shape) for leaf, a, b in zip(leaves, ends[:-1], ends[1:], strict=True)]
    return structure.unflatten(parts)
