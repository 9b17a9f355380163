"""scikit-learn's digits: 1,797 images of 8×8 pixels, part of the package."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from slnlab.data.source import LabelledImages, Split


class Digits:
    """scikit-learn's digits: 1,297 training and 500 test images in a fixed split, stratified by class.

    scikit-learn's grey values from 0 to 16 are scaled to 0 to 255.
    """

    name = "digits"

    def prepare(self) -> None:
        """Nothing to do: the images are part of scikit-learn."""

    def load(self, split: Split) -> LabelledImages:
        images, labels = _read()
        train, test = train_test_split(np.arange(len(labels)), test_size=500, stratify=labels, random_state=0)
        rows = train if split == "train" else test
        pixels = np.rint(images[rows] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        return LabelledImages(torch.from_numpy(pixels), torch.from_numpy(labels[rows].astype(np.int64)))


@cache
def _read() -> Any:
    """Read images (1797, 64) and labels (1797,) from scikit-learn's CSV once. Do not change them in place."""
    return load_digits(return_X_y=True)
