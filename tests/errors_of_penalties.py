"""The part of the table of `errors` that is about penalties."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import jaxgd
from jaxgd import L1, ElasticNet, GroupLasso, NonNegative, penalty_path
from tests.errors import Row, T, V, fit, minimize, squares, tree, vector


class Undecorated(jaxgd.penalties.Penalty):
    def value(self, x: Any) -> Any:
        return jnp.sum(x)

    def prox(self, x: Any, step: Any) -> Any:
        return x


@jaxgd.pytree
class OfEach(Undecorated):
    def value(self, x: Any) -> Any:
        return x


@jaxgd.pytree
class WithNumPy(Undecorated):
    def prox(self, x: Any, step: Any) -> Any:
        return np.sign(x)


@jaxgd.pytree
class Sum(Undecorated):
    pass


class Plain(jaxgd.methods.rule.FirstOrderMethod):
    learning_rate: Any = 0.1


PLAIN = jaxgd.pytree(Plain)


def path(**options: Any) -> Any:
    defaults: dict[str, Any] = {"penalty": L1(1.0)}
    return penalty_path(squares, [1.0, 1.0], **(defaults | options))


CURE = "leave the method out, or pass a first-order method of jaxgd, such as Adam(0.01)."
# fmt: off
ERRORS = [
    Row("a number for a penalty", lambda: vector(penalty=0.1), T,
        "penalty: expected a penalty, such as jaxgd.L1(0.1), or None, got 0.1."),
    Row("a class for a penalty", lambda: vector(penalty=L1), T,
        "penalty: expected an instance, as in L1(...), got the class L1."),
    Row("a text for a penalty", lambda: tree(penalty={"a": "l1", "b": None}), T,
        "penalty['a']: expected a penalty, such as jaxgd.L1(0.1), or None, got 'l1'."),
    Row("a penalty of another structure", lambda: tree(penalty={"a": L1(1.0)}), V,
        "penalty: expected one value, or a pytree like the parameters ({'a': *, 'b': *}), got {'a': L1(...)}."),
    Row("a penalty without pytree", lambda: vector(penalty=Undecorated()), T,
        "penalty: expected a penalty that is a pytree: decorate the class Undecorated with jaxgd.pytree."),
    Row("a penalty of each parameter", lambda: vector(penalty=OfEach()), V,
        "penalty: expected OfEach.value to return float32[], got float32[2]."),
    Row("NumPy in a penalty", lambda: vector(penalty=WithNumPy()), T,
        "penalty: it can't be traced: NumPy was called on a value that JAX is tracing, in errors_of_penalties.py, line ..."),
    Row("a negative weight", lambda: L1(-1.0), V, "L1: weight: expected finite numbers >= 0, got -1.0."),
    Row("a text for a weight", lambda: ElasticNet("a"), T, "ElasticNet: weight: expected a number or an array, got 'a'."),
    Row("a weight that is not finite", lambda: GroupLasso([1.0, np.inf]), V,
        "GroupLasso: weight: expected finite numbers >= 0, got [1.0, inf]."),
    Row("weights of another shape", lambda: tree(penalty={"a": None, "b": L1([1.0, 2.0])}), V,
        "penalty['b']: L1: weight: expected a number or shape (3,), got shape (2,)."),
    Row("a share above 1", lambda: ElasticNet(1.0, 2.0), V, "ElasticNet: l1_ratio: expected a number in [0, 1], got 2.0."),
    Row("groups that are missing", lambda: GroupLasso(1.0, groups=[0, 2]), V,
        "GroupLasso: groups: expected the numbers 0, 1, ... of groups, got [0, 2]."),
    Row("groups and an axis", lambda: GroupLasso(1.0, axis=0, groups=[0, 1]), V,
        "GroupLasso: axis: expected None together with groups, got (0,)."),
    Row("groups of another shape", lambda: vector(penalty=GroupLasso(1.0, groups=[0, 1, 1])), V,
        "penalty: GroupLasso: expected a group for each of the parameters of shape (2,), got 3 groups."),
    Row("an axis too many", lambda: vector(penalty=GroupLasso(1.0, axis=1)), V,
        "penalty: GroupLasso: expected axes of parameters of shape (2,), got (1,)."),
    Row("a group with a part fixed", lambda: vector(penalty=GroupLasso(1.0), fixed=[True, False]), V,
        "fixed: expected all or nothing of an array with the penalty GroupLasso, got a part of it.", early=False),
    Row("a group in a box", lambda: vector(penalty=GroupLasso(1.0), bounds=(0, None)), V,
        "bounds: expected none for params, whose penalty GroupLasso is not separable: pass None there."),
    Row("a penalty and a transform", lambda: vector(penalty=L1(1.0), transform=jaxgd.transforms.Positive()), V,
        "penalty: expected None for parameters that have a transform, got L1(...).", early=False),
    Row("a start below zero", lambda: tree(start={"a": 1.0, "b": [1.0, -1.0]}, penalty=NonNegative()), V,
        "start['b'][1]: expected a number >= 0, with its penalty NonNegative, got -1.0."),
    Row("L-BFGS with a penalty", lambda: vector(penalty=L1(1.0), method=jaxgd.LBFGS()), V,
        f"method: expected one that takes a penalty, got LBFGS: {CURE}"),
    Row("Optax with a penalty", lambda: fit(penalty=L1(1.0), method=optax.sgd(0.1)), V,
        f"method: expected one that takes a penalty, got an Optax transformation: {CURE}"),
    Row("a rule that tells no steps", lambda: minimize(penalty=L1(1.0), method=PLAIN()), V,
        f"method: expected one that takes a penalty, got Plain: {CURE}"),
    Row("steps that differ within a group", lambda: vector(penalty=GroupLasso(1.0), method=jaxgd.Adam(0.1)), V,
        "penalty: expected one that is separable for Adam, whose steps differ by parameter: pass GradientDescent with one rate "
        "for all, which fit finds for 'auto', or leave the method out in minimize."),
    Row("a group without a method in fit", lambda: fit(penalty=GroupLasso(1.0)), V,
        "penalty: expected one that is separable for Adam, whose ..."),
    Row("Newton within a group", lambda: vector(penalty=GroupLasso(1.0), method=jaxgd.ProximalNewton()), V,
        "penalty: expected one that is separable for ProximalNewton, whose ..."),
    Row("a memory below zero", lambda: jaxgd.ProximalGradient(memory=-1), V,
        "ProximalGradient: memory: expected an integer of at least 0, got -1."),
    Row("a path without a penalty", lambda: path(penalty=None), V, "penalty: expected at least one penalty, got None."),
    Row("a path without a weight", lambda: path(penalty=NonNegative()), V,
        "penalty: expected one with a field weight, such as jaxgd.L1(1.0), got NonNegative()."),
    Row("a path of one factor", lambda: path(n_factors=1), V, "n_factors: expected an integer of at least 2, got 1."),
    Row("a ratio of nothing", lambda: path(ratio=0.0), V, "ratio: expected a number in (0, 1), got 0.0."),
    Row("a path in a box without factors", lambda: path(bounds=(0, None)), V,
        "factors: expected a vector of numbers together with bounds, got None."),
    Row("a factor of zero", lambda: path(factors=[1.0, 0.0]), V, "factors: expected a finite number > 0, got ..."),
]
# fmt: on
