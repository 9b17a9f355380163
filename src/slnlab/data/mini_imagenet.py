"""Controlled noisy web labels (Jiang et al. 2020): mini-ImageNet with a known share of wrong labels."""

from __future__ import annotations

import logging
from typing import ClassVar, Literal

import torch

from slnlab.data.published import Missing, Published, PublishedFiles, labelled_lines
from slnlab.data.source import Split
from slnlab.errors import DataError
from slnlab.schema.kinds import Rate

log = logging.getLogger(__name__)


class NoisyMiniImageNet(PublishedFiles):
    """Red or blue mini-ImageNet: about 50,000 training images of 100 classes, and 5,000 clean test images.

    Red noise: a share of the images is replaced by web images that do not show their class; no class of ours need be
    the right one. Their names do not begin with `n`. Blue noise: a share of the labels is drawn anew, so fewer are
    wrong than the level says. The list of level 0.0 has the true labels of the images of ImageNet.

    Args:
        root: directory of `split/`, `all_images/` and `validation/`, as in the public code for these sets.
        colour: "red" (web noise) or "blue" (symmetric noise).
        level: nominal noise level of a published list: 0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6 or 0.8.
        missing: treatment of listed images that are not there; web images disappear.
    """

    name = "red_mini_imagenet"
    about: ClassVar[Published] = Published(
        "mini-ImageNet with controlled noisy web labels",
        {
            "split": "lists red_noise_nl_0.4, blue_noise_nl_0.4, … and clean_validation, with lines <file> <label>",
            "all_images": "the training images of all lists",
            "validation": "the images of clean_validation, <file> or <label>/<file>",
        },
        "The lists and the addresses of the web images are at https://google.github.io/controlled-noisy-web-labels "
        "(annotations CC BY 4.0, web images CC BY 2.0, without warranty); the other images are ILSVRC12's, on "
        "registration, at https://image-net.org.",
    )

    def __init__(
        self, root: str, colour: Literal["red", "blue"] = "red", level: Rate = 0.4, missing: Missing = "refuse"
    ) -> None:
        super().__init__(root, missing)
        self.colour, self.level = colour, level

    def listed(self, split: Split) -> list[tuple[str, int]]:
        if split == "train":
            return self._list(self.level)
        pairs = labelled_lines(self.root / "split" / "clean_validation")
        folders = any((self.root / "validation" / str(label)).is_dir() for _, label in pairs[:1])
        return [(f"validation/{f'{label}/' if folders else ''}{name}", label) for name, label in pairs]

    def replaced(self) -> torch.Tensor:
        """Return the mask (N,) bool of training images from the web. None of them shows its class."""
        paths, _ = self.load("train")
        return torch.tensor([not _of_imagenet(paths.relative(row)) for row in range(len(paths))])

    def true_labels(self) -> torch.Tensor:
        """Return the true labels (N,) of the training images; of a web image the given one, as none is known."""
        paths, given = self.load("train")
        true = given.tolist() if self.colour == "red" else []
        if self.colour == "blue":
            clean = dict(self._list(0.0))
            names = [paths.relative(row) for row in range(len(paths))]
            if unknown := [name for name in names if name not in clean]:
                raise DataError(f"{self.root}/split/blue_noise_nl_0.0: has no true label of {unknown[0]!r}")
            true = [clean[name] for name in names]
            wrong = sum(label != other for label, other in zip(true, given.tolist(), strict=True))
            log.info("blue noise of level %g: %.1f %% of the labels are wrong", self.level, 100 * wrong / len(true))
        return torch.tensor(true, dtype=torch.int64)

    def _list(self, level: float) -> list[tuple[str, int]]:
        file = self.root / "split" / f"{self.colour}_noise_nl_{float(level)}"
        if not file.is_file():
            there = sorted(path.name.rpartition("_")[2] for path in file.parent.glob(f"{self.colour}_noise_nl_*"))
            raise DataError(f"data.source.level: there is no {file}; the levels there are {', '.join(there) or 'none'}")
        return [(f"all_images/{name}", label) for name, label in labelled_lines(file)]


def _of_imagenet(path: str) -> bool:
    return path.rpartition("/")[2].startswith("n")
