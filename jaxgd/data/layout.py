"""How the rows of data lie over devices: all in one place, or an equal share on each of several.

Nothing but a layout knows where rows are. It takes some of them, from the same places of every device's share, so that no row
leaves its device.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import keystr, tree_flatten_with_path

from jaxgd._shards import is_split, is_spread, mesh_of
from jaxgd._trees import is_traced


class Layout:
    """A layout of rows that lie together: on one device, in copies on several, or wherever an outer program puts them."""

    @property
    def n_shards(self) -> int:
        """The number of parts that the rows are split into."""
        return 1

    def part(self, data: Any, first: Any, size: int) -> Any:
        """Return `size` rows of data; the parts that begin at 0, size, 2 * size, ... have every row once."""

        def rows(leaf: jax.Array) -> jax.Array:
            return leaf if leaf.shape[0] == size else lax.dynamic_slice_in_dim(leaf, first, size)

        return jax.tree.map(rows, data)

    def pick(self, data: Any, rows: np.ndarray) -> Any:
        """Return a few rows by their numbers, which the host knows."""
        return jax.tree.map(lambda leaf: leaf[rows], data)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return "Layout()"


TOGETHER = Layout()


@dataclasses.dataclass(frozen=True)
class Sharded(Layout):
    """A layout of rows that are split evenly over the devices along some axes of a mesh.

    Attributes:
        mesh: the mesh, its axes of the type Auto.
        axes: the names of the axes over which rows are split.
        specs: how each leaf of the data is split; columns may be split over other axes.
    """

    mesh: Mesh
    axes: tuple[str, ...]
    specs: tuple[PartitionSpec, ...]

    @property
    def n_shards(self) -> int:
        """The number of parts that the rows are split into."""
        return math.prod(self.mesh.shape[name] for name in self.axes)

    def each(self, function: Callable[..., Any], data: Any, *arguments: Any, specs: tuple[PartitionSpec, ...] | None = None) -> Any:
        """Return what a function returns on every device, of its rows, its number, and other arguments.

        It returns rows, which stay on their devices, split as `specs` say.
        """
        leaves, structure = jax.tree.flatten(data)

        def local(leaves: Any, arguments: Any) -> Any:
            return jax.tree.leaves(function(structure.unflatten(leaves), lax.axis_index(self.axes), *arguments))

        in_specs, out_specs = (list(self.specs), PartitionSpec()), list(specs or self.specs)
        mapped = jax.shard_map(local, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
        return structure.unflatten(mapped(leaves, arguments))

    def part(self, data: Any, first: Any, size: int) -> Any:
        """Return `size` rows: the next share of every device's rows."""
        if jax.tree.leaves(data)[0].shape[0] == size:
            return data
        first = jnp.asarray(first) // np.asarray(self.n_shards, jnp.asarray(first).dtype)
        return self.each(lambda rows, _, first: TOGETHER.part(rows, first, size // self.n_shards), data, first)

    def pick(self, data: Any, rows: np.ndarray) -> Any:
        """Return a few rows by their numbers, a copy of them on every device."""
        per_shard = jax.tree.leaves(data)[0].shape[0] // self.n_shards
        places = rows - np.arange(self.n_shards, dtype=np.int64)[:, None] * per_shard
        is_here = (places >= 0) & (places < per_shard)
        places = np.where(is_here, places, 0).astype(np.uint32 if per_shard <= 2**32 else np.uint64)

        def mine(data: Any, number: Any) -> Any:
            here, at = jnp.asarray(is_here)[number], jnp.asarray(places)[number]
            return jax.tree.map(lambda leaf: _gathered(leaf[at], here, self.axes), data)

        specs = tuple(PartitionSpec(None, *spec[1:]) for spec in self.specs)
        return jax.jit(lambda data: self.each(mine, data, specs=specs))(data)


def _gathered(rows: jax.Array, here: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """Return the sum over devices of the rows that each of them has."""
    numbers = rows.astype(jnp.int32) if rows.dtype == bool else rows
    mask = here.reshape(-1, *(1,) * (rows.ndim - 1))
    return lax.psum(jnp.where(mask, numbers, jnp.zeros((), numbers.dtype)), axes).astype(rows.dtype)


def layout_of(name: str, data: Any, known: Layout = TOGETHER) -> tuple[Any, Layout]:
    """Return data, and how their rows lie over devices.

    They are sharded where one of the arrays is: the others, which lie in one place, are then sharded like it. A `known` layout of
    other data over the same devices is taken for these as well, if their rows divide evenly.
    """
    leaves = jax.tree.leaves(data)
    if not any(map(is_split, leaves)) or any(map(is_traced, leaves)):
        return data, TOGETHER
    split = [(name + keystr(path), leaf) for path, leaf in tree_flatten_with_path(data)[0] if is_split(leaf) and _row_axes(leaf)]
    if not split:
        return data, TOGETHER
    (where, like), *others = split
    place = _place(like)
    for other, leaf in others:
        if _place(leaf) != place and not leaf.sharding.is_equivalent_to(_split_rows(*place), leaf.ndim):
            raise ValueError(
                f"{name}: expected all arrays to have their rows on the same devices, got {where} split over {_said(like)} and "
                f"{other} over {_said(leaf)}: put them there together with jaxgd.data.shard."
            )
    if isinstance(known, Sharded) and like.shape[0] % known.n_shards == 0:
        place = known.mesh, known.axes  # a program takes one mesh alone where one is set
    mesh, axes = place
    leaves = [leaf if _place(leaf) == place else jax.device_put(leaf, _split_rows(mesh, axes)) for leaf in leaves]
    specs = tuple(PartitionSpec(axes, *leaf.sharding.spec[1:]) for leaf in leaves)
    return jax.tree.unflatten(jax.tree.structure(data), leaves), Sharded(mesh, axes, specs)


def check_devices(name: str, tree: Any, data: Any) -> None:
    """Check that arrays which are spread over devices are on those of the data."""
    devices = next((leaf.sharding.device_set for leaf in jax.tree.leaves(data) if is_spread(leaf)), None)
    for path, leaf in tree_flatten_with_path(tree)[0] if devices else ():
        if is_spread(leaf) and leaf.sharding.device_set != devices:
            raise ValueError(
                f"{name}{keystr(path)}: expected an array on the devices of the data, {_listed(devices)}, got one on "
                f"{_listed(leaf.sharding.device_set)}: put both on the same, or pass a NumPy array."
            )


def _listed(devices: Any) -> str:
    """Return the numbers of some devices, in words."""
    numbers = sorted(device.id for device in devices)
    few = numbers if len(numbers) <= 8 else [*numbers[:3], "...", numbers[-1]]
    return f"{len(numbers)} devices ({', '.join(map(str, few))})"


def alongside(tree: Any, data: Any) -> Any:
    """Return a tree with copies of its arrays on all devices over which data are spread.

    Arrays that are spread already stay as they are.
    """
    mesh = next((mesh for leaf in jax.tree.leaves(data) if (mesh := mesh_of(leaf)) is not None), None)
    if mesh is None or is_traced(tree):
        return tree
    copies = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: leaf if is_spread(leaf) else jax.device_put(leaf, copies), tree)


def _place(leaf: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the mesh and its axes over which the rows of an array are split."""
    return mesh_of(leaf), _row_axes(leaf)


def _split_rows(mesh: Mesh, axes: tuple[str, ...]) -> NamedSharding:
    """Return how rows are split over some axes of a mesh."""
    return NamedSharding(mesh, PartitionSpec(axes))


def row_sharding(leaf: Any) -> NamedSharding:
    """Return how the rows of an array are split over devices, for other arrays with as many rows."""
    mesh, axes = _place(leaf)
    return _split_rows(mesh, axes)


def _row_axes(leaf: Any) -> tuple[str, ...]:
    """Return the axes of its mesh over which the rows of an array are split."""
    mesh = mesh_of(leaf)
    if mesh is None or not leaf.sharding.spec:
        return ()
    names = leaf.sharding.spec[0]
    names = () if names is None else (names,) if isinstance(names, str) else tuple(names)
    return tuple(name for name in names if mesh.shape[name] > 1)


def _said(leaf: Any) -> str:
    """Return how the rows of an array are split, in words."""
    mesh = mesh_of(leaf)
    if mesh is None:
        return "several devices"
    axes = _row_axes(leaf)
    return f"{math.prod(mesh.shape[name] for name in axes)} devices ({', '.join(map(repr, axes))} of {mesh!r})"
