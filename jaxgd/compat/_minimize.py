"""minimize(), with the arguments and the result of scipy.optimize.minimize."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd import _minimize as own
from jaxgd._compile.program import apply, program_for
from jaxgd._objective.evaluation import hessian, trace_objective
from jaxgd.compat._constraints import box, clipped, constraint_functions
from jaxgd.compat._functions import Cost, cost_of
from jaxgd.compat._options import Choice, chosen
from jaxgd.methods.quasi_newton import LBFGS
from jaxgd.result import Result, Status
from jaxgd.stopping import GradientTolerance

_CODES = {Status.MAX_STEPS: 1, Status.STALLED: 2, Status.DIVERGED: 3, Status.NONFINITE_DATA: 3, Status.CALLBACK: 99}
_GTOL = 1e-5  # where the gradient is one by differences, as in SciPy
_LARGE = 200  # variables, above which no matrix of second derivatives is computed
_HAVE_MATRIX = {"bfgs": "hess_inv", "dogleg": "hess", "trust-ncg": "hess", "trust-krylov": "hess", "trust-exact": "hess"}


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str | None = None,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
) -> Any:
    """Minimise a function of a vector: `jaxgd.minimize` with the arguments of `scipy.optimize.minimize`, in 64 bits.

    A function that JAX can trace needs no derivatives: they are exact, and the run is one compiled program. Code written with NumPy
    is traced, too, where its functions have namesakes in `jax.numpy`. What can't be traced (Python's `math`, `float` and `if` on
    values, other libraries) is called step by step as it is; its derivatives are those that are given, or central differences.

    Args:
        fun: fun(x, *args) with x of shape (n,), returns a number; with `jac=True` a pair of it and its gradient.
        x0: the start, (n,).
        args: further arguments of `fun` and its derivatives, a tuple, or one that is no tuple.
        method: a name of SciPy's, which picks a method here: "BFGS", "L-BFGS-B" and "CG" `LBFGS`, all others, those without
            derivatives among them, the default of `jaxgd.minimize`, or `LBFGS` where second derivatives are not known. None is
            SciPy's choice: "BFGS", "L-BFGS-B" with bounds, "SLSQP" with constraints.
        jac: the gradient, jac(x, *args), (n,), which is used where it is given; True, see `fun`. "2-point", "3-point", "cs", False
            and None leave it to JAX.
        hess: the matrix of second derivatives, hess(x, *args), (n, n); anything that is no function leaves it to JAX.
        hessp: its product with a vector, hessp(x, p, *args), (n,).
        bounds: `scipy.optimize.Bounds`, or a pair (low, high) for each variable with None for none; for every method.
        constraints: a dict {"type": "eq" or "ineq", "fun", "jac", "args"}, `LinearConstraint`, `NonlinearConstraint`, or a list of
            them; "eq" is zero, "ineq" is not negative. They have to be such that JAX can trace them, and so has `fun` beside them.
        tol: as in SciPy the tolerance of the method: "xtol" for "Newton-CG", "ftol" for "SLSQP", none for methods without
            derivatives, and "gtol" for all others.
        callback: callback(x), or callback(intermediate_result=...) with an `OptimizeResult`, after every step; StopIteration ends
            the run, as does True from "trust-constr", whose second argument is that result.
        options: "maxiter", "maxfun" and "maxfev" bound the evaluations; "gtol" (the largest component of the gradient), "ftol" (the
            relative change of the cost) and "xtol" (the length of a step) end a run sooner than at the precision of the numbers;
            "disp", "return_all" and "maxcor" are as in SciPy. Its other options are accepted and have no meaning here.

    Returns:
        `scipy.optimize.OptimizeResult` with x, fun, jac, nit, nfev, njev, nhev, status, success and message; with the exact
        matrix `hess_inv` for "BFGS" and `hess` for the methods of trust regions, up to 200 variables; with `allvecs` if
        "return_all", and `maxcv` and `multipliers` where there are constraints.

    Raises:
        TypeError, ValueError: for a bad argument. Errors inside `fun` are those of `fun`.

    An option that a method does not have in SciPy is an `OptimizeWarning`. Every method handles bounds here.

    >>> import numpy as np
    >>> from jaxgd.compat import minimize
    >>> def valley(x):
    ...     return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    >>> res = minimize(valley, [1.3, 0.7, 0.8], method="Nelder-Mead", options={"maxiter": 500})
    >>> res.success, res.x.round(6).tolist()
    (True, [1.0, 1.0, 1.0])
    """
    start = np.atleast_1d(np.asarray(x0)).astype(np.float64)
    if start.ndim != 1:
        raise ValueError("'x0' must only have one dimension.")
    args = args if isinstance(args, tuple) else (args,)
    sides = box(bounds, start.size)
    start = clipped(start, sides)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        limits = constraint_functions(constraints, start)
        choice = chosen(method, tol, options, has_bounds=sides is not None, has_constraints=bool(limits))
        cost = cost_of(fun, start, args, jac, hess, hessp, sides)
        result = _run(cost, start, choice, sides, limits, callback)
        found = _as_scipy_has_it(result, cost, choice)
    if choice.disp:
        print(_shown(found))
    return found


def _run(cost: Cost, start: np.ndarray, choice: Choice, sides: Any, limits: dict[str, Any], callback: Any) -> Result:
    """Return the result of the run."""
    method, stop = choice.method, choice.stop
    if not cost.is_traced:
        if limits:
            raise TypeError("fun: JAX can't trace it, which constraints need: write it with jax.numpy, without math, float and if.")
        method = method if method is not None or cost.has_hessian else LBFGS()
        stop = stop if stop is not None or cost.has_gradient else GradientTolerance(_GTOL)
    return own.minimize(
        cost.function,
        start,
        method=method,
        bounds=sides,
        stop=stop,
        max_steps=choice.max_steps,
        history="params" if choice.return_all else None,
        callback=None if callback is None else as_callback(callback, choice.name),
        jit=cost.is_traced,
        dtype="float64",
        **limits,
    )


def as_callback(callback: Any, name: str = "") -> Callable[..., Any]:
    """Return a callback of `jaxgd.minimize` that calls one of SciPy's."""
    from scipy.optimize import OptimizeResult

    try:
        by_name = set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (TypeError, ValueError):
        by_name = False

    def called(progress: Any) -> bool:
        x = np.array(progress.params)
        seen = OptimizeResult(x=x, fun=float(progress.cost), nit=int(progress.step))
        try:
            if by_name:
                callback(intermediate_result=seen)
            elif name == "trust-constr":
                return bool(callback(x, seen))
            else:
                callback(x)
        except StopIteration:
            return True
        return False

    return called


def _as_scipy_has_it(result: Result, cost: Cost, choice: Choice) -> Any:
    """Return the result in the form of SciPy."""
    from scipy.optimize import OptimizeResult

    status, converged = result.status, result.converged
    count = int(result.n_evaluations)
    found = OptimizeResult(
        x=np.array(result.params),
        fun=float(result.cost),
        jac=np.array(result.gradient),
        nit=int(result.n_steps),
        nfev=count,
        njev=count,
        nhev=count if choice.method is None and cost.has_hessian and result.params.size <= _LARGE else 0,
        status=0 if converged else _CODES.get(status, 4),
        success=bool(converged),
        message="Optimization terminated successfully." if converged else str(status),
    )
    if choice.return_all:
        found["allvecs"] = list(np.array(result.history.params))  # type: ignore[union-attr]
    constraints = getattr(result, "constraints", None)
    if constraints is not None:
        found["maxcv"] = float(constraints.violation)
        found["multipliers"] = {name: np.array(one) for name, one in constraints.multipliers.items()}
    name = _HAVE_MATRIX.get(choice.name)
    if name and cost.is_traced and found.x.size <= _LARGE:
        function = trace_objective(cost.function, found.x, hessian, has_aux=False, jit=True)
        matrix = np.array(program_for(apply, function, found.x)(function, found.x))
        found[name] = np.linalg.pinv(matrix, hermitian=True) if name == "hess_inv" else matrix
    return found


def _shown(found: Any) -> str:
    """Return what SciPy prints of a result."""
    counts = [("Iterations", "nit"), ("Function evaluations", "nfev"), ("Gradient evaluations", "njev")]
    lines = [f"         {title}: {found[name]}" for title, name in counts]
    return "\n".join([found.message, f"         Current function value: {found.fun:f}", *lines])
