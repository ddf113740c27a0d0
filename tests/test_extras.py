"""Costs with a random key, with a state of their own, and with a difference between training and measuring."""

import functools
import itertools
import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Adam, GradientDescent, Result, Status
from jaxgd.callbacks import Every
from tests.problems import X, Y, line
from tests.test_resume import same

RNG = np.random.default_rng(0)
ROWS = (RNG.normal(size=(100, 4)).astype(np.float32), RNG.normal(size=100).astype(np.float32))
START = {"w": np.full(4, 0.5, np.float32), "b": np.float32(0.0)}
STATS = {"mean": np.zeros(4, np.float32), "count": np.int32(0)}
RATE = 0.1


def dropout(params: Any, batch: Any, key: Any, training: bool) -> Any:
    """A linear model with dropout of its inputs."""
    x, y = batch
    kept = jax.random.bernoulli(key, 0.5, x.shape) if training else jnp.full(x.shape, 0.5)
    return jnp.mean((jnp.sum(jnp.where(kept, x, 0) * params["w"] if training else x * 0.5 * params["w"], 1) + params["b"] - y) ** 2)


def batch_norm(params: Any, batch: Any, state: Any, training: bool = False) -> Any:
    """A linear model of inputs centred by the batch, or by the running mean where it is measured."""
    x, y = batch
    mean = jnp.mean(x, 0) if training else state["mean"]
    state = {"mean": 0.9 * state["mean"] + 0.1 * jnp.mean(x, 0), "count": state["count"] + 1}
    return jnp.mean(((x - mean) @ params["w"] + params["b"] - y) ** 2), state


def both(params: Any, batch: Any, *, key: Any, state: Any, training: Any) -> Any:
    value, state = batch_norm(params, batch, state, training)
    return value + 0.1 * jax.random.normal(key, ()) * jnp.sum(params["w"]), state


def fit(cost: Any, **options: Any) -> Result:
    default: dict[str, Any] = {
        "batch_size": 30,
        "n_epochs": 5,
        "key": 3,
        "method": Adam(0.05),
        "validation": (ROWS[0][:20], ROWS[1][:20]),
    }
    return jaxgd.fit(cost, START, ROWS, **(default | options))


def test_batch_statistics_are_those_of_a_loop_by_hand() -> None:
    """All sums are exact in these data, so that the bits do not depend on how they are compiled."""
    exact = (np.round(ROWS[0][:96] * 8) / 8, ROWS[1][:96])

    def halved(params: Any, batch: Any, state: Any, training: bool = False) -> Any:
        value, after = batch_norm(params, batch, state, training)
        return value, after | {"mean": (state["mean"] + jnp.mean(batch[0], 0)) / 2}

    options: dict[str, Any] = {"batch_size": 32, "n_epochs": 3, "shuffle": False, "validation": (exact[0][:20], exact[1][:20])}
    run = jaxgd.fit(halved, START, exact, cost_state=STATS, method=GradientDescent(RATE), **options)
    gradient = jax.jit(jax.value_and_grad(lambda p, b, s: halved(p, b, s, True), has_aux=True))
    params, state = jax.tree.map(jnp.asarray, (START, STATS))
    for _ in range(3):
        for first in (0, 32, 64):
            rows = jax.tree.map(lambda leaf, first=first: leaf[first : first + 32], exact)
            (_, state), slope = gradient(params, rows, state)
            params = jax.tree.map(lambda x, g: x - jnp.float32(RATE) * g, params, slope)
    jax.tree.map(np.testing.assert_array_equal, run.cost_state, state)
    assert int(run.cost_state["count"]) == 9 and np.any(run.cost_state["mean"] != 0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), run.params, params)
    np.testing.assert_allclose(run.cost, halved(run.params, exact, run.cost_state)[0], rtol=1e-6)
    held_out = halved(run.params, (exact[0][:20], exact[1][:20]), run.cost_state)[0]
    np.testing.assert_allclose(run.state.validation_cost, held_out, rtol=1e-6)


@pytest.mark.slow
def test_masks_differ_from_step_to_step_and_repeat_with_the_key() -> None:
    def masks(params: Any, batch: Any, state: Any, key: Any) -> Any:
        drawn = jax.random.bits(key, (), jnp.uint32)
        return params**2 + 0 * jnp.sum(batch), (state[0].at[state[1]].set(drawn), state[1] + 1)

    def run(key: Any, **options: Any) -> np.ndarray:
        state = (np.zeros(24, np.uint32), np.int32(0))
        data = np.zeros(100, np.float32)
        made = jaxgd.fit(
            masks,
            np.float32(1.0),
            data,
            cost_state=state,
            batch_size=25,
            n_epochs=6,
            key=key,
            method=GradientDescent(0.1),
            **options,
        )
        return np.asarray(made.cost_state[0])

    first = run(1)
    assert len(set(first.tolist())) == 24 and np.array_equal(first, run(1)) and np.array_equal(first, run(1, shuffle=False))
    assert np.array_equal(first, run(jax.random.key(1))) and not np.any(first == run(2))
    assert np.array_equal(first, run(1, callback=Every(lambda progress: None, steps=3)))
    assert np.array_equal(first, run(1, jit=False))


@pytest.mark.slow
@pytest.mark.parametrize(("cost", "state"), [(batch_norm, STATS), (dropout, None), (both, STATS)], ids=["state", "key", "both"])
def test_saved_resumed_and_run_as_python(cost: Any, state: Any) -> None:
    options: dict[str, Any] = {"cost_state": state, "history": ("params", "gradient_norm"), "average": 0.5}
    whole = fit(cost, **options)
    for step in (6, 9):
        stopped = fit(cost, **options, callback=Every(lambda progress, step=step: progress.step == step, steps=3))
        assert stopped.n_steps == step and same(fit(cost, **options, resume=stopped), whole)
    eager: Any = fit(cost, **options, jit=False)
    for one, other in zip(
        jax.tree.leaves((eager.params, eager.cost_state)), jax.tree.leaves((whole.params, whole.cost_state)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    if state is not None:
        with pytest.raises(ValueError, match="resume: cost_state differs"):
            fit(cost, **(options | {"cost_state": jax.tree.map(lambda leaf: leaf + 1, STATS)}), resume=whole)


@pytest.mark.slow
def test_the_default_method_fixed_parameters_lanes_and_parts() -> None:
    run = fit(both, method=None, cost_state=STATS, n_epochs=20)
    assert run.status is Status.MAX_EPOCHS and int(run.cost_state["count"]) == 80
    run = fit(both, fixed={"w": True, "b": False}, cost_state=STATS)
    np.testing.assert_array_equal(run.params["w"], START["w"])

    def one(key: Any) -> Any:
        made = fit(both, key=key, cost_state=STATS)
        return made.params["w"], made.cost_state["mean"]

    lanes = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 3))
    alone = one(jax.random.split(jax.random.key(0), 3)[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-5, atol=1e-6), lanes, alone)


@pytest.mark.slow
def test_minimize_has_one_key_unless_it_is_told_to_draw_again() -> None:
    def cost(x: Any, key: Any) -> Any:
        return jnp.sum((x - jax.random.normal(key, (3,))) ** 2)

    def run(**options: Any) -> Result:
        return jaxgd.minimize(cost, np.zeros(3), key=5, **options)

    exact = run()
    assert exact.converged and float(exact.cost) < 1e-10 and np.allclose(run(method=jaxgd.LBFGS()).params, exact.params, atol=1e-5)
    assert not np.allclose(jaxgd.minimize(cost, np.zeros(3), key=6).params, exact.params, atol=1e-2)
    noisy: Any = run(method=GradientDescent(0.5), resample_every=1, max_steps=8, stop=(), history="params")
    assert len({row.tobytes() for row in np.asarray(noisy.history.params)}) == 9
    twice: Any = run(method=GradientDescent(0.5), resample_every=2, max_steps=8, stop=(), history="params")
    assert [np.allclose(a, b) for a, b in itertools.pairwise(twice.history.params[1:])] == [True, False] * 3 + [True]
    for method in (None, jaxgd.LBFGS(), jaxgd.SpectralGradient()):
        with pytest.raises(ValueError, match=r"resample_every: expected None, since the cost then changes .*compares the costs"):
            run(method=method, resample_every=1)


@pytest.mark.slow
def test_minimize_with_a_state() -> None:
    def counted(x: Any, state: Any) -> Any:
        return jnp.sum((x - 3) ** 2), {"seen": state["seen"] + 1, "last": x}

    state = {"seen": np.int32(0), "last": np.zeros(2, np.float32)}
    run = jaxgd.minimize(counted, np.zeros(2), cost_state=state, method=Adam(0.1), stop=(), max_steps=10)
    assert int(run.cost_state["seen"]) == 11 and np.array_equal(run.cost_state["last"], run.params)
    run = jaxgd.minimize(counted, np.zeros(2), cost_state=state)
    assert run.converged and np.array_equal(run.cost_state["last"], run.params)

    def moving(x: Any, state: Any) -> Any:
        return jnp.sum((x - state) ** 2), state + 1

    with pytest.raises(ValueError, match=r"cost: its value depends on its state, .* TrustRegion compares"):
        jaxgd.minimize(moving, np.zeros(2), cost_state=np.float32(0))


@pytest.mark.slow
def test_a_state_that_holds_a_random_key(tmp_path: Path) -> None:
    """As the streams of Flax do; the cost splits it by itself."""

    def cost(x: Any, batch: Any, state: Any) -> Any:
        key, now = jax.random.split(state["key"])
        return jnp.mean((x - batch + jax.random.normal(now, batch.shape)) ** 2), {"key": key, "on": state["on"]}

    def fit(**options: Any) -> Result:
        state = {"key": jax.random.key(3), "on": True}
        return jaxgd.fit(cost, 0.0, np.arange(6.0), cost_state=state, batch_size=2, n_epochs=6, key=0, method=Adam(0.1), **options)

    run = fit()
    some = pickle.loads(pickle.dumps(fit(callback=Every(lambda progress: progress.step == 8, steps=4))))
    assert jnp.array_equal(fit(resume=some).cost_state["key"], run.cost_state["key"]) and fit(resume=some).params == run.params
    pytest.importorskip("orbax.checkpoint")
    fit(checkpoint=jaxgd.Checkpoint(tmp_path, every_steps=7), callback=Every(lambda progress: progress.step == 8, steps=4))
    assert fit(checkpoint=jaxgd.Checkpoint(tmp_path)).params == run.params


def test_an_aux_beside_a_state() -> None:
    def cost(x: Any, batch: Any, state: Any) -> Any:
        return jnp.mean((x - batch) ** 2), state + 1, {"batch": jnp.sum(batch)}

    run = jaxgd.fit(cost, 0.0, np.arange(6.0), cost_state=0, has_aux=True, batch_size=2, n_epochs=2, key=0, method=Adam(0.1))
    assert float(run.aux["batch"]) == 15.0 and int(run.cost_state) == 6


def test_names_that_are_taken_already_are_left_alone() -> None:
    def old(params: Any, state: Any, key: Any = None, training: Any = "no") -> Any:
        assert key is None and training == "no"
        return jnp.mean((params - state) ** 2)

    bound = functools.partial(old, key=None, training="no")
    assert jaxgd.fit(bound, 0.0, X, batch_size=2, n_epochs=1, key=0, method=Adam(0.1)).n_steps == 3


WRONG: dict[str, Any] = {
    "key: a cost with a parameter key needs a random key": lambda: fit(dropout, key=None, shuffle=False),
    "cost_state: expected the first state of the cost": lambda: fit(batch_norm),
    "cost_state: expected None, since the cost has no parameter state": lambda: jaxgd.minimize(
        line, [0.0, 0.0], (X, Y), cost_state=1
    ),
    r"cost_state\['mean'\]: expected a pytree of arrays, got 'a'": lambda: fit(batch_norm, cost_state={"mean": "a"}),
    r"cost: with a parameter state it must return \(value, state\)": lambda: fit(lambda p, b, state: p["b"] ** 2, cost_state=STATS),
    "cost: it must return a state like the one it got": lambda: fit(lambda p, b, state: (p["b"] ** 2, {}), cost_state=STATS),
    r"cost: it must return state\['mean'\] of shape \(4,\)": lambda: fit(
        lambda p, b, state: (p["b"] ** 2, {"mean": jnp.zeros(2), "count": 1}), cost_state=STATS
    ),
    "resample_every: expected None, since the cost has no parameter key": lambda: jaxgd.minimize(
        lambda x: x**2, 0.0, resample_every=2
    ),
    "resample_every: expected an integer of at least 1, got 0": lambda: jaxgd.minimize(
        lambda x, key: x**2, 0.0, key=0, resample_every=0
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        WRONG[message]()
