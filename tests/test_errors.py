"""Bad input: the type of the error, and a message that names the argument, what came, and what was expected."""

import builtins
import re
import traceback
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from tests import errors, errors_of_parts, errors_of_penalties, errors_of_profiles, errors_of_squares
from tests.errors import Row, fit, minimize

TABLES = (errors, errors_of_parts, errors_of_penalties, errors_of_profiles, errors_of_squares)
ERRORS = [row for table in TABLES for row in table.ERRORS]


@pytest.mark.parametrize("row", ERRORS, ids=[row.title for row in ERRORS])
def test_errors_name_the_argument_and_come_before_anything_compiles(row: Row, compilations: Any) -> None:
    fit()  # whatever a sound call has to compile is compiled
    minimize()
    with compilations() as compiled, pytest.raises(row.error) as caught:
        row.call()
    assert type(caught.value) is row.error
    assert re.fullmatch(".*".join(map(re.escape, row.message.split("..."))), str(caught.value)), str(caught.value)
    assert not (row.early and compiled)


def test_the_last_line_of_a_traceback_is_the_message_and_the_one_before_it_the_users() -> None:
    with pytest.raises(TypeError) as caught:
        minimize(errors.calls_numpy)
    *_, line_of_the_user, message = (text for text in traceback.format_exception(caught.value) if "\n" in text)
    assert "return np.sin(v)" in line_of_the_user and message.startswith("TypeError: cost: it can't be traced")
    for cost in (errors.no_return, lambda v: jnp.stack([v, v])):
        with pytest.raises(TypeError) as caught:
            minimize(cost)
        assert len(traceback.format_exception(caught.value)) <= 10
        assert traceback.format_exception(caught.value)[-1].startswith("TypeError: cost: it must return a real scalar")


def test_an_error_of_the_users_own_passes_as_it_is() -> None:
    mine = LookupError("mine")

    def cost(*_: Any) -> Any:
        raise mine

    for call in (lambda: minimize(cost), lambda: fit(cost), lambda: minimize(cost, jit=False), lambda: minimize(start=cost, key=0)):
        with pytest.raises(LookupError) as caught:
            call()
        assert caught.value is mine


def test_callback_and_progress_are_refused_while_somebody_else_traces() -> None:
    for name, value in (("callback", lambda progress: None), ("progress", True)):
        with pytest.raises(ValueError, match=f"{name}: expected none inside jax.jit"):
            jax.vmap(lambda start, option={name: value}: minimize(start=start, **option).params)(jnp.arange(3.0))


def test_a_missing_bar_names_the_install_command_before_anything_is_traced(monkeypatch: pytest.MonkeyPatch, traces: Any) -> None:
    real = builtins.__import__

    def without_tqdm(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("tqdm"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_tqdm)
    for call in (minimize, fit):
        with traces() as traced, pytest.raises(ImportError, match=r'^progress=True needs tqdm: pip install "jaxgd\[progress\]"$'):
            call(progress=True)
        assert not traced


def test_what_a_hyperparameter_is_known_to_leave_out_needs_no_parameters() -> None:
    gradient = jnp.ones(2)
    for rule in (jaxgd.Adam(), jaxgd.Adam(weight_decay=0, relative=0), jaxgd.GradientDescent(0.1)):
        alone, _ = rule.update(gradient, rule.init(gradient))
        beside, _ = rule.update(gradient, rule.init(gradient), 7 * gradient)
        np.testing.assert_array_equal(alone, beside)
