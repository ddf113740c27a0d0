"""A fit whose rows are split over several processes, two on this machine.

On a cluster, the launcher starts this script once for each process. There `connect` is the one line `jax.distributed.initialize()`,
which finds Slurm, MPI, Kubernetes and TPU pods by itself, and `rows_of_this_process` reads what lies on the machine's own disk.
"""

import argparse
import os
import random
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

import jaxgd


def connect(options):
    """Join the other processes."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # only processors without an accelerator need it
    jax.distributed.initialize(f"localhost:{options.port}", options.processes, options.number)


def rows_of_this_process(number):
    """A share of a regression's rows, equally many in every process."""
    rng = np.random.default_rng(number)
    x = rng.normal(size=(5000, 3)).astype(np.float32)
    return x, (x @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=5000)).astype(np.float32)


def cost(w, rows):
    """The mean of the squared residuals."""
    x, y = rows
    return jnp.mean((x @ w - y) ** 2)


def work():
    """Fit: the same calls in every process, and the same result."""
    data = jaxgd.data.shard(rows_of_this_process(jax.process_index()))
    result = jaxgd.fit(cost, np.zeros(3, np.float32), data, batch_size=100, n_epochs=10, key=0, method=jaxgd.Adam(0.02))
    exact = jaxgd.minimize(cost, np.zeros(3, np.float32), data)
    if jax.process_index() == 0:
        rows, devices = data[0].shape[0], jax.device_count()
        print(f"{rows} rows on {devices} devices of {jax.process_count()} processes")
        print("minibatches:", np.round(np.asarray(result.params), 2))
        print("all rows:   ", np.round(np.asarray(exact.params), 2), exact.status)


def main(arguments=()):
    """Start the processes, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2, help="how many")
    parser.add_argument("--number", type=int, help="the number of this process; without one it starts all")
    parser.add_argument("--port", type=int, default=random.randint(15_000, 30_000), help="where they meet")
    options = parser.parse_args(arguments)
    if options.number is not None:
        connect(options)
        work()
        return
    command = [sys.executable, __file__, "--processes", str(options.processes), "--port", str(options.port), "--number"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen([*command, str(number)], env=environment, stdout=pipe, stderr=pipe, text=True)
        for number in range(options.processes)
    ]
    for process in started:
        out, error = process.communicate()
        lines = (out if process.returncode == 0 else error).splitlines()
        for line in lines:
            if not line.startswith("[Gloo]"):
                print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
