"""The second part of the table of `errors`: methods, schedules, stopping rules, random starts, and the other functions."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxgd
from jaxgd.methods.protocol import Step
from jaxgd.schedules import Cosine, Exponential, InverseTime, PiecewiseConstant, Schedule, WarmUp
from jaxgd.stopping import CostTolerance, GradientTolerance, Patience, StoppingRule, UpdateTolerance
from tests.errors import Row, T, V, calls_numpy, fit, minimize, squares, tree, vector
from tests.problems import X, Y, line, square

NOTHING: Any = None
ONE: Any = 1
TWO: Any = [1, 2]
DESCENT, ADAM = jaxgd.GradientDescent, jaxgd.Adam
METHOD = "method: expected a method of jaxgd or an Optax transformation, got "
RATE = "GradientDescent: learning_rate: expected "


def sweep(cost: Any = line, **options: Any) -> jaxgd.Sweep:
    defaults: dict[str, Any] = {"batch_size": 3, "n_epochs": 2, "key": 0}
    return jaxgd.learning_rate_sweep(cost, (0.5, 0.5), (X, Y), **(defaults | options))


def covariance(cost: Any = square, params: Any = 1.0, data: Any = None, **options: Any) -> jaxgd.Covariance:
    return jaxgd.covariance(cost, params, data, **options)


def residuals(function: Any, **options: Any) -> jaxgd.Covariance:
    return jaxgd.covariance(None, 1.0, residuals=function, **options)


def descent(rate: Any) -> jaxgd.Result:
    return minimize(method=DESCENT(rate))


def update(rule: Any) -> Any:
    return rule.update(np.ones(3, np.float32), rule.init(np.ones(3, np.float32)))


class Undecorated:
    def init(self, params: Any) -> Any:
        return ()

    def step(self, point: Any, state: Any, problem: Any) -> Any:
        return None


@jaxgd.pytree
class StepOfNothing(Undecorated):
    pass


@jaxgd.pytree
class StepOfAList(Undecorated):
    def step(self, point: Any, state: Any, problem: Any) -> Any:
        return Step([1.0], state)


class FewStarts:
    def __call__(self, key: Any) -> Any:
        return 1.0

    def many(self, key: Any, count: int) -> Any:
        return np.ones(2)


class UndecoratedRule(StoppingRule):
    pass


@jaxgd.pytree
class RuleOfNothing(StoppingRule):
    def check(self, observation: Any, state: Any) -> Any:
        return None


@jaxgd.pytree
class UncheckedRule(StoppingRule):
    pass


@jaxgd.pytree
class RatelessSchedule(Schedule):
    pass


# fmt: off
ERRORS = [
    # methods
    Row("Adam by name", lambda: minimize(method="adam"), T, METHOD + "'adam': pass jaxgd.Adam()."),
    Row("SGD by name", lambda: fit(method="SGD"), T, METHOD + "'SGD': pass jaxgd.GradientDescent()."),
    Row("SciPy's L-BFGS-B by name", lambda: minimize(method="L-BFGS-B"), T, METHOD + "'L-BFGS-B': pass jaxgd.LBFGS()."),
    Row("SciPy's BFGS by name", lambda: minimize(method="BFGS"), T, METHOD + "'BFGS': pass jaxgd.LBFGS()."),
    Row("SciPy's Newton by name", lambda: minimize(method="Newton-CG"), T, METHOD + "'Newton-CG': pass jaxgd.TrustRegion()."),
    Row("PyTorch's RMSprop by name", lambda: fit(method="RMSprop"), T, METHOD + "'RMSprop': pass jaxgd.RMSProp()."),
    Row("the default by name", lambda: minimize(method="auto"), T, METHOD + "'auto': leave it out."),
    Row("a method that is not there", lambda: minimize(method="Nelder-Mead"), T, METHOD + "'Nelder-Mead'."),
    Row("a class", lambda: minimize(method=ADAM), T, "method: expected an instance, as in jaxgd.Adam(...), got the class Adam."),
    Row("a class of one's own", lambda: minimize(method=Undecorated), T,
        "method: expected an instance, as in Undecorated(...), got the class Undecorated."),
    Row("another class", lambda: minimize(method=CostTolerance), T, METHOD + "the class CostTolerance."),
    Row("a function of Optax", lambda: minimize(method=optax.adam), T, METHOD + "the function adam: call it to make one."),
    Row("a number", lambda: minimize(method=0.1), T, METHOD + "0.1."),
    Row("two methods", lambda: minimize(method=(ADAM(), DESCENT())), T, METHOD + "(Adam(..."),
    Row("a method that is no pytree", lambda: minimize(method=Undecorated()), T,
        "method: expected a method that is a pytree: decorate the class Undecorated with jaxgd.pytree."),
    Row("a step of nothing", lambda: minimize(method=StepOfNothing()), T,
        "method: step must return a Step of jaxgd.methods.protocol, it returned None.", early=False),
    Row("a step of another structure", lambda: minimize(method=StepOfAList()), T,
        "method: expected an update like the parameters, one array, got [*].", early=False),
    Row("L-BFGS in fit", lambda: fit(method=jaxgd.LBFGS()), V,
        "method: LBFGS compares the costs of steps, so all of them need the same rows: use it in minimize."),
    Row("Automatic in minimize", lambda: minimize(method=jaxgd.Automatic()), V,
        "method: Automatic is for fit, which finds a learning rate in minibatches; minimize needs none by default."),
    Row("'auto' in minimize", lambda: minimize(method=ADAM(Cosine("auto", 9))), V, "method: 'auto' is for fit, which ..."),
    Row("a memory of no pairs", lambda: jaxgd.LBFGS(memory=0), V, "LBFGS: memory: expected an integer of at least 1, got 0."),
    Row("two radii", lambda: jaxgd.TrustRegion(radius=[0.1, 0.2]), V, "TrustRegion: radius: expected one number, got [0.1, 0.2]."),
    # hyperparameters
    Row("a rate of zero", lambda: DESCENT(0), V, RATE + "a finite number > 0, got 0."),
    Row("None for a rate", lambda: DESCENT(None), T, RATE + "a number, an array, a schedule or 'auto', got None."),
    Row("a text for a rate", lambda: DESCENT("fast"), T, RATE + "a number, an array, a schedule or 'auto', got 'fast'."),
    Row("the class of a schedule", lambda: DESCENT(Cosine), T,
        RATE + "a number, an array, a schedule or 'auto', got the class Cosine."),
    Row("a rule in a rule", lambda: ADAM(ADAM()), T,
        "Adam: learning_rate: expected a number, an array, a schedule or 'auto', got Adam(..."),
    Row("a negative rate among rates", lambda: DESCENT([0.1, -0.1]), V,
        "GradientDescent: learning_rate[1]: expected a finite number > 0, got -0.1."),
    Row("a negative rate in an array", lambda: DESCENT(np.array([0.1, -0.1])), V,
        RATE + "a finite number > 0, got array([ 0.1, -0.1])."),
    Row("a schedule for one of them", lambda: DESCENT({"a": 0.1, "b": Cosine(0.1, 9)}), T,
        "GradientDescent: learning_rate['b']: expected a number, got Cosine(..."),
    Row("rates of another shape", lambda: vector(method=ADAM([0.1] * 3)), V,
        "Adam: learning_rate: expected the shape (2,) of the parameters, got shape (3,)."),
    Row("rates of another structure", lambda: tree(method=ADAM({"a": 0.1})), V,
        "Adam: learning_rate: expected a number, or a pytree like the parameters ({'a': *, 'b': *}), got {'a': 0.1}."),
    Row("a rate of another shape in a tree", lambda: tree(method=ADAM({"a": 0.1, "b": np.ones(2)})), V,
        "Adam: learning_rate['b']: expected the shape (3,) of the parameters, got shape (2,)."),
    Row("a rate that takes no step", lambda: DESCENT(lambda: 0.1), T, RATE + "a function step -> rate; got <lambda>()."),
    Row("a rate that returns nothing", lambda: descent(lambda step: None), T, RATE + "a function step -> rate, it returned None."),
    Row("a rate that returns a text", lambda: descent(lambda step: "x"), T, RATE + "a function step -> rate, it returned 'x'."),
    Row("a rate that returns three", lambda: descent(lambda step: jnp.ones(3)), V,
        RATE + "the shape () of the parameters, got shape (3,)."),
    Row("a schedule of two rates", lambda: descent(Cosine(np.ones(2), 9)), V,
        RATE + "the shape () of the parameters, got shape (2,)."),
    Row("a schedule without a rate", lambda: descent(RatelessSchedule()), NotImplementedError,
        "RatelessSchedule: a schedule needs a method rate(time)."),
    Row("a rate that branches", lambda: descent(lambda step: 0.1 if step < 3 else 0.01), T,
        "GradientDescent: learning_rate: it can't be traced: a Python `if`, ... The cure: use jax.numpy.where or jax.lax.cond."),
    Row("momentum above one", lambda: DESCENT(momentum=1.1), V, "GradientDescent: momentum: expected a number in [0, 1], got 1.1."),
    Row("momentum below zero", lambda: DESCENT(momentum=-0.1), V,
        "GradientDescent: momentum: expected a number in [0, 1], got -0.1."),
    Row("two momenta", lambda: DESCENT(momentum=[0.1, 0.2]), V, "GradientDescent: momentum: expected one number, got [0.1, 0.2]."),
    Row("a number for nesterov", lambda: DESCENT(nesterov=ONE), T,
        "GradientDescent: nesterov: expected True or False, got 1."),
    Row("a decay of one", lambda: ADAM(beta1=1.0), V, "Adam: beta1: expected a number in [0, 1), got 1.0."),
    Row("no epsilon", lambda: ADAM(epsilon=0.0), V, "Adam: epsilon: expected a finite number > 0, got 0.0."),
    Row("two epsilons", lambda: ADAM(epsilon=[1e-8, 1e-9]), V, "Adam: epsilon: expected one number, got [1e-08, 1e-09]."),
    Row("negative weight decay", lambda: ADAM(weight_decay=-1), V, "Adam: weight_decay: expected a finite number >= 0, got -1."),
    Row("half relative", lambda: ADAM(relative=0.5), V, "Adam: relative: expected True or False, got 0.5."),
    Row("a text for relative", lambda: ADAM(relative="yes"), T, "Adam: relative: expected True or False, got 'yes'."),
    Row("relative steps without params", lambda: update(ADAM(relative=True)), V,
        "Adam: params: expected the parameters, on which this update depends, got None.", early=False),
    Row("weight decay without params", lambda: update(ADAM(weight_decay=0.1)), V,
        "Adam: params: expected the parameters, ...", early=False),
    Row("perhaps relative without params", lambda: jax.vmap(lambda r: update(ADAM(relative=r)))(np.zeros(2)), V,
        "Adam: params: expected the parameters, ...", early=False),
    Row("an update at a rate not found", lambda: update(ADAM("auto")), V,
        "Adam: learning_rate: expected a number for a single update, got 'auto', which is for fit.", early=False),
    Row("a negative accumulator", lambda: jaxgd.Adagrad(initial_accumulator=-1), V,
        "Adagrad: initial_accumulator: expected a finite number >= 0, got -1."),
    Row("a decay of Adadelta", lambda: jaxgd.Adadelta(rho=1), V, "Adadelta: rho: expected a number in [0, 1), got 1."),
    Row("a decay of RMSProp", lambda: jaxgd.RMSProp(decay=2), V, "RMSProp: decay: expected a number in [0, 1), got 2."),
    Row("a class for pytree", lambda: jaxgd.pytree(NOTHING), T, "pytree: expected a class, got None."),
    # schedules
    Row("a negative numerator", lambda: InverseTime(-1, 50), V, "InverseTime: t0: expected a finite number > 0, got -1."),
    Row("no time", lambda: InverseTime(5, 0), V, "InverseTime: t1: expected a finite number > 0, got 0."),
    Row("no factor", lambda: Exponential(1, 0), V, "Exponential: factor: expected a finite number > 0, got 0."),
    Row("a negative end", lambda: Cosine(1, 10, final=-1), V, "Cosine: final: expected a finite number >= 0, got -1."),
    Row("an end of what is sought", lambda: Cosine("auto", 10, final=0.1), V,
        "Cosine: final: expected 0 where initial is 'auto', a rate not known yet, got 0.1."),
    Row("a duration to be found", lambda: Cosine(0.1, "auto"), T, "Cosine: duration: expected a number, got 'auto'."),
    Row("a rate not found yet", lambda: Cosine("auto", 10)(0), V,
        "Cosine: expected a number to compute a rate, got 'auto', which is for fit.", early=False),
    Row("another unit", lambda: Cosine(1, 10, unit="batch"), V, "Cosine: unit: expected 'step' or 'epoch', got 'batch'."),
    Row("times that fall", lambda: PiecewiseConstant([2, 1], [1, 2, 3]), V,
        "PiecewiseConstant: boundaries: expected increasing times, got [2. 1.]."),
    Row("a value too many", lambda: PiecewiseConstant([2], [1, 2, 3]), V,
        "PiecewiseConstant: values: expected one more than boundaries, got 3 values and 1 boundaries."),
    Row("a value of zero", lambda: PiecewiseConstant([2], [1, 0]), V,
        "PiecewiseConstant: values: expected a finite number > 0, got array([1., 0.])."),
    Row("a number for a list", lambda: PiecewiseConstant(2, [1, 2]), T,
        "PiecewiseConstant: boundaries: expected a list of numbers, got 2."),
    Row("a time that is NaN", lambda: PiecewiseConstant([math.nan], [1, 2]), T,
        "PiecewiseConstant: boundaries: expected a list of numbers, got [nan]."),
    Row("a rise to nothing", lambda: WarmUp(0, 10), V, "WarmUp: schedule: expected a finite number > 0, got 0."),
    Row("a rise of no time", lambda: WarmUp(0.1, -1), V, "WarmUp: duration: expected a finite number >= 0, got -1."),
    Row("a rise to no schedule", lambda: WarmUp(lambda: 0.1, 1), T,
        "WarmUp: schedule: expected a number, a schedule or a function step -> rate; got <lambda>()."),
    Row("a rise to a class", lambda: WarmUp(Cosine, 10), T, "WarmUp: schedule: expected a number, got the class Cosine."),
    # stopping rules
    Row("a name for a rule", lambda: minimize(stop="patience"), T,
        "stop: expected a rule of jaxgd.stopping, several, None or (), got 'patience'."),
    Row("a number for a rule", lambda: minimize(stop=1e-6), T,
        "stop: expected a rule of jaxgd.stopping, several, None or (), got 1e-06."),
    Row("a number among rules", lambda: fit(stop=[Patience(3), 1]), T,
        "stop: expected a rule of jaxgd.stopping, several, ... got 1."),
    Row("the class of a rule", lambda: minimize(stop=UpdateTolerance), T, "stop: ..., None or (), got the class UpdateTolerance."),
    Row("a rule that is no pytree", lambda: minimize(stop=UndecoratedRule()), T,
        "stop: expected a rule that is a pytree: decorate the class UndecoratedRule with jaxgd.pytree."),
    Row("a rule that says nothing", lambda: minimize(method=DESCENT(), stop=RuleOfNothing()), T,
        "stop: RuleOfNothing.check must return "
        "a pair, a boolean scalar and the next state, it returned None.", early=False),
    Row("a rule without a check", lambda: minimize(method=DESCENT(), stop=UncheckedRule()), NotImplementedError,
        "UncheckedRule: a stopping rule needs a method check(observation, state).", early=False),
    Row("a tolerance of zero", lambda: UpdateTolerance(0.0), V,
        "UpdateTolerance: tolerance: expected a finite number > 0, got 0.0."),
    Row("a negative one", lambda: GradientTolerance(-1), V, "GradientTolerance: tolerance: expected a finite number > 0, got -1."),
    Row("a text for a tolerance", lambda: CostTolerance("x"), T, "CostTolerance: tolerance: expected a number, got 'x'."),
    Row("two tolerances", lambda: CostTolerance([1e-3, 1e-4]), V,
        "CostTolerance: tolerance: expected one number, got [0.001, 0.0001]."),
    Row("a tolerance of NaN", lambda: CostTolerance(math.nan), V, "CostTolerance: tolerance: expected one number, got nan."),
    Row("a number for relative", lambda: UpdateTolerance(1.0, relative=ONE), T,
        "UpdateTolerance: relative: expected True or False, got 1."),
    Row("no patience", lambda: Patience(0), V, "Patience: duration: expected an integer of at least 1, got 0."),
    Row("half a point of patience", lambda: Patience(1.5), T, "Patience: duration: expected an integer of at least 1, got 1.5."),
    Row("endless patience", lambda: Patience(2**31), V,
        "Patience: duration: expected an integer from 1 to 2147483647, got 2147483648."),
    Row("a negative change", lambda: Patience(1, -1.0), V, "Patience: minimum_change: expected a finite number >= 0, got -1.0."),
    # random starts and the tutorials' functions
    Row("a negative shape", lambda: jaxgd.normal(-1), V, "shape: expected an integer of at least 0, got -1."),
    Row("a text for a shape", lambda: jaxgd.normal("a"), T,
        "shape: expected an integer, a tuple of integers, or a pytree of such shapes, got 'a'."),
    Row("a float in a shape", lambda: jaxgd.normal((3, 2.0)), T,
        "shape: expected an integer, a tuple of integers, ..., got (3, 2.0)."),
    Row("no shape", lambda: jaxgd.normal({}), V, "shape: expected at least one shape, got {}."),
    Row("a scale of zero", lambda: jaxgd.normal(2, scale=0), V, "scale: expected a finite number > 0, got 0."),
    Row("two scales of a start", lambda: jaxgd.normal(2, scale=TWO), V, "scale: expected one number, got [1, 2]."),
    Row("an infinite limit of a start", lambda: jaxgd.uniform({"a": [0.0, -math.inf]}, 1), V,
        "low['a'][1]: expected a finite number, got -inf."),
    Row("limits that cross", lambda: jaxgd.sobol({"a": [0, 2]}, {"a": [1, 2]}), V,
        "low['a'][1]: expected a number below high['a'][1], 2.0, got 2.0."),
    Row("a text for a limit", lambda: jaxgd.uniform(0, {"a": "b"}), T,
        "high['a']: expected a number, an array, or a pytree of them, got 'b'."),
    Row("limits of two structures", lambda: jaxgd.uniform({"a": 0}, {"b": 1}), V,
        "high: expected a number, or a pytree like low, got {'a': *} and {'b': *}."),
    Row("limits of two shapes", lambda: jaxgd.uniform([0, 0], [1, 1, 1]), V,
        "high: expected a shape that broadcasts with that of low, (2,), got shape (3,)."),
    Row("no limits", lambda: jaxgd.sobol({}, 1), V, "low: expected at least one number, got {}."),
    Row("a long Sobol sequence", lambda: jaxgd.sobol(np.zeros(65), 1), V,
        "low: expected at most 64 numbers for a Sobol sequence, got 65: pass jaxgd.uniform(low, high)."),
    Row("limits that 32 bits merge", lambda: minimize(start=jaxgd.uniform(1, 1 + 1e-9), key=0), V,
        "low: expected limits that float32 can tell apart, got 1.0 and 1.000000001: pass dtype='float64'.", early=False),
    Row("limits beyond 32 bits", lambda: minimize(start=jaxgd.uniform(0, 1e300), key=0), V,
        "high: holds numbers of 1e+300, beyond float32: pass dtype='float64', ...", early=False),
    Row("too few of many starts", lambda: minimize(start=FewStarts(), key=0, n_starts=3), V,
        "start: expected many(key, 3) to return arrays with a leading axis of 3, got shape (2,).", early=False),
    Row("no key for a sequence", lambda: jaxgd.sobol(0, 1)(NOTHING), V, "key: a random start needs a random key: ..."),
    Row("no key to draw with", lambda: jaxgd.normal(2)(NOTHING), V,
        "key: a random start needs a random key: pass an integer, as in key=0, ..."),
    Row("neither start nor size", lambda: jaxgd.gradient_descent(square), V,
        "start: expected a start, or a size for a random one, got neither."),
    Row("both start and size", lambda: jaxgd.gradient_descent(square, 1.0, size=1), V,
        "size: expected None where a start is given, got 1."),
    Row("a text for a size", lambda: jaxgd.gradient_descent(square, size="a", key=0), T,
        "size: expected an integer, a tuple of ..."),
    Row("a size without a key", lambda: jaxgd.gradient_descent(square, size=1), V, "key: a random start needs a random key: ..."),
    Row("a negative rate of descent", lambda: jaxgd.gradient_descent(square, 1.0, learning_rate=-1), V,
        RATE + "a finite number > 0, got -1."),
    Row("a tolerance of zero for descent", lambda: jaxgd.gradient_descent(square, 1.0, tolerance=0), V,
        "UpdateTolerance: tolerance: expected a finite number > 0, got 0."),
    Row("no steps", lambda: jaxgd.gradient_descent(square, 1.0, max_steps=0), V,
        "max_steps: expected an integer of at least 1, got 0."),
    Row("much momentum", lambda: jaxgd.sgd(line, [0.5, 0.5], (X, Y), key=0, momentum=2), V,
        "GradientDescent: momentum: expected a number in [0, 1], got 2."),
    Row("no key", lambda: jaxgd.sgd(line, [0.5, 0.5], (X, Y)), V, "key: shuffle=True needs a random key: ..."),
    # the sweep
    Row("L-BFGS in a sweep", lambda: sweep(method=jaxgd.LBFGS()), V,
        "method: LBFGS compares the costs of steps, so all of them need ..."),
    Row("a name in a sweep", lambda: sweep(method="sgd"), T, METHOD + "'sgd': pass jaxgd.GradientDescent()."),
    Row("a schedule in a sweep", lambda: sweep(method=ADAM(Cosine(0.1, 9))), T,
        "method: expected a first-order method with a number or "
        "'auto' for its learning rate, or 'auto' first in its schedule, got Adam(..."),
    Row("Automatic in a sweep", lambda: sweep(method=jaxgd.Automatic()), T, "method: expected a first-order ..., got Automatic()."),
    Row("a negative rate in a sweep", lambda: sweep(learning_rates=[0.1, -1]), V,
        "learning_rates: expected a finite number > 0, got array([ 0.1, -1. ])."),
    Row("one rate", lambda: sweep(learning_rates=0.1), T, "learning_rates: expected a list of numbers, got 0.1."),
    Row("no rates", lambda: sweep(learning_rates=[]), V, "learning_rates: expected at least one number, got none."),
    Row("a sweep of batches of no rows", lambda: sweep(batch_size=0), V,
        "batch_size: expected an integer from 1 to 6 (the number of rows), got 0."),
    Row("NumPy in a sweep", lambda: sweep(lambda b, batch: calls_numpy(b[0])), T,
        "cost: it can't be traced: NumPy was called on ..."),
    # covariance and summary
    Row("no cost and no residuals", lambda: covariance(None), T,
        "cost: expected a function that can be called as cost(params), got None."),
    Row("a cost of data", lambda: covariance(line), T, "cost: ... cost(params), since no data were given; got line(b..."),
    Row("residuals of data", lambda: residuals(line), T,
        "residuals: expected a function that can be called as residuals(params), since no data were given; got line(b..."),
    Row("a covariance of scale zero", lambda: covariance(scale=0), V, "scale: expected a finite number > 0, got 0."),
    Row("a text for a scale", lambda: covariance(scale="s"), T, "scale: expected a number, got 's'."),
    Row("two scales of a covariance", lambda: covariance(scale=[1, 2]), V, "scale: expected one number, got [1, 2]."),
    Row("half an observation", lambda: covariance(n_observations=2.5), T,
        "n_observations: expected an integer of at least 1, got 2.5."),
    Row("observations and a scale", lambda: covariance(n_observations=3, scale=1), V,
        "n_observations: expected None beside a scale, got 3."),
    Row("observations and residuals", lambda: residuals(jnp.sum, n_observations=3), V,
        "n_observations: expected None beside residuals, which are counted, got 3."),
    Row("no sum of squares", lambda: covariance(lambda v: v**2 - 3, n_observations=3), V,
        "cost: with n_observations expected half a sum of squares, got -2.", early=False),
    Row("the covariance of a result", lambda: covariance(params=minimize()), T,
        "params: expected the parameters, got a Result: pass result.params."),
    Row("the covariance at NaN", lambda: covariance(squares, [np.nan, 1.0]), V, "params[0]: expected a finite number, got nan."),
    Row("params outside", lambda: covariance(bounds=(2, 3)), V,
        "params: expected a value within the bounds, from 2.0 to 3.0, got 1.0."),
    Row("the covariance of all that is fixed", lambda: covariance(fixed=True), V,
        "fixed: expected at least one parameter that is free, got True for all."),
    Row("a covariance in half precision", lambda: covariance(dtype="float16"), V,
        "dtype: expected None, 'float32' or 'float64', got 'float16'."),
    Row("NumPy residuals", lambda: residuals(calls_numpy), T,
        "residuals: it can't be traced: NumPy was called on a value that ..."),
    Row("no residuals", lambda: residuals(lambda v: None), T,
        "residuals: it must return an array of real numbers, or a pytree of them, it returned None."),
    Row("truth values", lambda: residuals(lambda v: v > 1), T,
        "residuals: it must return an array ..., it returned a scalar of type bool."),
    Row("no pair", lambda: residuals(jnp.sin, has_aux=True), T,
        "residuals: with has_aux=True they must come in a pair (residuals, aux), it returned a scalar of type float..."),
    Row("a vector to check", lambda: jaxgd.check(lambda v: jnp.stack([v, v]), 1.0), T,
        "cost: it must return a real scalar, it returned an array of shape (2,): take its sum or mean."),
    Row("a check outside the bounds", lambda: jaxgd.check(square, 3.0, bounds=(0, 1)), V,
        "start: expected a value within the bounds, from 0.0 to 1.0, got 3.0."),
    Row("a check of chunks", lambda: jaxgd.check(line, [0.5, 0.5], jaxgd.data.Chunks((X, Y))), T,
        "data: expected arrays, got Chunks of ...: pass a table of some of its rows."),
    Row("a check of seven rows of six", lambda: jaxgd.check(line, [0.5, 0.5], (X, Y), batch_size=7), V,
        "batch_size: expected an integer from 1 to 6 (the number of rows), got 7."),
    Row("a check inside jit", lambda: jax.jit(lambda v: jaxgd.check(square, v).cost)(1.0), V,
        "check: expected arrays, got values that JAX is tracing: call it outside of jax.jit and the like."),
    Row("a number for a constraint", lambda: minimize(equality=3), T,
        "equality: expected a function that can be called as equality(params), got 3."),
    Row("a constraint of data for none", lambda: minimize(inequality=line), T,
        "inequality: expected a function that can be called as inequality(params), since no data were given; got line(b..."),
    Row("a constraint that returns nothing", lambda: minimize(equality=lambda v: None), T,
        "equality: it must return real numbers, arrays or a pytree of them, it returned None: is a `return` missing?"),
    Row("a comparison for a constraint", lambda: minimize(inequality=lambda v: v >= 1), T,
        "inequality: ... it returned numbers of type bool: for x >= y return x - y."),
    Row("an equation of truth values", lambda: minimize(equality=lambda v: v == 1), T, "equality: ...: for x == y return x - y."),
    Row("complex constraints", lambda: minimize(equality=lambda v: jax.lax.complex(v, v)), T,
        "equality: ... numbers of type complex64."),
    Row("a text for a constraint", lambda: minimize(equality=lambda v: "zero"), T, "equality: ... it returned 'zero'."),
    Row("NumPy in a constraint", lambda: minimize(equality=calls_numpy), T,
        "equality: it can't be traced: NumPy was called on a value that JAX is tracing, ..."),
    Row("a method without constraints", lambda: minimize(equality=square, method=jaxgd.LBFGS()), V,
        "method: expected one that takes constraints, got LBFGS: InteriorPoint and AugmentedLagrangian take constraints: ..."),
    Row("a method for constraints without any", lambda: minimize(method=jaxgd.InteriorPoint()), V,
        "method: InteriorPoint is for constraints: pass equality= or inequality= as well."),
    Row("InteriorPoint in fit", lambda: fit(method=jaxgd.InteriorPoint()), V,
        "method: InteriorPoint compares the costs of steps, so all of them need the same rows: use it in minimize."),
    Row("an augmented Lagrangian without constraints", lambda: minimize(method=jaxgd.AugmentedLagrangian()), V,
        "method: AugmentedLagrangian is for constraints: pass equality= or inequality= as well."),
    Row("an augmented Lagrangian of a rule", lambda: jaxgd.AugmentedLagrangian(jaxgd.Adam()), V,
        "AugmentedLagrangian: method: expected a method such as LBFGS() that needs the gradient alone and ends by itself, ..."),
    Row("a negative weight", lambda: jaxgd.AugmentedLagrangian(weight=-1), V,
        "AugmentedLagrangian: weight: expected a finite number > 0, got -1."),
    Row("a Hessian's products of a cost that runs as Python", lambda: minimize(method=jaxgd.TruncatedNewton(), jit=False), V,
        "method: TruncatedNewton needs a cost that is compiled, got jit=False: leave the method out, ...", early=False),
    Row("a barrier of zero", lambda: jaxgd.InteriorPoint(0), V, "InteriorPoint: barrier: expected a finite number > 0, got 0."),
    Row("a rule beside constraints", lambda: minimize(equality=square, stop=CostTolerance(1.0)), V,
        "stop: expected None together with equality, got CostTolerance(..."),
    Row("constraints without jit", lambda: minimize(inequality=square, jit=False), V,
        "jit: expected True together with inequality, got False."),
    Row("constraints and steps with derivatives", lambda: minimize(equality=square, implicit=False, max_steps=3), V,
        "implicit: expected True together with equality, got False."),
    Row("a number for a covariance", lambda: minimize().summary(3), T,
        "covariance: expected the Covariance of these parameters, got 3."),
    Row("the covariance of others", lambda: minimize().summary(covariance(squares, {"a": 1.0})), T,
        "covariance: expected the Covariance of these parameters, got ...", early=False),
    Row("a number of devices", lambda: jaxgd.data.shard(X, ONE), T,
        "devices: expected None or a list of devices, as jax.devices() returns it, got 1."),
    Row("no devices", lambda: jaxgd.data.shard(X, []), V, "devices: expected at least one device, and each once, got []."),
    Row("a device twice", lambda: jaxgd.data.shard(X, 2 * jax.devices()), V,
        "devices: expected at least one device, and each once, got [...]."),
    Row("traced rows", lambda: jax.jit(jaxgd.data.shard)(np.ones(3)), T,
        "data: expected arrays, got values that JAX is tracing: call jaxgd.data.shard outside of jax.jit."),
    Row("names in rows", lambda: jaxgd.data.shard({"x": np.ones(2), "y": np.array(["a", "b"])}), T,
        "data['y'][0]: expected numbers, got 'a'."),
    Row("rows of two lengths", lambda: jaxgd.data.shard((np.ones(2), np.ones(3))), V,
        "data: expected equally many rows in every array, got: data[0] has 2, data[1] has 3."),
]
# fmt: on
