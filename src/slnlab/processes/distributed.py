"""One run in several processes: how they split the work and join the results.

Every process knows the whole: the order of an epoch, the random draws of a batch, the sample table. It computes its
shard and takes the others' results by sample index. In a run of one process these functions change nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from slnlab.errors import SlnlabError
from slnlab.processes import stopping
from slnlab.processes.batching import FEWEST


def world_size() -> int:
    """The number of processes of this run, at least 1."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0. Rank 0 writes the files."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


T = TypeVar("T")


def from_rank_zero(compute: Callable[[], T]) -> T:
    """The value that rank 0 computes, in every process.

    Args:
        compute: called in rank 0 only; returns a value that pickle can store.

    Raises:
        SlnlabError, Stopped: `compute` raised it in rank 0; every process raises it.
    """
    if world_size() == 1:
        return compute()
    outcome: list[Any] = [None]
    if rank() == 0:
        try:
            outcome = [(compute(), None)]
        except (SlnlabError, stopping.Stopped) as error:
            outcome = [(None, error)]
    dist.broadcast_object_list(outcome, group=_together)  # on the CPU: NCCL gives up after ten minutes of waiting
    value, failure = outcome[0]
    if failure is not None:
        raise failure
    return value


_together: dist.ProcessGroup | None = None
"""The group whose processes stop together; None outside `stopping_together`."""


@contextmanager
def stopping_together() -> Iterator[dist.ProcessGroup]:
    """Let the processes of the group stop in the same step, inside the block. Every process must enter it.

    Yields:
        The CPU group (gloo) of all processes.
    """
    global _together
    # On the CPU, so that no process waits for a GPU. The others may wait long for the first to prepare the data.
    group = dist.new_group(backend="gloo", timeout=timedelta(days=1))
    assert isinstance(group, dist.ProcessGroup)
    _together = group
    try:
        yield group
    finally:
        _together = None


def stop_if_requested() -> None:
    """`slnlab.processes.stopping.stop_if_requested` for loops that all processes of a run share.

    All processes leave in the same step, whichever of them got the signal. If one left alone, the others would wait for
    it, on GPUs for ten minutes.

    Raises:
        Stopped: this process got a request to stop, or, inside `stopping_together`, any process of the run did.
    """
    if _together is None:
        stopping.stop_if_requested()
        return
    received = torch.tensor(stopping.received_signal() or 0)
    dist.all_reduce(received, op=dist.ReduceOp.MAX, group=_together)
    if received:
        raise stopping.stopped(signal.Signals(int(received)))


class Shard(NamedTuple):
    """This process's part of a global batch: the rows [start, stop) of `total`."""

    start: int
    stop: int
    total: int

    def __len__(self) -> int:
        return self.stop - self.start

    def of(self, rows: Tensor) -> Tensor:
        """The shard's rows of a tensor with `total` rows."""
        return rows[self.start : self.stop]

    def gather(self, rows: Tensor) -> Tensor:
        """The `total` rows of all processes, from this process's `rows`: `of` undone.

        As `gather`, but no process has to tell how many rows it has, so that none waits for its GPU.
        """
        return rows if world_size() == 1 else _joined(rows, [len(each) for each in _shards(self.total)])


def shard(total: int) -> Shard:
    """This process's shard of `total` rows. Shards are contiguous and as even as possible.

    No process gets a single row unless `total` is 1, because batch norm cannot train on it. If there are fewer than
    two rows for each process, the last processes get none.
    """
    return _shards(total)[rank()]


def _shards(total: int) -> list[Shard]:
    """The shards of all processes."""
    sharing = max(1, min(world_size(), total // FEWEST))
    bounds = [min(place, sharing) * total // sharing for place in range(world_size() + 1)]
    return [Shard(start, stop, total) for start, stop in pairwise(bounds)]


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks.

    Every process must call it, with the same dtype and trailing shape. The number of rows may differ, and may be 0.
    `Shard.gather` is faster where the rows are a shard.

    Args:
        rows: this process's rows, (M, …).

    Returns:
        (sum of all M, …), on the device of `rows`.
    """
    if world_size() == 1:
        return rows
    device = _meeting(rows)
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=device))
    return _joined(rows, [int(count) for count in counts])


def _joined(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """The rows of all processes, which have these numbers of rows."""
    # `all_gather` needs equal shapes and knows no bool.
    sent = rows.contiguous().to(_meeting(rows), torch.uint8 if rows.dtype == torch.bool else rows.dtype)
    padded = torch.cat([sent, sent.new_zeros(max(sizes) - len(sent), *sent.shape[1:])])
    received = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(received, padded)
    return torch.cat([part[:size] for part, size in zip(received, sizes, strict=True)]).to(rows)


def _meeting(rows: Tensor) -> torch.device:
    """The device on which processes exchange rows: NCCL moves tensors of GPUs only."""
    return torch.device("cuda") if dist.get_backend() == "nccl" else rows.device


def gathered(parts: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The columns of a pass: its parts (rows, …) joined, and those of all processes, see `gather`.

    Args:
        parts: tuples of one length, one for each batch of this process; at least one.
    """
    return tuple(gather(torch.cat(column)) for column in zip(*parts, strict=True))


def sum_of_processes(values: Tensor) -> Tensor:
    """The sum of a tensor over the processes, with the gradient of all processes' losses.

    Every process must call it, with the same dtype and shape.
    """
    if world_size() == 1:
        return values
    summed: Tensor = _Sum.apply(values)
    return summed


@torch.no_grad()
def average_buffers(networks: Iterable[nn.Module]) -> None:
    """Set every floating buffer (running statistics of batch norm) to its mean over the processes."""
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


class _Sum(torch.autograd.Function):
    """The sum over the processes. Each value has an effect on all of their losses, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (summed,) = (gradient.clone() for gradient in gradients)
        dist.all_reduce(summed)
        return summed
