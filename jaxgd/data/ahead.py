"""Reading ahead: an iterator whose next item is made by a thread while the one before is in use."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

import jax

from jaxgd._trees import in_64_bits

_PATIENCE = 10.0  # seconds that a thread gets to end before it is left alone


class Ahead:
    """An iterator that is one item ahead of another one, which runs in a thread of its own.

    Two items wait at most: one that is ready, and one that is being made. What the iterator raises is raised here, in its turn.

    Args:
        items: the iterator. It makes JAX arrays in the precision, and on the device, that hold where this is called.
    """

    def __init__(self, items: Iterator[Any]) -> None:
        self.items = items
        self.ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(1)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(_settings(),), name="jaxgd-data", daemon=True)
        self.thread.start()

    def __iter__(self) -> "Ahead":
        return self

    def __next__(self) -> Any:
        if self.stopped.is_set():
            raise StopIteration
        item, error = self.ready.get()
        if error is not None:
            self.close()
            raise error
        return item

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the iterator, and wait for its thread, though not for one that waits for something itself."""
        self.stopped.set()
        while not self.ready.empty():
            self.ready.get_nowait()
        self.thread.join(_PATIENCE)

    def _run(self, settings: list[Any]) -> None:
        with settings[0], settings[1]:
            while not self.stopped.is_set() and self._one_more():
                pass
        close = getattr(self.items, "close", None)
        if callable(close):
            close()

    def _one_more(self) -> bool:
        """Make an item ready, or what is raised instead; return whether there are more."""
        item: Any = None
        error: BaseException | None = None
        try:
            item = next(self.items)
        except BaseException as raised:
            error = raised
        self._put(item, error)
        return error is None

    def _put(self, item: Any, error: BaseException | None) -> None:
        while not self.stopped.is_set():
            try:
                self.ready.put((item, error), timeout=0.05)
                return
            except queue.Full:
                continue


def _settings() -> list[Any]:
    """Return the settings of JAX that belong to a thread, to be entered in another one."""
    return [jax.enable_x64(in_64_bits()), jax.default_device(jax.config.jax_default_device)]  # type: ignore[attr-defined]
