"""Several processes that train one model together, as ``torchrun`` starts them; else this one alone.

Every process runs the same program on the same data. What it says here is the same in all of them, except for
its number.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import NoReturn, TypeVar

import torch
from torch import Tensor, distributed

from painvrl.core.device import use_device

T = TypeVar("T")

_PATIENCE = timedelta(hours=2)
"""A process waits so long for the others; the first may read files that these then find in the cache."""


def n_ranks() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _is_joined() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if _is_joined() else 0


def started_together() -> bool:
    """Whether ``torchrun`` has started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` has started, if it has, and hand over this one's device.

    The processes of a host deal out its GPUs by their number there.
    """
    if not started_together():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        use_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def leave_at_once() -> NoReturn:
    """End this process, whose part is done: all that is left has the first one.

    One was aborted once (SIGABRT, in the tests, and not again in twelve tries), and ``torchrun`` ended the
    first one, too. Threads of torch's may outlive the group. So nothing is taken down around them.
    """
    distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process does something, and then the others, who find what it has left in a cache."""
    if rank() > 0:
        distributed.barrier()
    yield
    if rank() == 0 and n_ranks() > 1:
        distributed.barrier()


def share_of(parts: Sequence[T], of: int | None = None) -> Sequence[T]:
    """The neighbouring ``parts`` that are this process's, or those of another; each is one process's."""
    owner = rank() if of is None else of
    first, last = (len(parts) * (owner + end) // n_ranks() for end in (0, 1))
    return parts[first:last]


def add_up(*tensors: Tensor) -> None:
    """Put the sum over all processes in the place of each of the ``tensors``."""
    if _is_joined():
        for tensor in tensors:
            distributed.all_reduce(tensor)


def from_first(value: T) -> T:
    """The ``value`` of the first process, so that all decide alike."""
    if not _is_joined():
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def same_in_all(*tensors: Tensor, source: int = 0) -> None:
    """Put the ``tensors`` of the process numbered ``source`` in the place of those of all others."""
    if _is_joined():
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), src=source)


def _is_joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
