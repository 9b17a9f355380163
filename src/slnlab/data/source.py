"""The interface of a data set in memory: labelled images of one size, or vectors of one length, as one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from slnlab.config.container import container_of
from slnlab.config.contents import for_class

Split = Literal["train", "val_clean", "test"]


class LabelledImages(NamedTuple):
    """`images` (N, channels, height, width) uint8 and `labels` (N,) int64, in data set order.

    Feature vectors take the place of images as (N, D) float32.
    """

    images: Tensor
    labels: Tensor

    def only(self, classes: Sequence[int]) -> LabelledImages:
        """The samples of these classes, numbered 0, 1, … in this order."""
        numbers = torch.full((1 + max(int(self.labels.max()), *classes),), -1)
        numbers[list(classes)] = torch.arange(len(classes))
        kept = numbers[self.labels] >= 0
        return LabelledImages(self.images[kept], numbers[self.labels[kept]])


def stated(source: object, what: str) -> Mapping[str, Any]:
    """What a source states about its samples by their names; empty if it has no such method.

    Args:
        what: `corrections` and `weights`, see `slnlab.data.training_samples.TrainingSamples`; `targets`: first target
            (C,) of training, where it is not the given label; `verdicts` of people: True for a right label; or
            `lines`: of the images in a list, from 1.
    """
    known = getattr(source, what, None)
    return {} if known is None else known()


def true_labels(source: object) -> Tensor | None:
    """The true labels (N,) int64 of a source's training samples, whose labels may be wrong; None: unknown."""
    known = getattr(source, "true_labels", None)
    return None if known is None else known()


def sample_names(source: object) -> list[str] | None:
    """The names (N) of a source's training samples, such as the paths of their images; None: they have none."""
    known = getattr(source, "names", None)
    return None if known is None else known()


def replaced_images(source: object) -> Tensor | None:
    """The mask (N,) bool of a source's training images that show none of its classes; None: unknown.

    Their true labels, if stated, are placeholders: the given ones.
    """
    known = getattr(source, "replaced", None)
    return None if known is None else known()


def made_source(config: DictConfig) -> Any:
    """The data source of a configuration."""
    return instantiate(for_class(container_of(config)["data"]["source"]))


class Source(Protocol):
    """A data set in memory. A new one is a class with these members, and a file in `conf/data/`.

    It may also have `true_labels()` and `replaced()`, see `true_labels` and `replaced_images`; `names()`, see
    `sample_names`; and what `stated` names.
    """

    name: str

    def prepare(self) -> None:
        """Download or unpack missing files. It is called once, in one process.

        Raises:
            slnlab.errors.DataError: the files are missing and cannot be fetched.
        """

    def load(self, split: Split) -> LabelledImages:
        """Read one split: `train`, `test`, and `val_clean` if the data set's YAML sets `data.clean_val`.

        Raises:
            slnlab.errors.DataError: files are missing or corrupt.
        """
