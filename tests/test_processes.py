"""Several processes on one machine: the numbers of one, decisions that reach all, and what happens when one is killed."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def free_port() -> int:
    """A port below those that the system gives to connections by itself."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as free:
            port = random.randint(15_000, 30_000)
            free.bind(("localhost", port))
            return port


class Together:
    """Some processes that were started together, with as many devices in all as are asked for."""

    def __init__(self, count: int, folder: Path, what: str, n_devices: int = 4) -> None:
        port = free_port()
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={n_devices // count}", "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "tests.processes"]
        self.processes = [
            subprocess.Popen(
                [*command, str(index), str(count), str(port), str(folder), what],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=os.environ | flags,
            )
            for index in range(count)
        ]

    def lines(self) -> list[dict[str, Any]]:
        """What the first has printed, by name; all have printed the same."""
        found = []
        for process in self.processes:
            out, error = process.communicate(timeout=240)
            assert process.returncode == 0, error[-3000:]
            found.append([json.loads(line) for line in out.splitlines() if line.startswith("{")])
        assert all(lines == found[0] for lines in found)
        return found[0]

    def close(self) -> None:
        """Leave none behind."""
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    running = []

    def begin(count: int, what: str, folder: Path = tmp_path) -> Together:
        running.append(Together(count, folder, what))
        return running[-1]

    yield begin
    for some in running:
        some.close()


def test_the_numbers_are_those_of_one_process(start: Any) -> None:
    alone, *others = (start(count, "equal").lines() for count in (1, 2, 2, 4))
    assert others[0] == others[1]  # bit for bit
    for lines in others:
        for one, other in zip(alone[:-1], lines[:-1], strict=True):
            assert (one["name"], one["status"], one["n_steps"]) == (other["name"], other["status"], other["n_steps"])
            np.testing.assert_allclose(one["params"], other["params"], rtol=2e-6)


def test_what_one_process_decides_reaches_all(start: Any, tmp_path: Path) -> None:
    lines = {line["name"]: line for line in start(2, "decided").lines()}
    ends = {name: (line["status"], line["n_steps"]) for name, line in lines.items() if "status" in line}
    assert ends == {
        "callback": ("CALLBACK", 20),
        "within": ("CALLBACK", 12),
        "interrupted": ("INTERRUPTED", 30),
        "resumed": ("MAX_EPOCHS", 50),
        "terminated": ("INTERRUPTED", 30),
        "from a checkpoint": ("MAX_EPOCHS", 50),
    }
    assert lines["resumed"]["digest"] == lines["from a checkpoint"]["digest"]
    assert "expected Adam(learning_rate=0.05), got Adam(learning_rate=0.1)" in lines["refused"]["message"]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 6


def test_one_is_killed_the_others_end_and_all_go_on(start: Any, tmp_path: Path) -> None:
    whole = start(2, "long", tmp_path / "whole").lines()
    killed = start(2, "long")
    saves = tmp_path / "long"
    while len(list(saves.glob("[0-9]*"))) < 3:
        for process in killed.processes:
            assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.01)
    killed.processes[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert killed.processes[0].wait(60) != 0
    assert time.monotonic() - began < 60
    assert start(2, "long").lines() == whole
