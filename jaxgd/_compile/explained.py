"""Errors of JAX in words: what can't be traced or differentiated, in which line, and the cure."""

import contextlib
import re
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

import jax
import numpy as np

from jaxgd._checks.check import Refused

_NOT_CONCRETE = jax.errors.ConcretizationTypeError, jax.errors.TracerIntegerConversionError
_TWO_WIDTHS = re.compile("same dtypes, got (float64, float32|float32, float64)")
_NO_SHAPE = "Shapes must be 1D sequences of concrete values"  # how JAX refuses a traced size, by no class of its own
_LIBRARIES = [Path(__file__).parent.parent, *(Path(module.__file__).parent for module in (jax, np) if module.__file__)]
_INSTALLED = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]


class explained(contextlib.ContextDecorator):
    """Give JAX's errors on untraceable code a message that names the line and the cure."""

    def __init__(self, name: str, *, eager: bool = False) -> None:
        self.name = name
        self.eager = eager

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Refused):
            raise TypeError(*error.args) from None
        found = _untraceable(error, eager=self.eager) or _not_differentiable(error)
        if found is not None:
            problem, cure = found
            message = f"{self.name}: it can't be {problem}{_place(trace)}. The cure: {cure}."
            raise TypeError(message).with_traceback(trace) from None


def _untraceable(error: BaseException | None, *, eager: bool) -> tuple[str, str] | None:
    """Return why JAX can't trace something, in words, and the cure, if an error says that."""
    eagerly = "" if eager else ", or pass jit=False, which minimize, fit and covariance take"
    if isinstance(error, jax.errors.TracerArrayConversionError):
        problem = "NumPy was called on a value that JAX is tracing"
        cure = "use the function of the same name in jax.numpy or jax.scipy"
    elif isinstance(error, jax.errors.TracerBoolConversionError):
        problem = "a Python `if`, `while`, `and` or `or` looks at a value that JAX is tracing"
        cure = f"use jax.numpy.where or jax.lax.cond{eagerly}"
    elif isinstance(error, jax.errors.NonConcreteBooleanIndexError):
        problem = "an array is indexed by truth values that JAX is tracing"
        cure = f"use jax.numpy.where, which keeps the shape{eagerly}"
    elif isinstance(error, _NOT_CONCRETE) or (isinstance(error, TypeError) and str(error).startswith(_NO_SHAPE)):
        problem = "a value that JAX is tracing was turned into a Python number or the size of an array"
        cure = "keep it an array, with functions of jax.numpy, and sizes independent of values"
    elif isinstance(error, TypeError) and _TWO_WIDTHS.search(str(error)):
        problem = "numbers of 32 and of 64 bits meet in one operation"
        cure = "convert one of them, or pass as data what comes from a cache that JAX has seen in the other precision"
    else:
        return None
    return f"traced: {problem}", cure


def _not_differentiable(error: BaseException | None) -> tuple[str, str] | None:
    """Return what JAX has no derivative of, in words, and the cure, if an error says that."""
    text, rule = str(error), "give the function that holds it a derivative of its own by jax.custom_vjp"
    if not isinstance(error, ValueError | NotImplementedError):
        return None
    if text.startswith("Reverse-mode differentiation does not work"):
        loop = "a loop whose length is known only while it runs, lax.while_loop or lax.fori_loop, has no gradient"
        return f"differentiated: {loop}", f"use lax.scan, or lax.fori_loop with bounds that are Python integers, or {rule}"
    if "callbacks do not support JVP" in text:
        return "differentiated: a callback to Python has no derivative", rule
    if text.startswith("Differentiation rule for"):
        name = text.partition(" not ")[0].removeprefix("Differentiation rule for")
        return f"differentiated: JAX has no derivative of{name}", rule
    return None


def _place(trace: TracebackType | None) -> str:
    """Return the innermost line of the user's own code in a traceback, in words."""
    frames = [frame for frame in traceback.extract_tb(trace) if not _lies_in(frame.filename, _LIBRARIES)]
    own = [frame for frame in frames if not _lies_in(frame.filename, _INSTALLED)]
    for frame in (own or frames)[-1:]:
        line = f": {frame.line}" if frame.line else ""
        return f", in {Path(frame.filename).name}, line {frame.lineno}{line}"
    return ""


def _lies_in(path: str, folders: list[Path]) -> bool:
    return any(folder in Path(path).parents for folder in folders)
