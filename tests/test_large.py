"""Large data: they are never copied, and what is found over all rows is found a part of them at a time."""

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd._objective import all_rows


def plane(params: Any, rows: Any) -> Any:
    x, y = rows
    return jnp.mean((jnp.sum(x * params["w"], axis=1) + params["b"] - y) ** 2) + 0.1 * jnp.sum(params["w"] ** 2)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize(("n_rows", "batch_size"), [(60, 7), (67, 7), (60, 45), (67, 67)])
def test_the_parts_of_the_rows_make_the_cost_of_all(
    n_rows: int, batch_size: int, jit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_rows, "_TOGETHER", 2**10)
    monkeypatch.setattr(all_rows, "_PART", 2**9)
    x = np.random.default_rng(0).normal(size=(n_rows, 3))
    data = x, x @ [1.0, 2.0, 3.0] + 0.5
    start, method = {"w": np.zeros(3), "b": 0.0}, jaxgd.GradientDescent(0.05)
    run = jaxgd.fit(
        plane,
        start,
        data,
        batch_size=batch_size,
        n_epochs=2,
        key=0,
        method=method,
        dtype="float64",
        history="gradient_norm",
        jit=jit,
    )
    with jax.enable_x64(True):
        point = jax.tree.map(jnp.asarray, run.params)
        cost, gradient = jax.value_and_grad(plane)(point, jax.tree.map(jnp.asarray, data))
    np.testing.assert_allclose(run.cost, cost, rtol=1e-13)  # a few roundings
    jax.tree.map(lambda mine, theirs: np.testing.assert_allclose(mine, theirs, rtol=1e-12), run.gradient, gradient)
    assert run.history is not None
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(run.history.gradient_norm[-1], norm, rtol=1e-12)


MEMORY = """
import resource, sys
import jax.numpy as jnp
import jaxgd
x, y = jnp.full((4_000_000, 20), 0.5), jnp.full(4_000_000, 0.5)
y.block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run = jaxgd.fit(
    lambda w, rows: jnp.mean((jnp.sum(rows[0] * w, axis=1) - rows[1]) ** 2),
    jnp.zeros(20), (x, y), batch_size=int(sys.argv[1]), n_epochs=1, key=0, method=jaxgd.GradientDescent(1e-3),
)
run.params.block_until_ready()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10, (x.nbytes + y.nbytes) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [7, 1000, 300_000])
def test_large_data_are_not_copied(batch_size: int) -> None:
    command = [sys.executable, "-c", MEMORY, str(batch_size)]
    environment = {**os.environ, "JAX_ENABLE_X64": "0"}
    more, size = map(float, subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split())
    assert more <= 0.1 * size + 64  # MiB, the compiler's own memory among them
