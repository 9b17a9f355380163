"""`slnlab.load`: a finished run as a classifier of new images."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig
from PIL import Image
from scipy.special import expit
from torch import Tensor, nn

from slnlab.errors import ConfigError, DataError
from slnlab.inference.features import recording
from slnlab.inference.preprocessing import Probabilities, decoded, pixels, stacked
from slnlab.inference.weights import finished, trained_networks
from slnlab.processes.cores import cores
from slnlab.processes.float32 import float32_convolutions
from slnlab.record.result import Preprocessing, Result
from slnlab.record.run_directory import RunDirectory
from slnlab.record.samples_file import read_samples

ImageOrPath = str | os.PathLike[str] | Image.Image
Images = ImageOrPath | Iterable[ImageOrPath] | Tensor | npt.NDArray[np.uint8]


class Predictions(NamedTuple):
    """Predictions for N images."""

    labels: list[str]
    """Names of the N predicted classes."""
    probabilities: npt.NDArray[np.float32]
    """(N, C) float32 in [0, 1]; rows sum to 1."""


class TrainedRun:
    """A finished run as a classifier of new images.

    >>> run = slnlab.load("runs/mine")                                        # doctest: +SKIP
    >>> labels, probabilities = run.predict(["a.jpg", "b.jpg"])               # doctest: +SKIP

    Attributes:
        model: the network, a plain module in eval mode: normalised images `(N, channels, *crop)` float32 → logits
            (N, C). An `ensemble` returns the mean of its members' logits. `run.model.to("cuda")` moves it.
        weights: name of its weights, a row of `result.json`.
        choices: names of all weights of the run.
        classes: names of the C classes, in the order of the logits.
        config: the run's configuration, without interpolations.
        preprocessing: from an image to the input of the model.
        result: `result.json`.
        directory: of the run.
        batch_size: images per batch, as in evaluation.
    """

    def __init__(
        self, run: RunDirectory, config: DictConfig, result: Result, networks: dict[str, nn.Module], weights: str
    ) -> None:
        self.directory, self.config, self.result = run.path, config, result
        self.model, self.weights, self.choices = networks[weights], weights, tuple(networks)
        self.preprocessing: Preprocessing = result.preprocessing
        self.classes: list[str] = [str(name) for name in config.data.classes or range(config.data.num_classes)]
        self.probabilities = Probabilities(self.model, self.preprocessing)
        self.batch_size: int = config.data.eval_batch_size
        self._samples = run.samples

    @cached_property
    def samples(self) -> dict[str, npt.NDArray[Any]]:
        """The training samples of `samples.npz` as columns of equal length, e.g. for `pandas.DataFrame(run.samples)`.

        - `index`: in the data set; `path`: for images from files.
        - `given`, and `true` where known: class numbers; `wrong` where known: True for wrong labels.
        - `network_loss`, `momentum_margin`, …: loss (nats), prediction, margin and likeliest other class of each row's
          final weights.
        - `aum`, `ema_loss`, `forgetting`, …: training dynamics, see `slnlab.callbacks.dynamics.dynamics`.
        - `label_quality`: in [0, 1], by the weights of `model`, as in `label_issues.csv`.

        Raises:
            DataError: the file is missing, cannot be read, or lacks these weights.
        """
        columns = read_samples(self._samples, needed=[f"{self.weights}_margin"])
        columns["label_quality"] = expit(columns[f"{self.weights}_margin"])
        return columns

    def predict(self, images: Images, batch_size: int | None = None) -> Predictions:
        """Classify images, preprocessed as in the run's evaluation, in float32.

        Args:
            images: one or many paths or Pillow images, read as in training (`slnlab.image_folder.decoding`), also a
                NumPy array of paths; or a uint8 array or tensor, (N, channels, H, W) or (N, H, W, channels), or
                (N, H, W) for one channel. Colour becomes grey for a network with one channel. Images of any size are
                scaled to cover the training size, and their middle is cut out.
            batch_size: images per batch, ≥ 1; None: as in evaluation.

        Raises:
            DataError: a file or a Pillow image cannot be read.
            ConfigError: the type or the shape of an array, or `batch_size`, is wrong.
        """
        found = [self._classify(batch) for batch in self._batches(images, batch_size)]
        joined = torch.cat(found) if found else torch.empty(0, len(self.classes))
        return Predictions(self.names(joined), joined.numpy())

    def features(self, images: Images, batch_size: int | None = None) -> npt.NDArray[np.float32]:
        """Penultimate features of images: the input of the network's last linear layer, (N, D) float32.

        Args:
            images, batch_size: as of `predict`; at least one image.

        Raises:
            DataError: a file or a Pillow image cannot be read.
            ConfigError: see `predict`; the network has no linear layer, is an ensemble, or there is no image.
        """
        found = []
        with recording(self.model) as penultimate:
            for batch in self._batches(images, batch_size):
                self._classify(batch)
                found.append(penultimate.take(len(batch)).cpu())
        if not found:
            raise ConfigError("images: there is none, so the number of features is unknown")
        return torch.cat(found).numpy()

    def stream(
        self, paths: Iterable[str | os.PathLike[str] | DataError], batch_size: int | None = None
    ) -> Iterator[tuple[list[str], Tensor, list[DataError]]]:
        """Classify any number of image files, batch by batch, past unreadable files.

        Args:
            paths: consumed lazily. An error among them is passed on.
            batch_size: files per batch, ≥ 1; None: as in evaluation.

        Yields:
            For each batch (readable paths, their probabilities (N, C), errors of the others).

        Raises:
            ConfigError: `batch_size` is below 1.
        """
        for pairs in decoded(paths, self._pixels, self._size(batch_size), cores()):
            read = [(os.fspath(path), found) for path, found in pairs if isinstance(found, Tensor)]
            wrong = [found for _, found in pairs if isinstance(found, DataError)]
            images = [found for _, found in read]
            probabilities = self._classify(torch.stack(images)) if read else torch.empty(0, len(self.classes))
            yield [path for path, _ in read], probabilities, wrong

    def names(self, probabilities: Tensor) -> list[str]:
        """The name of the likeliest class in each row of probabilities (N, C)."""
        return [self.classes[number] for number in probabilities.argmax(1).tolist()]

    def _pixels(self, image: ImageOrPath) -> Tensor:
        return pixels(image, self.preprocessing)

    def _size(self, batch_size: int | None) -> int:
        size = self.batch_size if batch_size is None else operator.index(batch_size)
        if size < 1:
            raise ConfigError(f"batch_size: must be at least 1, not {size}")
        return size

    def _batches(self, images: Images, batch_size: int | None) -> Iterator[Tensor]:
        size = self._size(batch_size)
        if isinstance(images, np.ndarray) and images.dtype.kind in "OUS":  # of paths, such as a column of a table
            images = np.atleast_1d(images).tolist()
        if isinstance(images, Tensor | np.ndarray):
            if not images.ndim or not len(images):
                stacked(images, self.preprocessing)  # which refuses another shape
                return iter(())
            starts = range(0, len(images), size)
            batches: Iterable[Tensor] = (
                stacked(images[at : at + size], self.preprocessing, tuple(images.shape)) for at in starts
            )
        elif isinstance(images, str | os.PathLike | Image.Image):
            batches = self._stacks([images], size)
        else:
            batches = self._stacks(images, size)
        return (batch for batch in batches if len(batch))

    def _stacks(self, images: Iterable[ImageOrPath], size: int) -> Iterator[Tensor]:
        for pairs in decoded(images, self._pixels, size, cores()):
            for _, found in pairs:
                if isinstance(found, DataError):
                    raise found
            yield torch.stack([found for _, found in pairs if isinstance(found, Tensor)])

    @torch.inference_mode()
    def _classify(self, images: Tensor) -> Tensor:
        device = next(self.model.parameters()).device
        with float32_convolutions():
            found: Tensor = self.probabilities.to(device).eval()(images.to(device))
        return found.cpu()


def load(run: str | os.PathLike[str], weights: str | None = None, device: str | torch.device = "cpu") -> TrainedRun:
    """Load a finished run of any method, trained on any device, as a classifier of images.

    Args:
        run: its directory.
        weights: a row of its `result.json`: `network`, `momentum`, `ensemble`, …; None: the weights that judge the
            labels in `label_issues.csv`.
        device: `cpu`, `cuda`, `cuda:1`, … or `auto`.

    Raises:
        DataError: the directory holds no finished run, or its weights are missing or damaged.
        ConfigError: the weights or the device do not exist, or a class cannot be imported.
    """
    usable_device = usable(device)
    directory, config, result = finished(Path(run))
    networks = trained_networks(directory, config, result)
    judge = result.label_issues.judge if result.label_issues else next(iter(networks))
    chosen = judge if weights is None else weights
    if chosen not in networks:
        raise ConfigError(f"weights: {directory.path} has no {chosen!r}; it has {', '.join(networks)}")
    networks[chosen].to(usable_device)
    return TrainedRun(directory, config, result, networks, chosen)


def usable(device: str | torch.device) -> torch.device:
    """The device of this name; `auto` is a GPU if there is one, else the CPU.

    Raises:
        ConfigError: PyTorch does not know the device, or this machine lacks it.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device: {device} cannot be used ({str(error).splitlines()[0]}); cpu can") from error
    return found
