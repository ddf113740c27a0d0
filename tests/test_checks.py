"""Bad input: the type of the error, and a message that names the argument, what came, and what was expected."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from tests.problems import X, Y, line, square


def minimize(cost: Any = square, start: Any = 1.0, data: Any = None, **options: Any) -> jaxgd.Result:
    return jaxgd.minimize(cost, start, data, **options)


def fit(cost: Any = line, start: Any = (0.5, 0.5), data: Any = (X, Y), **options: Any) -> jaxgd.Result:
    defaults: dict[str, Any] = {"batch_size": 3, "n_epochs": 2, "key": 0}
    return jaxgd.fit(cost, start, data, **(defaults | options))


def sweep(**options: Any) -> jaxgd.Sweep:
    defaults: dict[str, Any] = {"batch_size": 3, "n_epochs": 2, "key": 0}
    return jaxgd.learning_rate_sweep(line, (0.5, 0.5), (X, Y), **(defaults | options))


def no_return(v: Any) -> None:
    del v


def branches(v: Any) -> Any:
    return v if v > 0 else -v


def calls_numpy(v: Any) -> Any:
    return np.sin(v)


def calls_math(v: Any) -> Any:
    return math.sin(v)


WRONG: Any = 1  # in the place of a truth value

ERRORS: list[tuple[Any, type[Exception], str]] = [
    # the cost
    (lambda: minimize(3), TypeError, "cost: expected a function, called as cost(params), got 3"),
    (
        lambda: minimize(square, 1.0, 2.0),
        TypeError,
        "cost: expected a function that can be called as cost(params, data), since data were given; got square(v",
    ),
    (lambda: minimize(line), TypeError, "called as cost(params), since no data were given; got line(b"),
    (lambda: fit(square), TypeError, "called as cost(params, batch), since data were given; got square(v"),
    (
        lambda: minimize(lambda v: jnp.stack([v, v])),
        TypeError,
        "cost: it must return a real scalar, it returned an array of shape (2,): take its sum or mean",
    ),
    (lambda: minimize(lambda v: v[None]), TypeError, "it returned an array of shape (1,)"),
    (lambda: minimize(lambda v: v.astype(complex)), TypeError, "it returned a complex number: return its real part or its modulus"),
    (lambda: minimize(lambda v: 1j), TypeError, "it returned a complex number"),
    (lambda: minimize(no_return), TypeError, "it returned None: is a `return` missing?"),
    (lambda: minimize(lambda v: 3), TypeError, "cost: it must return a real scalar, it returned a scalar of type int"),
    (lambda: minimize(lambda v: v.astype(int)), TypeError, "an integer has no derivative"),
    (lambda: minimize(lambda v: v > 0), TypeError, "a scalar of type bool"),
    (lambda: minimize(lambda v: "low"), TypeError, "it returned str 'low'"),
    (lambda: minimize(lambda v: (v, v)), TypeError, "it returned a tuple of 2; for a pair (cost, aux) say has_aux=True"),
    (
        lambda: minimize(square, has_aux=True),
        TypeError,
        "cost: with has_aux=True it must return a pair (cost, aux), it returned a scalar of type float",
    ),
    (
        lambda: minimize(calls_numpy),
        TypeError,
        "cost: it can't be traced: NumPy was called on a value that JAX is tracing, in test_checks.py, line",
    ),
    (lambda: minimize(calls_numpy), TypeError, ": return np.sin(v). The cure: use the function of the same name in jax.numpy."),
    (lambda: minimize(calls_numpy, jit=False), TypeError, "use the function of the same name in jax.numpy."),
    (lambda: minimize(calls_math), TypeError, "a value that JAX is tracing was turned into a Python number"),
    (
        lambda: minimize(branches),
        TypeError,
        "a Python `if`, `while`, `and` or `or` looks at a value that JAX is tracing, in test_checks.py",
    ),
    (lambda: minimize(branches), TypeError, "The cure: use jax.numpy.where or jax.lax.cond, or pass jit=False."),
    # the start
    (lambda: minimize(start=[]), ValueError, "start: expected at least one number, got []"),
    (lambda: minimize(start={}), ValueError, "start: expected at least one number, got {}"),
    (lambda: minimize(start=None), ValueError, "start: expected at least one number, got None"),
    (lambda: minimize(start=np.zeros((0, 2))), ValueError, "start: expected at least one number"),
    (lambda: minimize(start=math.nan), ValueError, "start: expected finite numbers, got array(nan"),
    (lambda: minimize(start={"a": [1.0, math.inf]}), ValueError, "start['a']: expected finite numbers"),
    (lambda: minimize(start="one"), TypeError, "start: expected numbers, got 'one'"),
    (lambda: minimize(start={"a": (1.0, object())}), TypeError, "start['a'][1]: expected numbers, got <object"),
    (lambda: minimize(start=True), TypeError, "start: expected numbers, got True"),
    (lambda: minimize(start=1 + 2j), TypeError, "start: expected real numbers, got complex ones"),
    (lambda: minimize(start=[[1.0, 2.0], [3.0]]), TypeError, "start: expected numbers, got [[1.0, 2.0], [3.0]]"),
    (lambda: minimize(start=lambda key: "x", key=0), TypeError, "start: expected numbers, got 'x'"),
    # the key
    (lambda: minimize(start=jaxgd.normal(2)), ValueError, "key: a random start needs a random key: pass an integer, as in key=0"),
    (lambda: fit(key=None), ValueError, "key: shuffle=True needs a random key"),
    (lambda: fit(key=None, shuffle="replacement"), ValueError, "key: shuffle='replacement' needs a random key"),
    (lambda: fit(key="zero"), TypeError, "key: expected an integer or one key of jax.random, got 'zero'"),
    (lambda: fit(key=1.5), TypeError, "key: expected an integer or one key of jax.random, got 1.5"),
    (lambda: fit(key=True), TypeError, "key: expected an integer or one key of jax.random, got True"),
    (lambda: fit(key=jax.random.split(jax.random.key(0))), TypeError, "key: expected an integer or one key of jax.random"),
    (lambda: fit(key=np.zeros(2)), TypeError, "key: expected an integer or one key of jax.random"),
    (lambda: fit(key=-1), ValueError, "key: expected an integer from 0 to 2**32 - 1, or a key of jax.random, got -1"),
    (lambda: fit(key=2**32), ValueError, "key: expected an integer from 0 to 2**32 - 1"),
    (lambda: minimize(key="x"), TypeError, "key: expected an integer or one key of jax.random, got 'x'"),
    (lambda: fit(shuffle=False, key="x"), TypeError, "key: expected an integer or one key of jax.random, got 'x'"),
    # the data
    (lambda: fit(data=None), ValueError, "data: expected a pytree of arrays, got None"),
    (lambda: fit(data=()), ValueError, "data: expected a pytree of arrays, got ()"),
    (lambda: fit(data=(X[:0], Y[:0])), ValueError, "data: expected at least one row, got none"),
    (
        lambda: fit(data=(X, Y[:5])),
        ValueError,
        "data: expected equally many rows in every array, got: data[0] has 6, data[1] has 5",
    ),
    (lambda: fit(data=(X, 3.0)), ValueError, "data[1]: expected an array with one row for each observation, got a scalar"),
    (lambda: fit(data=(X, ["a"] * 6)), TypeError, "data[1][0]: expected numbers, got 'a'"),
    (lambda: minimize(line, [0.5, 0.5], (X, "y")), TypeError, "data[1]: expected numbers, got 'y'"),
    (lambda: fit(validation=X), ValueError, "validation: expected the structure of the data"),
    (lambda: fit(validation=(X, Y[:2])), ValueError, "validation: expected equally many rows"),
    (
        lambda: fit(validation=(X, np.zeros((6, 2)))),
        ValueError,
        "validation: expected rows of the shape () that the data have, got (2,)",
    ),
    # numbers
    (lambda: fit(batch_size=0), ValueError, "batch_size: expected an integer from 1 to 6 (the number of rows), got 0"),
    (lambda: fit(batch_size=7), ValueError, "batch_size: expected an integer from 1 to 6 (the number of rows), got 7"),
    (lambda: fit(batch_size=2.0), TypeError, "batch_size: expected an integer from 1 to 6 (the number of rows), got 2.0"),
    (lambda: fit(batch_size=True), TypeError, "batch_size: expected an integer"),
    (lambda: fit(n_epochs=0), ValueError, "n_epochs: expected an integer of at least 1, got 0"),
    (lambda: fit(n_epochs="2"), TypeError, "n_epochs: expected an integer of at least 1, got '2'"),
    (lambda: minimize(max_steps=2**31), ValueError, "max_steps: expected an integer from 1 to 2147483646, got 2147483648"),
    (lambda: minimize(history={"cost", 3}), ValueError, "history: expected names among"),
    (lambda: minimize(max_steps=-1), ValueError, "max_steps: expected an integer of at least 1, got -1"),
    (lambda: fit(average=0.0), ValueError, "average: expected a number in (0, 1], got 0.0"),
    (lambda: fit(average="all"), TypeError, "average: expected a number, got 'all'"),
    # choices
    (lambda: fit(shuffle="yes"), ValueError, "shuffle: expected True or False or 'replacement', got 'yes'"),
    (lambda: fit(shuffle=1), ValueError, "shuffle: expected True or False or 'replacement', got 1"),
    (lambda: minimize(dtype="float16"), ValueError, "dtype: expected None, 'float32' or 'float64', got 'float16'"),
    (lambda: minimize(dtype="double precision"), ValueError, "dtype: expected None, 'float32' or 'float64'"),
    (lambda: minimize(jit=None), TypeError, "jit: expected True or False, got None"),
    (lambda: minimize(progress="bar"), TypeError, "progress: expected True or False, got 'bar'"),
    (lambda: minimize(callback=3), TypeError, "callback: expected None or a function of the progress, got 3"),
    (
        lambda: minimize(history="costs"),
        ValueError,
        "history: expected names among cost, params, gradient_norm, learning_rate, got 'costs'",
    ),
    (
        lambda: minimize(history=("cost", 3)),
        ValueError,
        "history: expected names among cost, params, gradient_norm, learning_rate, got 3",
    ),
    (lambda: minimize(history="validation_cost"), ValueError, "history: expected names among"),
    (
        lambda: minimize(history="learning_rate"),
        ValueError,
        "history: 'learning_rate' is known for the methods of jaxgd that have one",
    ),
    # methods
    (lambda: minimize(method="adam"), TypeError, "method: expected a method of jaxgd or an Optax transformation, got 'adam'"),
    (lambda: minimize(method=jaxgd.Adam), TypeError, "method: expected an instance, as in jaxgd.Adam(...), got the class Adam"),
    (lambda: jaxgd.GradientDescent(0), ValueError, "GradientDescent: learning_rate: expected a finite number > 0, got 0"),
    (
        lambda: jaxgd.GradientDescent(np.array([0.1, -0.1])),
        ValueError,
        "GradientDescent: learning_rate: expected a finite number > 0",
    ),
    (
        lambda: jaxgd.GradientDescent("fast"),
        TypeError,
        "GradientDescent: learning_rate: expected a number, an array, a schedule or 'auto', got 'fast'",
    ),
    (lambda: jaxgd.schedules.Cosine(0.1, "auto"), TypeError, "Cosine: duration: expected a number, got 'auto'"),
    (lambda: jaxgd.Adam(relative=2), ValueError, "Adam: relative: expected True or False, got 2"),
    (lambda: minimize(method=jaxgd.Automatic()), ValueError, "method: 'auto' is for fit"),
    (lambda: minimize(method=jaxgd.Adam(jaxgd.schedules.Cosine("auto", 9))), ValueError, "method: 'auto' is for fit"),
    (lambda: sweep(method=jaxgd.LBFGS()), TypeError, "method: expected a first-order method whose learning rate"),
    (lambda: sweep(learning_rates=[0.1, -1]), ValueError, "learning_rates: expected a finite number > 0"),
    (lambda: sweep(batch_size=0), ValueError, "batch_size: expected an integer"),
    (lambda: jaxgd.GradientDescent(momentum=1.1), ValueError, "GradientDescent: momentum: expected a number in [0, 1], got 1.1"),
    (lambda: jaxgd.GradientDescent(momentum=-0.1), ValueError, "GradientDescent: momentum: expected a number in [0, 1], got -0.1"),
    (lambda: jaxgd.GradientDescent(nesterov=WRONG), TypeError, "GradientDescent: nesterov: expected True or False, got 1"),
    (lambda: jaxgd.Adam(beta1=1.0), ValueError, "Adam: beta1: expected a number in [0, 1), got 1.0"),
    (lambda: jaxgd.Adam(epsilon=0.0), ValueError, "Adam: epsilon: expected a finite number > 0, got 0.0"),
    (lambda: jaxgd.Adam(weight_decay=-1), ValueError, "Adam: weight_decay: expected a finite number >= 0, got -1"),
    (lambda: jaxgd.Adagrad(initial_accumulator=-1), ValueError, "Adagrad: initial_accumulator: expected a finite number >= 0"),
    (lambda: jaxgd.Adadelta(rho=1), ValueError, "Adadelta: rho: expected a number in [0, 1), got 1"),
    (lambda: jaxgd.RMSProp(decay=2), ValueError, "RMSProp: decay: expected a number in [0, 1), got 2"),
    (
        lambda: minimize(start=[1.0, 2.0], cost=lambda v: v[0], method=jaxgd.Adam([0.1] * 3)),
        ValueError,
        "Adam: learning_rate: expected the shape (2,) of the parameters, got shape (3,)",
    ),
    (
        lambda: minimize(start={"a": 1.0}, cost=lambda v: v["a"], method=jaxgd.Adam({"b": 0.1})),
        ValueError,
        "Adam: learning_rate: expected a number, or a pytree like the parameters",
    ),
    (
        lambda: minimize(method=jaxgd.GradientDescent(lambda: 0.1)),
        TypeError,
        "GradientDescent: learning_rate: expected a function step -> rate",
    ),
    (
        lambda: minimize(method=jaxgd.GradientDescent(lambda step: jnp.ones(3))),
        ValueError,
        "GradientDescent: learning_rate: expected",
    ),
    (
        lambda: minimize(method=jaxgd.GradientDescent(lambda step: None)),
        TypeError,
        "GradientDescent: learning_rate: expected a function step -> rate that returns a real number",
    ),
    (
        lambda: minimize(method=jaxgd.GradientDescent(lambda step: 0.1 if step < 3 else 0.01)),
        TypeError,
        "learning_rate: it can't be traced: a Python `if`",
    ),
    (
        lambda: jaxgd.GradientDescent(jaxgd.schedules.Cosine),
        TypeError,
        "GradientDescent: learning_rate: expected a number, an array, a schedule or 'auto', got <class",
    ),
    (
        lambda: jaxgd.GradientDescent(momentum=[0.1, 0.2]),
        ValueError,
        "GradientDescent: momentum: expected one number, got [0.1, 0.2]",
    ),
    (lambda: jaxgd.stopping.CostTolerance([1e-3, 1e-4]), ValueError, "CostTolerance: tolerance: expected one number"),
    (lambda: jaxgd.stopping.CostTolerance(math.nan), ValueError, "CostTolerance: tolerance: expected one number, got nan"),
    (
        lambda: minimize(lambda v: (v, "aux"), has_aux=True),
        TypeError,
        "cost: with has_aux=True the aux must be a pytree of numbers and arrays, it holds 'aux'",
    ),
    (lambda: minimize(lambda v: (v, jax.random.key(0)), has_aux=True), TypeError, "it holds a random key"),
    # random starts and the tutorials' functions
    (lambda: jaxgd.normal(-1), ValueError, "shape: expected an integer of at least 0, got -1"),
    (lambda: jaxgd.normal("a"), TypeError, "shape: expected an integer of at least 0, got 'a'"),
    (lambda: jaxgd.normal(2, scale=0), ValueError, "scale: expected a finite number > 0, got 0"),
    (lambda: jaxgd.gradient_descent(square), ValueError, "start: expected a start, or a size for a random one, got neither"),
    (lambda: jaxgd.gradient_descent(square, 1.0, size=1), ValueError, "size: expected None where a start is given, got 1"),
    (lambda: jaxgd.gradient_descent(square, size=1), ValueError, "key: a random start needs a random key"),
    (
        lambda: jaxgd.gradient_descent(square, 1.0, learning_rate=-1),
        ValueError,
        "learning_rate: expected a finite number > 0, got -1",
    ),
    (lambda: jaxgd.gradient_descent(square, 1.0, tolerance=0), ValueError, "tolerance: expected a finite number > 0, got 0"),
    (lambda: jaxgd.gradient_descent(square, 1.0, max_steps=0), ValueError, "max_steps: expected an integer of at least 1, got 0"),
    (lambda: jaxgd.sgd(line, [0.5, 0.5], (X, Y), key=0, momentum=2), ValueError, "momentum: expected a number in [0, 1], got 2"),
    (lambda: jaxgd.sgd(line, [0.5, 0.5], (X, Y)), ValueError, "key: shuffle=True needs a random key"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), ERRORS, ids=[f"{k}-{message[:40]}" for k, (_, _, message) in enumerate(ERRORS)]
)
def test_errors_name_the_argument_and_come_before_anything_compiles(
    call: Any, error: type[Exception], message: str, compilations: Any
) -> None:
    fit()  # whatever a sound call has to compile is compiled
    with compilations() as compiled, pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert type(caught.value) is error
    drawn = [name for name in compiled if name not in ("jit(stage)", "jit(_threefry_seed)")]  # those make a key
    assert len(drawn) <= 1  # a random start is drawn before it can be checked


def test_an_error_of_the_users_own_passes_as_it_is() -> None:
    def cost(v: Any) -> Any:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        minimize(cost)


def test_the_line_of_a_bad_call_deep_in_the_users_code_is_named() -> None:
    def inner(v: Any) -> Any:
        return np.exp(v) + 1

    with pytest.raises(TypeError, match=r"in test_checks.py, line \d+: return np.exp\(v\) \+ 1\."):
        minimize(lambda v: jax.jit(inner)(v))


def test_callback_and_progress_are_refused_while_somebody_else_traces() -> None:
    for name, value in (("callback", lambda progress: None), ("progress", True)):
        with pytest.raises(ValueError, match=f"{name}: expected none inside jax.jit"):
            jax.vmap(lambda start, option={name: value}: minimize(start=start, **option).params)(jnp.arange(3.0))
