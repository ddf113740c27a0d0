"""Methods and options by SciPy's names, and what they are here."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from jaxgd.methods.quasi_newton import LBFGS
from jaxgd.stopping import CostTolerance, GradientTolerance, UpdateTolerance

_COMMON = "maxiter disp return_all"
_KNOWN = {
    "nelder-mead": "maxfev initial_simplex xatol fatol adaptive bounds",
    "powell": "xtol ftol maxfev direc bounds",
    "cg": "gtol norm eps finite_diff_rel_step c1 c2 workers",
    "bfgs": "gtol norm eps finite_diff_rel_step xrtol c1 c2 hess_inv0 workers",
    "newton-cg": "xtol eps c1 c2 workers",
    "l-bfgs-b": "maxcor ftol gtol eps maxfun iprint maxls finite_diff_rel_step workers",
    "tnc": "eps scale offset mesg_num maxCGit eta stepmx accuracy minfev ftol xtol gtol rescale finite_diff_rel_step maxfun "
    "workers",
    "cobyla": "rhobeg tol catol f_target",
    "cobyqa": "maxfev f_target feasibility_tol initial_tr_radius final_tr_radius scale",
    "slsqp": "ftol eps iprint finite_diff_rel_step workers",
    "trust-constr": "gtol xtol barrier_tol sparse_jacobian initial_tr_radius initial_constr_penalty initial_barrier_parameter "
    "initial_barrier_tolerance factorization_method finite_diff_rel_step verbose workers",
    "dogleg": "initial_trust_radius max_trust_radius eta gtol",
    "trust-ncg": "initial_trust_radius max_trust_radius eta gtol workers",
    "trust-krylov": "inexact gtol workers",
    "trust-exact": "initial_trust_radius max_trust_radius eta gtol workers",
}  # beside those that all methods have
_WITHOUT_DERIVATIVES = frozenset({"nelder-mead", "powell", "cobyla", "cobyqa"})  # whose tolerances are sizes of simplices and steps
_TOL_IS = {"newton-cg": "xtol", "slsqp": "ftol"}  # the tolerance that `tol` stands for, where that is not gtol
_MAX_STEPS = 2**31 - 2


class Choice(NamedTuple):
    """How a run is done: the arguments of `jaxgd.minimize`, and what is shown of it."""

    name: str
    method: Any
    stop: Any
    max_steps: int | None
    disp: bool
    return_all: bool


def chosen(method: Any, tol: float | None, options: Any, *, has_bounds: bool, has_constraints: bool) -> Choice:
    """Return how a run is done, from SciPy's arguments; unknown options are warned of."""
    if callable(method):
        raise TypeError("method: expected a name, got a function: call scipy.optimize.minimize for a method of your own.")
    default = "slsqp" if has_constraints else "l-bfgs-b" if has_bounds else "bfgs"
    name, given = (method or default).lower(), dict(options or {})
    if name not in _KNOWN:
        raise ValueError(f"Unknown solver {method}")
    if has_constraints and name not in ("cobyla", "cobyqa", "slsqp", "trust-constr"):
        message = f"Method {method} cannot handle constraints in SciPy, which ignores them; here they hold."
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    known = {*_COMMON.split(), *_KNOWN[name].split()}
    _warn_of_unknown([option for option in given if option not in known])
    if tol is not None and name not in _WITHOUT_DERIVATIVES:
        given.setdefault(_TOL_IS.get(name, "gtol"), tol)
    steps = [int(given[option]) for option in ("maxiter", "maxfun", "maxfev") if given.get(option) is not None]
    return Choice(
        name=name,
        method=None if has_constraints else _method(name, given),
        stop=None if has_constraints or name in _WITHOUT_DERIVATIVES else _rules(given),
        max_steps=min(max(min(steps), 1), _MAX_STEPS) if steps else None,
        disp=bool(given.get("disp")),
        return_all=bool(given.get("return_all")),
    )


def _method(name: str, options: dict[str, Any]) -> Any:
    """Return the method of a name; None leaves it to `jaxgd.minimize`: second derivatives, where these are not too large."""
    if name in ("bfgs", "cg", "l-bfgs-b"):
        return LBFGS(memory=int(options.get("maxcor") or 10))
    return None


def _rules(options: dict[str, Any]) -> Any:
    """Return the rules of the tolerances that were given; None if there are none."""
    rules = []
    for option, rule in (("gtol", GradientTolerance), ("ftol", CostTolerance), ("xtol", UpdateTolerance)):
        value = options.get(option)
        if value is not None and np.isfinite(value) and value > 0:
            rules.append(rule(float(value), relative=True) if rule is CostTolerance else rule(float(value)))
    return tuple(rules) or None


def _warn_of_unknown(names: list[str]) -> None:
    from scipy.optimize import OptimizeWarning

    if names:
        warnings.warn(f"Unknown solver options: {', '.join(names)}", OptimizeWarning, stacklevel=4)
