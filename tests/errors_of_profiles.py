"""The third part of the table of `errors`: intervals, profiles, contours, bootstraps and the delta method."""

from typing import Any

import jaxgd
from tests.errors import Row, T, V, calls_numpy, squares
from tests.problems import X, Y, line, square

PAIR: Any = {"a": 1.0, "w": [1.0, 2.0]}
NOTHING: Any = None


def intervals(cost: Any = squares, result: Any = PAIR, **options: Any) -> jaxgd.Intervals:
    return jaxgd.intervals(cost, result, **options)


def profile(parameter: Any = "a", **options: Any) -> jaxgd.Profile:
    return jaxgd.profile(squares, PAIR, None, parameter, **options)


def contour(parameters: Any = ("a", "w[0]"), **options: Any) -> jaxgd.Contour:
    return jaxgd.contour(squares, PAIR, None, parameters, **options)


def bootstrap(cost: Any = line, data: Any = (X, Y), key: Any = 0, **options: Any) -> jaxgd.Bootstrap:
    return jaxgd.bootstrap(cost, [0.5, 0.5], data, key=key, **options)


def propagate(function: Any) -> Any:
    return jaxgd.covariance(square, 0.0).propagate(function)


def of_a_key(params: Any, key: Any) -> Any:
    return params + key


# fmt: off
ERRORS = [
    Row("intervals of a cost of data", lambda: intervals(line), T,
        "cost: ... cost(params), since no data were given; got line(b..."),
    Row("intervals of a cost with a key", lambda: intervals(of_a_key), V,
        "cost: expected none that needs a parameter key, which a profile does not have."),
    Row("intervals of scale zero", lambda: intervals(scale=0), V, "scale: expected a finite number > 0, got 0."),
    Row("intervals of no deviation", lambda: intervals(sigma=-1), V, "sigma: expected a finite number > 0, got -1."),
    Row("intervals of an unknown name", lambda: intervals(parameters=["w[3]"]), V,
        "parameters[0]: expected one of a, w[0], w[1], got 'w[3]'."),
    Row("intervals of a number for a name", lambda: intervals(parameters=[0.5]), T,
        "parameters[0]: expected the name of a parameter, such as 'a', got 0.5."),
    Row("intervals of what is fixed", lambda: intervals(parameters=["a"], fixed={"a": True, "w": False}), V,
        "parameters[0]: expected a parameter that is free, got 'a', which is fixed.", early=False),
    Row("intervals of a text", lambda: intervals(result="best"), T, "result: expected numbers, got 'best'."),
    Row("intervals without a truth value for jit", lambda: intervals(jit=1), T, "jit: expected True or False, got 1."),
    Row("a profile of no parameter", lambda: profile(None), T,
        "parameter: expected the name of a parameter, such as 'a', got None."),
    Row("a profile of one point", lambda: profile(n_points=1), V, "n_points: expected an integer of at least 2, got 1."),
    Row("a profile at a number", lambda: profile(values=1.0), T, "values: expected a list of numbers, got 1.0."),
    Row("a profile at no value", lambda: profile(values=[]), V, "values: expected finite numbers within the bounds, ..., got none.",
        early=False),
    Row("a profile beyond the bounds", lambda: profile(values=[1.0, 3.0], bounds=(0, 2)), V,
        "values: expected finite numbers within the bounds, from 0 to 2, got 3.0.", early=False),
    Row("a contour of one parameter", lambda: contour("a"), T,
        "parameters: expected the names of two parameters, of a, w[0], w[1], got 'a'."),
    Row("a contour of one parameter twice", lambda: contour(("a", 0)), V,
        "parameters: expected two different parameters, got ('a', 0)."),
    Row("a contour of a level above one", lambda: contour(level=68), V, "level: expected a number in [0, 1), got 68."),
    Row("a contour of level zero", lambda: contour(level=0), V, "level: expected a finite number > 0, got 0."),
    Row("a contour of three points", lambda: contour(n_points=3), V, "n_points: expected an integer of at least 4, got 3."),
    Row("a bootstrap without a key", lambda: bootstrap(key=None), V, "key: a bootstrap needs a random key: pass an integer, ..."),
    Row("a bootstrap of one sample", lambda: bootstrap(n_samples=1), V, "n_samples: expected an integer of at least 2, got 1."),
    Row("a bootstrap of unequal rows", lambda: bootstrap(data=(X, Y[:3])), V,
        "data: expected equally many rows in every array, got: data[0] has 6, data[1] has 3."),
    Row("a bootstrap of draws of nothing", lambda: bootstrap(draw=3), T,
        "draw: expected a function params, key -> data, got 3."),
    Row("a bootstrap of draws of other data", lambda: bootstrap(draw=lambda p, key: p), V,
        "draw: expected the structure of the data, ...", early=False),
    Row("a level of no interval", lambda: bootstrap(n_samples=2).interval(0), V,
        "level: expected a number in (0, 1], got 0.", early=False),
    Row("an error of no function", lambda: propagate(3), T,
        "function: expected a function of the parameters, params -> value, got 3.", early=False),
    Row("an error of nothing", lambda: propagate(lambda p: NOTHING), T,
        "function: expected it to return a number, an array, or a pytree of them, it returned None.", early=False),
    Row("an error of an integer", lambda: propagate(lambda p: 3), T,
        "function: expected it to return real numbers, or arrays of them, it returned 3.", early=False),
    Row("an error by NumPy", lambda: propagate(calls_numpy), T, "function: it can't be traced: NumPy was called ...", early=False),
    Row("a picture of a result", lambda: jaxgd.plot.profile(NOTHING), T,
        "found: expected a Profile of jaxgd.profile, got None."),
    Row("a picture of no contour", lambda: jaxgd.plot.contour([]), V, "found: expected at least one Contour, got none."),
    Row("a picture of a number", lambda: jaxgd.plot.contour([NOTHING]), T,
        "found[0]: expected a Contour of jaxgd.contour, got None."),
]
# fmt: on
