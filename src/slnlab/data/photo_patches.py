"""Grey 8×8 patches of scikit-learn's two photographs, donors of open-set noise for digits."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_sample_images

from slnlab.data.source import LabelledImages, Split


class PhotoPatches:
    """Patches of two photographs inside scikit-learn: a Chinese temple and a flower, 427×640 pixels each.

    Each photograph is turned to grey, halved in size (mean of 2×2 pixels), and cut into 26 · 40 disjoint 8×8 patches;
    together they are 2,080. All labels are 0 and have no meaning.
    """

    name = "photo_patches"

    def prepare(self) -> None:
        """Nothing to do: the photographs are part of scikit-learn."""

    def load(self, split: Split) -> LabelledImages:
        patches = []
        for photo in load_sample_images().images:
            grey = photo.astype(np.float64) @ (0.299, 0.587, 0.114)  # ITU-R BT.601 luma
            height, width = (size // 16 for size in grey.shape)
            small = grey[: height * 16, : width * 16].reshape(height * 8, 2, width * 8, 2).mean((1, 3))
            cut = small.reshape(height, 8, width, 8).swapaxes(1, 2).reshape(-1, 1, 8, 8)
            patches.append(np.rint(cut).astype(np.uint8))
        images = torch.from_numpy(np.concatenate(patches))
        return LabelledImages(images, torch.zeros(len(images), dtype=torch.int64))
