"""Data split over eight devices: they stay where they are, and the numbers are those of one device."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import sharded

ROOT = Path(__file__).parent.parent
SHORT = ["every_row_is_used_once_an_epoch", "uneven_rows_and_batches_are_refused", "devices_have_to_be_those_of_the_data"]
NUMBERS = [
    "full_batches_make_the_numbers_of_one_device",
    "the_cost_reported_is_that_of_all_rows",
    "each_device_has_an_order_of_its_own",
    "looking_on_changes_no_bit",
    "a_run_goes_on_to_the_same_bits",
    "large_data_are_looked_at_in_parts_on_every_device",
]
PLACES = [
    "one_program_serves_all_segments",
    "a_step_has_one_collective_and_moves_no_row",
    "meshes_of_all_kinds_make_the_same_bits",
    "rows_lie_over_one_of_two_axes",
    "parameters_may_be_split_too",
    "everything_around_a_run_works",
    "many_fits_run_where_their_data_lie",
]


PROCESSES = """
import sys
import jax

process, address = int(sys.argv[1]), sys.argv[2]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(address, 2, process)

import numpy as np
import jaxgd
from tests.sharded import START, X, Y, cost

def refused(rows, words):
    try:
        jaxgd.data.shard(rows)
    except ValueError as error:
        assert words in str(error), str(error)
    else:
        raise AssertionError(words)

own = slice(120 * process, 120 * (process + 1))
data = jaxgd.data.shard((X[own], Y[own]))
options = dict(batch_size=24, n_epochs=3, key=0)
half = jaxgd.fit(cost, START, data, method=jaxgd.Adam(0.1), **options)
whole = jaxgd.fit(cost, START, data, method=jaxgd.Adam(0.1), resume=half, **options | {"n_epochs": 6})
race = jaxgd.fit(cost, START, data, validation=data, **options | {"n_epochs": 20})
assert race.cost < 0.02
refused(X[:31], "expected rows that divide evenly over 4 devices of a process, got 31: leave 3 out.")
refused(X[: 32 + 4 * process], "expected equally many rows and devices in all processes, got [32, 36] rows on [4, 4] devices")
print("numbers", np.asarray(half.params["w"]).tolist(), np.asarray(whole.params["w"]).tolist(), float(race.cost))
"""


def environment(n_devices: int) -> dict[str, str]:
    """The variables of a process that has so many devices."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={n_devices}", "JAX_PLATFORMS": "cpu"}
    return os.environ | flags | {"PYTHONPATH": str(ROOT)}


def on_eight_devices(names: list[str]) -> None:
    """Run some functions of `tests/sharded.py` in a process with eight devices."""
    command = [sys.executable, "-m", "tests.sharded", *names]
    done = subprocess.run(command, env=environment(8), cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == names, done.stderr


def test_every_row_is_used_once_and_uneven_shares_are_refused() -> None:
    on_eight_devices(SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("names", [NUMBERS, PLACES], ids=["numbers", "places"])
def test_eight_devices(names: list[str]) -> None:
    on_eight_devices(names)


@pytest.mark.slow
def test_two_processes_with_four_devices_each() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-c", PROCESSES]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([*command, str(k), address], env=environment(4), cwd=ROOT, **pipes) for k in range(2)]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    first, second = ([line for line in out.splitlines() if line.startswith("numbers")] for out, _ in told)
    assert len(first) == 1 and first == second


def test_all_checks_are_run() -> None:
    source = Path(sharded.__file__).read_text(encoding="utf-8")
    assert sorted(SHORT + NUMBERS + PLACES) == sorted(re.findall(r"^def (\w+)\(\) -> None:", source, flags=re.MULTILINE))
