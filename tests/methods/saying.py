"""Networks with prescribed outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slnlab import SampleTable
from slnlab.data.batches import Batch
from slnlab.methods import Method
from slnlab.processes.distributed import Shard, shard


class Says(nn.Module):
    """A network whose "images" are numbers of rows, and which says these logits of them."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[images]


class OppositeInTraining(nn.Module):
    """A network that in eval mode says, of images that are logits (B, C), `scale` times these; in train mode −`scale`.

    Of two classes with probabilities p and 1 − p it says, with a scale of 1, p in eval mode and 1 − p in train mode.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images: Tensor) -> Tensor:
        return (-self.scale if self.training else self.scale) * images


def logits_of(probabilities: list[float]) -> Tensor:
    """Two classes; the given probability for class 0."""
    p = torch.tensor(probabilities)
    return torch.stack([p, 1 - p], 1).log()


def batch_of(size: int, part: Shard | None = None) -> Batch:
    """The first rows of the table, in order."""
    rows = torch.arange(size)
    return Batch(rows, rows, part or shard(size))


def with_table(method: Method, given: list[int], num_classes: int = 2) -> Method:
    """The method as it is when training begins, without a trainer."""
    method.table = SampleTable(torch.tensor(given), num_classes)
    method.table.watch()
    for name, dtype in (
        ("selected", torch.bool),
        ("selected_2", torch.bool),
    ):
        method.table.add(name, dtype=dtype)
    return method
