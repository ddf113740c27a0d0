"""Time `fit` on rows that are split over 1, 2, 4 and 8 devices, against the same rows on one device.

Where there is one processor alone, its cores are as many devices as are asked for. That shows what the exchange between devices
costs, and no gain beyond the number of cores.
"""

import argparse
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

COUNTS = 1, 2, 4, 8
FLAG = f"--xla_force_host_platform_device_count={max(COUNTS)}"
ROUNDS = 7


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.devices", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rows, one round: that everything runs, not how fast")
    quick = parser.parse_args().quick
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}"  # read when JAX starts
    import jax

    print(f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, jax {jax.__version__}\n")
    columns = {name: timed(make(quick), quick) for name, make in CASES.items()}
    print(f"| devices | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for place in next(iter(columns.values())):
        print(f"| {place} | {' | '.join(shown(times[place], times['one array']) for times in columns.values())} |")


def timed(case: tuple[Callable[[Any], Any], Any, int], quick: bool) -> dict[str, float]:
    """The median seconds of an epoch, by the place of the rows; the places are timed in turn."""
    import jax

    import jaxgd

    devices = jax.devices()
    run, data, n_epochs = case
    places = {"one array": jax.block_until_ready(jax.device_put(data, devices[0]))}
    for count in (count for count in COUNTS if count <= len(devices)):
        places[f"{count}"] = jax.block_until_ready(jaxgd.data.shard(data, devices[:count]))
    seconds: dict[str, list[float]] = {place: [] for place in places}
    for turn in range(2 if quick else ROUNDS + 1):
        for place, rows in places.items():
            began = time.perf_counter()
            jax.block_until_ready(run(rows).params)
            if turn:  # the first compiles
                seconds[place].append((time.perf_counter() - began) / n_epochs)
    return {place: median(times) for place, times in seconds.items()}


def shown(seconds: float, alone: float) -> str:
    """A time, and how many times as fast that is as one array."""
    return f"{1e3 * seconds:.3g} ms ({alone / seconds:.2g})"


def regression(batch_size: int | None, n_epochs: int, quick: bool) -> Any:
    """A linear regression of a million rows."""
    import jax.numpy as jnp
    import numpy as np

    import jaxgd

    n_rows = 2**13 if quick else 2**20
    x = np.random.default_rng(0).normal(size=(n_rows, 10)).astype(np.float32)
    data = x, (x @ np.arange(10) + 0.5).astype(np.float32)

    def cost(params: Any, rows: Any) -> Any:
        x, y = rows
        return jnp.mean((x @ params["w"] + params["b"] - y) ** 2) / 2

    start = {"w": np.zeros(10, np.float32), "b": np.zeros((), np.float32)}
    options = {"batch_size": batch_size or n_rows, "n_epochs": n_epochs, "key": 0, "method": jaxgd.GradientDescent(1e-3)}
    return (lambda rows: jaxgd.fit(cost, start, rows, **options)), data, n_epochs


def network(quick: bool) -> Any:
    """A network of two hidden layers, whose cost is mostly products of matrices."""
    import jax.numpy as jnp
    import numpy as np

    import jaxgd

    n_rows, width = (2**10, 16) if quick else (2**14, 256)
    random = np.random.default_rng(0)
    x = random.normal(size=(n_rows, width)).astype(np.float32)
    data = x, np.sin(x[:, 0] + x[:, 1])
    shapes = {"first": (width, width), "second": (width, width), "last": (width,)}
    start = {name: (random.normal(size=shape) / width**0.5).astype(np.float32) for name, shape in shapes.items()}

    def cost(params: Any, rows: Any) -> Any:
        x, y = rows
        hidden = jnp.tanh(jnp.tanh(x @ params["first"]) @ params["second"])
        return jnp.mean((hidden @ params["last"] - y) ** 2)

    options = {"batch_size": min(1024, n_rows), "n_epochs": 1, "key": 0, "method": jaxgd.Adam(1e-3)}
    return (lambda rows: jaxgd.fit(cost, start, rows, **options)), data, 1


CASES: dict[str, Callable[[bool], Any]] = {
    "regression, all rows": lambda quick: regression(None, 20, quick),
    "regression, batches of 8192": lambda quick: regression(8192, 2, quick),
    "regression, batches of 512": lambda quick: regression(512, 1, quick),
    "network, batches of 1024": network,
}


if __name__ == "__main__":
    main()
