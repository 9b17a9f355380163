"""The images of a finished run as its network sees them in evaluation, with their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from slnlab.data.datamodule import IndexedDataModule
from slnlab.data.source import Split
from slnlab.data.streamed import StreamedDataModule
from slnlab.errors import ConfigError, DataError
from slnlab.image_folder.decoding import read_rgb
from slnlab.image_folder.survey import find_pixel_range
from slnlab.inference.trained_run import TrainedRun
from slnlab.processes.cores import cores
from slnlab.processes.float32 import float32_convolutions
from slnlab.record.run_directory import RunDirectory
from slnlab.streams import Streams
from slnlab.training import assemble


class RunImages(NamedTuple):
    """M images in data set order, in memory.

    Args:
        number: positions (M,) in the data set, int64.
        image: inputs of the network (M, channels, H, W) float32, without augmentation.
        given: given labels (M,) int64; of test images the true ones.
        true: true labels (M,) int64, −1 for an image replaced by open-set noise; None: unknown.
    """

    number: Tensor
    image: Tensor
    given: Tensor
    true: Tensor | None


def run_images(run: TrainedRun, split: Split = "train", count: int | None = None, seed: int = 0) -> RunImages:
    """Return training or test images of a run.

    Training images have their given labels and no augmentation. The label noise is the recorded one (`noise.npz`), so
    nothing is drawn or trained again.

    Args:
        run: any finished run.
        split: "train" or "test".
        count: number of images, chosen at random without replacement; None, or more than there are: all.
        seed: of this choice. Runs on the same data get the same images.

    Raises:
        DataError: files of the data set are missing, or its given labels are no longer those of the run.
        ConfigError: the run has no test set, or `count` is below 1.
    """
    if count is not None and count < 1:
        raise ConfigError(f"samples: must be at least 1, not {count}")
    data = data_of(run)
    if split == "train":
        return _training_images(run, data, _chosen(data.rows(0), count, seed))
    if not data.test:
        raise ConfigError(f"{run.directory}: has no test images (data.test=false)")
    return _test_images(data, count, seed)


def _training_images(run: TrainedRun, data: IndexedDataModule, rows: Tensor) -> RunImages:
    given, wrong, true = data.labels.given[rows], data.labels.wrong, data.labels.true
    check_labels(run, data, rows)
    batches = rows.split(run.batch_size)
    read = data.reading(batches, whole=True)
    images = torch.cat([read(step).view() for step in range(len(batches))])
    if true is not None and wrong is not None:
        true = true[rows].masked_fill(wrong[rows] & (true[rows] == given), -1)
    return RunImages(rows, images, given, true)


def training_probabilities(run: TrainedRun) -> Tensor:
    """Return the softmax (M, C) of the run's weights on its training images, in the order of `run.samples`, streamed.

    Raises:
        DataError: files of the data set are missing, or its given labels are no longer those of the run.
    """
    data = data_of(run)
    check_labels(run, data, data.rows(0))
    return probabilities(run, data, data.rows(0))


@torch.inference_mode()
def probabilities(run: TrainedRun, data: IndexedDataModule, rows: Tensor) -> Tensor:
    """Return the softmax (M, C) of the run's weights on training images (M,) without augmentation, streamed."""
    batches, device = rows.split(run.batch_size), next(run.model.parameters()).device
    read = data.reading(batches, whole=True)
    with float32_convolutions():
        return torch.cat([run.model(read(step).view().to(device)).softmax(1).cpu() for step in range(len(batches))])


def check_labels(run: TrainedRun, data: IndexedDataModule, rows: Tensor) -> None:
    """Check that the data set still has the given labels of the run, for these rows (M,).

    Raises:
        DataError: it has others.
    """
    known = dict(zip(run.samples["index"].tolist(), run.samples["given"].tolist(), strict=True))
    pairs = zip(rows.tolist(), data.labels.given[rows].tolist(), strict=True)
    if any(known.get(row) != label for row, label in pairs):
        raise DataError(f"{run.directory}: the given labels of {data.name} differ from those in samples.npz")


def _test_images(data: IndexedDataModule, count: int | None, seed: int) -> RunImages:
    batches = data.evaluation_batches("test")
    rows = _chosen(torch.arange(sum(map(len, batches.rows))), count, seed)
    images, labels, first = [], [], 0
    for batch in batches:  # files are read in order, so all of them
        inside = rows[(rows >= first) & (rows < first + len(batch.label))] - first
        images.append(batch.image[inside])
        labels.append(batch.label[inside])
        first += len(batch.label)
    label = torch.cat(labels)
    return RunImages(rows, torch.cat(images), label, label)


def data_of(run: TrainedRun) -> IndexedDataModule:
    """Return the run's data, with its recorded label noise, ready for passes."""
    config: DictConfig = run.config.copy()
    noise = RunDirectory(run.directory).noise
    if noise.exists() and config.noise.name != "real":  # the data set itself has the real one
        donor = config.noise.get("donor")
        config.noise = {"_target_": "slnlab.noise.from_record", "name": "run", "rate": 0.0, "seed": 0}
        config.noise.path, config.noise.donor = str(noise), donor
    data = assemble.datamodule(config)
    data.prepare_data()
    data.setup()
    return data


def sample_names(data: IndexedDataModule) -> list[str]:
    """The names of all training samples in data set order: the path of an image file, or the index in memory."""
    rows = torch.arange(len(data.labels.given))
    return data.paths(rows) or [str(row) for row in rows.tolist()]


Picture = Image.Image | DataError
"""An image as a person looks at it, or why its file cannot be read."""


def pictures(data: IndexedDataModule, rows: Sequence[int]) -> Iterator[Picture]:
    """Yield training images as a person looks at them: upright, whole and without augmentation.

    Args:
        data: images, not vectors.
        rows: rows of the data set.
    """
    for few in (rows[start : start + 256] for start in range(0, len(rows), 256)):
        if isinstance(data, StreamedDataModule):
            read = partial(read_rgb, pixel_range=data.pixel_range, background=data.background)
            with ThreadPoolExecutor(cores()) as pool:  # Pillow decodes without Python's lock
                yield from pool.map(partial(_or_error, read), map(data.file, few))
        else:
            pixels = data.reading([torch.tensor(few)], whole=True)(0).pixels()
            yield from (to_pil_image(image) for image in pixels)


def pictures_below(top: Path, paths: Sequence[str], reading: Mapping[str, Any] | None = None) -> Iterator[Picture]:
    """Yield the images whose feature vectors have these names, as a person looks at them.

    Args:
        top: folder that the names are relative to.
        paths: names of the samples, see `slnlab.embed`.
        reading: arguments of `read_rgb` with which `slnlab.embed` read them; None: unknown.

    Raises:
        DataError: without `reading`, see `find_pixel_range`.
    """
    if reading is None:
        reading = {"pixel_range": find_pixel_range([[top / path for path in paths]]) if paths else None}
    read = partial(_or_error, partial(read_rgb, **reading))
    for first in range(0, len(paths), 256):
        with ThreadPoolExecutor(cores()) as pool:
            yield from pool.map(read, [top / path for path in paths[first : first + 256]])


def _or_error(read: Callable[[Path], Image.Image], path: Path) -> Picture:
    try:
        return read(path)
    except DataError as error:
        return error


def _chosen(rows: Tensor, count: int | None, seed: int) -> Tensor:
    if count is None or count >= len(rows):
        return rows
    return rows[torch.randperm(len(rows), generator=Streams(seed)("analysed images"))[:count]].sort().values
