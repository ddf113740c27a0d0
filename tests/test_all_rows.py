"""fit(): the cost over all rows is that of all rows, whatever the cost, and takes no more memory than a batch where it can."""

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd._objective import additive, all_rows

N = 1003
RNG = np.random.default_rng(5)
X = RNG.normal(size=N)
Y = 2 * X + np.where(np.arange(N) < N // 2, 0.3, 5) * RNG.normal(size=N)  # the halves are very unlike
WEIGHT = RNG.uniform(0.1, 3, size=N)
MASK = np.where(np.arange(N) < N - 40, 1.0, 0.0)  # padded at the end
RARE = np.where(np.arange(N) % 331 == 7, 1.0, 0.0)
DATA = {"x": X, "y": Y, "weight": WEIGHT, "mask": MASK, "rare": RARE}
ADDITIVE = {
    "mean and penalty": lambda p, b: jnp.mean(residual(p, b) ** 2) + 0.3 * jnp.sum((p - 1) ** 2),
    "robust": lambda p, b: jnp.mean(jnp.log(jnp.cosh(residual(p, b)))),
    "masked, over all": lambda p, b: jnp.mean(b["mask"] * residual(p, b) ** 2),
    "sum": lambda p, b: jnp.sum(residual(p, b) ** 2),
    "sum and prior": lambda p, b: jnp.sum(b["weight"] * residual(p, b) ** 2) + 40 * jnp.sum((p + 1) ** 2),
    "sum over a constant": lambda p, b: jnp.sum(jnp.abs(residual(p, b))) / N + jnp.sum(p**2),
}
OTHERS = {
    "root": lambda p, b: jnp.sqrt(jnp.mean(residual(p, b) ** 2)),
    "logarithm of a sum": lambda p, b: jnp.log(jnp.sum(residual(p, b) ** 2)),
    "largest": lambda p, b: jnp.max(jnp.abs(residual(p, b))),
    "median": lambda p, b: jnp.median(jnp.abs(residual(p, b))),
    "weighted mean": lambda p, b: jnp.sum(b["weight"] * residual(p, b) ** 2) / jnp.sum(b["weight"]),
    "masked mean": lambda p, b: jnp.sum(b["mask"] * residual(p, b) ** 2) / jnp.sum(b["mask"]),
    "rare labels": lambda p, b: -jnp.sum(b["rare"] * jnp.tanh(residual(p, b))) / (1 + jnp.sum(b["rare"])),
    "unbiased": lambda p, b: jnp.sum(residual(p, b) ** 2) / (len(b["x"]) - 2),
    "normalised": lambda p, b: jnp.mean((p[0] * (b["x"] - jnp.mean(b["x"])) / jnp.std(b["x"]) + p[1] - b["y"]) ** 2),
    "small share": lambda p, b: jnp.mean(residual(p, b) ** 2) + 0.1 * jnp.std(residual(p, b)),
    "pairs": lambda p, b: jnp.mean(jnp.abs(residual(p, b)[:, None] - residual(p, b)[None, :])),
    "neighbours": lambda p, b: jnp.mean((b["y"][1:] - p[0] * b["y"][:-1] - p[1]) ** 2),
    "only at the start": lambda p, b: jnp.mean(b["y"] ** 2) + jnp.sqrt(1e-9 + jnp.mean((p[0] * b["x"] + p[1]) ** 2)) - 3e-5,
}


def residual(params: Any, rows: Any) -> Any:
    return params[0] * rows["x"] + params[1] - rows["y"]


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows together are too much: parts of some 170 rows in float64."""
    monkeypatch.setattr(all_rows, "_TOGETHER", 2**11)
    monkeypatch.setattr(all_rows, "_PART", 1400)


def run(cost: Any, dtype: str | None = "float64", data: Any = DATA, **options: Any) -> Any:
    defaults: dict[str, Any] = {"batch_size": 100, "n_epochs": 1, "key": 0, "method": jaxgd.Adam(0.05), "dtype": dtype}
    return jaxgd.fit(cost, options.pop("start", [0.0, 0.0]), data, **(defaults | options))


def check(result: Any, cost: Any, dtype: str, data: Any = DATA) -> None:
    """The cost and the gradient are those of all rows, to rounding."""
    rtol = 1e-12 if dtype == "float64" else 1e-5
    with jax.enable_x64(True):
        rows, params = jax.tree.map(jnp.asarray, data), jnp.asarray(np.asarray(result.params), jnp.float64)
        value, gradient = jax.value_and_grad(cost)(params, rows)
        best = cost(jnp.asarray(np.asarray(result.best.params), jnp.float64), rows)
    np.testing.assert_allclose(result.cost, value, rtol=rtol)
    gradient = np.where(np.asarray(result.gradient) == 0, 0, gradient)  # of what is held none is taken
    np.testing.assert_allclose(result.gradient, gradient, rtol=rtol * 10, atol=rtol * 10 * np.max(np.abs(gradient)))
    np.testing.assert_allclose(result.best.cost, best, rtol=rtol)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("name", ADDITIVE)
def test_a_mean_or_a_sum_is_found_in_parts_exactly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(all_rows, "additivity", lambda *arguments: seen.append(additive.additivity(*arguments)) or seen[-1])
    dtype = "float32" if name in ("robust", "sum and prior") else "float64"
    result = run(ADDITIVE[name], dtype)
    assert [found.is_sum for found in seen] == ["sum" in name] and result.in_parts is None
    check(result, ADDITIVE[name], dtype)


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("name", OTHERS)
def test_any_other_cost_is_evaluated_for_all_rows_together(name: str) -> None:
    dtype = "float32" if name in ("root", "small share", "masked mean", "rare labels") else "float64"
    result = run(OTHERS[name], dtype)
    assert result.in_parts is None
    check(result, OTHERS[name], dtype)


@pytest.mark.parametrize("cost", [ADDITIVE["sum and prior"], OTHERS["root"]])
def test_validation_data_are_no_other(cost: Any) -> None:
    held_out = jax.tree.map(lambda leaf: leaf[100:903] + 0.5, DATA)
    result = run(cost, validation=held_out, history="params", n_epochs=3)
    with jax.enable_x64(True):
        rows = jax.tree.map(jnp.asarray, held_out)
        expected = [cost(jnp.asarray(params), rows) for params in result.history.params]
    np.testing.assert_allclose(result.history.validation_cost, expected, rtol=1e-12)
    np.testing.assert_allclose(result.best.cost, np.min(expected), rtol=1e-12)


def test_what_can_not_be_found_for_all_rows_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_rows, "_MOST", 2**12)
    result = run(OTHERS["root"], validation=DATA)
    assert result.in_parts == {"data": 7, "validation": 7} or len(result.in_parts) == 2
    assert "in parts" in str(result) and "not those of all rows" in str(result)
    parts = -(-N // result.in_parts["data"])
    means = [np.sqrt(np.mean((result.params[0] * X + result.params[1] - Y)[k : k + parts] ** 2)) for k in range(0, N, parts)]
    sizes = [min(parts, N - k) for k in range(0, N, parts)]
    np.testing.assert_allclose(result.cost, np.average(means, weights=sizes), rtol=1e-12)
    assert run(ADDITIVE["robust"]).in_parts is None


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"jit": False}, {"bounds": (-0.5, 0.7), "fixed": [False, True]}, {"method": None}])
def test_in_any_kind_of_run(options: Any) -> None:
    for cost in (ADDITIVE["sum and prior"], OTHERS["root"]):
        check(run(cost, **options), cost, "float64")


@pytest.mark.slow
def test_an_outer_program_looks_at_all_rows() -> None:
    rows = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), DATA)
    inside = jax.jit(lambda rows: run(OTHERS["root"], None, rows))(rows)
    mapped = jax.vmap(lambda key: run(OTHERS["root"], None, key=key))(jnp.arange(2, dtype=jnp.uint32))
    alone = run(OTHERS["root"], "float32")
    np.testing.assert_allclose([inside.cost, mapped.cost[0]], float(alone.cost), rtol=1e-5)


def test_an_aux_is_that_of_all_rows() -> None:
    result = run(lambda p, b: (jnp.sum(residual(p, b) ** 2), residual(p, b)), has_aux=True)
    np.testing.assert_allclose(result.cost, np.sum(result.aux**2), rtol=1e-12)
    assert result.aux.shape == (N,)


def test_rows_that_a_cost_refuses_are_no_error() -> None:
    def grouped(params: Any, rows: Any) -> Any:
        return jnp.mean(jnp.max(residual(params, rows).reshape(-1, 59), axis=1) ** 2)

    check(run(grouped, batch_size=59), grouped, "float64")


def test_parts_are_even_where_they_can_be_and_no_smaller_than_a_batch() -> None:
    assert all_rows.part_size(100_000, 10, 2**11) == 100_000
    assert all_rows.part_size(100_000, 10, 14_000) == 10_000
    assert all_rows.part_size(100_003, 10, 14_000) == 10_001
    assert all_rows.part_size(100_000, 30_000, 14_000) == 30_000
    assert all_rows.part_size(100_000, 100_000, 14_000) == 100_000


MEMORY = """
import resource, sys
import jax, jax.numpy as jnp
import numpy as np
import jaxgd
images = np.random.default_rng(0).normal(size=(int(sys.argv[1]), 64, 64)).astype(np.float32)
def cost(params, rows):
    hidden = jnp.tanh(rows[:, None] * params[None, :, None, None])
    return jnp.mean((hidden.mean((1, 2, 3)) - 1) ** 2)
options = dict(batch_size=8, n_epochs=1, key=0, method=jaxgd.Adam(1e-3))
jaxgd.fit(cost, np.ones(16), images[:8], **options)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = jaxgd.fit(cost, np.ones(16), images, validation=images[::2], **options)
jax.block_until_ready(result.cost)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10, result.in_parts)
"""


@pytest.mark.slow
def test_the_end_takes_no_more_memory_than_a_batch() -> None:
    environment = {**os.environ, "JAX_ENABLE_X64": "0"}
    command = [sys.executable, "-c", MEMORY, "1500"]  # 375 MiB for one array of all rows, and 12 of data
    more = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
    assert float(more[0]) < 150 and more[1] == "None"
