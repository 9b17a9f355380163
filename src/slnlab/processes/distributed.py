"""One run in several processes: which part of the work is whose, and how the parts come together.

Every process knows the whole: the order of an epoch, the random draws of a batch, the sample table. It computes its
shard and takes over the others' results by sample index. Alone, every function here does nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from slnlab.errors import SlnlabError
from slnlab.processes import stopping
from slnlab.processes.batching import FEWEST


def world_size() -> int:
    """How many processes do this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0. Rank 0 writes the files."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


T = TypeVar("T")


def from_rank_zero(compute: Callable[[], T]) -> T:
    """What rank 0 computes, in every process; an error of the user's there is an error everywhere.

    Args:
        compute: called in rank 0 only. What it returns can be pickled.
    """
    if world_size() == 1:
        return compute()
    said: list[Any] = [None]
    if rank() == 0:
        try:
            said = [(compute(), None)]
        except SlnlabError as error:
            said = [(None, error)]
    dist.broadcast_object_list(said)
    value, failure = said[0]
    if failure is not None:
        raise failure
    return value


_together: dist.ProcessGroup | None = None
"""Whose processes stop together."""


@contextmanager
def stopping_together() -> Iterator[dist.ProcessGroup]:
    """Inside the block the processes of the group agree on when they stop. Every process must enter it.

    Yields:
        The group through which they do, of the CPUs.
    """
    global _together
    group = dist.new_group(backend="gloo")  # a number on the CPU, so that nobody waits for a GPU
    assert isinstance(group, dist.ProcessGroup)
    _together = group
    try:
        yield group
    finally:
        _together = None


def stop_if_requested() -> None:
    """`slnlab.processes.stopping.stop_if_requested`, for loops that all processes of a run are in.

    They leave in the same step, whichever of them was told: it is saved, and one process that left alone would have the
    others wait for it, on GPUs for ten minutes.

    Raises:
        Stopped: this process, or inside `stopping_together` one of them, was told to stop.
    """
    if _together is None:
        stopping.stop_if_requested()
        return
    received = torch.tensor(stopping.received_signal() or 0)
    dist.all_reduce(received, op=dist.ReduceOp.MAX, group=_together)
    if received:
        raise stopping.stopped(signal.Signals(int(received)))


class Shard(NamedTuple):
    """The rows [start, stop) of `total`: the part of a global batch that is this process's."""

    start: int
    stop: int
    total: int

    def __len__(self) -> int:
        return self.stop - self.start

    def of(self, rows: Tensor) -> Tensor:
        """This part of a tensor with `total` rows."""
        return rows[self.start : self.stop]


def shard(total: int) -> Shard:
    """This process's part of `total` rows: contiguous, and as even as can be.

    No process has a single row, unless `total` is 1: batch norm could not train on it. Of a batch with fewer than two
    rows for each process the last processes have none.
    """
    sharing = max(1, min(world_size(), total // FEWEST))
    start, stop = (min(place, sharing) * total // sharing for place in (rank(), rank() + 1))
    return Shard(start, stop, total)


def gather(rows: Tensor) -> Tensor:
    """The rows (M, …) of all processes, in the order of their ranks. How many a process has may differ, also be none.

    Every process must call it, with the same dtype and trailing shape.
    """
    if world_size() == 1:
        return rows
    if dist.get_backend() == "nccl" and rows.device.type != "cuda":  # somebody's own table
        return gather(rows.cuda()).to(rows.device)
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    sizes = [int(count) for count in counts]
    # The transport wants equal shapes, and has no bool.
    sent = rows.contiguous().to(torch.uint8) if rows.dtype == torch.bool else rows.contiguous()
    padded = torch.cat([sent, sent.new_zeros(max(sizes) - len(sent), *sent.shape[1:])])
    received = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(received, padded)
    return torch.cat([part[:size] for part, size in zip(received, sizes, strict=True)]).to(rows.dtype)


@torch.no_grad()
def average_buffers(networks: Iterable[nn.Module]) -> None:
    """Give every floating buffer (batch norm's running statistics) its mean over the processes."""
    if world_size() == 1:
        return
    buffers = [buffer for network in networks for buffer in network.buffers() if buffer.is_floating_point()]
    if not buffers:
        return
    together = torch.cat([buffer.flatten() for buffer in buffers])
    dist.all_reduce(together)
    together /= world_size()
    for buffer, mean in zip(buffers, together.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))
