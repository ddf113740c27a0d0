"""Callbacks within epochs, lines in files and on the screen: when they come, what they hold, and that no bit depends on them."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxgd
from jaxgd import Adam, Progress, Status, schedules, stopping
from jaxgd.callbacks import Every, Log
from jaxgd.data import source
from tests.problems import X, Y, line, rosenbrock
from tests.test_resume import same

ROWS = (np.tile(X, 50), np.tile(Y, 50) + np.arange(300) % 7)
FIT: dict[str, Any] = {"n_epochs": 4, "key": 1, "method": Adam(schedules.Cosine(0.1, 700)), "history": ("params", "learning_rate")}
FIT |= {"validation": (X[:3], Y[:3]), "average": 0.6, "stop": stopping.CostTolerance(0.0), "dtype": "float32"}
SHAPES = {"75 batches": 4, "8 batches, the last smaller": 41, "150 batches": 2}


def fit(**options: Any) -> jaxgd.Result:
    return jaxgd.fit(line, [0.5, 0.5], ROWS, **(FIT | options))


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_pause_within_an_epoch_changes_no_bit(shape: str, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if blocks > 1:
        monkeypatch.setattr(source, "_BLOCK_BYTES", 300 * 8 // blocks)
        monkeypatch.setattr(source, "_BLOCK_ROWS", 300 // blocks)
    options = {"batch_size": SHAPES[shape]}
    seen: list[Progress] = []
    plain = fit(**options)
    assert same(fit(**options, callback=Every(seen.append, steps=7)), plain)
    total = 4 * -(-300 // SHAPES[shape])
    assert [progress.step for progress in seen] == list(range(7, total + 1, 7))
    stopped = fit(**options, callback=Every(lambda progress: progress.step == 14, steps=7))
    assert stopped.status is Status.CALLBACK and stopped.n_steps == 14
    np.testing.assert_array_equal(stopped.state.trial, seen[1].params)
    assert same(fit(**options, resume=stopped), plain)
    assert same(fit(**options, resume=stopped, callback=Every(lambda progress: None, steps=3)), plain)


@pytest.mark.slow
def test_within_epochs_of_a_cost_that_runs_as_python() -> None:
    options = {"batch_size": 41, "jit": False, "n_epochs": 2}
    stopped = fit(**options, callback=Every(lambda progress: True, steps=11))
    assert stopped.n_steps == 11 and same(fit(**options, resume=stopped), fit(**options))


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("method", [jaxgd.TrustRegion(), Adam(0.05)], ids=lambda method: type(method).__name__)
def test_every_so_many_steps_of_minimize(method: Any) -> None:
    seen: list[int] = []
    options: dict[str, Any] = {"method": method, "max_steps": 25, "stop": ()}
    run = jaxgd.minimize(
        rosenbrock, [-1.2, 1.0], **options, callback=[Every(lambda p: seen.append(p.step), steps=5), lambda p: None]
    )
    assert seen == list(range(5, run.n_steps + 1, 5)) and same(run, jaxgd.minimize(rosenbrock, [-1.2, 1.0], **options))


def test_several_callbacks_every_so_many_epochs() -> None:
    calls: list[tuple[str, int]] = []
    callbacks = [Every(lambda p: calls.append(("two", p.epoch)), epochs=2), lambda p: calls.append(("one", p.epoch))]
    fit(batch_size=41, callback=callbacks)
    assert calls == [("one", 1), ("two", 2), ("one", 2), ("one", 3), ("two", 4), ("one", 4)]
    calls.clear()
    fit(batch_size=41, callback=callbacks, resume=fit(batch_size=41, callback=lambda p: p.epoch == 2))
    assert calls == [("one", 3), ("two", 4), ("one", 4)]


@pytest.mark.slow
def test_what_the_progress_tells() -> None:
    seen: list[tuple[Any, ...]] = []

    def watch(progress: Progress) -> None:
        seen.append((float(progress.learning_rate), float(progress.gradient_norm), progress.seconds, progress.rows_per_second))

    run: Any = fit(batch_size=41, callback=watch, history=("learning_rate", "gradient_norm"))
    rates, norms, seconds, speeds = map(np.array, zip(*seen, strict=True))
    np.testing.assert_array_equal(rates.astype(np.float32), run.history.learning_rate[1:])
    np.testing.assert_allclose(norms, run.history.gradient_norm[1:], rtol=1e-6)
    assert np.all(np.diff(seconds) > 0) and np.all(speeds > 0)


@pytest.mark.parametrize("name", ["run.csv", "run.jsonl"])
def test_a_log_has_a_line_an_epoch_and_goes_on_after_a_resume(name: str, tmp_path: Path) -> None:
    def read(path: Path) -> list[dict[str, Any]]:
        text = path.read_text(encoding="utf-8")
        rows = list(csv.DictReader(text.splitlines())) if path.suffix == ".csv" else list(map(json.loads, text.splitlines()))
        seconds = [float(row.pop("seconds")) for row in rows]
        assert seconds == sorted(seconds) and seconds[0] > 0
        return [{key: float(value) for key, value in row.items()} for row in rows]

    run: Any = fit(batch_size=41, callback=Log(tmp_path / f"whole_{name}", gradient_norm=True))
    lines = read(tmp_path / f"whole_{name}")
    assert [(line["step"], line["epoch"]) for line in lines] == [(8, 1), (16, 2), (24, 3), (32, 4)]
    np.testing.assert_array_equal(
        np.array([line["validation_cost"] for line in lines], np.float32), run.history.validation_cost[1:]
    )
    log = Log(tmp_path / name, gradient_norm=True)
    stopped = fit(batch_size=41, callback=[log, Every(lambda progress: progress.step == 12, steps=4)])
    fit(
        batch_size=41,
        callback=[log, Every(lambda progress: None, steps=4)],
        resume=fit(batch_size=41, callback=Every(lambda p: True, steps=9)),
    )
    assert stopped.n_steps == 12 and read(tmp_path / name) == lines


def test_an_exception_comes_out_as_it_is() -> None:
    class Own(Exception):
        pass

    def fail(progress: Progress) -> None:
        raise Own(progress.epoch)

    with pytest.raises(Own, match="1"):
        fit(batch_size=41, callback=fail)


def test_lines_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    fit(batch_size=41, progress="lines", callback=lambda progress: None)
    out = capsys.readouterr()
    assert len(out.out.splitlines()) == 4 and out.err == ""
    assert out.out.splitlines()[1].startswith("epoch 2/4  cost ") and "rows/s" in out.out and "validation" in out.out
    fit(batch_size=41, progress="auto")
    assert capsys.readouterr() == ("", "")  # there is no terminal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr.isatty", lambda: True)
        patch.setitem(sys.modules, "tqdm", None)
        fit(batch_size=41, progress="auto", callback=lambda progress: None)
    assert len(capsys.readouterr().out.splitlines()) == 4


NOT_A_FUNCTION: Any = 3
WRONG: dict[str, Any] = {
    "Every: expected steps or epochs, got both": lambda: Every(print, steps=1, epochs=1),
    "Every: steps: expected an integer of at least 1, got 0": lambda: Every(print, steps=0),
    "Every: callback: expected a function": lambda: Every(NOT_A_FUNCTION),
    "Log: path: expected a file in a folder that exists": lambda: Log("/nowhere/run.csv"),
    "callback: expected None, a function": lambda: fit(batch_size=41, callback=[3]),
    "progress: expected True, False, 'lines' or 'auto', got 'dots'": lambda: fit(batch_size=41, progress="dots"),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        WRONG[message]()
