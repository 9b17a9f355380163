"""Feature vectors in memory: one tensor (N, D) on the training device, standardised by its training statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from slnlab.data.augment import Normalise
from slnlab.data.batches import Images, Vectors
from slnlab.data.images import ImageDataModule
from slnlab.data.inject import LabelNoise
from slnlab.data.source import Source
from slnlab.record.result import Preprocessing
from slnlab.schema.kinds import Positive


class Standardise(Normalise):
    """Vectors → network input, (vector − mean)/std for each feature."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return standardised vectors, float32 (B, D) → float32 (B, D)."""
        _, mean, std = self._on(images.device)
        return images.sub(mean.flatten()).div_(std.flatten())


class FeatureDataModule(ImageDataModule):
    """Feature vectors (N, D) of images, texts or tables. Batches are (B, D) float32, without augmentation.

    Args:
        source, noise: see `ImageDataModule`.
        mean, std: of each feature, D numbers each; None: measured on the training vectors, where a feature with one
            value has the standard deviation 1.
        padding, flip, rotation: vectors have none.
        options: see `ImageDataModule`. `channels` is D.
    """

    vectors: ClassVar[bool] = True
    views: ClassVar[type[Images]] = Vectors
    scaling: ClassVar[type[Normalise]] = Standardise
    allowed: ClassVar[str] = "vectors, float32 (N, D)"

    def __init__(
        self,
        source: Source,
        noise: LabelNoise | Mapping[str, Any],
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[Positive] | None = None,
        padding: Literal[0] = 0,
        flip: Literal[False] = False,
        rotation: Literal[0] = 0,
        **options: Any,
    ) -> None:
        super().__init__(source, noise, mean=mean, std=std, padding=padding, flip=flip, rotation=rotation, **options)

    @property
    def preprocessing(self) -> Preprocessing:
        """The standardisation."""
        return Preprocessing(resize=None, crop=None, mean=list(self.normalise.mean), std=list(self.normalise.std))

    def _fits(self, images: Tensor) -> bool:
        return images.dtype == torch.float32 and images.ndim == 2

    def _measured(self, images: Tensor) -> Normalise:
        """The standardisation by the training vectors (N, D)."""
        from sklearn.preprocessing import StandardScaler

        found = StandardScaler().fit(images.numpy())
        return Standardise(found.mean_.tolist(), found.scale_.tolist())

    def _size_of(self, images: Tensor) -> tuple[int, int]:
        return 0, 0
