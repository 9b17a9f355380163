"""Networks for feature vectors: a linear classifier, and a multi-layer perceptron."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from slnlab.errors import ConfigError
from slnlab.models.parts import Parts
from slnlab.schema.kinds import Counts, Rate


class Linear(nn.Module):
    """Multinomial logistic regression: one linear layer.

    Args:
        in_channels: length D of the vectors, ≥ 1.
        num_classes: number of logits C, ≥ 1.

    Shape:
        float (B, in_channels) → (B, num_classes).
    """

    vectors: ClassVar[bool] = True

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(in_channels, num_classes)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers in their order, see `slnlab.models.stacked`."""
        return [self.classifier]

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits (B, C) of vectors (B, D)."""
        logits: Tensor = self.classifier(vectors)
        return logits


class MLP(nn.Module):
    """Hidden layers with batch norm, ReLU and dropout, and a linear classifier.

    The hidden layers have no bias, because the following batch norm would subtract it.

    Args:
        in_channels: length D of the vectors, ≥ 1.
        num_classes: number of logits C, ≥ 1.
        widths: units of each hidden layer, each ≥ 1; at least one.
        dropout: share of hidden units that are zero in a training step, in [0, 1).

    Shape:
        float (B, in_channels) → (B, num_classes).

    Raises:
        ConfigError: ``widths`` is empty.
    """

    vectors: ClassVar[bool] = True
    parts: ClassVar[Parts] = Parts(last_stage=("last",), classifier=("classifier",))

    def __init__(self, in_channels: int, num_classes: int, widths: Counts = (256, 256), dropout: Rate = 0.0) -> None:
        super().__init__()
        if not len(widths):
            raise ConfigError("MLP: widths is empty, but at least one hidden layer is needed; model=linear has none")
        layers = [
            nn.Sequential(
                nn.Linear(before, after, bias=False),
                nn.BatchNorm1d(after),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
            )
            for before, after in pairwise([in_channels, *widths])
        ]
        self.hidden, self.last = nn.Sequential(*layers[:-1]), layers[-1]
        self.classifier = nn.Linear(widths[-1], num_classes)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers in their order, see `slnlab.models.stacked`."""
        return [*(layer for part in self.hidden.children() for layer in part.children()), *self.last, self.classifier]

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits (B, C) of vectors (B, D)."""
        logits: Tensor = self.classifier(self.last(self.hidden(vectors)))
        return logits
