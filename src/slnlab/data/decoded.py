"""Small image files, decoded once into memory."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from slnlab.data.decoding import Decoder, Paths
from slnlab.data.images import ImageDataModule
from slnlab.data.inject import LabelNoise
from slnlab.data.source import LabelledImages, Split, replaced_images, true_labels
from slnlab.data.streamed import FileSource
from slnlab.processes.cores import cores
from slnlab.processes.stopping import stop_if_requested  # of this process: with torchrun the first reads alone
from slnlab.schema.kinds import Count

CHUNK = 1024
"""Images that the threads decode between two looks at the signals."""


class DecodedFiles:
    """A data set of image files as one in memory, see `slnlab.data.source.Source`.

    Args:
        files: the data set of files.
        image_size: side of the square images, in pixels. Larger or smaller images are scaled to cover it, and their
            middle is kept.
    """

    def __init__(self, files: FileSource, image_size: int) -> None:
        self.name, self.files, self.image_size = files.name, files, image_size
        self.train_paths: Paths

    def prepare(self) -> None:
        self.files.prepare()

    def load(self, split: Split) -> LabelledImages:
        paths, labels = self.files.load(split)
        if split == "train":
            self.train_paths = paths
        decode = Decoder(paths, self.image_size)
        images = torch.empty(len(paths), 3, self.image_size, self.image_size, dtype=torch.uint8)
        # As many as the run has for its computations (trainer.threads). Pillow decodes without Python's lock.
        with ThreadPoolExecutor(min(cores(), torch.get_num_threads())) as pool:
            for first in range(0, len(paths), CHUNK):
                rows = range(first, min(first + CHUNK, len(paths)))
                for row, image in zip(rows, pool.map(decode, rows), strict=True):
                    images[row] = image
                stop_if_requested()
        return LabelledImages(images, labels)

    def names(self) -> list[str]:
        return [self.train_paths.relative(row) for row in range(len(self.train_paths))]

    def true_labels(self) -> Tensor | None:
        return true_labels(self.files)

    def replaced(self) -> Tensor | None:
        return replaced_images(self.files)


class DecodedDataModule(ImageDataModule):
    """Small image files as one tensor on the training device, see `ImageDataModule`.

    Each process of a run decodes all files before training. Crops, flips and noise are those of images in memory: a
    random crop of the image within a black border, as published for small images.

    Args:
        source: the data set of image files.
        noise: the label noise; a mapping is a node of `conf/noise/`.
        image_size: side of the square images, in pixels.
        options: see `ImageDataModule`.
    """

    def __init__(
        self, source: FileSource, noise: LabelNoise | Mapping[str, Any], *, image_size: Count, **options: Any
    ) -> None:
        super().__init__(DecodedFiles(source, image_size), noise, **options)
