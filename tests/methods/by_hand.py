"""Methods without a run: the images of a batch are its logits, so losses can be computed by hand."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from pytorch_lightning.plugins.precision import Precision
from tier import composed
from torch import Tensor, nn

from slnlab import SampleTable
from slnlab.config import check
from slnlab.data.batches import Batch, Labels
from slnlab.methods import SingleNetwork
from slnlab.noise import NoiseRecord
from slnlab.processes.distributed import shard
from slnlab.streams import Streams
from slnlab.training import assemble


class Bare:
    """A method on a sample table, in no run. Its network says of an image what the image is."""

    def __init__(self, overrides: tuple[str, ...], given: list[int], num_classes: int) -> None:
        config = composed(*overrides)
        check(config)
        method = assemble.method(config)
        assert isinstance(method, SingleNetwork)
        self.method = method
        method.networks["network"] = method.judged["network"] = nn.Identity()
        labels = torch.tensor(given)
        self.trainer = SimpleNamespace(
            datamodule=SimpleNamespace(
                labels=Labels(labels),
                num_classes=num_classes,
                oversampling=False,
                train_index=torch.arange(len(labels)),
                steps_per_epoch=1,
                rows=lambda epoch: torch.arange(len(labels)),
                noise_record=NoiseRecord(true=labels, given=labels, num_classes=num_classes, name="none", rate=0.0),
            ),
            precision_plugin=Precision(),
            current_epoch=0,
            max_epochs=100,
        )
        method._trainer = self.trainer  # type: ignore[assignment]
        method._optimizers = []
        method.setup("fit")
        method.streams = Streams(method.seed)

    @property
    def table(self) -> SampleTable:
        return self.method.table

    def batch(self, logits: Tensor, index: list[int] | None = None) -> Batch:
        rows = torch.arange(len(logits)) if index is None else torch.tensor(index)
        return Batch(rows, logits, shard(len(logits)))

    def loss(self, logits: Tensor, index: list[int] | None = None) -> Tensor:
        return self.method.loss(self.method.attached(self.batch(logits, index)))


def probabilities(rows: list[list[float]]) -> Tensor:
    """Logits (float64) whose softmax these are."""
    return torch.tensor(rows, dtype=torch.float64).log().requires_grad_()
