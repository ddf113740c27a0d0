"""First runs, in two programs: the bits of the fused loop, one `advance` for all costs of a size, and who takes over when."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd._compile import program
from jaxgd._run import apart
from jaxgd.callbacks import Every

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="only programs for CPUs have fixed bits")
START = np.tile([-1.2, 1.0], 3)
ROWS = np.linspace(-1, 1, 20)


def valley(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def bits(result: jaxgd.Result) -> list[Any]:
    fields = (result.params, result.cost, result.gradient, result.best, result.code, result.n_evaluations, result.state)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(fields)]


COSTS: dict[str, Any] = {
    "plain": lambda x: valley(x),
    "functions": lambda x: (
        valley(x) + jnp.sum(jnp.exp(-x) + jnp.tanh(x) * jnp.cos(x) + jnp.log1p(x * x)) + jnp.prod(2 + jnp.sin(x))
    ),
    "loop": lambda x: valley(x) + jax.lax.fori_loop(0, 5, lambda k, y: y + jnp.sum(jnp.cos(y * x)) / 9, jnp.zeros((), x.dtype)),
    "not finite": lambda x: jnp.where(x[0] > 0.3, jnp.nan, valley(x)),
    "no minimum": lambda x: -jnp.sum(x**3) + jnp.sum(jnp.abs(x)),
    "constant": lambda x: 0 * jnp.sum(x) + 3,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "trust region": {},
    "lbfgs": {"method": jaxgd.LBFGS(), "dtype": "float32"},
    "spectral": {"method": jaxgd.SpectralGradient()},
    "bounds": {"bounds": (None, np.full(6, 1.0))},
    "fixed": {"fixed": np.arange(6) == 2, "method": jaxgd.LBFGS()},
    "rule": {"stop": jaxgd.stopping.GradientTolerance(1e-3)},
}


@on_cpu
@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("way", OPTIONS)
def test_the_first_run_has_the_bits_of_the_second(cost: str, way: str) -> None:
    options = {"max_steps": 60, "dtype": "float64"} | OPTIONS[way]

    def run() -> jaxgd.Result:
        return jaxgd.minimize(lambda x: COSTS[cost](x) * (2 + len(way)), START, **options)  # of each way a cost of its own

    first, second = run(), run()
    assert first.status is second.status and bits(first) == bits(second) == bits(run())


@on_cpu
def test_residuals_and_data_too() -> None:
    def residuals(w: Any, x: Any) -> Any:
        return w[0] * jnp.exp(w[1] * x) + w[2] - jnp.cos(3 * x)

    def cost(w: Any, x: Any) -> Any:
        return jnp.mean(jnp.log(jnp.cosh(residuals(w, x))))

    for function, verb in ((residuals, jaxgd.least_squares), (cost, jaxgd.minimize)):
        first, second, third = (verb(function, np.ones(3), ROWS, dtype="float64") for _ in range(3))
        assert bits(first) == bits(second) == bits(third)


@on_cpu
def test_advance_is_compiled_once_for_all_costs_of_a_size(monkeypatch: pytest.MonkeyPatch, compilations: Any) -> None:
    monkeypatch.setattr(apart, "_LONG", np.inf)  # however slow the machine is

    def run(cost: Any) -> None:
        jaxgd.minimize(cost, np.ones(7), method=jaxgd.LBFGS(), dtype="float64")

    run(lambda x: jnp.sum(jnp.cosh(x - 0.3)))
    with compilations() as compiled:
        run(lambda x: jnp.sum(jnp.cosh(x - 0.3) + x**4))
        run(lambda x: valley(x) + jnp.sum(jnp.sin(x)))
    assert compiled == ["jit(_evaluated)"] * 2
    with compilations() as compiled:
        run(lambda x: valley(x) + jnp.sum(jnp.sin(x)))
        run(lambda x: valley(x) + jnp.sum(jnp.sin(x)))
    assert compiled == ["jit(run_segment)"]


@on_cpu
@pytest.mark.parametrize(
    "method", [jaxgd.TrustRegion(), jaxgd.LBFGS(), jaxgd.SpectralGradient()], ids=lambda one: type(one).__name__
)
def test_advance_is_compiled_quickly_since_that_is_exact(method: Any) -> None:
    for one in program._programs.values():
        one.wait()
    program._programs.clear()
    jaxgd.minimize(lambda x: jnp.sum(jnp.cosh(x - 0.3)), np.ones(7), method=method, dtype="float64")
    (advance,) = (one for one in program._programs.values() if one.function.__name__ == "_proceeded")
    assert advance.is_exact and advance.has_run and len(advance.forms) == 3  # none was refused


@on_cpu
def test_two_runs_go_apart_and_the_third_waits(monkeypatch: pytest.MonkeyPatch, compilations: Any) -> None:
    segments: list[int] = []
    whole = apart.Apart.run_segment
    monkeypatch.setattr(apart.Apart, "run_segment", lambda *arguments: segments.append(1) or whole(*arguments))
    monkeypatch.setattr(apart, "_SEGMENT", 1e9)
    with compilations() as compiled:
        for _ in range(4):
            jaxgd.minimize(lambda x: jnp.sum(jnp.cosh(x - 0.4)) * 3, np.ones(7), method=jaxgd.LBFGS(), dtype="float64")
    assert len(segments) == 2 and compiled.count("jit(run_segment)") == 1


@on_cpu
def test_one_loop_at_a_time_is_compiled_beside(monkeypatch: pytest.MonkeyPatch, compilations: Any) -> None:
    def run(power: int) -> None:
        jaxgd.minimize(lambda x: jnp.sum(jnp.cosh(x)) + jnp.sum(x**power), np.ones(5), method=jaxgd.LBFGS(), dtype="float64")

    monkeypatch.setattr(apart, "_LONG", np.inf)
    with compilations():  # waits for others
        for power in (4, 4):
            run(power)
        with monkeypatch.context() as busy:
            busy.setattr(program.Program, "is_compiling", True)
            for power in (6, 6, 6):
                run(power)
    with compilations() as compiled:
        run(6)
    assert compiled == ["jit(run_segment)"]


@on_cpu
def test_settings_of_one_thread_are_kept(compilations: Any) -> None:
    with jax.default_matmul_precision("highest"), compilations() as compiled:
        for _ in range(3):
            jaxgd.minimize(lambda x: jnp.sum(jnp.cosh(x - 0.6)) * 3, np.ones(7), method=jaxgd.LBFGS(), dtype="float64")
    assert compiled.count("jit(run_segment)") == 1


@on_cpu
def test_several_threads_at_once() -> None:
    def runs(shift: float) -> list[Any]:
        def one() -> Any:
            return jaxgd.minimize(lambda x, d: jnp.sum(jnp.cosh(x - d)), np.ones(8), shift, dtype="float64")

        return [bits(one()) for _ in range(4)]

    shifts = [k / 9 for k in range(8)]
    with ThreadPoolExecutor(len(shifts)) as threads:
        found = list(threads.map(runs, shifts))
    assert all(one == many[0] for many in found for one in many) and len({str(many[0]) for many in found}) == len(shifts)


@on_cpu
def test_the_fused_loop_takes_over_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(**options: Any) -> jaxgd.Result:
        options = {"dtype": "float64", "method": jaxgd.LBFGS(), "max_steps": 80} | options
        return jaxgd.minimize(lambda x: valley(x) + jnp.sum(x**6) / 7, START, **options)

    handed: list[int] = []
    monkeypatch.setattr(apart, "_LONG", -1.0)
    monkeypatch.setattr(apart, "_SEGMENT", 0.0)
    whole = apart.Apart.hands_over

    def hands_over(self: Any, spec: Any, objective: Any, state: Any, until: Any) -> bool:
        if int(state.epoch) == 9:
            self.program.prepare(spec, objective, state, until)
            self.program.wait()
        handed.append(int(state.epoch))
        return whole(self, spec, objective, state, until) if int(state.epoch) >= 9 else False

    monkeypatch.setattr(apart.Apart, "hands_over", hands_over)
    first = run()
    assert handed[:9] == [0, *range(2, 10)] and bits(first) == bits(run())


@on_cpu
def test_callbacks_and_the_keyboard_in_a_first_run() -> None:
    seen: list[int] = []

    def stop(progress: Any) -> None:
        seen.append(int(progress.step))
        if progress.step >= 4:
            raise KeyboardInterrupt

    def run(**options: Any) -> jaxgd.Result:
        return jaxgd.minimize(lambda x: valley(x) + jnp.sum(x**8) / 7, START, method=jaxgd.LBFGS(), dtype="float64", **options)

    result = run(callback=Every(stop, steps=1))
    assert result.status is jaxgd.Status.INTERRUPTED and result.n_steps == 4 and seen[-1] == 4
    assert bits(run(resume=result)) == bits(run())


@on_cpu
def test_an_interrupt_between_turns_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    clock = apart.time.perf_counter

    def interrupted() -> float:
        turns.append(1)
        if len(turns) == 12:  # two a turn
            raise KeyboardInterrupt
        return clock()

    monkeypatch.setattr(apart.time, "perf_counter", interrupted)
    monkeypatch.setattr(apart, "_SEGMENT", 1e9)
    result = jaxgd.minimize(lambda x: valley(x) + jnp.sum(x**10) / 7, START, method=jaxgd.LBFGS(), dtype="float64")
    assert result.status is jaxgd.Status.INTERRUPTED and 4 <= result.n_evaluations <= 6


@on_cpu
def test_what_has_no_fixed_bits_runs_fused(compilations: Any) -> None:
    with compilations() as compiled:
        jaxgd.minimize(lambda x: jnp.sum(jnp.cosh(x)) + jnp.sum(x) ** 2, np.ones(300), method=jaxgd.LBFGS(), max_steps=3)
    assert "jit(run_segment)" in compiled and "jit(_evaluated)" not in compiled
