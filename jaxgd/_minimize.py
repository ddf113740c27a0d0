"""minimize(): a scalar cost, all rows in every step."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd import _checks, _problem, _steps
from jaxgd._drive import Callback, Host, Progress, run
from jaxgd._program import compiled
from jaxgd.methods.spectral import SpectralGradient
from jaxgd.result import History, Result

_MAX_STEPS = 10_000


def minimize(
    cost: Callable[..., Any],
    start: Any,
    data: Any = None,
    *,
    method: Any = None,
    stop: Any = None,
    max_steps: int | None = None,
    key: Any = None,
    dtype: Any = None,
    history: Any = None,
    has_aux: bool = False,
    callback: Callback | None = None,
    progress: bool = False,
    jit: bool = True,
) -> Result:
    """Minimise a scalar cost, all data in every step."""
    _checks.options(callback, has_aux=has_aux, progress=progress, jit=jit)
    max_steps = _checks.whole("max_steps", _MAX_STEPS if max_steps is None else max_steps, 1, 2**31 - 2)
    names = _checks.history_names(history)
    _checks.cost_signature(cost, ("params",) if data is None else ("params", "data"))
    with _problem.precision(dtype) as to:
        params = _problem.start_point(start, key, to)
        arrays = () if data is None else (_problem.cast(_checks.data_arrays("data", data), to),)
        method = SpectralGradient() if method is None else method
        method, rules = _problem.prepare(method, stop, params, 1, names, whole=True)
        evaluate = _problem.lowered(_problem.value_and_gradient(cost, has_aux=has_aux), params, *arrays, jit=jit)
        empty = _problem.empty_point(evaluate, params, *arrays)
        state = compiled(_steps.begin, method, rules, empty)(method, rules, empty)
        plan = _steps.Plan(method, rules, arrays, np.int32(max_steps), names, 0)
        state, chunks = run(
            _steps.segment,
            plan,
            evaluate,
            state,
            limit=max_steps + 1,
            row=jax.eval_shape(_steps.row, plan, state),
            view=_view,
            unit="step",
            host=Host(callback, progress, jit),
        )
        result = _result(state, _problem.history_of(chunks))
    return _problem.export(result)


def _view(state: _steps.State) -> Progress:
    step = int(state.step)
    return Progress(step, step, state.current.params, state.current.cost, None, state.best)


def _result(state: _steps.State, history: History | None) -> Result:
    n_steps = _problem.host(state.step)
    return Result(
        params=state.current.params,
        cost=state.current.cost,
        gradient=state.current.gradient,
        best=_problem.best_of(state.best, state.current),
        n_steps=n_steps,
        n_epochs=n_steps,
        n_evaluations=_problem.host(state.evaluations),
        code=_problem.host(state.code),
        history=history,
        aux=state.current.aux,
        state=state,
    )
