"""`shard`, which puts rows over devices."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxgd._checks import check, check_trees
from jaxgd._trees import is_traced


def shard(data: Any, devices: Sequence[Any] | None = None) -> Any:
    """Put an equal share of the rows of arrays on each of several devices.

    `jaxgd.fit` and `jaxgd.minimize` then compute where the rows are: each device evaluates the cost for its own rows, and what
    devices exchange in a step is a sum of costs and gradients. So they do with any `jax.Array` whose rows are split over axes of a
    mesh, whoever has put it there. Within a cost the axes of the mesh are of the type Auto.

    In `fit`, each device shuffles its own rows, by an order that depends on the key and its place among the devices, and gives an
    equal share of every batch; `batch_size` has to be a multiple of the number of devices. With `shuffle=False` the first batch is
    the first share of every device, and so on. With `shuffle="replacement"` each device draws from its own rows. So rows that are
    sorted, by their labels for example, should be mixed before.

    Args:
        data: a pytree of arrays of equal leading length, the rows, as `fit` and `minimize` take it. Where JAX runs in several
            processes, these are the rows of this process, equally many in each.
        devices: the devices, in the order in which they get rows; None is all of them.

    Returns:
        The data as a pytree of `jax.Array`, split along the leading axis. With n rows on d devices, the first has the first n / d
        rows, and so on.

    Raises:
        TypeError, ValueError: for data that `fit` would refuse, or whose rows do not divide evenly over the devices.

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> x = np.linspace(0, 1, 240)
    >>> data = jaxgd.data.shard((x, 3 * x + 4))
    >>> def cost(line, batch):
    ...     x, y = batch
    ...     return jnp.mean((line[0] * x + line[1] - y) ** 2)
    >>> result = jaxgd.fit(cost, [0.0, 0.0], data, batch_size=24, n_epochs=200, key=0, method=jaxgd.Adam(0.1))
    >>> print(np.round(np.asarray(result.params), 2))
    [3. 4.]
    """
    chosen = _checked(devices)
    if is_traced(data):
        raise TypeError("data: expected arrays, got values that JAX is tracing: call jaxgd.data.shard outside of jax.jit.")
    arrays = check_trees.data_arrays("data", data, place=lambda array: array)
    n_rows = check_trees.rows("data", arrays)
    _check_shares(n_rows, [device for device in chosen if device.process_index == jax.process_index()])
    mesh = Mesh(np.array(chosen), ("rows",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("rows"))
    if jax.process_count() == 1:
        return jax.device_put(arrays, rows)

    def joined(leaf: Any) -> jax.Array:
        own = np.asarray(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))
        return jax.make_array_from_process_local_data(rows, own)

    return jax.tree.map(joined, arrays)


def _check_shares(n_rows: int, devices: list[Any]) -> None:
    """Check that rows divide evenly over the devices of this process, and that all processes have equally many."""
    several, count = jax.process_count() > 1, max(len(devices), 1)
    counts = np.ravel(multihost_utils.process_allgather(np.array([n_rows, count]))).tolist() if several else [n_rows, count]
    if len(set(counts[::2])) > 1 or len(set(counts[1::2])) > 1:
        raise ValueError(
            f"data: expected equally many rows and devices in all processes, got {counts[::2]} rows on {counts[1::2]} devices: "
            "leave some rows out."
        )
    if n_rows % count:
        even, fewer = n_rows - n_rows % count, max(fewer for fewer in range(1, count) if n_rows % fewer == 0)
        cures = [f"leave {n_rows - even} out"] * (even > 0)
        cures += [f"pass devices=jax.devices()[:{fewer}]"] * (not several)
        where = " of a process" * several
        raise ValueError(f"data: expected rows that divide evenly over {count} devices{where}, got {n_rows}: {' or '.join(cures)}.")


def _checked(devices: Any) -> list[Any]:
    """Return the devices, all of them where none are given."""
    if devices is None:
        return jax.devices()
    if not isinstance(devices, Sequence) or not all(isinstance(device, jax.Device) for device in devices):
        raise TypeError(f"devices: expected None or a list of devices, as jax.devices() returns it, got {check.show(devices)}.")
    if not devices or len(set(devices)) < len(devices):
        raise ValueError(f"devices: expected at least one device, and each once, got {check.show(devices)}.")
    return list(devices)
