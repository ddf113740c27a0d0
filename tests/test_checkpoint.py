"""Checkpoints: a run that is killed anywhere goes on to the same bits, and nothing that is damaged is believed."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxgd
from jaxgd import Adam, Checkpoint, Progress, Result, Status, checkpoint, schedules
from jaxgd._run.processes import Processes
from jaxgd.callbacks import Every
from tests.problems import X, Y, line, rosenbrock
from tests.test_resume import same

pytest.importorskip("orbax.checkpoint")
ROWS = (np.tile(X, 50), np.tile(Y, 50) + np.arange(300) % 7)
FIT: dict[str, Any] = {"n_epochs": 6, "batch_size": 41, "key": 1, "method": Adam(schedules.Cosine(0.1, 60)), "average": 0.5}
FIT |= {"validation": (X[:3], Y[:3]), "history": ("params", "learning_rate"), "dtype": "float64"}


def fit(**options: Any) -> Result:
    return jaxgd.fit(line, [0.5, 0.5], ROWS, **(FIT | options))


class Stop(Exception):
    pass


def fail_at(step: int) -> Every:
    def fail(progress: Progress) -> None:
        if progress.step == step:
            raise Stop

    return Every(fail, steps=1)


@pytest.fixture(scope="module")
def plain() -> Result:
    return fit()


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("cadence", [{"every_epochs": 2}, {"every_steps": 5}, {"every_seconds": 1e-3}, {}], ids=str)
def test_the_same_call_goes_on(cadence: dict[str, Any], tmp_path: Path, plain: Result) -> None:
    for step in (3, 17, 29):  # the state at an exception is saved, so the next call begins there
        with pytest.raises(Stop):
            fit(checkpoint=Checkpoint(tmp_path, **cadence), callback=fail_at(step))
        newest = checkpoint.newest(tmp_path, Processes())
        assert newest is not None and int(newest.fields["epoch"][0]) * 8 + int(newest.fields["batch"][0]) == step
    assert same(fit(checkpoint=Checkpoint(tmp_path, **cadence)), plain)
    calls: list[int] = []
    again = fit(checkpoint=Checkpoint(tmp_path, **cadence), callback=lambda progress: calls.append(progress.epoch))
    assert same(again, plain) and calls == []


def test_it_saves_when_it_is_told_to_and_keeps_the_newest(tmp_path: Path, plain: Result) -> None:
    assert same(fit(checkpoint=Checkpoint(tmp_path, every_steps=5, keep=4)), plain)
    assert sorted(int(folder.name) for folder in tmp_path.iterdir()) == [35, 40, 45, 48]


def test_the_same_call_with_fewer_epochs_ends(tmp_path: Path) -> None:
    """A run that was saved before its end has none of the codes of an end."""
    with pytest.raises(Stop):
        fit(average=None, checkpoint=Checkpoint(tmp_path), callback=fail_at(16))
    assert same(fit(n_epochs=2, average=None, checkpoint=Checkpoint(tmp_path)), fit(n_epochs=2, average=None))
    with pytest.raises(Stop):
        fit(average=None, checkpoint=Checkpoint(tmp_path), callback=fail_at(19))
    with pytest.raises(ValueError, match="n_epochs: expected at least the 3 that the run to go on with has begun, got 2"):
        fit(n_epochs=2, average=None, checkpoint=Checkpoint(tmp_path))


def test_a_directory_may_have_any_name(tmp_path: Path) -> None:
    for name in ("2026", "000000000001"):
        assert checkpoint.newest(Checkpoint(tmp_path / name).directory, Processes()) is None


@pytest.mark.slow
def test_a_path_is_resumed_with_more_epochs(tmp_path: Path, plain: Result) -> None:
    fit(n_epochs=3, average=None, checkpoint=Checkpoint(tmp_path, every_epochs=1))
    whole = fit(average=None)
    assert same(fit(average=None, resume=tmp_path), whole)
    assert same(fit(average=None, resume=str(tmp_path / f"{8:012d}")), whole)
    assert same(fit(average=None, checkpoint=Checkpoint(tmp_path)), whole)


@pytest.mark.slow
@pytest.mark.parametrize("method", [jaxgd.TrustRegion(), jaxgd.LBFGS()], ids=lambda method: type(method).__name__)
def test_minimize_in_double_precision(method: Any, tmp_path: Path) -> None:
    def run(**options: Any) -> Result:
        return jaxgd.minimize(rosenbrock, [-1.2, 1.0, 0.3], method=method, dtype="float64", history="params", **options)

    with pytest.raises(Stop):
        run(checkpoint=Checkpoint(tmp_path, every_steps=3), callback=fail_at(7))
    assert same(run(checkpoint=Checkpoint(tmp_path)), run())


@pytest.mark.slow
def test_a_search_for_a_rate_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxgd._tuning import search

    whole = fit(method=None, history=None)
    with pytest.raises(Stop):
        fit(method=None, history=None, checkpoint=Checkpoint(tmp_path), callback=fail_at(9))
    monkeypatch.setattr(search.LearningRateSearch, "_costs", None)
    assert same(fit(method=None, history=None, checkpoint=Checkpoint(tmp_path)), whole)


def damage(folder: Path, how: str) -> None:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.stat().st_size > 200)
    for file in files[:1] if how == "description" else files[1:]:
        raw = bytearray(file.read_bytes())
        if how == "cut":
            raw = raw[: len(raw) // 2]
        else:
            raw[len(raw) // 2] ^= 1
        file.write_bytes(bytes(raw))


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("how", ["cut", "flipped", "description"])
def test_a_damaged_one_is_passed_over(how: str, tmp_path: Path, plain: Result) -> None:
    with pytest.raises(Stop):
        fit(checkpoint=Checkpoint(tmp_path, every_epochs=1), callback=fail_at(32))
    damage(tmp_path / f"{32:012d}", how)
    seen: list[int] = []
    with pytest.warns(RuntimeWarning, match=r"checkpoint: .*000000000032 is not whole and is passed over"):
        run = fit(checkpoint=Checkpoint(tmp_path, every_epochs=1), callback=lambda progress: seen.append(progress.epoch))
    assert same(run, plain) and seen == [4, 5, 6]


@pytest.mark.slow
def test_every_byte_counts(tmp_path: Path) -> None:
    """Whatever byte of a checkpoint is flipped, it is passed over or holds the same numbers."""
    fit(checkpoint=Checkpoint(tmp_path / "good", every_epochs=6))
    good = checkpoint.newest(tmp_path / "good", Processes())
    [folder] = (tmp_path / "good").iterdir()
    draw = random.Random(0)
    for file in [file for file in folder.rglob("*") if file.is_file() and file.stat().st_size]:
        raw = file.read_bytes()
        for _ in range(6):
            place = draw.randrange(len(raw))
            file.write_bytes(raw[:place] + bytes([raw[place] ^ (1 << draw.randrange(8))]) + raw[place + 1 :])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = checkpoint.newest(tmp_path / "good", Processes())
            assert found is None or pickle.dumps((found.fields, found.rows)) == pickle.dumps((good.fields, good.rows))  # type: ignore[union-attr]
        file.write_bytes(raw)


def test_another_call_is_refused(tmp_path: Path) -> None:
    fit(n_epochs=1, average=None, checkpoint=Checkpoint(tmp_path))
    for wrong in ({"key": 2}, {"method": Adam(0.1)}, {"batch_size": 30}, {"dtype": "float32"}):
        with pytest.raises(ValueError, match=r"checkpoint: .* holds another run: .* differs"):
            fit(average=None, checkpoint=Checkpoint(tmp_path), **wrong)
    large = np.zeros(10**5)
    jaxgd.fit(
        line,
        [0.5, 0.5],
        (large, large),
        batch_size=10**4,
        n_epochs=1,
        key=0,
        method=Adam(0.1),
        checkpoint=Checkpoint(tmp_path / "large"),
    )
    with pytest.raises(ValueError, match="another run: data differs"):
        jaxgd.fit(
            line,
            [0.5, 0.5],
            (large, large + 1),
            batch_size=10**4,
            n_epochs=1,
            key=0,
            method=Adam(0.1),
            checkpoint=Checkpoint(tmp_path / "large"),
        )


def test_a_full_disk_is_a_warning_and_the_result_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: Result) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint._orbax(), "save", full)
    with pytest.warns(RuntimeWarning, match=f"checkpoint: {tmp_path}: a save failed: .*No space left on device"):
        assert same(fit(checkpoint=Checkpoint(tmp_path, every_epochs=2)), plain)


def test_handlers_are_put_back_and_a_termination_saves(tmp_path: Path, plain: Result) -> None:
    calls: list[int] = []

    def handler(number: int, frame: Any) -> None:
        calls.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        run = fit(
            checkpoint=Checkpoint(tmp_path), callback=lambda progress: progress.epoch == 2 and os.kill(os.getpid(), signal.SIGTERM)
        )
        assert run.status is Status.INTERRUPTED and run.n_epochs == 2 and calls == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert same(fit(checkpoint=Checkpoint(tmp_path)), plain)


WRONG: dict[str, Any] = {
    "Checkpoint: expected one of every_epochs, every_steps, every_seconds, got": lambda path: Checkpoint(
        path, every_epochs=1, every_steps=1
    ),
    "Checkpoint: every_steps: expected an integer of at least 1, got 0": lambda path: Checkpoint(path, every_steps=0),
    "Checkpoint: every_seconds: expected a finite number > 0": lambda path: Checkpoint(path, every_seconds=0),
    "Checkpoint: keep: expected an integer of at least 1": lambda path: Checkpoint(path, keep=0),
    "Checkpoint: directory: .* can't be written": lambda path: Checkpoint("/proc/nothing"),
    "checkpoint: expected None or a jaxgd.Checkpoint, got": lambda path: fit(checkpoint=str(path)),
    "resume: expected a directory of checkpoints": lambda path: fit(resume=path / "none"),
    "resume: expected a directory that holds a whole checkpoint": lambda path: fit(resume=path),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(message: str, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError, OSError), match=f"^{message}"):
        WRONG[message](tmp_path)


SCRIPT = """
import pickle, sys
import jax, jax.numpy as jnp, numpy as np, jaxgd
rng = np.random.default_rng(0)
x = rng.normal(size=(20_000, 8)); y = x @ np.arange(8.0) + rng.normal(size=20_000)
def cost(w, rows, key, state, training):
    kept = jax.random.bernoulli(key, 0.9, rows[0].shape) if training else 0.9
    mean = jnp.mean(rows[0], 0) if training else state["mean"]
    state = {"mean": 0.9 * state["mean"] + 0.1 * jnp.mean(rows[0], 0), "count": state["count"] + 1}
    return jnp.mean(((rows[0] - mean) * kept @ w - rows[1]) ** 2), state
folder, n_epochs = sys.argv[1], int(sys.argv[2])
options = {"checkpoint": jaxgd.Checkpoint(folder, every_seconds=0.2)} if folder != "none" else {}
run = jaxgd.fit(cost, np.zeros(8), (x, y), cost_state={"mean": np.zeros(8), "count": 0}, key=3, average=0.5,
    batch_size=64, n_epochs=n_epochs, history=("params", "learning_rate"), validation=(x[:500], y[:500]),
    method=jaxgd.Adam(jaxgd.schedules.Cosine(0.05, 313 * n_epochs)), **options)
pickle.dump(run, open(sys.argv[3], "wb"))
"""


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT, encoding="utf-8")
    saves = tmp_path / "saves"
    command = [sys.executable, str(script), str(saves), "4000", str(tmp_path / "run.pickle")]
    environment = os.environ | {"PYTHONPATH": str(Path(jaxgd.__file__).parent.parent)}
    subprocess.run([*command[:2], "none", *command[3:4], str(tmp_path / "plain.pickle")], check=True, env=environment)
    draw, seen = random.Random(1), 0
    for kill in range(20):
        process = subprocess.Popen(command, env=environment)
        while (newest := max((int(one.name) for one in saves.glob("[0-9]*") if one.name.isdigit()), default=0)) <= seen:
            assert process.poll() is None, f"the run was over after {kill} kills"
            time.sleep(0.01)
        time.sleep(0.4 * draw.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
        seen = newest
    subprocess.run(command, check=True, env=environment)
    assert same(*[pickle.loads((tmp_path / name).read_bytes()) for name in ("plain.pickle", "run.pickle")])
