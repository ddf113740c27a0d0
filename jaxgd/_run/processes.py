"""The processes of a run: where JAX runs in several, what the host decides is decided in one of them, and done in all.

Processes run together where the data, or the parameters, lie on devices of several. All of them then call the same programs in the
same order, and so what depends on a clock, a signal, a file or a callback has to be agreed on. Other runs are each process's own.
"""

import contextlib
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxgd._trees import is_traced

_Value = TypeVar("_Value")


class Processes:
    """The processes that run together; one alone agrees with itself."""

    several = False
    is_first = True

    def decided(self, number: int) -> int:
        """Return the number that the first process has."""
        return number

    def anyone(self, wish: bool) -> bool:
        """Return whether a process wishes something."""
        return wish

    def once(self, function: Callable[[], _Value]) -> _Value:
        """Return what a function returns in the first process, or raise what it raises there."""
        return function()

    def on_host(self, tree: Any) -> Any:
        """Return a pytree whose arrays the host can read as a whole."""
        return tree

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[Callable[[], bool]]:
        """Hold back interrupts from the keyboard where processes have to agree on them; yield whether there was one."""
        yield lambda: False


class Several(Processes):
    """Several processes that run together."""

    several = True

    def __init__(self) -> None:
        self.is_first = jax.process_index() == 0

    def decided(self, number: int) -> int:
        return int(multihost_utils.broadcast_one_to_all(np.int32(min(number, 2**31 - 1))))

    def anyone(self, wish: bool) -> bool:
        return bool(np.any(multihost_utils.process_allgather(np.bool_(wish))))

    def once(self, function: Callable[[], _Value]) -> _Value:
        packed = np.zeros(0, np.uint8)
        if self.is_first:
            try:
                answer: tuple[Any, BaseException | None] = function(), None
            except Exception as error:
                answer = None, error
            packed = np.frombuffer(pickle.dumps(answer), np.uint8)
        size = int(multihost_utils.broadcast_one_to_all(np.int32(packed.size)))
        packed = multihost_utils.broadcast_one_to_all(packed if self.is_first else np.zeros(size, np.uint8))
        value, error = pickle.loads(np.asarray(packed).tobytes())
        if error is not None:
            raise error
        return value

    def on_host(self, tree: Any) -> Any:
        def whole(leaf: Any) -> Any:
            if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
                return leaf
            return multihost_utils.process_allgather(leaf, tiled=True)

        return jax.tree.map(whole, tree)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[Callable[[], bool]]:
        """Hold back interrupts from the keyboard, and yield whether there was one; a second one is raised at once."""
        seen = threading.Event()
        before: Any = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or before is None:
            yield seen.is_set
            return

        def note(number: int, frame: Any) -> None:
            if seen.is_set():
                raise KeyboardInterrupt
            seen.set()

        signal.signal(signal.SIGINT, note)
        try:
            yield seen.is_set
        finally:
            signal.signal(signal.SIGINT, before)


def processes_of(*trees: Any) -> Processes:
    """Return the processes that run together on some arrays."""
    if jax.process_count() == 1:
        return Processes()
    arrays = [leaf for leaf in jax.tree.leaves(trees) if isinstance(leaf, jax.Array) and not is_traced(leaf)]
    return Several() if any(not leaf.is_fully_addressable for leaf in arrays) else Processes()
