"""Data spread over devices: they stay where they are, and the numbers are those of one device."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import jaxgd

x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
y = (x @ np.float32([1, -2, 0.5])).astype(np.float32)
mesh = Mesh(np.array(jax.devices()), ("rows",))
spread = tuple(jax.device_put(leaf, NamedSharding(mesh, PartitionSpec("rows"))) for leaf in (x, y))
assert len(spread[0].sharding.device_set) == 2

def cost(w, rows):
    x, y = rows
    return jnp.mean((x @ w - y) ** 2)

def same(one, other):
    np.testing.assert_array_equal(one.params, other.params)
    np.testing.assert_allclose(one.cost, other.cost, rtol=1e-4, atol=1e-9)

for method in (jaxgd.GradientDescent(0.05, 0.5), jaxgd.Adam(0.1), None):
    options = dict(batch_size=8, n_epochs=10, key=0, method=method)
    same(jaxgd.fit(cost, np.zeros(3), (x, y), **options), jaxgd.fit(cost, np.zeros(3), spread, **options))
whole, parted = (jaxgd.minimize(cost, np.zeros(3), data) for data in ((x, y), spread))
assert whole.converged and parted.converged
np.testing.assert_allclose(whole.params, parted.params, rtol=1e-5)
print("done")
"""


@pytest.mark.slow
def test_two_devices_make_the_numbers_of_one() -> None:
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr
