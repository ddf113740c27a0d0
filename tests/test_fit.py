"""fit(): which rows a batch gets, what an epoch records, what the run returns."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd.data import source
from tests.problems import X, Y, line


def batches_seen(n_rows: int, batch_size: int, n_epochs: int, **options: Any) -> list[list[list[int]]]:
    """The rows of each batch of each epoch, as the cost saw them.

    The parameters are a tape: each step writes one cell a row of its batch. The gradient with respect to the cell (step, place) is
    minus the row's number plus one where the tape stands at that step, which a counter among the parameters knows.
    """
    n_batches = -(-n_rows // batch_size)

    def cost(params: Any, batch: Any) -> Any:
        batch = batch[:batch_size]  # all rows come once, at the end
        written = jnp.zeros(n_epochs * n_batches).at[params["step"].astype(int)].set(1.0)
        cells = params["tape"][:, : batch.shape[0]] * written[:, None].astype(params["tape"].dtype)
        return -jnp.sum(cells * (batch + 1.0).astype(cells.dtype)) - params["step"]

    start = {"tape": np.zeros((n_epochs * n_batches, batch_size)), "step": 0.0}
    result = jaxgd.fit(
        cost,
        start,
        np.arange(n_rows, dtype=float),
        batch_size=batch_size,
        n_epochs=n_epochs,
        method=jaxgd.GradientDescent(1.0),
        dtype="float64",
        **options,
    )
    assert result.n_steps == n_epochs * n_batches
    tape = np.asarray(result.params["tape"]).astype(int) - 1
    batches = [[row for row in batch if row >= 0] for batch in tape.tolist()]
    return [batches[epoch * n_batches : (epoch + 1) * n_batches] for epoch in range(n_epochs)]


def flat(batches: list[list[int]]) -> list[int]:
    """The rows of an epoch in the order in which they came."""
    return list(itertools.chain.from_iterable(batches))


SHAPES = [(1, 1), (6, 1), (6, 3), (6, 4), (6, 6), (20, 7), (33, 32), (40, 39)]


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize(("n_rows", "batch_size"), SHAPES)
def test_every_row_once_an_epoch_the_last_batch_smaller(n_rows: int, batch_size: int) -> None:
    sizes = [min(batch_size, n_rows - first) for first in range(0, n_rows, batch_size)]
    in_order = batches_seen(n_rows, batch_size, 2, shuffle=False)
    shuffled = batches_seen(n_rows, batch_size, 4, key=0)
    for epoch in in_order:
        assert flat(epoch) == list(range(n_rows))
        assert [len(batch) for batch in epoch] == sizes
    for epoch in shuffled:
        assert sorted(flat(epoch)) == list(range(n_rows))
        assert [len(batch) for batch in epoch] == sizes


def test_each_epoch_has_another_order_the_first_is_shuffled_too_and_the_key_decides() -> None:
    epochs = [flat(epoch) for epoch in batches_seen(20, 7, 5, key=0)]
    assert len({tuple(epoch) for epoch in [*epochs, list(range(20))]}) == 6
    assert (
        batches_seen(20, 7, 5, key=0)
        == batches_seen(20, 7, 5, key=jax.random.key(0))
        == batches_seen(20, 7, 5, key=jax.random.PRNGKey(0))
    )
    assert batches_seen(20, 7, 5, key=1) != batches_seen(20, 7, 5, key=0)
    # The rows do not depend on the batches they are cut into.
    assert [flat(epoch) for epoch in batches_seen(20, 3, 5, key=0)] == epochs


def test_rows_drawn_with_replacement_repeat_and_are_uniform() -> None:
    epochs = batches_seen(10, 4, 30, key=0, shuffle="replacement")
    assert all([len(batch) for batch in epoch] == [4, 4, 2] for epoch in epochs)
    rows = flat([flat(epoch) for epoch in epochs])
    assert sum(len(set(flat(epoch))) < 10 for epoch in epochs) > 25  # ten draws that are all different: chance 0.0004
    counts = np.bincount(rows, minlength=10)
    assert ((counts - 30) ** 2 / 30).sum() < 9 + 5 * np.sqrt(18)


def test_data_are_any_pytree_and_keep_their_types() -> None:
    seen: dict[str, Any] = {}

    def cost(v: Any, batch: Any) -> Any:
        seen.update(jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), batch))
        return jnp.mean(jnp.where(batch["mask"], (v - batch["pair"][0]) ** 2, 0.0)) + 0.0 * jnp.sum(batch["pair"][1] ** 2).astype(
            v.dtype
        )

    data = {
        "mask": [True, False, True, True],
        "pair": ([1.0, 5.0, 3.0, 2.0], np.ones((4, 2), np.float32)),
        "label": np.arange(4, dtype=np.int8),
    }
    result = jaxgd.fit(
        cost,
        0.0,
        data,
        batch_size=2,
        n_epochs=300,
        key=0,
        dtype="float64",
        method=jaxgd.GradientDescent(jaxgd.schedules.InverseTime(5, 10)),
    )
    np.testing.assert_allclose(result.params, 2, atol=0.05)
    assert seen["mask"][1] == "bool" and seen["label"][1] == "int8" and seen["pair"][1][1] == "float64"


def test_a_column_of_a_table_is_an_array() -> None:
    class Column:
        """What pandas' columns look like to NumPy."""

        def __init__(self, values: Any) -> None:
            self.values = values

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.asarray(self.values, dtype)

    options: dict[str, Any] = {"batch_size": 3, "n_epochs": 10, "key": 0, "method": jaxgd.GradientDescent(1e-4)}
    columns = jaxgd.fit(line, [0.5, 0.5], (Column(X), Column(Y)), **options)
    arrays = jaxgd.fit(line, [0.5, 0.5], (X, Y), **options)
    lists = jaxgd.fit(line, [0.5, 0.5], (X.tolist(), Y.tolist()), **options)
    np.testing.assert_array_equal(columns.params, arrays.params)
    np.testing.assert_array_equal(lists.params, arrays.params)


@pytest.mark.slow
def test_inputs_are_left_alone() -> None:
    start = {"b": np.array([0.5, 0.5]), "c": jnp.ones(2)}
    data = (X.copy(), jnp.asarray(Y))
    before = jax.tree.map(np.array, (start, data))
    for _ in range(2):
        jaxgd.fit(lambda p, d: line(p["b"], d) + jnp.sum(p["c"] ** 2), start, data, batch_size=3, n_epochs=3, key=0)
        jaxgd.minimize(lambda p, d: line(p["b"], d) + jnp.sum(p["c"] ** 2), start, data, max_steps=3)
    jax.tree.map(np.testing.assert_array_equal, before, (start, data))


def test_the_average_is_the_mean_of_the_last_iterates() -> None:
    data = np.array([1.0, 2.0, 4.0])
    options: dict[str, Any] = {
        "batch_size": 2,
        "n_epochs": 5,
        "shuffle": False,
        "dtype": "float64",
        "method": jaxgd.GradientDescent(0.3),
    }
    iterates, v = [], 0.0
    for _ in range(5):
        for batch in (data[:2], data[2:]):
            v -= 0.3 * 2 * np.mean(v - batch)
            iterates.append(v)
    for fraction, count in ((1.0, 10), (0.5, 5), (0.55, 6), (0.01, 1)):
        result = jaxgd.fit(lambda v, b: jnp.mean((v - b) ** 2), 0.0, data, average=fraction, **options)
        mean = np.mean(iterates[-count:])
        np.testing.assert_allclose(result.params, mean, rtol=1e-14)
        np.testing.assert_allclose(result.cost, np.mean((mean - data) ** 2), rtol=1e-14)
        np.testing.assert_allclose(result.gradient, 2 * np.mean(mean - data), rtol=1e-13)
    stopped = jaxgd.fit(
        lambda v, b: jnp.mean((v - b) ** 2), 0.0, data, average=0.5, stop=jaxgd.stopping.UpdateTolerance(10.0), **options
    )
    assert (stopped.n_steps, float(stopped.params)) == (0, 0.0)


def test_cost_gradient_and_aux_are_those_of_the_returned_point_over_all_rows() -> None:
    def cost(b: Any, d: Any) -> Any:
        return line(b, d), {"residual": b[0] + b[1] * d[0] - d[1]}

    result = jaxgd.fit(
        cost, [0.5, 0.5], (X, Y), batch_size=4, n_epochs=7, key=0, has_aux=True, method=jaxgd.GradientDescent(1e-4), dtype="float64"
    )
    residual = result.params[0] + result.params[1] * X - Y
    np.testing.assert_allclose(result.aux["residual"], residual, rtol=1e-14)
    np.testing.assert_allclose(result.cost, np.mean(residual**2) / 2, rtol=1e-14)
    np.testing.assert_allclose(result.gradient, [np.mean(residual), np.mean(residual * X)], rtol=1e-13)
    assert (result.n_steps, result.n_epochs, result.n_evaluations) == (14, 7, 15)


def test_the_history_of_an_epoch_is_what_it_says() -> None:
    options: dict[str, Any] = {"batch_size": 4, "n_epochs": 6, "key": 3, "method": jaxgd.Adam(0.1), "dtype": "float64"}
    result = jaxgd.fit(line, [0.5, 0.5], (X, Y), history=("params", "gradient_norm"), validation=(X[:2], Y[:2]), **options)
    history = result.history
    assert history is not None and history.learning_rate is None
    assert history.cost.shape == history.validation_cost.shape == history.gradient_norm.shape == (7,)
    np.testing.assert_array_equal(history.params[0], [0.5, 0.5])
    np.testing.assert_array_equal(history.params[-1], result.params)
    residual = 0.5 + 0.5 * X - Y
    np.testing.assert_allclose(history.cost[0], np.mean(residual**2) / 2, rtol=1e-14)
    np.testing.assert_allclose(history.gradient_norm[0], np.hypot(np.mean(residual), np.mean(residual * X)), rtol=1e-14)
    for params, validation in zip(history.params, history.validation_cost, strict=True):
        np.testing.assert_allclose(validation, np.mean((params[0] + params[1] * X[:2] - Y[:2]) ** 2) / 2, rtol=1e-13)
    assert float(result.best.cost) == np.min(history.validation_cost)
    np.testing.assert_array_equal(result.best.params, history.params[np.argmin(history.validation_cost)])
    by_cost = jaxgd.fit(line, [0.5, 0.5], (X, Y), history="params", **options)
    assert by_cost.history is not None and by_cost.history.validation_cost is None
    np.testing.assert_array_equal(by_cost.history.cost, history.cost)
    all_rows = [np.mean((params[0] + params[1] * X - Y) ** 2) / 2 for params in np.asarray(history.params)]
    np.testing.assert_allclose(by_cost.best.cost, all_rows[np.argmin(history.cost[1:]) + 1], rtol=1e-13)


def test_the_mean_cost_of_many_batches_is_exact_in_single_precision() -> None:
    # A naive float32 sum of 300 000 times 0.1 is off by half a percent.
    result = jaxgd.fit(
        lambda v, b: 0.1 + 0.0 * v * jnp.sum(b),
        0.0,
        np.zeros(300_000, np.float32),
        batch_size=1,
        n_epochs=1,
        shuffle=False,
        dtype="float32",
        history="cost",
    )
    assert result.history is not None
    np.testing.assert_allclose(result.history.cost[1], 0.1, rtol=1e-6)


@pytest.mark.parametrize(("n_rows", "batch_size", "block"), [(47, 2, 5), (46, 2, 23), (201, 2, 70), (300, 1, 100)])
def test_rows_in_order_are_cut_into_blocks(n_rows: int, batch_size: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_BLOCK_ROWS", block)
    rows = np.random.default_rng(n_rows).normal(size=n_rows)
    x: Any = 0.0
    costs: list[Any] = []
    for batch in np.split(rows, np.arange(batch_size, n_rows, batch_size)):
        costs.append(np.mean((x - batch) ** 2) / 2)
        x -= 0.25 * np.mean(x - batch)
    options: dict[str, Any] = {"batch_size": batch_size, "n_epochs": 1, "shuffle": False, "dtype": "float64", "history": "cost"}
    result = jaxgd.fit(lambda v, b: jnp.mean((v - b) ** 2) / 2, 0.0, rows, method=jaxgd.GradientDescent(0.25), **options)
    assert result.history is not None and result.n_steps == len(costs)
    sizes = [min(batch_size, n_rows - first) for first in range(0, n_rows, batch_size)]
    np.testing.assert_allclose((result.params, result.history.cost[1]), (x, np.average(costs, weights=sizes)), rtol=1e-13)


def test_the_mean_cost_of_an_epoch_broken_off_is_that_of_the_batches_evaluated() -> None:
    result = jaxgd.fit(
        lambda v, b: (v + 10) * jnp.mean(b),
        0.0,
        np.array([4.0, 3.0, 2.0, 1.0]),
        batch_size=1,
        n_epochs=1,
        shuffle=False,
        method=jaxgd.GradientDescent(1.0),
        stop=jaxgd.stopping.UpdateTolerance(2.5),
    )
    assert (result.n_steps, float(result.params)) == (2, -7)
    assert float(result.state.epoch_cost) == np.float32((40 + 18 + 6) / 3)
    assert float(result.best.cost) == float(result.cost) == 3 * 2.5  # of all rows, which the mean above is not


@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
def test_precision_is_scoped_to_the_call(dtype: str | None) -> None:
    flag = jax.config.read("jax_enable_x64")
    expected = np.dtype(dtype or ("float64" if flag else "float32"))
    start = {"half": jnp.ones(2, jnp.bfloat16), "list": [1, 2], "scalar": 3}
    result = jaxgd.minimize(
        lambda p: jnp.sum(p["half"].astype(expected) ** 2) + jnp.sum(p["list"] ** 2) + p["scalar"] ** 2,
        start,
        method=jaxgd.GradientDescent(0.1),
        max_steps=5,
        dtype=dtype,
        history="params",
    )
    assert jax.config.read("jax_enable_x64") == flag
    assert result.params["list"].dtype == result.params["scalar"].dtype == expected
    assert result.params["half"].dtype == (jnp.bfloat16 if dtype is None else expected)
    assert result.params["list"].shape == (2,) and result.params["scalar"].shape == ()
    assert jax.tree.structure(result.gradient) == jax.tree.structure(result.params)
    assert np.asarray(result.cost).dtype == expected
    np.testing.assert_allclose(result.params["list"], np.array([1, 2]) * 0.8**5, rtol=1e-6)
    twice = result.params["list"] * 2  # arrays that leave a call keep their precision outside it
    assert twice.dtype == expected


def test_half_precision_is_averaged_and_summed_in_single() -> None:
    options: dict[str, Any] = {"batch_size": 1, "shuffle": False, "dtype": None}
    data = np.full(2000, 3.0, np.float32)
    start = jnp.zeros((), jnp.bfloat16)

    def cost(v: Any, batch: Any) -> Any:
        return jnp.mean((v.astype(jnp.float32) - batch) ** 2)

    mean = jaxgd.fit(cost, start, data, n_epochs=2, average=0.9, method=jaxgd.GradientDescent(0.1), **options)
    assert mean.params.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(mean.params), 3, atol=0.04)  # two units of bfloat16
    # The mean gradient of 2000 batches is -6; a sum in bfloat16 would stay behind.
    stop = jaxgd.stopping.GradientTolerance(5.9)
    assert (
        jaxgd.fit(cost, start, data, n_epochs=1, stop=stop, method=jaxgd.GradientDescent(1e-9), **options).status
        is jaxgd.Status.MAX_EPOCHS
    )


@pytest.mark.parametrize(("fraction", "count"), [(0.07, 7), (0.14, 14), (0.28, 28), (0.55, 55), (0.56, 56), (0.001, 1), (1.0, 100)])
def test_the_averaged_part_is_counted_exactly(fraction: float, count: int) -> None:
    result = jaxgd.fit(lambda v, b: -v, 0.0, [0.0], batch_size=1, n_epochs=100, average=fraction, method=jaxgd.GradientDescent(1.0))
    assert float(result.params) == 100 - (count - 1) / 2  # the mean of the last `count` of 1, 2, ... 100


def test_numbers_of_other_machines_and_other_widths() -> None:
    options: dict[str, Any] = {"batch_size": 3, "n_epochs": 5, "key": 0, "method": jaxgd.GradientDescent(1e-4)}
    plain = jaxgd.fit(line, [0.5, 0.5], (X, Y), **options)
    swapped = jaxgd.fit(line, np.array([0.5, 0.5], ">f8"), (X.astype(">f8"), Y.astype(np.longdouble)), **options)
    np.testing.assert_array_equal(plain.params, swapped.params)
    with jax.enable_x64(True):
        wide = jnp.asarray([0.5, 0.5])
    np.testing.assert_array_equal(jaxgd.fit(line, wide, (X, Y), **options).params, plain.params)


def test_the_order_does_not_depend_on_the_precision_or_the_flag() -> None:
    for key in (0, 7, 2**32 - 1):
        orders = [batches_seen(20, 7, 2, key=key), batches_seen(20, 7, 2, key=np.int64(key))]
        with jax.enable_x64(True):
            orders.append(batches_seen(20, 7, 2, key=key))
        assert orders[0] == orders[1] == orders[2]


def test_rank_promotion_may_be_forbidden() -> None:
    with jax.numpy_rank_promotion("raise"):
        for n_rows in (6, 40):
            jaxgd.fit(
                lambda v, b: jnp.mean((v - b) ** 2),
                0.0,
                np.arange(float(n_rows)),
                batch_size=4,
                n_epochs=2,
                key=0,
                history="params",
            )
