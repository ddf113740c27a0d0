"""Time `fit` and `minimize` on a file of rows in chunks, beside rows in memory, and show how fetching and computing overlap.

The file is written first, and read once, so that it is in the page cache as far as that holds it. Anonymous memory is what a
process has beside files: the largest while a call runs, and how much that is more than before it.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

COLUMNS, PIECE = 20, 2**20


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.on_disk", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small file: that everything runs, not how fast")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="the size of the file (default: 4)")
    parser.add_argument("--folder", help="where to write it (default: a temporary folder)")
    arguments = parser.parse_args()
    n_rows = 2**14 if arguments.quick else int(arguments.gigabytes * 1e9 / (4 * COLUMNS + 4))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        files = write(Path(folder), n_rows)
        print(f"{n_rows} rows of {COLUMNS} + 1 float32, {(4 * COLUMNS + 4) * n_rows / 1e9:.3g} GB\n")
        print("| call | rows | million rows in a second | anonymous memory, GB (more than before) |\n|---|---|---|---|")
        for name, call in CALLS.items():
            for place, rows in places(files, n_rows, arguments.quick):
                speed, memory, more = timed(call, rows)
                print(f"| {name} | {place} | {speed / 1e6:.3g} | {memory:.2g} ({more:.2g}) |", flush=True)
    print(f"\n{timeline(3 if arguments.quick else 10)}")


def write(folder: Path, n_rows: int) -> tuple[Path, Path]:
    """Write the file of a linear regression, a piece at a time."""
    names = folder / "x.npy", folder / "y.npy"
    x = np.lib.format.open_memmap(names[0], "w+", np.float32, (n_rows, COLUMNS))
    y = np.lib.format.open_memmap(names[1], "w+", np.float32, (n_rows,))
    random, slopes = np.random.default_rng(0), np.linspace(-1, 1, COLUMNS, dtype=np.float32)
    scales = np.geomspace(0.1, 2, COLUMNS, dtype=np.float32)  # so that a search needs some steps
    for first in range(0, n_rows, PIECE):
        rows = slice(first, min(first + PIECE, n_rows))
        x[rows] = random.standard_normal((rows.stop - first, COLUMNS), np.float32) * scales
        y[rows] = x[rows] @ slopes + random.standard_normal(rows.stop - first, np.float32)
    return names


def places(files: tuple[Path, Path], n_rows: int, quick: bool) -> Iterator[tuple[str, Any]]:
    """The places of the rows: some of them in memory, a gigabyte at most, and all of them in chunks."""
    import jax

    from jaxgd.data import Chunks

    maps = tuple(np.load(name, mmap_mode="r") for name in files)
    part = min(n_rows, int(1e9 / (4 * COLUMNS + 4)))
    yield f"{part} in memory", jax.block_until_ready(jax.device_put(tuple(np.array(leaf[:part]) for leaf in maps)))
    yield f"{n_rows} in chunks", Chunks(maps, 2**10 if quick else None)


def cost(w: Any, rows: Any) -> Any:
    """The mean of the squared residuals."""
    import jax.numpy as jnp

    x, y = rows
    return jnp.mean((x @ w - y) ** 2)


def by_fit(rows: Any, count: int) -> Any:
    """Some epochs of batches of 256 rows; return the passes over the rows as well."""
    import jaxgd

    method = jaxgd.Adam(1e-2)
    return jaxgd.fit(cost, np.zeros(COLUMNS, np.float32), rows, batch_size=256, n_epochs=count, key=0, method=method), count


def by_minimize(rows: Any, count: int) -> Any:
    """Some steps of L-BFGS; return the passes over the rows as well."""
    import jaxgd

    options: dict[str, Any] = {"method": jaxgd.LBFGS(), "max_steps": 3 * count, "stop": ()}
    result = jaxgd.minimize(cost, np.zeros(COLUMNS, np.float32), rows, **options)
    return result, result.n_evaluations


CALLS = {"fit, batches of 256": by_fit, "minimize, L-BFGS": by_minimize}


def timed(call: Any, rows: Any) -> tuple[float, float, float]:
    """The rows in a second, from short and longer calls, and the anonymous memory meanwhile, all and beyond that before."""
    n_rows = rows.total if hasattr(rows, "total") else len(rows[1])
    call(rows, 1)  # compiles, and reads the file
    before = anonymous()
    with Peak() as peak:
        speeds = []
        for _ in range(3):
            spent = []
            for count in (1, 4):
                began = time.perf_counter()
                _, passes = call(rows, count)
                spent.append((time.perf_counter() - began, passes))
            (short, few), (long, many) = spent
            speeds.append((many - few) * n_rows / (long - short))
    return median(speeds), peak.most, peak.most - before


def anonymous() -> float:
    """The gigabytes of this process that are no file's; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("RssAnon")), 0.0)


class Peak:
    """The largest anonymous memory while something runs."""

    def __enter__(self) -> "Peak":
        self.most, self.over = anonymous(), threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        """Look every few milliseconds."""
        while not self.over.wait(0.005):
            self.most = max(self.most, anonymous())

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def timeline(n_batches: int) -> str:
    """A picture of when batches are fetched and when they are computed with, both slow; a digit is a batch."""
    import jax.numpy as jnp
    from jax import lax

    import jaxgd
    from jaxgd.data import stream

    size, width = 64, 300
    fetched, ended = [], []

    def make_batches() -> Iterator[Any]:
        for _ in range(n_batches):
            fetched.append(time.perf_counter())
            time.sleep(0.1)
            yield np.ones((size, width), np.float32)
            fetched.append(time.perf_counter())

    def slow(w: Any, rows: Any) -> Any:
        product = lax.fori_loop(0, 1500, lambda _, x: jnp.tanh(x @ jnp.ones((width, width))), rows)
        return jnp.sum(w) * jnp.mean(product)

    def note(progress: Any) -> None:
        ended.append(time.perf_counter())

    before, stream._BYTES = stream._BYTES, 1  # a chunk for each batch
    try:
        data = jaxgd.data.Stream(make_batches, n_batches * size, evaluate=False)
        options: dict[str, Any] = {"batch_size": size, "n_epochs": 1, "method": jaxgd.GradientDescent(1e-6)}
        for _ in range(2):  # the first compiles
            for times in (fetched, ended):
                times.clear()
            jaxgd.fit(slow, np.ones(3, np.float32), data, callback=jaxgd.callbacks.Every(note, steps=1), **options)
    finally:
        stream._BYTES = before
    first, last = fetched[1], ended[-1]  # before that comes the first batch once more, which tells the shapes
    spans = list(zip(fetched[1::2], fetched[2::2], strict=False))
    starts = [max(ready, before) for (_, ready), before in zip(spans, [first, *ended], strict=False)]
    lines = [f"{n_batches} batches in {last - first:.2g} s, fetched for 0.1 s each"]
    for name, rows in (("fetched", spans), ("computed", list(zip(starts, ended, strict=True)))):
        row = [" "] * 101
        for number, span in enumerate(rows):
            began, end = (int(100 * (moment - first) / (last - first)) for moment in span)
            row[began : max(end, began + 1)] = [str(number % 10)] * max(end - began, 1)
        lines.append(f"{name:9}{''.join(row).rstrip()}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
