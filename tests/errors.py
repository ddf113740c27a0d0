"""The table of errors, its first part: what can be wrong with the arguments of the verbs; `errors_of_parts` is the second.

A row is what is wrong, a call that does it, the type of the error, and its message in full, where "..." stands for any text. What
is not `early` is found out only after a random start was drawn or something was computed, all else before anything compiles.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxgd
from tests.problems import X, Y, line, square


class Row(NamedTuple):
    title: str
    call: Callable[[], Any]
    error: type[Exception]
    message: str
    early: bool = True


T, V = TypeError, ValueError
POSITIVE, SIMPLEX = jaxgd.transforms.Positive(), jaxgd.transforms.Simplex()
TREE: Any = {"a": 1.0, "b": np.ones(3)}


def minimize(cost: Any = square, start: Any = 1.0, data: Any = None, **options: Any) -> jaxgd.Result:
    return jaxgd.minimize(cost, start, data, **options)


def vector(**options: Any) -> jaxgd.Result:
    return jaxgd.minimize(squares, [1.0, 1.0], **options)


def tree(start: Any = TREE, **options: Any) -> jaxgd.Result:
    return jaxgd.minimize(squares, start, **options)


def fit(cost: Any = line, start: Any = (0.5, 0.5), data: Any = (X, Y), **options: Any) -> jaxgd.Result:
    defaults: dict[str, Any] = {"batch_size": 3, "n_epochs": 2, "key": 0}
    return jaxgd.fit(cost, start, data, **(defaults | options))


def squares(params: Any) -> Any:
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


class Undecorated(jaxgd.transforms.Transform):
    pass


@jaxgd.pytree
class Summed(jaxgd.transforms.Transform):
    def forward(self, u: Any) -> Any:
        return jnp.sum(u)


@jaxgd.pytree
class WithNumPy(jaxgd.transforms.Transform):
    def forward(self, u: Any) -> Any:
        return np.exp(u)


def no_return(v: Any) -> None:
    del v


def branches(v: Any) -> Any:
    return v if v > 0 else -v


def calls_numpy(v: Any) -> Any:
    return np.sin(v)


def calls_math(v: Any) -> Any:
    return math.sin(v)


def picks(v: Any) -> Any:
    return jnp.sum(v[v > 0])


def sizes(v: Any) -> Any:
    return jnp.sum(jnp.zeros(v.astype(int))) + v


def column(*entries: Any) -> Any:
    """What a column of a table is to NumPy."""
    return type("Column", (), {"__array__": lambda self, dtype=None, copy=None: np.array(entries, dtype=object)})()


NUMPY = "cost: it can't be traced: NumPy was called on a value that JAX is tracing, in errors.py, line ...: return np.sin(v)."
NUMBER = (
    "cost: it can't be traced: a value that JAX is tracing was turned into a Python number or the size of an array, in errors.py, "
)

# fmt: off
ERRORS = [
    # the cost
    Row("a number for a cost", lambda: minimize(3), T, "cost: expected a function that can be called as cost(params), got 3."),
    Row("no cost", lambda: minimize(None), T, "cost: expected a function that can be called as cost(params), got None."),
    Row("a cost without data", lambda: minimize(square, 1.0, 2.0), T,
        "cost: expected a function that can be called as cost(params, data), since data were given, as one argument; got sq..."),
    Row("a cost of data for none", lambda: minimize(line), T,
        "cost: expected a function that can be called as cost(params), since no data were given; got line(b..."),
    Row("a cost without a batch", lambda: fit(square), T,
        "cost: expected a function ... cost(params, batch), since data were given, ..."),
    Row("a cost of two data", lambda: fit(lambda b, x, y: b), T, "cost: ... given, as one argument; got <lambda>(b, x, y)."),
    Row("a cost that returns a vector", lambda: minimize(lambda v: jnp.stack([v, v])), T,
        "cost: it must return a real scalar, it returned an array of shape (2,): take its sum or mean."),
    Row("an array of one", lambda: minimize(lambda v: v[None]), T, "cost: ... it returned an array of shape (1,): take its ..."),
    Row("a NumPy array", lambda: minimize(lambda v: np.ones(2)), T, "cost: ... it returned an array of shape (2,): take its ..."),
    Row("a complex cost", lambda: minimize(lambda v: v.astype(complex)), T,
        "cost: it must return a real scalar, it returned a complex number: return its real part or its modulus."),
    Row("a complex number for a cost", lambda: minimize(lambda v: 1j), T,
        "cost: ... it returned a complex number: return its real part or ..."),
    Row("a cost that returns nothing", lambda: minimize(no_return), T,
        "cost: it must return a real scalar, it returned None: is a `return` missing?"),
    Row("nothing, without jit", lambda: minimize(no_return, jit=False), T, "cost: ... it returned None: is a `return` missing?"),
    Row("an integer", lambda: minimize(lambda v: 3), T,
        "cost: it must return a real scalar, it returned a scalar of type int..., which has no derivative."),
    Row("a truth value for a cost", lambda: minimize(lambda v: v > 0), T,
        "cost: ... a scalar of type bool, which has no derivative."),
    Row("a text for a cost", lambda: minimize(lambda v: "low"), T, "cost: it must return a real scalar, it returned str 'low'."),
    Row("a function", lambda: minimize(lambda v: square), T,
        "cost: it must return a real scalar, it returned the function square."),
    Row("a pair without has_aux", lambda: minimize(lambda v: (v, v)), T,
        "cost: it must return a real scalar, it returned a tuple of 2: for a pair (cost, aux) pass has_aux=True."),
    Row("a dict", lambda: minimize(lambda v: {"cost": v}), T, "cost: it must return a real scalar, it returned a dict of 1."),
    Row("no pair with has_aux", lambda: minimize(has_aux=True), T,
        "cost: with has_aux=True it must return a pair (cost, aux), it returned a scalar of type float..."),
    Row("three with has_aux", lambda: minimize(lambda v: (v, v, v), has_aux=True), T, "cost: with has_aux=True ... a tuple of 3."),
    Row("a text in the aux", lambda: minimize(lambda v: (v, {"a": "aux"}), has_aux=True), T,
        "cost: with has_aux=True the aux must be a pytree of numbers and arrays, it holds 'aux'."),
    Row("a key in the aux", lambda: minimize(lambda v: (v, jax.random.key(0)), has_aux=True), T,
        "cost: ... it holds a random key."),
    Row("NumPy", lambda: minimize(calls_numpy), T,
        NUMPY + " The cure: use the function of the same name in jax.numpy or jax.scipy."),
    Row("NumPy without jit", lambda: minimize(calls_numpy, jit=False), T, NUMPY + "..."),
    Row("NumPy in a jitted cost", lambda: minimize(jax.jit(calls_numpy)), T, NUMPY + "..."),
    Row("NumPy deep in the cost", lambda: minimize(lambda v: jax.jit(calls_numpy)(v)), T, NUMPY + "..."),
    Row("math", lambda: minimize(calls_math), T, NUMBER +
        "line ...: return math.sin(v). The cure: keep it an array, with functions of jax.numpy, and sizes independent of values."),
    Row("a size from a value", lambda: minimize(sizes), T, NUMBER + "line ...: return jnp.sum(jnp.zeros(v.astype(int))) + v. ..."),
    Row("a branch", lambda: minimize(branches), T,
        "cost: it can't be traced: a Python `if`, `while`, `and` or `or` looks at a value that JAX is tracing, in errors.py, line "
        "...: return v if v > 0 else -v. The cure: use jax.numpy.where or jax.lax.cond, or pass jit=False, which minimize, fit and "
        "covariance take."),
    Row("a choice by truth values", lambda: minimize(picks, np.ones(2)), T,
        "cost: it can't be traced: an array is indexed by truth values that JAX is tracing, in errors.py, line ...: "
        "return jnp.sum(v[v > 0]). The cure: use jax.numpy.where, which keeps the shape, or pass jit=False..."),
    # the start
    Row("no start", lambda: minimize(start=None), V, "start: expected at least one number, got None."),
    Row("an empty list", lambda: minimize(start=[]), V, "start: expected at least one number, got []."),
    Row("an empty dict", lambda: minimize(start={}), V, "start: expected at least one number, got {}."),
    Row("an empty array", lambda: minimize(start=np.zeros((0, 2))), V,
        "start: expected at least one number, got array([], shape=(0, 2)..."),
    Row("a start of NaN", lambda: minimize(start=math.nan), V, "start: expected a finite number, got nan."),
    Row("infinity deep in the start", lambda: minimize(start={"a": [1.0, math.inf]}), V,
        "start['a'][1]: expected a finite number, got inf."),
    Row("NaN in a matrix", lambda: minimize(start=np.array([[1, 2], [np.nan, 3]])), V,
        "start[1,0]: expected a finite number, got nan."),
    Row("a text for a start", lambda: minimize(start="one"), T, "start: expected numbers, got 'one'."),
    Row("texts in a start", lambda: minimize(start=np.array(["1", "2"])), T, "start[0]: expected numbers, got '1'."),
    Row("a text among numbers", lambda: minimize(start=[1, "a"]), T, "start[1]: expected numbers, got 'a'."),
    Row("None among numbers", lambda: minimize(start=[1.0, None]), T, "start[1]: expected numbers, got None."),
    Row("an object in a tuple", lambda: minimize(start={"a": (1.0, object())}), T,
        "start['a'][1]: expected numbers, got <object object>."),
    Row("a truth value for a start", lambda: minimize(start=True), T, "start: expected numbers, got True."),
    Row("a set", lambda: minimize(start={1, 2}), T, "start: expected numbers, got {1, 2}."),
    Row("a generator", lambda: minimize(start=(k for k in range(2))), T,
        "start: expected numbers, got <generator object ...>."),
    Row("a key", lambda: minimize(start=jax.random.key(0)), T, "start: expected numbers, got a key of jax.random.", early=False),
    Row("a complex start", lambda: minimize(start=1 + 2j), T,
        "start: expected real numbers, got complex ones: use the real and the imaginary parts as parameters."),
    Row("ragged rows", lambda: minimize(start=[[1.0, 2.0], [3.0]]), T,
        "start: expected numbers in rows of equal length, got [[1.0, 2.0], [3.0]]."),
    Row("a huge integer", lambda: minimize(start=2**70), T,
        "start: expected numbers of at most 64 bits, got 1180591620717411303424."),
    Row("a number beyond the precision", lambda: minimize(start=1e300, dtype="float32"), V,
        "start: holds numbers of 1e+300, beyond float32: pass dtype='float64', or set JAX's 64-bit flag."),
    Row("keys of two kinds", lambda: minimize(start={"a": 1.0, 2: 3.0}), V,
        "start: expected dictionaries with keys that can be sorted, got {'a': 1.0, 2: 3.0}."),
    Row("a result for a start", lambda: minimize(start=minimize()), T,
        "start: expected the parameters, got a Result: pass result.params."),
    Row("a best point", lambda: minimize(start=minimize().best), T,
        "start: expected the parameters, got a Best: pass result.best.params."),
    Row("a start of no key", lambda: minimize(start=lambda: 1.0, key=0), T,
        "start: expected a function key -> params; got <lambda>()."),
    Row("normal itself", lambda: minimize(start=jaxgd.normal, key=0), T,
        "start: expected a function key -> params, got jaxgd.normal itself: call it with a shape, as in normal(3).", early=False),
    Row("a random text", lambda: minimize(start=lambda key: "x", key=0), T, "start: expected numbers, got 'x'.", early=False),
    Row("nothing random", lambda: minimize(start=jaxgd.normal(0), key=0), V,
        "start: expected at least one number, ...", early=False),
    # many starts
    Row("one start for many", lambda: minimize(n_starts=2, key=0), T,
        "start: expected a function key -> params where n_starts is 2, got 1.0."),
    Row("many starts without a key", lambda: minimize(start=jaxgd.normal(), n_starts=2), V,
        "key: a random start needs a random key: ..."),
    Row("no starts", lambda: minimize(n_starts=0), V, "n_starts: expected an integer of at least 1, got 0."),
    Row("a history of many", lambda: minimize(start=jaxgd.normal(), key=0, n_starts=2, history="cost"), V,
        "n_starts: expected 1 together with history, which looks at one run, got 2."),
    Row("many without jit", lambda: minimize(start=jaxgd.normal(), key=0, n_starts=2, jit=False), V,
        "n_starts: expected 1 together with jit=False, which looks at one run, got 2."),
    Row("many random texts", lambda: minimize(start=lambda key: "x", key=0, n_starts=2), T,
        "start: expected numbers, got 'x'.", early=False),
    Row("many random fixed ones", lambda: minimize(squares, jaxgd.normal(2), key=0, n_starts=2, fixed=[True, False]), V,
        "fixed: expected the start to give what is fixed the same values for every key.", early=False),
    # the key
    Row("a random start without a key", lambda: minimize(start=jaxgd.normal(2)), V,
        "key: a random start needs a random key: pass an integer, as in key=0, or a key of jax.random."),
    Row("shuffling without a key", lambda: fit(key=None), V,
        "key: shuffle=True needs a random key: pass an integer, as in key=0, or a key of jax.random."),
    Row("drawing without a key", lambda: fit(key=None, shuffle="replacement"), V,
        "key: shuffle='replacement' needs a random key: ..."),
    Row("a text for a key", lambda: fit(key="zero"), T, "key: expected an integer or one key of jax.random, got 'zero'."),
    Row("a text where nothing is random", lambda: minimize(key="x"), T,
        "key: expected an integer or one key of jax.random, got 'x'."),
    Row("a text in fit where nothing is", lambda: fit(shuffle=False, key="x"), T,
        "key: expected an integer or one key of jax.random, ..."),
    Row("a fraction", lambda: fit(key=1.5), T, "key: expected an integer or one key of jax.random, got 1.5."),
    Row("a truth value for a key", lambda: fit(key=True), T, "key: expected an integer or one key of jax.random, got True."),
    Row("two keys", lambda: fit(key=jax.random.split(jax.random.key(0))), T,
        "key: expected an integer or one key of jax.random, got keys of jax.random of shape (2,).", early=False),
    Row("an array", lambda: fit(key=np.zeros(2)), T, "key: expected an integer or one key of jax.random, got array([0., 0.])."),
    Row("NumPy's generator", lambda: fit(key=np.random.default_rng(0)), T,
        "key: expected ... key of jax.random, got Generator(PCG64)."),
    Row("a negative key", lambda: fit(key=-1), V, "key: expected an integer from 0 to 2**32 - 1, or a key of jax.random, got -1."),
    Row("a large key", lambda: fit(key=2**32), V,
        "key: expected an integer from 0 to 2**32 - 1, or a key of jax.random, got 4294967296."),
    Row("a negative key of NumPy", lambda: fit(key=np.array(-3)), V, "key: expected an integer from 0 to 2**32 - 1, ... got -3."),
    # the data
    Row("data that are None", lambda: fit(data=None), V, "data: expected a pytree of arrays, got None."),
    Row("an empty tuple", lambda: fit(data=()), V, "data: expected a pytree of arrays, got ()."),
    Row("no rows", lambda: fit(data=(X[:0], Y[:0])), V, "data: expected at least one row, got none."),
    Row("rows that differ in number", lambda: fit(data=(X, Y[:5])), V,
        "data: expected equally many rows in every array, got: data[0] has 6, data[1] has 5."),
    Row("a scalar", lambda: fit(data=(X, 3.0)), V,
        "data[1]: expected an array with one row for each observation, got a single number."),
    Row("rows for columns", lambda: fit(data=list(zip(X, Y, strict=True))), V,
        "data[0][0]: expected an array with one row for each "
        "observation, got a single number: pass one array for each column, not one tuple for each row."),
    Row("texts in data", lambda: fit(data=(X, ["a"] * 6)), T, "data[1][0]: expected numbers, got 'a'."),
    Row("a text in a column", lambda: fit(data=(X, column(5.0, "n/a", 3.0))), T, "data[1][1]: expected numbers, got 'n/a'."),
    Row("a column of objects", lambda: fit(data=(X, column(5.0, 4.0, 3.0))), T,
        "data[1]: expected numbers, got Python objects such as 5.0: convert them to float."),
    Row("a missing number", lambda: fit(data=(X, [1.0, None, 3.0])), T, "data[1][1]: expected numbers, got None."),
    Row("dates", lambda: fit(data=(X, np.zeros(6, "M8[D]"))), T, "data[1][0]: expected numbers, got np.datetime64('1970-01-01')."),
    Row("the name of a file", lambda: minimize(line, [0.5, 0.5], "rows.csv"), T, "data: expected numbers, got 'rows.csv'."),
    Row("a text among data", lambda: minimize(line, [0.5, 0.5], (X, "y")), T, "data[1]: expected numbers, got 'y'."),
    Row("an iterator", lambda: fit(data=map(abs, X)), T, "data: expected arrays, got <map object>: pass jaxgd.data.Stream(...)..."),
    Row("long integers", lambda: fit(data=(np.arange(6) - 2**33, Y), dtype="float32"), V,
        "data[0]: holds integers of -8589934592, beyond 32 bits: pass dtype='float64', or set JAX's 64-bit flag."),
    Row("numbers beyond the precision", lambda: fit(data=(X, Y * 1e300), dtype="float32"), V,
        "data[1]: holds numbers of 3.8e+301, ..."),
    Row("other validation", lambda: fit(validation=X), V, "validation: expected the structure of the data, (*, *), got one array."),
    Row("a list for a tuple", lambda: fit(validation=[X, Y]), V,
        "validation: expected the structure of the data, (*, *), got [*, *]."),
    Row("rows of validation that differ in number", lambda: fit(validation=(X, Y[:2])), V,
        "validation: expected equally many rows in every array, got: ..."),
    Row("rows of another shape", lambda: fit(validation=(X, np.zeros((6, 2)))), V,
        "validation[1]: expected rows of the shape () that the data have, got (2,)."),
    Row("a share of the data", lambda: fit(validation=0.2), V,
        "validation: expected an array with one row for each observation, ..."),
    # numbers and choices
    Row("a batch of no rows", lambda: fit(batch_size=0), V,
        "batch_size: expected an integer from 1 to 6 (the number of rows), got 0."),
    Row("too many", lambda: fit(batch_size=7), V, "batch_size: expected an integer from 1 to 6 (the number of rows), got 7."),
    Row("a float", lambda: fit(batch_size=2.0), T, "batch_size: expected an integer from 1 to 6 (the number of rows), got 2.0."),
    Row("a truth value for a batch", lambda: fit(batch_size=True), T,
        "batch_size: expected an integer from 1 to 6 (the number of rows), got True."),
    Row("no epochs", lambda: fit(n_epochs=0), V, "n_epochs: expected an integer of at least 1, got 0."),
    Row("a text for epochs", lambda: fit(n_epochs="2"), T, "n_epochs: expected an integer of at least 1, got '2'."),
    Row("a float of steps", lambda: minimize(max_steps=1e3), T, "max_steps: expected an integer of at least 1, got 1000.0."),
    Row("too many steps", lambda: minimize(max_steps=2**31), V,
        "max_steps: expected an integer from 1 to 2147483646, got 2147483648."),
    Row("negative steps", lambda: minimize(max_steps=-1), V, "max_steps: expected an integer of at least 1, got -1."),
    Row("no part to average", lambda: fit(average=0.0), V, "average: expected a number in (0, 1], got 0.0."),
    Row("a text for an average", lambda: fit(average="all"), T, "average: expected a number, got 'all'."),
    Row("another shuffle", lambda: fit(shuffle="yes"), V, "shuffle: expected None, True, False or 'replacement', got 'yes'."),
    Row("a number for a shuffle", lambda: fit(shuffle=1), V, "shuffle: expected None, True, False or 'replacement', got 1."),
    Row("half precision", lambda: minimize(dtype="float16"), V, "dtype: expected None, 'float32' or 'float64', got 'float16'."),
    Row("no precision at all", lambda: minimize(dtype="double precision"), V,
        "dtype: expected None, 'float32' or 'float64', got ..."),
    Row("a type of integers", lambda: minimize(dtype=int), V, "dtype: expected None, 'float32' or 'float64', got the class int."),
    Row("None", lambda: minimize(jit=None), T, "jit: expected True or False, got None."),
    Row("a text for progress", lambda: minimize(progress="bar"), T,
        "progress: expected True, False, 'lines' or 'auto', got 'bar'."),
    Row("a number for has_aux", lambda: minimize(has_aux=1), T, "has_aux: expected True or False, got 1."),
    Row("a number for a callback", lambda: minimize(callback=3), T,
        "callback: expected None, a function, called as callback(progress), or a list of them, got 3."),
    Row("a callback of nothing", lambda: minimize(callback=lambda: None), T,
        "callback: expected None, a function, called as callback(progress), or a list of them; got <lambda>()."),
    Row("an unknown name", lambda: minimize(history="costs"), V,
        "history: expected names among cost, params, gradient_norm, learning_rate, got 'costs'."),
    Row("a number in a tuple", lambda: minimize(history=("cost", 3)), V, "history: expected names among ..., got 3."),
    Row("a number in a set", lambda: minimize(history={"cost", 3}), V, "history: expected names among ..., got 3."),
    Row("validation in minimize", lambda: minimize(history="validation_cost"), V,
        "history: 'validation_cost' is recorded by fit, where validation data are given."),
    Row("a history of a rate by default", lambda: minimize(history="learning_rate"), V,
        "history: 'learning_rate' needs a method of jaxgd that has one, got the default of minimize."),
    Row("no rate of Optax", lambda: fit(history="learning_rate", method=optax.sgd(0.1)), V,
        "history: 'learning_rate' needs a method ..."),
    # the room
    Row("a number for bounds", lambda: minimize(bounds=3), T, "bounds: expected a tuple (lower, upper), got 3."),
    Row("three bounds", lambda: minimize(bounds=(0, 1, 2)), T, "bounds: expected a tuple (lower, upper), got (0, 1, 2)."),
    Row("SciPy's pairs", lambda: vector(bounds=[(0, 2), (1, None)]), T,
        "bounds: expected a tuple (lower, upper), got [(0, 2), (1, None)]: pass ([0, 1], [2, None])."),
    Row("one pair for one number", lambda: minimize(bounds=[(0, 2)]), T, "bounds: ..., got [(0, 2)]: pass ([0], [2])."),
    Row("a text for a bound", lambda: minimize(bounds=("a", 1)), T, "bounds[0]: expected a number, got 'a'."),
    Row("a bound of NaN", lambda: minimize(bounds=(math.nan, 1)), V, "bounds[0]: expected a number or None, got nan."),
    Row("infinity below", lambda: minimize(bounds=(math.inf, None)), V, "bounds[0]: expected a number or None, got inf."),
    Row("bounds that cross", lambda: tree(bounds=({"a": 0, "b": [0, 0, 2]}, 1)), V,
        "bounds: expected every lower bound to be at most the upper one, got 2.0 and 1.0 for params['b'][2]."),
    Row("bounds of another shape", lambda: vector(bounds=(np.zeros(3), 2)), V,
        "bounds[0]: expected the shape (2,) of the parameters, got shape (3,)."),
    Row("bounds of another structure", lambda: tree(bounds=({"a": 0}, 2)), V,
        "bounds[0]: expected one value, or a pytree like the parameters ({'a': *, 'b': *}), got {'a': 0}."),
    Row("a start outside", lambda: vector(bounds=(0, [2, 0.5])), V,
        "start[1]: expected a value within the bounds, from 0.0 to 0.5, got 1.0."),
    Row("a class for a transform", lambda: vector(transform=jaxgd.transforms.Positive), T,
        "transform: expected an instance, as in Positive(...), got the class Positive."),
    Row("a text for a transform", lambda: tree(transform={"a": "log", "b": None}), T,
        "transform['a']: expected a transform of jaxgd.transforms, or None, got 'log'."),
    Row("a transform of another structure", lambda: tree(transform={"a": POSITIVE}), V,
        "transform: expected one value, or a pytree like the parameters ({'a': *, 'b': *}), got {'a': Positive()}."),
    Row("a transform without pytree", lambda: vector(transform=Undecorated()), T,
        "transform: expected a transform that is a pytree: decorate the class Undecorated with jaxgd.pytree."),
    Row("a transform to another shape", lambda: vector(transform=Summed()), V,
        "transform: expected Summed.forward to return float32[2] for float32[2], got float32[]."),
    Row("NumPy in a transform", lambda: vector(transform=WithNumPy()), T,
        "transform: it can't be traced: NumPy was called on a value that JAX is tracing, in errors.py, line ...: return np..."),
    Row("a start that is not positive", lambda: tree(start={"a": 1.0, "b": [1, 0, 2]}, transform=POSITIVE), V,
        "start['b'][1]: expected a number > 0, the domain of its transform Positive, got 0.0."),
    Row("a start at a limit", lambda: tree(transform={"a": jaxgd.transforms.Interval(0, 1), "b": None}), V,
        "start['a']: expected a number between 0 and 1, the domain of its transform Interval, got 1.0."),
    Row("shares that are no whole", lambda: tree(transform={"a": None, "b": SIMPLEX}), V,
        "start['b']: expected numbers > 0 that sum to 1 along the last axis, the domain of its transform Simplex, got [1.0, ..."),
    Row("an order that is none", lambda: tree(transform={"a": None, "b": jaxgd.transforms.Ordered()}), V,
        "start['b']: expected increasing numbers along the last axis, the domain of its transform Ordered, got [1.0, 1.0, 1.0]."),
    Row("a random start outside", lambda: minimize(start=jaxgd.sobol(-2, -1), key=0, n_starts=4, transform=POSITIVE), V,
        "start: expected a number > 0, the domain of its transform Positive, got -1...", early=False),
    Row("shares of one", lambda: minimize(transform=SIMPLEX), V,
        "transform: Simplex: expected an array with at least 2 along the last axis, got shape ()."),
    Row("limits of another shape", lambda: vector(transform=jaxgd.transforms.Interval([0, 0, 0], 2)), V,
        "transform: Interval: expected limits that broadcast to the shape (2,) of the parameters, got shape (3,)."),
    Row("limits in a false order", lambda: jaxgd.transforms.Interval([0, 1], 1), V,
        "Interval: low[1]: expected a number below high, 1.0, got 1.0."),
    Row("an infinite limit", lambda: jaxgd.transforms.Interval(0, math.inf), V,
        "Interval: high: expected finite numbers, got inf."),
    Row("a text for a limit of an interval", lambda: jaxgd.transforms.Interval("a", 1), T,
        "Interval: low: expected a number or an array, got 'a'."),
    Row("limits of two shapes of an interval", lambda: jaxgd.transforms.Interval([0, 0], [1, 1, 1]), V,
        "Interval: expected limits of shapes that broadcast, got (2,) and (3,)."),
    Row("bounds and a transform", lambda: tree(transform={"a": POSITIVE, "b": None}, bounds=(None, 2)), V,
        "bounds: expected none for params['a'], which has the transform Positive: pass None there, or the bounds as "
        "jaxgd.transforms.Interval(low, high)."),
    Row("a part of a whole that is fixed", lambda: vector(transform=SIMPLEX, fixed=[True, False]), V,
        "fixed: expected all or nothing of an array with the transform Simplex, whose numbers depend on each other, got a part...",
        early=False),
    Row("all that is fixed", lambda: minimize(fixed=True), V,
        "fixed: expected at least one parameter that is free, got True for all."),
    Row("a number for fixed", lambda: vector(fixed=[0, 1]), T, "fixed: expected True or False, got [0, 1]."),
    Row("a name for fixed", lambda: tree(fixed="a"), T, "fixed['a']: expected True or False, got 'a'."),
    Row("fixed of another shape", lambda: tree(fixed={"a": True, "b": [True, False]}), V,
        "fixed['b']: expected the shape (3,) of the parameters, got shape (2,)."),
    Row("fixed of another structure", lambda: tree(fixed={"a": True}), V, "fixed: expected one value, or a pytree like ..."),
]
# fmt: on
