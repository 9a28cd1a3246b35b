"""How much memory this process may take meanwhile.

What a file claims, or expands to, is not known before it is read: a header may claim any size, and a few
bytes of zip, gzip or Parquet may become a million times as many. So it is the system that refuses, whichever
library asks it. Only Linux does so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SHARE: Final = 0.8
"""Of the machine's memory, by default."""
_GIB: Final = 2**30
_LEAST: Final = 64 << 20  # bytes beyond what the process has already: to say no takes some, too

_limits: list[tuple[float, int]] = []
"""The limit that holds now: GiB, and bytes of data that the system gives at most."""


@contextmanager
def at_most(gib: float | None) -> Iterator[None]:
    """Let this process take so much memory in all; beyond, what is asked for is refused (MemoryError).

    Args:
        gib: ``None`` is :data:`SHARE` of the machine's memory. Inside another limit the outer one holds.
            The limit is the process's: threads must not enter and leave it independently.
    """
    if sys.platform != "linux" or _limits:
        yield
        return
    import resource

    limit = _machine() if gib is None else gib * _GIB
    resident, data = _now()
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = data + max(int(limit) - resident, _LEAST)
    for ceiling in (before, hard):
        wanted = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
    _limits.append((limit / _GIB, wanted))
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        _limits.clear()
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


@contextmanager
def uncounted() -> Iterator[None]:
    """Around the mapping of a file, which takes memory only as long as no one else wants it."""
    if not _limits:
        yield
        return
    import resource

    gib, allowed = _limits[0]
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    before = _now()[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    try:
        yield
    finally:
        allowed += max(0, _now()[1] - before)
        _limits[0] = gib, allowed if hard == resource.RLIM_INFINITY else min(allowed, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (_limits[0][1], hard))


def refusal() -> str:
    """What to say where the limit was met."""
    limit = f"{_limits[0][0]:.3g} GiB" if _limits else "the machine's"
    return f"reading takes more memory than data.memory_limit allows, {limit}"


def _machine() -> float:
    """Bytes: the machine's memory, or what a container has of it."""
    import os

    found = [float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found.append(float(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return SHARE * min(found)


def _now() -> tuple[int, int]:
    """Bytes: resident, and of data as the system counts them."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    sizes = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
    resident, data = (int(sizes[name].split()[0]) * 1024 for name in ("VmRSS", "VmData"))
    return resident, data
