"""A process of several that run together: `python -m tests.processes index count port folder what`; `count` may be 1.

It prints a line of JSON for every call; `test_processes` compares them.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgd
from jaxgd.callbacks import Every, Log

INDEX, COUNT, PORT = map(int, sys.argv[1:4])
FOLDER, WHAT = Path(sys.argv[4]), sys.argv[5]
if COUNT > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{PORT}", COUNT, INDEX, initialization_timeout=60, heartbeat_timeout_seconds=10)

N = 160
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
Y = X @ np.array([1, -2, 0.5], np.float32) + 0.1 * np.sin(np.arange(N, dtype=np.float32))
START = np.zeros(3, np.float32)
OWN = slice(INDEX * N // COUNT, (INDEX + 1) * N // COUNT)
DATA = jaxgd.data.shard((X[OWN], Y[OWN]))


def cost(w: Any, rows: Any) -> Any:
    x, y = rows
    return jnp.mean((x @ w - y) ** 2)


def fit(**options: Any) -> jaxgd.Result:
    default: dict[str, Any] = {"batch_size": 16, "n_epochs": 5, "key": 0, "method": jaxgd.Adam(0.05)}
    return jaxgd.fit(cost, START, DATA, **(default | options))


def show(name: str, result: jaxgd.Result) -> None:
    """Print what a call returned, and a digest of all its bits."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((result.params, result.cost, result.best, result.history))]
    digest = hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()
    line = {"name": name, "params": np.asarray(result.params, np.float64).tolist(), "cost": float(result.cost), "digest": digest}
    print(json.dumps(line | {"status": result.status.name, "n_steps": int(result.n_steps)}), flush=True)


def equal_to_one_process() -> None:
    """Calls of all kinds."""
    show("fit", fit())
    options: dict[str, Any] = {"history": ("params", "gradient_norm"), "average": 0.5, "validation": (X[:4], Y[:4])}
    show("recorded", fit(**options, on_nonfinite="skip"))
    show("race", fit(n_epochs=20, method=None))
    show("trust region", jaxgd.minimize(cost, START, DATA))
    show("L-BFGS", jaxgd.minimize(cost, START, DATA, method=jaxgd.LBFGS()))
    show("starts", jaxgd.minimize(cost, jaxgd.normal(3), DATA, n_starts=5, key=0))


def decided_in_the_first() -> None:
    """A callback that says something else in every process, a log, a signal that only one gets."""
    show("callback", fit(callback=lambda progress: progress.epoch == 2 + INDEX))
    show("within", fit(callback=Every(lambda progress: progress.step >= 12 + 4 * INDEX, steps=4)))
    fit(callback=Log(FOLDER / "log.csv", gradient_norm=True), progress="lines" if INDEX else False)

    def interrupt(progress: jaxgd.Progress) -> None:
        if INDEX == COUNT - 1 and progress.epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)

    some = fit(callback=interrupt)
    show("interrupted", some)
    show("resumed", fit(resume=some))

    def terminate(progress: jaxgd.Progress) -> None:
        if INDEX == COUNT - 1 and progress.epoch == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda number, frame: None)
    saves = FOLDER / "saves"
    show("terminated", fit(checkpoint=jaxgd.Checkpoint(saves, every_seconds=1e-3), callback=terminate))
    show("from a checkpoint", fit(checkpoint=jaxgd.Checkpoint(saves, every_epochs=1)))
    try:
        fit(checkpoint=jaxgd.Checkpoint(saves), method=jaxgd.Adam(0.1))
    except ValueError as error:
        print(json.dumps({"name": "refused", "message": str(error)}), flush=True)


def long() -> None:
    """A run that is long enough to be killed; at the end it prints its result."""
    save = jaxgd.Checkpoint(FOLDER / "long", every_epochs=20)
    show("long", fit(n_epochs=400, checkpoint=save, callback=Every(lambda progress: None, epochs=20)))


{"equal": equal_to_one_process, "decided": decided_in_the_first, "long": long}[WHAT]()
print(json.dumps({"name": "done"}), flush=True)
