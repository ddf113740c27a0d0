"""The third part of the table of `errors`: residuals, their losses, and models of data."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxgd
from tests.errors import Row, T, V
from tests.problems import X, Y, square

LOSSES = "'linear', 'soft_l1', 'huber', 'cauchy', 'arctan'"
WRONG: Any = 3


def shifted(v: Any) -> Any:
    return v - jnp.arange(3.0)


def line(p: Any, x: Any) -> Any:
    return p[0] + p[1] * x


def squares(residuals: Any = shifted, **options: Any) -> Any:
    return jaxgd.least_squares(residuals, 1.0, **options)


def curve(model: Any = line, y: Any = Y, **options: Any) -> Any:
    return jaxgd.curve_fit(model, X, y, [0.5, 0.5], **options)


# fmt: off
ERRORS = [
    Row("residuals that are no function", lambda: squares(WRONG), T, "residuals: expected a function, got 3."),
    Row("residuals of data without data", lambda: squares(line), T,
        "residuals: expected a function that can be called as residuals(params), since no data were given; got line(p..."),
    Row("residuals of nothing", lambda: squares(lambda v: None), T,
        "residuals: it must return an array of real numbers, or a pytree of them, it returned None."),
    Row("residuals that are no numbers", lambda: squares(lambda v: shifted(v) > 0), T,
        "residuals: it must return an array of real numbers, or a pytree of them, it returned bool of shape (3,)."),
    Row("an unknown loss", lambda: squares(loss="hubber"), V, f"loss: expected a function or one of {LOSSES}, got 'hubber'."),
    Row("a loss that is a number", lambda: squares(loss=WRONG), T, f"loss: expected a function or one of {LOSSES}, got 3."),
    Row("a loss of all together", lambda: squares(loss=jnp.sum), T,
        "loss: it must return an array of the shape of its argument, (3,), got ()."),
    Row("a scale below zero", lambda: squares(loss="huber", loss_scale=-1), V, "loss_scale: expected a finite number > 0, got -1."),
    Row("a scale of squares", lambda: squares(loss_scale=2.0), V,
        "loss_scale: expected 1 with the loss 'linear', which has no scale, got 2.0."),
    Row("a method of residuals without any", lambda: jaxgd.minimize(square, 1.0, method=jaxgd.LevenbergMarquardt()), V,
        "method: LevenbergMarquardt needs residuals of all rows, got a cost without: "
        "pass the cost as jaxgd.SumOfSquares(residuals), or call jaxgd.least_squares."),
    Row("products of a cost that runs as Python", lambda: squares(method=jaxgd.GaussNewton(), jit=False), V,
        "method: GaussNewton needs a cost that is compiled, got jit=False: "
        "leave the method out, or pass LBFGS(), which needs the gradient alone.", early=False),
    Row("no products", lambda: jaxgd.GaussNewton(most=0), V, "GaussNewton: most: expected ..., got 0."),
    Row("a model of one argument", lambda: curve(lambda p: p), T,
        "model: expected a function that can be called as model(params, x); got <lambda>(p)."),
    Row("a model of one number", lambda: curve(lambda p, x: p[0]), T,
        "model: it must return an array of the shape of y, (6,), it returned one of ()."),
    Row("words as data", lambda: curve(y="abc"), T, "y: expected an array of numbers, got 'abc'."),
    Row("deviations of another shape", lambda: curve(sigma=np.ones(3)), V,
        "sigma: expected a number or an array of the shape of y, (6,), or the matrix of covariance, (6, 6), got shape (3,)."),
    Row("a matrix that is no covariance", lambda: curve(sigma=-np.eye(6)), V,
        "sigma: expected a positive definite matrix of covariance, got one that is not."),
    Row("absolute deviations of nothing", lambda: curve(absolute_sigma=True), V,
        "absolute_sigma: expected False where no sigma is given, got True."),
    Row("a sandwich without residuals", lambda: jaxgd.covariance(square, 0.0, robust=True), V,
        "robust: expected None or False for a cost whose residuals are not known, got True: pass residuals=."),
    Row("a scale of a sandwich", lambda: jaxgd.covariance(jaxgd.SumOfSquares(shifted), 1.0, robust=True, scale=0.5), V,
        "scale: expected None with robust=True or a robust loss, got 0.5."),
]
# fmt: on
