"""What every test runs under: strict dtype promotion, and a way to count compilations."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")

_compilations: list[str] = []


def _listen(event: str, *_: Any, **__: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compilations.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


@pytest.fixture
def compilations() -> Callable[[], contextlib.AbstractContextManager[list[str]]]:
    """A context manager that lists what was compiled inside it."""

    @contextlib.contextmanager
    def counted() -> Iterator[list[str]]:
        before = len(_compilations)
        inside: list[str] = []
        yield inside
        inside.extend(_compilations[before:])

    return counted
