"""The memory of the machine and of its device."""

import os
from pathlib import Path
from typing import Any

import jax

_LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"  # of a container


def available() -> int:
    """Return how many bytes of memory the data can have: the machine's, a container's, or the device's if that is another."""
    if not is_cpu():
        stats = _device().memory_stats() or {}
        if "bytes_limit" in stats:
            return stats["bytes_limit"]
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # a system that does not tell
        return 2**63
    for name in _LIMITS:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdigit():
            found = min(found, int(text))
    return found


def is_cpu() -> bool:
    """Return whether arrays are put where the processor reads them."""
    return _device().platform == "cpu"


def _device() -> Any:
    device: Any = jax.config.jax_default_device or jax.local_devices()[0]  # type: ignore[attr-defined]
    return jax.local_devices(backend=device)[0] if isinstance(device, str) else device
