"""Data split over eight devices: they stay where they are, and the numbers are those of one device."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import sharded

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
]


def on_eight_devices(names: list[str]) -> None:
    """Run some functions of `tests/sharded.py` in a process with eight devices."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.sharded", *names]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, env=os.environ | flags, cwd=root, capture_output=True, text=True)
    assert done.stdout.split() == names, done.stderr


def test_every_row_is_used_once_and_uneven_shares_are_refused() -> None:
    on_eight_devices(SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("names", [NUMBERS, PLACES], ids=["numbers", "places"])
def test_eight_devices(names: list[str]) -> None:
    on_eight_devices(names)


def test_all_checks_are_run() -> None:
    source = Path(sharded.__file__).read_text(encoding="utf-8")
    assert sorted(SHORT + NUMBERS + PLACES) == sorted(re.findall(r"^def (\w+)\(\) -> None:", source, flags=re.MULTILINE))
