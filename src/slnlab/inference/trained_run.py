"""`slnlab.load`: a finished run as a classifier of new images."""

from __future__ import annotations

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
from slnlab.inference.preprocessing import Probabilities, decoded, stacked
from slnlab.inference.weights import finished, trained_networks
from slnlab.processes.cores import cores
from slnlab.record.result import Preprocessing, Result
from slnlab.record.run_directory import RunDirectory

ImageOrPath = str | os.PathLike[str] | Image.Image


class Predictions(NamedTuple):
    """Of N images: `labels`, the names of the predicted classes, and `probabilities` (N, C) float32, in [0, 1]."""

    labels: list[str]
    probabilities: npt.NDArray[np.float32]


class TrainedRun:
    """A finished run as a classifier of new images.

    >>> run = slnlab.load("runs/mine")                                        # doctest: +SKIP
    >>> labels, probabilities = run.predict(["a.jpg", "b.jpg"])               # doctest: +SKIP

    Attributes:
        model: the network, a plain module in eval mode: normalised images `(N, channels, *crop)` float32 → logits
            (N, C). Of `ensemble` it is the mean of its members' logits. `run.model.to("cuda")` moves it.
        weights: the name of its weights, as in `result.json`; `choices` has all.
        classes: names of the C classes, in the order of the logits.
        config: the run's configuration, without interpolations.
        preprocessing: from an image to what the model sees.
        result: `result.json`.
        directory: of the run.
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

        `index` in the data set and, of images from files, `path`; `given`, and where known `true` and `wrong`, as class
        numbers; loss, prediction and margin of each row's final weights (`momentum_loss`, …); and `label_quality`
        in [0, 1] by the weights of `model`, as in `label_issues.csv`.

        Raises:
            DataError: the file is gone or cannot be read.
        """
        try:
            with np.load(self._samples, allow_pickle=False) as file:
                columns = {name: file[name] for name in file.files}
            columns["label_quality"] = expit(columns[f"{self.weights}_margin"])
        except Exception as error:  # numpy and zipfile have many words for a broken archive
            raise DataError(f"{self._samples}: cannot be read as the training samples ({error})") from error
        if "path" in columns:
            columns["path"] = np.array([os.fsdecode(path) for path in columns["path"]])
        return columns

    def predict(
        self,
        images: ImageOrPath | Iterable[ImageOrPath] | Tensor | npt.NDArray[np.uint8],
        batch_size: int | None = None,
    ) -> Predictions:
        """Classify images, preprocessed as the evaluation of the run did it. Arithmetic is float32.

        Args:
            images: paths or Pillow images, one or many, both read as in training (`slnlab.image_folder.decoding`);
                or an array or tensor of uint8, (N, channels, H, W) or (N, H, W, channels), or of one channel (N, H, W).
                Colour becomes grey where the network sees one channel. Every size is allowed: the image is scaled until
                it covers what was seen in training, and its middle is cut out.
            batch_size: images to a batch; None: as in evaluation.

        Raises:
            DataError: a file or a Pillow image that cannot be read.
            ConfigError: an array of another type or shape.
        """
        size = self._size(batch_size)
        if isinstance(images, Tensor | np.ndarray):
            batches: Iterable[Tensor] = stacked(images, self.preprocessing).split(size)
        elif isinstance(images, str | os.PathLike | Image.Image):
            batches = self._stacks([images], size)
        else:
            batches = self._stacks(images, size)
        found = [self._classify(batch) for batch in batches if len(batch)]
        joined = torch.cat(found) if found else torch.empty(0, len(self.classes))
        return Predictions(self.names(joined), joined.numpy())

    def stream(
        self, paths: Iterable[str | os.PathLike[str] | DataError], batch_size: int | None = None
    ) -> Iterator[tuple[list[str], Tensor, list[DataError]]]:
        """Classify any number of image files, batch by batch; a file that cannot be read does not end it.

        Args:
            paths: read as far as needed; an error among them is handed through.
            batch_size: files to a batch; None: as in evaluation.

        Yields:
            Of a batch: the paths that could be read, their probabilities (N, C), and what is wrong with the others.
        """
        for pairs in decoded(paths, self.preprocessing, self._size(batch_size), cores()):
            read = [(os.fspath(path), found) for path, found in pairs if isinstance(found, Tensor)]
            wrong = [found for _, found in pairs if isinstance(found, DataError)]
            images = [found for _, found in read]
            probabilities = self._classify(torch.stack(images)) if read else torch.empty(0, len(self.classes))
            yield [path for path, _ in read], probabilities, wrong

    def names(self, probabilities: Tensor) -> list[str]:
        """Of probabilities (N, C), the name of each row's likeliest class."""
        return [self.classes[number] for number in probabilities.argmax(1).tolist()]

    def _size(self, batch_size: int | None) -> int:
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size: must be at least 1, not {batch_size}")
        return self.batch_size if batch_size is None else batch_size

    def _stacks(self, images: Iterable[ImageOrPath], size: int) -> Iterator[Tensor]:
        for pairs in decoded(images, self.preprocessing, size, cores()):
            for _, found in pairs:
                if isinstance(found, DataError):
                    raise found
            yield torch.stack([found for _, found in pairs if isinstance(found, Tensor)])

    @torch.inference_mode()
    def _classify(self, images: Tensor) -> Tensor:
        device = next(self.model.parameters()).device
        found: Tensor = self.probabilities.to(device).eval()(images.to(device))
        return found.cpu()


def load(run: str | os.PathLike[str], weights: str | None = None, device: str | torch.device = "cpu") -> TrainedRun:
    """A finished run, of whatever method and made on whatever device, to classify images with.

    Args:
        run: its directory.
        weights: `network`, `momentum`, `ensemble`, …, as in its `result.json`; None: those that judge the labels in
            `label_issues.csv`.
        device: `cpu`, `cuda`, `cuda:1`, …

    Raises:
        DataError: no run, one that is not finished, or whose weights are gone or damaged.
        ConfigError: weights or a device that there are not, or a class that cannot be imported.
    """
    place = usable(device)
    directory, config, result = finished(Path(run))
    networks = trained_networks(directory, config, result)
    judge = result.label_issues.judge if result.label_issues else next(iter(networks))
    chosen = judge if weights is None else weights
    if chosen not in networks:
        raise ConfigError(f"weights: {directory.path} has no {chosen!r}; it has {', '.join(networks)}")
    networks[chosen].to(place)
    return TrainedRun(directory, config, result, networks, chosen)


def usable(device: str | torch.device) -> torch.device:
    """The device of this name; `auto`: a GPU where there is one.

    Raises:
        ConfigError: PyTorch knows no such device, or this machine has none.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device: {device} cannot be used here ({str(error).splitlines()[0]}); cpu can") from error
    return found
