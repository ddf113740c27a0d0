"""Many fits on the devices that hold their data: each of them runs its part of the fits, and nothing is exchanged.

A fit has the same bits wherever it runs, since all parts are the same program with the same number of lanes. The parts run in
threads, but for those on CPUs, which run in turn: two programs at once may wait for each other's workers there for ever.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._compile.program import program_for
from jaxgd._compile.within import within
from jaxgd._run.many import Ends, ManySpec
from jaxgd._run.objective import Objective
from jaxgd._run.progress import Display, Progress, display
from jaxgd._run.ways import arranged, way_of
from jaxgd._shards import is_split, is_spread
from jaxgd._trees import in_64_bits, is_traced, with_fields
from jaxgd.data.layout import row_sharding
from jaxgd.data.memory import is_cpu
from jaxgd.result import RUNNING, Best, Status

_SECONDS = 0.2  # between two looks at the bar, and of a segment
_FIRST_TICKS = 64
_BITS = 2  # of the number of fits in a part, beside the first: others are the same program, padded


class Part(NamedTuple):
    """The fits that one device runs."""

    spec: ManySpec
    objective: Objective


def run(spec: ManySpec, objective: Objective, progress: bool | str = False) -> Ends:
    """Run all fits, and return their ends; after an interrupt what was reached is written down."""
    if is_traced(spec, objective):
        spec = arranged(spec, objective)
        loop, finish = way_of(spec)
        state, _ = within(loop.continue_run)(spec, objective, loop.begin(spec), np.int32(spec.n_epochs))
        return finish(spec, state, state.code).ends
    parts = _on_devices(spec, objective) if any(map(is_split, jax.tree.leaves(spec.each))) else _together(spec, objective)
    parts = [Part(arranged(*part), part.objective) for part in parts]
    return _joined(_run_parts(parts, spec.count, display(progress, "fit", spec.count)), spec)


def _run_parts(parts: list[Part], count: int, shown: Display) -> list[Ends]:
    """Run all parts, side by side where their devices are not CPUs, and return the ends of each."""
    halt, ended = threading.Event(), [0] * len(parts)
    calls = [_prepared(part) for part in parts]
    wide = in_64_bits()  # a thread has a flag of its own

    def run(k: int) -> Any:
        with jax.enable_x64(wide):
            return _run_part(*calls[k], halt, ended, k)

    with shown, ThreadPoolExecutor(1 if is_cpu() else len(parts)) as threads:
        futures: list[Future[Any]] = [threads.submit(run, k) for k in range(len(parts))]
        try:
            while wait(futures, _SECONDS).not_done:
                shown.show(_seen(min(sum(ended), count)))
        except KeyboardInterrupt:
            halt.set()
        states = [future.result() for future in futures]
        shown.show(_seen(min(sum(ended), count)))
    return [_finished(part, state) for part, state in zip(parts, states, strict=True)]


def _finished(part: Part, state: Any) -> Ends:
    """Return the ends of a part, with what was reached in fits that have not ended."""
    rows = np.zeros(int(part.spec.count), bool)
    arguments = part.spec, state, np.int32(Status.INTERRUPTED.code), rows
    return program_for(_ends, *arguments, in_parts=True)(*arguments)


def _ends(spec: ManySpec, state: Any, code: Any, rows: Any) -> Ends:
    """Return the ends of as many fits as there are `rows`; those that have not ended get a code."""
    ends = way_of(spec).finish(spec, state, code).ends
    return jax.tree.map(lambda leaf: leaf[: rows.size], ends)


def _prepared(part: Part) -> tuple[ManySpec, Objective, Any]:
    """Return a part with its compiled program: threads call what was compiled here, in the precision of the call."""
    loop = way_of(part.spec).loop
    program = program_for(loop.run_segment, part.spec, part.objective, in_parts=True)
    blank = program_for(loop.begin, part.spec).zeros(part.spec)
    return part.spec, part.objective, (blank, program.compiled(part.spec, part.objective, blank, np.int32(0), like=(blank, {})))


def _run_part(spec: ManySpec, objective: Objective, start: Any, halt: threading.Event, ended: list[int], number: int) -> Any:
    """Run the fits of a part, segment by segment, until all have ended or the host says halt."""
    (state, program), place, ticks = start, 0, _FIRST_TICKS
    while True:
        began = time.perf_counter()
        state, _ = program(spec, objective, state, np.int32(min(place + ticks, spec.n_epochs)))
        code, done = int(state.code), int(state.ticks) - place
        place += done
        ended[number] = int(np.sum(np.asarray(state.ends.code) != RUNNING))
        if code != RUNNING or halt.is_set():
            return state
        ticks = max(1, min(8 * ticks, int(done * _SECONDS / max(time.perf_counter() - began, 1e-9))))


def _seen(count: int) -> Progress:
    """Return what a bar shows."""
    return Progress(count, count, None, None, None, Best(None, None))


def _together(spec: ManySpec, objective: Objective) -> list[Part]:
    """Return all fits as one part, padded to one of few sizes."""
    size = _rounded_up(spec.size)
    each = jax.tree.map(lambda leaf: _padded(leaf, size), spec.each)
    return [Part(with_fields(spec, each=each), objective)]


def _rounded_up(count: int) -> int:
    """Return a number of fits, rounded up to one with few bits."""
    unit = 2 ** max(0, count.bit_length() - 1 - _BITS)
    return -(-count // unit) * unit


def _padded(leaf: Any, size: int) -> Any:
    """Return an array with more rows, copies of its last."""
    missing, xp = size - leaf.shape[0], np if isinstance(leaf, np.ndarray) else jnp
    if missing:
        leaf = xp.concatenate([leaf, xp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))])
    return jnp.asarray(leaf)


def _on_devices(spec: ManySpec, objective: Objective) -> list[Part]:
    """Return a part for each device that holds rows."""
    rows = _row_sharding(spec)
    leaves, structure = jax.tree.flatten(jax.device_put(spec.each, rows))
    shards = [{shard.device: shard for shard in leaf.addressable_shards} for leaf in leaves]
    parts = []
    for device, shard in shards[0].items():
        each = structure.unflatten([one[device].data for one in shards])
        count = np.int32(shard.data.shape[0])
        run, functions = jax.tree.map(lambda leaf, device=device: _copied(leaf, device), (spec.run, objective))
        fits = ManySpec(run, each, count, spec.width, spec.keeps_ends)
        parts.append(Part(fits, functions))
    return parts


def _row_sharding(spec: ManySpec) -> Any:
    """Return how the rows of all arguments are to lie over devices: as those of the first that is split."""
    split = next(leaf for leaf in jax.tree.leaves(spec.each) if is_split(leaf))
    return row_sharding(split)


def _copied(leaf: Any, device: Any) -> Any:
    """Return a copy of an array on a device."""
    here = leaf.addressable_data(0) if isinstance(leaf, jax.Array) and is_spread(leaf) else leaf
    return jax.device_put(here, device) if isinstance(here, jax.Array | np.ndarray) else here


def _joined(ends: list[Ends], spec: ManySpec) -> Ends:
    """Return the ends of all fits in their order, on the devices on which they ran."""
    if any(map(is_split, jax.tree.leaves(spec.each))):
        rows = _row_sharding(spec)

        def spread(*leaves: Any) -> jax.Array:
            shape = (spec.size, *leaves[0].shape[1:])
            return jax.make_array_from_single_device_arrays(shape, rows, list(leaves))

        return jax.tree.map(spread, *ends)
    return ends[0]
