"""Arrays spread over several devices, as the host sees them: read, checked and changed one shard at a time.

The axes of a mesh may be of the type Explicit, where JAX refuses every operation whose result it could place in several ways. A
call of this package takes all axes as of the type Auto, where the compiler places what it computes, and hands its results back on
the mesh of its arguments. Both are names for the same memory: nothing is copied.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import jax
import jax.core
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from jaxgd._trees import with_fields

_Verb = TypeVar("_Verb", bound=Callable[..., Any])


def is_spread(leaf: Any) -> bool:
    """Return whether a leaf is an array on several devices, in parts or in copies."""
    return isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.sharding.num_devices > 1


def is_split(leaf: Any) -> bool:
    """Return whether a leaf is an array whose parts lie on several devices."""
    return is_spread(leaf) and not leaf.sharding.is_fully_replicated


def size_on_device(array: Any) -> int:
    """Return how many numbers of an array lie on one device."""
    return math.prod(array.sharding.shard_shape(array.shape)) if is_split(array) else array.size


def begin_copies(tree: Any) -> None:
    """Begin to copy the single numbers of a tree to the host: together they take no longer than one that is waited for."""
    if jax.default_backend() == "cpu":
        return
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and leaf.size == 1 and not isinstance(leaf, jax.core.Tracer):
            leaf.copy_to_host_async()


def pieces(array: Any) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Yield the parts of an array that this process holds: where each begins, and its numbers.

    Each comes once, in the order of the rows. Another array is one part.
    """
    if not is_split(array):
        yield (0,) * array.ndim, np.asarray(array)
        return
    for start, _, part in _parts(array):
        yield start, np.asarray(part)


def _parts(array: jax.Array) -> list[tuple[tuple[int, ...], tuple[slice, ...], jax.Array]]:
    """Return the parts of an array that this process holds: the beginning, the place and the array on the device of each."""
    found = {}
    for shard in array.addressable_shards:
        start = tuple(part.start or 0 for part in shard.index)
        found.setdefault(start, (start, shard.index, shard.data))
    return [found[start] for start in sorted(found)]


def map_pieces(function: Callable[[np.ndarray], np.ndarray], array: Any) -> Any:
    """Return an array changed part by part on the host, each back in its place.

    The function keeps the shape of a part.
    """
    if not is_split(array):
        return function(np.asarray(array))
    parts = [jax.device_put(function(np.asarray(shard.data)), shard.device) for shard in array.addressable_shards]
    return jax.make_array_from_single_device_arrays(array.shape, array.sharding, parts)


def host_rows(array: Any, places: Any) -> np.ndarray:
    """Return the rows at some places on the host, without the others where that is possible.

    The places are an array of integers or a slice.
    """
    if not is_split(array):
        here = not isinstance(array, jax.Array) or all(device.platform == "cpu" for device in array.devices())
        return np.asarray(array)[places] if here else np.asarray(array[places])
    n_rows = array.shape[0]
    places = np.asarray(range(n_rows)[places] if isinstance(places, slice) else places, np.int64)
    flat = places.reshape(-1)
    rows = np.empty((flat.size, *array.shape[1:]), array.dtype)
    for (start, *_), index, part in _parts(array):
        mine = (flat >= start) & (flat < start + part.shape[0])
        here = flat[mine] - start
        cpu = all(device.platform == "cpu" for device in part.devices())
        rows[(mine, *index[1:])] = np.asarray(part)[here] if cpu else np.asarray(part[here])
    return rows.reshape(*places.shape, *array.shape[1:])


def mesh_of(leaf: Any) -> Mesh | None:
    """Return the mesh over which an array is spread; None for other arrays."""
    sharding = leaf.sharding if is_spread(leaf) else None
    return sharding.mesh if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh) else None


def on_automatic_axes(verb: _Verb) -> _Verb:
    """Take all axes of meshes as of the type Auto in a call.

    The result lies on the mesh of the arguments.
    """

    @functools.wraps(verb)
    def call(*arguments: Any, **options: Any) -> Any:
        given = options.get("data", arguments[2:3]), arguments, options  # the data come third, and first in question
        meshes = [mesh for leaf in _leaves(given) if (mesh := mesh_of(leaf)) is not None]
        explicit = next((mesh for mesh in meshes if _has_explicit(mesh)), None)
        auto, here = _as_auto(meshes[0]) if meshes else None, jax.sharding.get_abstract_mesh()
        if auto is None or (explicit is None and (here.empty or here == auto.abstract_mesh)):
            return verb(*arguments, **options)
        with _within(auto):
            changed = {name: value for name, value in options.items() if name != "resume"}
            arguments, changed = jax.tree.map(as_in_call, (arguments, changed), is_leaf=_is_iterator)
            result = verb(*arguments, **options | changed)
        return result if explicit is None else _on_mesh(result, explicit)

    return cast(_Verb, call)


def _within(mesh: Mesh) -> Any:
    """Return the context of a mesh, whichever is set; an outer program takes one of the same size alone."""
    try:
        return jax.set_mesh(mesh)
    except ValueError:
        return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def device_by_device(verb: _Verb) -> _Verb:
    """Let a verb run on each device by itself; its result lies on the mesh of the arguments."""

    @functools.wraps(verb)
    def call(*arguments: Any, **options: Any) -> Any:
        meshes = [mesh for leaf in _leaves((arguments, options)) if (mesh := mesh_of(leaf)) is not None]
        explicit = next((mesh for mesh in meshes if _has_explicit(mesh)), None)
        if meshes and not jax.sharding.get_abstract_mesh().empty:
            raise ValueError("data: expected a call outside of jax.set_mesh for arrays that are split over devices.")
        if explicit is None:
            return verb(*arguments, **options)
        arguments, options = jax.tree.map(_on_auto, (arguments, options), is_leaf=_is_iterator)
        return _on_mesh(verb(*arguments, **options), explicit)

    return cast(_Verb, call)


def _on_auto(leaf: Any) -> Any:
    """Return an array of a mesh with Explicit axes as one with Auto axes, and anything else as it is."""
    mesh = mesh_of(leaf)
    return jax.device_put(leaf, NamedSharding(_as_auto(mesh), leaf.sharding.spec)) if mesh and _has_explicit(mesh) else leaf


def as_in_call(leaf: Any) -> Any:
    """Return an array of a mesh with Explicit axes as one with Auto axes where a call takes them so.

    Anything else comes back as it is.
    """
    here = jax.sharding.get_abstract_mesh()
    if here.empty or _has_explicit(here) or not _has_explicit(mesh_of(leaf)):
        return leaf
    with jax.ensure_compile_time_eval():
        return jax.device_put(leaf, NamedSharding(_as_auto(leaf.sharding.mesh), leaf.sharding.spec))


def _on_mesh(result: Any, mesh: Mesh) -> Any:
    """Return a result with its arrays on a mesh, but for the state with which a run goes on."""
    auto = _as_auto(mesh)

    def put(leaf: Any) -> Any:
        return jax.device_put(leaf, NamedSharding(mesh, leaf.sharding.spec)) if mesh_of(leaf) == auto else leaf

    fields = [field.name for field in dataclasses.fields(result) if field.name not in ("state", "saved", "beside", "fitted")]
    return with_fields(result, **{name: jax.tree.map(put, getattr(result, name)) for name in fields})


def _leaves(arguments: Any) -> list[Any]:
    """Return the leaves of what a user passed, which nobody has checked; none where there is one device alone."""
    if jax.device_count() == 1:
        return []
    try:
        return jax.tree.leaves(arguments, is_leaf=_is_iterator)
    except ValueError:  # JAX sorts the keys of a dict
        return []


def _is_iterator(node: Any) -> bool:
    """Return whether a node is an iterator, of which JAX warns."""
    return isinstance(node, Iterator)


def _has_explicit(mesh: Any) -> bool:
    return mesh is not None and AxisType.Explicit in mesh.axis_types


def _as_auto(mesh: Mesh) -> Mesh:
    return Mesh(mesh.devices, mesh.axis_names)
