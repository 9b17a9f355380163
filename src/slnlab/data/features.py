"""Feature vectors in memory: one tensor (N, D) on the training device, standardised by its training statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary
from torchvision.transforms import v2

from slnlab.data.augment import Normalise
from slnlab.data.batches import Images, Vectors
from slnlab.data.datamodule import EvaluationSplit
from slnlab.data.images import ImageDataModule
from slnlab.data.inject import LabelNoise
from slnlab.data.source import Source
from slnlab.data.strong_view import DroppedFeatures, SecondView
from slnlab.record.result import Preprocessing
from slnlab.schema.kinds import Positive, Rate

_standardised: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Training vectors in use → their standardisation, for the runs of a process that share them."""


class Standardise(Normalise):
    """Vectors → network input, (vector − mean)/std for each feature."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(mean, std)
        self._whole: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def whole(self, vectors: Tensor) -> Tensor:
        """Return standardised vectors, computed once for each tensor in use."""
        if vectors not in self._whole:
            self._whole[vectors] = self(vectors)
        found: Tensor = self._whole[vectors]
        return found

    def __call__(self, images: Tensor) -> Tensor:
        """Return standardised vectors, float32 (B, D) → float32 (B, D)."""
        _, mean, std = self._on(images.device)
        return images.sub(mean.flatten()).div_(std.flatten())


class FeatureDataModule(ImageDataModule):
    """Feature vectors (N, D) of images, texts or tables. Batches are (B, D) float32, without augmentation.

    Methods that learn from a strong view beside the vector get one with dropped features.

    Args:
        source, noise: see `ImageDataModule`.
        mean, std: of each feature, D numbers each; None: measured on the training vectors, where a feature with one
            value has the standard deviation 1.
        padding, flip, rotation, augment: vectors have none.
        dropped_features: share of the numbers that a strong view lacks, in [0, 1), see
            `slnlab.data.strong_view.DroppedFeatures`.
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
        augment: Literal["crop_flip", "none"] = "none",
        dropped_features: Rate = 0.2,
        **options: Any,
    ) -> None:
        super().__init__(source, noise, mean=mean, std=std, padding=padding, flip=flip, rotation=rotation, **options)
        self.dropped_features = dropped_features

    @property
    def preprocessing(self) -> Preprocessing:
        """The standardisation."""
        return Preprocessing(resize=None, crop=None, mean=list(self.normalise.mean), std=list(self.normalise.std))

    def strong_view(self, policy: v2.Transform, cutout: int = 0, normalise: Normalise | None = None) -> SecondView:
        """The vectors without some features; policy and cutout are for images."""
        return DroppedFeatures(self.dropped_features, normalise or self.normalise)

    def inputs(self) -> Tensor:
        """The network's inputs (N, D) for all rows of the sample table, made once for all runs that share the data."""
        assert isinstance(self.normalise, Standardise)
        return self.normalise.whole(self._images)

    def evaluation_inputs(self, split: EvaluationSplit) -> tuple[Tensor, Tensor]:
        """The network's inputs (M, D) for an evaluation split, likewise, and its labels (M,)."""
        assert isinstance(self.normalise, Standardise)
        if split == "val":
            return self.inputs()[self.val_index], self.labels.given[self.val_index]
        vectors, labels = self._evaluated[split]
        return self.normalise.whole(vectors), labels

    def _fits(self, images: Tensor) -> bool:
        return images.dtype == torch.float32 and images.ndim == 2

    def _measured(self, images: Tensor) -> Normalise:
        """The standardisation by the training vectors (N, D)."""
        from sklearn.preprocessing import StandardScaler

        if images not in _standardised:
            found = StandardScaler().fit(images.numpy())
            _standardised[images] = Standardise(found.mean_.tolist(), found.scale_.tolist())
        return _standardised[images]

    def _size_of(self, images: Tensor) -> tuple[int, int]:
        return 0, 0
