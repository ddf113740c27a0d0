"""Uncertainties: the covariance of fitted parameters, from the curvature of the cost at its minimum."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _problem, _text
from jaxgd._checks import check, check_cost, check_trees
from jaxgd._compile.program import program_for
from jaxgd._compile.provenance import Origin
from jaxgd._constrained import Functions, along_constraints
from jaxgd._derivatives import NoDerivativesError
from jaxgd._estimators import check_scale, estimated
from jaxgd._frozen import FrozenParameters
from jaxgd._objective import evaluation
from jaxgd._objective.curvature import SLACK, Spectrum, half_squares, linearised, linearised_squares
from jaxgd._objective.evaluation import trace_objective
from jaxgd._objective.rises import ALL, contradicts, evaluated, scaling
from jaxgd._objective.transformed import Parts, change_of, check_inside, in_own_parameters, unconstrained
from jaxgd._outcome import export
from jaxgd._products import matmul
from jaxgd._propagation import Propagated, propagated
from jaxgd._run.objective import call
from jaxgd._shards import on_automatic_axes
from jaxgd._trees import (
    integer,
    is_traced,
    number_names,
    parameters_of,
    pytree,
    safe_divisor,
    static,
    unpack,
    with_fields,
    working_dtype,
)
from jaxgd.result import Sentences
from jaxgd.squares import name_of

_RULE = "give what can't be differentiated a rule by jax.custom_jvp that can"
_CURE = f"{_RULE}, or pass residuals=, of which first derivatives are enough"
_SMALL = 8  # parameters, up to which the correlations are shown


class CovarianceStatus(Sentences):
    """Whether the curvature gives a covariance; the value is the sentence to show to a person.

    `code` is the number that stands for the status inside compiled programs.

    >>> import jaxgd
    >>> jaxgd.covariance(lambda p: p["a"] ** 2, {"a": 0.0, "unused": 1.0}).status is CovarianceStatus.SINGULAR
    True
    """

    POSITIVE_DEFINITE = 0, "Valid: the curvature is positive definite."
    SINGULAR = 1, "Singular: the cost does not determine some parameters; they are NaN."
    NOT_POSITIVE_DEFINITE = 2, "Not positive definite: the cost falls along some direction, so that this is not a minimum."
    NO_FREEDOM = 3, "No degrees of freedom: there are not more observations than free parameters."
    NOT_FINITE = 4, "Not finite: the cost or a derivative of it is infinite or NaN."
    NOT_QUADRATIC = 5, "Not quadratic: one standard error away the cost does not rise as its curvature says; the errors mislead."


@pytree
class Covariance:
    """The uncertainties of parameters; where the cost does not determine one, its numbers are NaN.

    A parameter that is fixed or held back by a bound has the standard error 0, and zeros in its rows and columns.

    Attributes:
        params: the parameters, with the structure that came in.
        standard_errors: the square roots of the variances, a pytree like `params`, in the units of the parameters.
        matrix: the covariance of all n parameters, in the order of `names`, shape (n, n).
        correlation: the same for parameters in units of their standard errors: between -1 and 1, shape (n, n).
        factor: what multiplied the inverse curvature: 2 * scale, or s², the residual variance.
        code: the number of the status, for programs that trace the call; `status` is for people.
        names: where each number is in the parameters, such as "params['w'][2]".
        condition: the condition number of the curvature in units in which each parameter alone has curvature 1, at least 1; that of
            JᵀJ for residuals. About the logarithm of it, to base 10, is how many digits the errors lose to rounding.

    It is a pytree, so `jax.vmap` and `jax.jit` can return one, and it can be pickled.

    >>> import jaxgd
    >>> print(jaxgd.covariance(lambda p: (p["a"] - 3) ** 2 / 8 + (p["b"] - 2) ** 2 * 50, {"a": 3.0, "b": 2.0}))
    Valid: the curvature is positive definite.
      params['a']   3.0 ± 2.0
      params['b']  2.00 ± 0.10
      correlation
      params['a']   1.0000  0.0000
      params['b']   0.0000  1.0000
    """

    params: Any
    standard_errors: Any
    matrix: Any
    correlation: Any
    factor: Any
    code: Any
    names: tuple[str, ...] = static()
    condition: Any = None

    @property
    def status(self) -> Any:
        """Whether the curvature gives a covariance: a `CovarianceStatus`, or an array of them after `vmap`."""
        return CovarianceStatus.of(self.code)

    @property
    def valid(self) -> Any:
        """Whether all that is not held has an uncertainty to be trusted: a bool, or an array of them after `vmap`."""
        return self.code == CovarianceStatus.POSITIVE_DEFINITE.code

    def propagate(self, function: Callable[[Any], Any]) -> Propagated:
        """Return a function of the parameters with its standard errors: the delta method.

            covariance of function(params) = J C Jᵀ        J = dfunction / dparams, exact

        The function, params -> value, returns a number, an array, or a pytree of them, and is written with `jax.numpy`. The
        `Propagated` has the `value`, its `standard_errors` and their `matrix`.

        >>> import jaxgd
        >>> found = jaxgd.covariance(lambda v: (v[0] - 3) ** 2 / 8 + (v[1] - 2) ** 2 * 50, [3.0, 2.0])
        >>> ratio = found.propagate(lambda v: v[0] / v[1])
        >>> round(float(ratio.value), 3), round(float(ratio.standard_errors), 3)
        (1.5, 1.003)
        """
        if not is_traced(self.code) and np.ndim(self.code):
            each = "map it, as in jax.vmap(lambda one: one.propagate(function))(found)"
            raise ValueError(f"propagate: expected the covariance of one fit, got those of {np.size(self.code)}: {each}.")
        return propagated(function, self.params, self.standard_errors, self.correlation)

    def __str__(self) -> str:
        if is_traced(self.code) or np.ndim(self.code):
            return f"Covariance(params={self.params}, standard_errors={self.standard_errors}, ...)"
        return _sheet(self).text()

    __repr__ = __str__

    def _repr_html_(self) -> str | None:
        """Return the table that a notebook shows."""
        return None if is_traced(self.code) or np.ndim(self.code) else _sheet(self).html()


@on_automatic_axes
def covariance(
    cost: Callable[..., Any] | None,
    params: Any,
    data: Any = None,
    *,
    scale: float | None = None,
    n_observations: int | None = None,
    residuals: Callable[..., Any] | None = None,
    equality: Callable[..., Any] | None = None,
    inequality: Callable[..., Any] | None = None,
    bounds: Any = None,
    fixed: Any = None,
    transform: Any = None,
    robust: bool | None = None,
    dtype: Any = None,
    has_aux: bool = False,
    jit: bool = True,
) -> Covariance:
    """Return the covariance, standard errors and correlations of parameters at a minimum.

    From the cost, with its exact matrix H of second derivatives, or from n residuals r, with their exact Jacobian J:

        covariance = 2 * scale * inverse(H)          H = d²cost / dparams²
        covariance = s² * inverse(JᵀJ)               s² = sum(r²) / (n - p), p the number of free parameters

    `scale` is what MINUIT calls UP and iminuit `errordef`: how far the cost rises above its minimum at one standard error.

    | what the cost is | say | the covariance |
    |---|---|---|
    | -log L; half a sum of squares in units of their standard deviations | nothing, or `scale=0.5` | inverse(H) |
    | -2 log L; a chi-square | `scale=1` | 2 * inverse(H) |
    | half a sum of n squares of one unknown variance | `n_observations=n` | s² * inverse(H), s² = 2 * cost / (n - p) |
    | `residuals=` of one unknown variance | nothing | s² * inverse(JᵀJ), as `curve_fit` and handbooks print |
    | `residuals=` in units of their standard deviations | `scale=0.5` | inverse(JᵀJ), `curve_fit`'s `absolute_sigma=True` |
    | `residuals=` whose variances differ in unknown ways | `robust=True` | n / (n - p) * inverse(H) M inverse(H) |
    | a `SumOfSquares` with a robust loss | nothing | the same |

    A `SumOfSquares` of plain squares counts as its residuals. In the last two rows, the sandwich of an M-estimate, M is the sum of
    the outer products of the slopes psi(r_i) J_i of the single residuals, H the exact matrix of the cost, and psi the derivative of
    half the loss.

    s² is an option of its own because it needs n, which a cost does not tell, and p, which is known here: parameters that are fixed
    or held back by a bound are not counted. Residuals stand for half the sum of their squares, whence their `scale=0.5`, also where
    the cost beside them is a chi-square. A cost that is a mean over n rows has to be multiplied by n first.

    Args:
        cost: cost(params), or cost(params, data) where data are given, as in `minimize`. Where residuals are given it is not
            called, and may be None.
        params: the parameters at the minimum, such as `result.params`: a pytree of numbers or arrays.
        data: any pytree of arrays, or None.
        scale: the rise of the cost at one standard error, > 0; None is 0.5 for a cost, and s² for residuals.
        n_observations: n, for a cost that is half a sum of n squares of one unknown variance, instead of a scale.
        residuals: residuals(params), or residuals(params, data): returns an array of residuals of any shape, or a pytree of them.
        equality: as in `minimize`: the parameters vary along what it holds, and H is that of the Lagrangian.
        inequality: as in `minimize`: one that is zero, and beyond which the cost would fall, counts as an equation.
        bounds: as in `minimize`: a parameter at a bound beyond which the cost would fall, or between two equal ones, is held back.
        fixed: as in `minimize`: parameters that are held, for which no derivative is taken.
        transform: as in `minimize`. The covariance C is that of the unconstrained numbers u, in which a cost often is nearer to a
            quadratic, and J C Jᵀ is returned, with J = dparams/du (the delta method). At a minimum the curvature in the parameters
            themselves would give the same.
        robust: whether the covariance is the sandwich; None is True for a `SumOfSquares` with a robust loss. It needs residuals,
            and no scale.
        dtype: "float64" or "float32" runs the call in that precision; None follows the inputs under JAX's rules.
        has_aux: whether the cost, or the function of residuals, returns a pair of its value and anything else.
        jit: False calls the function as it is, so that Python control flow may look at values.

    Returns:
        A `Covariance`. What is fixed or held back by a bound has the standard error 0, and the others are those at its value. Where
        the curvature is not positive definite, beyond rounding, the `status` says so, and what is not determined is NaN: for a
        singular curvature the parameters along its null directions alone, else all that are not held.

        The cost is evaluated one standard error away, both ways along each axis of the ellipsoid of the errors, as far as the
        bounds allow. Where it is not finite there, or its rise is not the promised one within a factor of 2, the status is
        NOT_QUADRATIC. The errors are returned as they are, but are not `valid`: a profile of the cost, or a sample, tells more.

        With a transform, the status and the condition are those of the unconstrained numbers. So they are sound for a `Simplex`
        though its block of the matrix is singular, as it has to be: k shares of a whole vary in k - 1 directions, and the rows sum
        to zero. Where the errors are so large that params bend as functions of u within them, they are those of the tangent.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it. A cost below zero with
            `n_observations` is a ValueError, too: no sum of squares is.

    Both curvatures are judged in units in which each parameter alone has curvature 1, so that a parameter of 1e-6 beside one of 1e6
    costs no digits. JᵀJ is never formed: J is factorised by QR, and the triangle by SVD, which keeps twice the digits. The two
    estimators agree for linear models; elsewhere they differ by sum(r * d²r / dparams²), small where the residuals are.

    Sources: F. James, MINUIT Reference Manual, CERN D506 (1994); G. Seber, C. Wild, Nonlinear Regression (1989),
    A. van der Sluis, Condition numbers and equilibration of matrices, Numer. Math. 14 (1969).

    >>> import jaxgd, numpy as np
    >>> x, y = np.arange(4.0), np.array([1.0, 2.0, 4.0, 5.0])
    >>> line = lambda v, data: v[0] + v[1] * data[0] - data[1]
    >>> found = jaxgd.covariance(None, [0.9, 1.4], (x, y), residuals=line, dtype="float64")
    >>> found.valid, found.standard_errors.round(4).tolist()
    (True, [0.2646, 0.1414])
    """
    check.options(has_aux=has_aux, jit=jit)
    function, residuals, has_aux, robust = estimated(cost, residuals, has_aux, robust)
    check_scale(scale, n_observations, function if robust else residuals, robust=robust)
    name = name_of(function) if residuals is None else "residuals"
    takes = ("params",) if data is None else ("params", "data")
    check_cost.signature(function, takes, name=name)
    constraints = Functions.of(equality, inequality, takes, None, jit=(jit, True), robust=(robust, False))
    with _problem.precision(dtype) as to:
        given = _problem.parameters("params", params, to, fixed)
        everything, box = _problem.within("params", given, bounds, roundings=SLACK)
        free, frozen, box = _problem.split_parameters(everything, fixed, box)
        change = change_of(transform, everything, frozen)
        start = everything
        if change is not None:
            check_inside("params", change, everything)
            start, free, frozen, box = unconstrained(change, Parts(everything, free, frozen, box))
            function = change.of_own(function)
        arrays = () if data is None else (check_trees.data_arrays("data", data, to),)
        options: dict[str, Any] = {"has_aux": has_aux, "jit": jit, "fixed": frozen, "name": name, "origin": Origin(function)}
        makers, alone = (evaluation.value_and_gradient, evaluation.hessian), evaluation.value
        if residuals is not None:
            makers, alone = (linearised,), half_squares
        make = functools.partial(trace_objective, function, free, **options)
        arrays = _problem.settled(functools.partial(make, makers[0]), *arrays, jit=jit)
        try:
            functions = tuple(make(maker, *arrays) for maker in makers)
            value = make(alone, *arrays)
            singly = make(linearised_squares, *arrays) if robust else None
            n = ALL if residuals is not None and scale is None else n_observations
            single = None if singly is None else call(singly, free, *arrays)
            n = n if single is None else len(single[0])
            multiple = None if n is None else np.int32(n), jnp.asarray(1.0 if scale is None else 2 * scale, working_dtype(free))
            plan: Any = (functions, value, free, arrays, box, *multiple)
            if constraints is not None:
                plan = along_constraints(constraints.traced(free, frozen, arrays, change=change), *plan)
            found, points, costs = program_for(evaluated, *plan)(*plan) if jit else evaluated(*plan)
        except NoDerivativesError as error:
            which, cure = ("second derivatives", _CURE) if residuals is None else ("derivatives", _RULE)
            raise TypeError(
                f"{name}: its {which}, which a covariance needs, are refused by JAX: {error}. The cure: {cure}."
            ) from error
        if n_observations is not None and not is_traced(found) and found.squares < 0:
            raise ValueError(f"cost: with n_observations expected half a sum of squares, got {float(found.squares) / 2:.9g}.")
        plan = (found, points, costs, *multiple, frozen, parameters_of(start), single)
        fields = program_for(_covariance, *plan)(*plan)
        if change is not None:
            fields |= in_own_parameters(change, start, fields, parameters_of(everything))
        result = Covariance(everything, **fields, names=number_names(parameters_of(everything)))
        result = with_fields(result, code=integer(result.code))
    return export(result)


def _covariance(
    found: Spectrum,
    points: jax.Array,
    costs: jax.Array,
    n: Any,
    factor: Any,
    frozen: FrozenParameters | None,
    params: Any,
    single: tuple[jax.Array, jax.Array] | None,
) -> dict[str, Any]:
    """Return the fields of the result, for all parameters: those that are held have zeros.

    The costs are those a standard error away. `single` are the weighted residuals with their Jacobian for a sandwich, or None.
    """
    factor, freedom = scaling(found, n, factor)
    weak = found.values <= found.least
    # the order is that of their weight: the first that holds is told
    conditions = {
        CovarianceStatus.NOT_FINITE: ~found.finite,
        CovarianceStatus.NOT_POSITIVE_DEFINITE: jnp.any(found.values < -found.least),
        CovarianceStatus.NO_FREEDOM: freedom <= 0,
        CovarianceStatus.SINGULAR: jnp.any(weak),
        CovarianceStatus.NOT_QUADRATIC: contradicts(found, points, costs),
    }
    codes = [jnp.int32(status.code) for status in conditions]
    code = jnp.select(list(conditions.values()), codes, jnp.int32(CovarianceStatus.POSITIVE_DEFINITE.code))
    in_null_space = jnp.sum(jnp.where(weak, found.vectors**2, 0), axis=1) > jnp.finfo(factor.dtype).eps
    unknown = in_null_space | ~found.finite | conditions[CovarianceStatus.NOT_POSITIVE_DEFINITE]
    roots = jnp.where(weak, 0, found.vectors / jnp.sqrt(jnp.where(weak, 1, found.values)))
    if single is not None:
        half = single[0][:, None] * single[1] / found.size
        roots = matmul(roots, matmul(half, roots).T)
        factor = jnp.where(freedom > 0, jnp.asarray(n, factor.dtype) / jnp.maximum(freedom, 1).astype(factor.dtype), jnp.nan)
    inverse = matmul(roots, roots.T)
    spread = safe_divisor(jnp.sqrt(jnp.diagonal(inverse)))
    free = found.free & (unknown | (jnp.diagonal(inverse) > jnp.finfo(factor.dtype).eps))  # constraints may leave no room
    both = free[:, None] & free
    nothing = jnp.where(unknown[:, None] | unknown, jnp.nan, jnp.zeros_like(inverse))
    correlation = jnp.where(jnp.eye(len(spread), dtype=bool), 1, jnp.clip(inverse / spread[:, None] / spread, -1, 1)) + nothing
    errors = jnp.sqrt(factor) * spread / found.size + jnp.diagonal(nothing)
    fields = {
        "matrix": jnp.where(both, correlation * errors[:, None] * errors, 0),
        "correlation": jnp.where(both, correlation, 0),
        "standard_errors": jnp.where(free, errors, 0),
    }
    if frozen is not None:
        n_all, places = sum(leaf.size for leaf in jax.tree.leaves(params)), frozen.places(params)
        for name, value in fields.items():
            at = np.ix_(*(places for _ in value.shape))
            fields[name] = jnp.zeros((n_all,) * value.ndim, value.dtype).at[at].set(value)
    least = jnp.min(found.values)
    most = jnp.max(jnp.where(jnp.isinf(found.values), 0, found.values))
    condition = jnp.where(least > 0, most / jnp.where(least > 0, least, 1), jnp.inf)
    named = {"factor": factor, "code": code, "condition": jnp.where(found.finite, condition, jnp.nan)}
    return fields | named | {"standard_errors": unpack(fields["standard_errors"], params)}


def _sheet(found: Covariance) -> _text.Sheet:
    """Return what there is to say of a covariance."""
    correlation, names = np.asarray(found.correlation), np.array(found.names)
    errors = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found.standard_errors)])
    fixed, lost = np.diagonal(correlation) == 0, names[np.isnan(errors)]
    facts = []
    if found.status is CovarianceStatus.SINGULAR:
        facts = [("not determined", f"{', '.join(lost[:_SMALL])}{', ...' if len(lost) > _SMALL else ''}")]
    if (
        found.condition is not None
        and not found.condition < np.finfo(correlation.dtype).eps ** -0.5
        and found.status is not CovarianceStatus.NOT_FINITE
    ):
        facts.append(("condition", f"{float(found.condition):.2g} (of the curvature in its parameters' own units)"))
    notes = []
    if 1 < np.sum(~fixed) <= _SMALL and not np.any(np.isnan(errors)):
        width = max(map(len, names[~fixed]))
        notes = ["correlation"]
        for name, row in zip(names[~fixed], correlation[np.ix_(~fixed, ~fixed)], strict=True):
            notes.append(f"{name:<{width}}  " + " ".join(f"{value:7.4f}" for value in row))
    return _text.Sheet(str(found.status), facts, _text.of_tree(found.params, found.standard_errors), notes)
