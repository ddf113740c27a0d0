"""What others would write or pick for the same: each function gives a call to be timed."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd.data import shuffle

BLOCK = 16_384  # rows that the hand-written program gathers at once


def numpy_loop(x: np.ndarray, y: np.ndarray, rate: float, batch_size: int, n_epochs: int) -> Any:
    """A tutorial's minibatch descent for a line: a shuffle every epoch, the gradient by hand, a test of the update.

    The tolerance of the test is one that minibatches never meet, so that every epoch is run, as in ours.
    """

    def gradient(rows_x: np.ndarray, rows_y: np.ndarray, line: np.ndarray) -> Any:
        residual = line[0] + line[1] * rows_x - rows_y
        return residual.mean(), (residual * rows_x).mean()

    def run() -> Any:
        table = np.c_[x.reshape(len(x), -1), y.reshape(len(x), 1)]
        generator = np.random.default_rng(0)
        line, update = np.array([0.5, 0.5]), np.zeros(2)
        for _ in range(n_epochs):
            generator.shuffle(table)
            for first in range(0, len(table), batch_size):
                rows_x, rows_y = table[first : first + batch_size, :-1], table[first : first + batch_size, -1:]
                update = 0.0 * update - rate * np.array(gradient(rows_x, rows_y, line))
                if np.all(np.abs(update) <= 1e-12):
                    break
                line += update
        return line

    return run


def optax_scan(cost: Any, start: Any, data: Any, optimizer: Any, batch_size: int, n_epochs: int) -> Callable[[], Any]:
    """Idiomatic JAX: `jax.random.permutation`, a scan over whole batches inside a scan over epochs, an Optax optimiser.

    The rows left over in an epoch are dropped, as is usual.
    """
    import optax

    n_rows = jax.tree.leaves(data)[0].shape[0]
    n_batches = n_rows // batch_size

    @jax.jit
    def train(params: Any, data: Any, key: jax.Array) -> Any:
        def step(carry: Any, rows: jax.Array) -> Any:
            params, state = carry
            gradient = jax.grad(cost)(params, jax.tree.map(lambda leaf: leaf[rows], data))
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        def epoch(carry: Any, key: jax.Array) -> Any:
            order = jax.random.permutation(key, n_rows)[: n_batches * batch_size].reshape(n_batches, batch_size)
            return lax.scan(step, carry, order)

        return lax.scan(epoch, (params, optimizer.init(params)), jax.random.split(key, n_epochs))[0][0]

    return lambda: train(start, data, jax.random.key(0))


def hand_written(
    cost: Any, start: Any, data: Any, rate: float, batch_size: int, n_epochs: int, *, end: bool = False
) -> Callable[[], Any]:
    """The tightest program that we can think of: our order of rows, blocks of batches gathered at once, plain descent, no more.

    Nothing is checked, recorded or remembered; with `end` the cost and the gradient of the end over all rows come back, as in ours.
    """
    n_rows = jax.tree.leaves(data)[0].shape[0]
    n_batches, last_size = divmod(n_rows, batch_size)
    per_block = max(1, min(BLOCK // batch_size, n_batches))
    seed = shuffle.seed(jax.random.key(0))

    @jax.jit
    def train(params: Any, data: Any) -> Any:
        def step(params: Any, rows: Any) -> Any:
            return jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(cost)(params, rows))

        def gathered(order: Any, first: Any, count: int) -> Any:
            rows = shuffle.rows_from(order, jnp.asarray(first, jnp.uint32), count, n_rows, in_pieces=True)
            return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), data)

        def batches(params: Any, block: Any, count: int) -> Any:
            def one(k: Any, params: Any) -> Any:
                return step(params, jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, k * batch_size, batch_size), block))

            return lax.fori_loop(0, count, one, params)

        def epoch(number: Any, params: Any) -> Any:
            if n_batches == 1 and not last_size:
                return step(params, data)
            order = shuffle.shuffle(seed, number, n_rows)
            n_blocks, left = divmod(n_batches, per_block)
            size = per_block * batch_size
            params = lax.fori_loop(
                0, n_blocks, lambda k, params: batches(params, gathered(order, k * size, size), per_block), params
            )
            if left:
                params = batches(params, gathered(order, n_blocks * size, left * batch_size), left)
            if last_size:
                params = step(params, gathered(order, n_batches * batch_size, last_size))
            return params

        params = lax.fori_loop(0, n_epochs, epoch, params)
        return (params, jax.value_and_grad(cost)(params, data)) if end else params

    return lambda: train(start, data)


def sgd_regressor(data: Any, rate: float, n_epochs: int) -> Callable[[], Any]:
    """scikit-learn's compiled loop over single rows."""
    import sklearn.linear_model

    estimator: Any = sklearn.linear_model.SGDRegressor

    x, y = (np.asarray(leaf) for leaf in data)
    model: Any = functools.partial(estimator, max_iter=n_epochs, tol=None, alpha=0.0, learning_rate="constant", eta0=rate)
    return lambda: model(random_state=0).fit(x, y).coef_


def sgd_classifier(data: Any, rate: float, n_epochs: int) -> Callable[[], Any]:
    """scikit-learn's compiled loop over single rows, one logistic classifier for each class."""
    import sklearn.linear_model

    estimator: Any = sklearn.linear_model.SGDClassifier

    x, y = (np.asarray(leaf) for leaf in data)
    model: Any = functools.partial(estimator, loss="log_loss", max_iter=n_epochs, tol=None, learning_rate="constant", eta0=rate)
    return lambda: model(random_state=0).fit(x, y).coef_


def torch_loop(
    data: Any, n_outputs: int, loss: str, optimizer: str, rate: float, batch_size: int, n_epochs: int
) -> Callable[[], Any]:
    """PyTorch's loop over a linear layer's minibatches, in eager mode on the CPU."""
    import torch  # type: ignore[import-not-found]

    x, y = (torch.from_numpy(np.array(leaf)) for leaf in data)
    target = y.long() if n_outputs > 1 else y
    measure = getattr(torch.nn.functional, loss)

    def run() -> Any:
        model = torch.nn.Linear(x.shape[1], n_outputs)
        steps = getattr(torch.optim, optimizer)(model.parameters(), lr=rate)
        for _ in range(n_epochs):
            for rows in torch.randperm(len(x)).split(batch_size):
                steps.zero_grad()
                measure(model(x[rows]).squeeze(-1), target[rows]).backward()
                steps.step()
        return [parameter.detach().numpy() for parameter in model.parameters()]

    return run
