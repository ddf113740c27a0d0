"""Uses that the documentation of JAXopt and of Optimistix shows, written anew: each against its closed form."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import jaxgd
from jaxgd import Status

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(30, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.5 * RANDOM.normal(size=30)
TRAIN, HELD_OUT = (X[:20], Y[:20]), (X[20:], Y[20:])
ZERO = np.zeros(3)


@pytest.fixture(autouse=True)
def as_users_have_it() -> Iterator[None]:
    """Optax and Equinox need JAX's own rules for dtypes; 64 bits, to compare with closed forms."""
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(True):
        yield


def ridge(w: Any, weight: Any, rows: Any) -> Any:
    x, y = rows
    return jnp.mean((x @ w - y) ** 2) + weight * jnp.sum(w**2)


def ridge_minimum(weight: Any, rows: Any = TRAIN) -> Any:
    """The same in closed form."""
    x, y = rows
    return jnp.linalg.solve(x.T @ x / len(y) + weight * jnp.eye(3), x.T @ y / len(y))


def ridge_fit(weight: Any, rows: Any = TRAIN, start: Any = ZERO, **options: Any) -> Any:
    return jaxgd.minimize(lambda w: ridge(w, weight, rows), start, **options).params


def close(found: Any, expected: Any, rtol: float = 1e-7) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.max(np.abs(b))), found, expected)


# JAXopt


def test_a_ridge_regression_is_differentiated() -> None:
    expected = jax.jacrev(ridge_minimum, argnums=(0, 1))(0.3, TRAIN)
    found = jax.jit(jax.jacrev(lambda weight, rows: ridge_fit(weight, rows, method=jaxgd.SpectralGradient()), argnums=(0, 1)))(
        0.3, TRAIN
    )
    close(found, expected)
    close(jax.jacfwd(lambda weight: ridge_fit(weight, method=jaxgd.SpectralGradient()))(0.3), expected[0])


@pytest.mark.slow
def test_the_dual_of_a_support_vector_machine_moves_with_its_box() -> None:
    """Multipliers at the limit move with it, those at zero stay, and the others keep their slope at zero."""
    labels, distances = np.sign(Y), np.sum((X[:, None] - X) ** 2, axis=2)
    matrix = labels[:, None] * labels * np.exp(-distances / 2)

    def multipliers(limit: Any) -> Any:
        return jaxgd.minimize(lambda b: b @ matrix @ b / 2 - jnp.sum(b), np.zeros(30), bounds=(0, limit)).params

    found = np.asarray(multipliers(1.0))
    slope, low, high = matrix @ found - 1, found < 1e-9, found > 1 - 1e-9
    free = ~(low | high)
    assert np.all(slope[low] > 0) and np.all(slope[high] < 0) and np.all(np.abs(slope[free]) < 1e-9)
    assert min(low.sum(), high.sum(), free.sum()) > 2
    moved = np.where(high, 1.0, 0.0)
    moved[free] = -np.linalg.solve(matrix[np.ix_(free, free)], matrix[np.ix_(free, high)].sum(axis=1))
    for transform in (jax.jacfwd, jax.jacrev):
        close(transform(multipliers)(1.0), moved)


def validation(log_weight: Any, minimum: Any) -> Any:
    x, y = HELD_OUT
    return jnp.mean((x @ minimum(jnp.exp(log_weight)) - y) ** 2)


@pytest.mark.slow
def test_the_weight_of_a_penalty_is_fitted_to_held_out_data() -> None:
    """A fit within a fit, whose Hessian takes third derivatives of the inner cost."""
    result = jaxgd.minimize(lambda log_weight: validation(log_weight, ridge_fit), 0.0)
    closed = jaxgd.minimize(lambda log_weight: validation(log_weight, ridge_minimum), 0.0)
    assert result.converged and closed.converged
    close((result.params, result.cost), (closed.params, closed.cost), rtol=1e-6)
    close(jax.hessian(validation)(0.5, ridge_fit), jax.hessian(validation)(0.5, ridge_minimum))


@pytest.mark.slow
def test_labels_are_distilled() -> None:
    """A fit to three rows only, the unit vectors, whose labels are such that it is the fit to all rows."""
    few = np.eye(3)

    def cost_of_all(labels: Any) -> Any:
        return ridge(ridge_fit(0.2, (few, labels)), 0.0, TRAIN)

    labels = jaxgd.minimize(cost_of_all, ZERO).params
    close(labels, (1 + 3 * 0.2) * np.linalg.lstsq(*TRAIN)[0])


@pytest.mark.slow
def test_an_implicit_layer() -> None:
    """The fixed points of a layer, for several inputs, and the gradient of a loss of them with respect to its matrix."""
    mix, inputs = RANDOM.normal(size=(3, 3)) / 3, RANDOM.normal(size=(4, 3))

    def layer(mix: Any, inputs: Any) -> Any:
        return jaxgd.minimize(lambda z: jnp.sum((z - jnp.tanh(mix @ z + inputs)) ** 2), ZERO).params

    points = np.asarray(jax.vmap(layer, (None, 0))(mix, inputs))
    close(points, np.tanh(points @ mix.T + inputs))
    slope = jax.jit(jax.grad(lambda mix: jnp.sum(jax.vmap(layer, (None, 0))(mix, inputs))))(mix)
    expected = np.zeros((3, 3))
    for z in points:
        derivative = np.diag(1 - z**2)
        expected += np.outer(derivative @ np.linalg.solve(np.eye(3) - mix.T @ derivative, np.ones(3)), z)
    close(slope, expected)


@pytest.mark.slow
def test_solvers_are_mapped_over_starts_data_and_penalties() -> None:
    weights, folds = np.geomspace(0.01, 10, 4), (X.reshape(3, 10, 3), Y.reshape(3, 10))
    starts = RANDOM.normal(size=(5, 3))
    crossed = jax.vmap(jax.vmap(ridge_fit, (None, 0)), (0, None))
    close(crossed(weights, folds), [[ridge_minimum(weight, (x, y)) for x, y in zip(*folds, strict=True)] for weight in weights])
    ends = jax.vmap(lambda start: ridge_fit(0.3, start=start))(starts)
    close(ends, np.tile(ridge_minimum(0.3), (5, 1)))
    broken = X.reshape(3, 10, 3).copy()
    broken[1, 4, 2] = np.nan
    status = jax.vmap(lambda x, y: jaxgd.minimize(lambda w: ridge(w, 0.3, (x, y)), ZERO).code)(broken, folds[1])
    assert status[0] == status[2] == Status.CONVERGED.code and status[1] == Status.DIVERGED.code


def test_a_path_of_penalties_is_one_program(compilations: Any) -> None:
    """A jitted solver in a loop, each fit from the end of the last; other data and weights compile nothing."""
    solver = jax.jit(lambda start, weight, rows: ridge_fit(weight, rows, start, method=jaxgd.LBFGS()))

    @jax.jit
    def path(weights: Any, rows: Any) -> Any:
        def step(start: Any, weight: Any) -> tuple[Any, Any]:
            return (solver(start, weight, rows),) * 2

        return lax.scan(step, ZERO, weights)[1]

    weights = np.geomspace(10, 0.01, 6)
    close(path(weights, TRAIN), jax.vmap(ridge_minimum)(weights), rtol=1e-6)
    with compilations() as compiled:
        found = path(weights / 2, (X[10:], Y[10:]))
    assert not compiled
    close(found, jax.vmap(ridge_minimum, (0, None))(weights / 2, (X[10:], Y[10:])), rtol=1e-6)


def test_minibatches_under_a_map_over_keys() -> None:
    """With the rates 1, 1/2, 1/3, ... an epoch of single rows ends at their mean, whatever their order and the start."""

    def end(key: Any) -> Any:
        descent = jaxgd.GradientDescent(jaxgd.schedules.InverseTime(1, 1))
        settings: dict[str, Any] = {"batch_size": 1, "n_epochs": 1, "method": descent}
        return jaxgd.fit(lambda mean, rows: jnp.mean((rows - mean) ** 2) / 2, 9.0, Y, key=key, **settings).params

    close(jax.vmap(end)(jax.random.split(jax.random.key(1), 3)), np.full(3, np.mean(Y)), rtol=1e-13)


# Optimistix


def test_a_minimum_inside_a_loss_that_optax_minimises() -> None:
    """The inner minimum x solves x + x**3 = a; a rate of (1 + 3 * 2**2)**2 makes the outer steps quadratically convergent to 2."""

    def inner(a: Any) -> Any:
        return jaxgd.minimize(lambda x: x**2 / 2 + x**4 / 4 - a * x, 1.0, method=jaxgd.SpectralGradient()).params

    optimizer = optax.sgd(169.0)

    @jax.jit
    def step(carry: Any, _: Any) -> tuple[Any, Any]:
        a, state = carry
        loss, slope = jax.value_and_grad(lambda a: (inner(a) - 2) ** 2 / 2)(a)
        update, state = optimizer.update(slope, state)
        return (optax.apply_updates(a, update), state), loss

    (a, _), losses = lax.scan(step, (jnp.asarray(9.0), optimizer.init(jnp.asarray(9.0))), None, length=6)
    close(a, 10.0, rtol=1e-9)
    assert losses[-1] < 1e-18


@pytest.mark.slow
def test_modules_are_fitted_from_many_starts_and_to_many_tables() -> None:
    columns = np.column_stack([X, np.ones(30)])

    def loss(model: Any, rows: Any) -> Any:
        x, y = rows
        return jnp.mean((jax.vmap(model)(x)[:, 0] - y) ** 2)

    def fitted(key: Any, y: Any) -> Any:
        return jaxgd.minimize(loss, eqx.nn.Linear(3, 1, key=key), (X, y)).params

    keys, tables = jax.random.split(jax.random.key(0), 4), np.stack([Y, Y**2])
    models = eqx.filter_vmap(eqx.filter_vmap(fitted, in_axes=(0, None)), in_axes=(None, 0))(keys, tables)
    for k, y in enumerate(tables):
        *weights, bias = np.linalg.lstsq(columns, y)[0]
        close(models.weight[k], np.tile(weights, (4, 1, 1)))
        close(models.bias[k], np.full((4, 1), bias))


TIMES = np.linspace(0, 4, 41)


def growth(rate: Any, limit: Any) -> Any:
    """The solution of dy/dt = rate * y * (1 - y / limit), y(0) = 0.1."""
    return limit / (1 + (limit / 0.1 - 1) * np.exp(-rate * TIMES))


def integrated(p: Any) -> Any:
    """The same by the classical Runge-Kutta method, with steps of 1/10."""

    def slope(y: Any) -> Any:
        return p["rate"] * y * (1 - y / p["limit"])

    def step(y: Any, _: Any) -> tuple[Any, Any]:
        h = 0.1
        a = slope(y)
        b = slope(y + h / 2 * a)
        c = slope(y + h / 2 * b)
        y = y + h / 6 * (a + 2 * b + 2 * c + slope(y + h * c))
        return y, y

    first = jnp.full_like(p["rate"], 0.1)
    return jnp.concatenate([first[None], lax.scan(step, first, None, length=40)[1]])


@pytest.mark.slow
def test_an_ordinary_differential_equation_is_fitted() -> None:
    """To the exact solution, up to the error of the steps; and to its own steps."""

    def fitted(y: Any) -> Any:
        return jaxgd.minimize(lambda p: jnp.sum((integrated(p) - y) ** 2) / 2, {"rate": 1.0, "limit": 1.0}).params

    truth = {"rate": np.array([1.5, 2.0]), "limit": np.array([2.0, 3.0])}
    found = jax.jit(jax.vmap(fitted))(np.stack([growth(1.5, 2.0), growth(2.0, 3.0)]))
    close(found, truth, rtol=1e-4)
    close(jax.jit(jax.vmap(lambda p: fitted(integrated(p))))(truth), truth)


def test_the_roots_of_implicit_steps_in_a_loop() -> None:
    """Euler's implicit method for dy/dt = -y**3 solves y + h y**3 = last y; each step's derivative is 1 / (1 + 3 h y**2)."""

    def step(last: Any, _: Any) -> tuple[Any, Any]:
        y = jaxgd.minimize(lambda y: (y + 0.5 * y**3 - last) ** 2, last, method=jaxgd.SpectralGradient()).params
        return y, y

    def trajectory(start: Any) -> Any:
        end, path = lax.scan(step, start, None, length=5)
        return end, path

    slope, path = jax.jit(jax.jacrev(trajectory, has_aux=True))(2.0)
    close(path + 0.5 * path**3, np.concatenate([[2.0], path[:-1]]))
    close(slope, np.prod(1 / (1 + 1.5 * path**2)))
