"""The file of class probabilities: for instance-dependent noise, and for estimates of the noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slnlab.errors import ConfigError, DataError
from slnlab.storage.writing import replacing


def save_probabilities(path: Path, probabilities: Tensor, labels: Tensor) -> None:
    """Write class probabilities (N, C) and the true labels (N,) to `path` atomically."""
    with replacing(path) as file:
        np.savez_compressed(file, probabilities=probabilities.float().cpu().numpy(), labels=labels.cpu().numpy())


def read_probabilities(path: str | Path) -> Tensor:
    """Read the class probabilities (N, C) of a network that learned noisy labels, to estimate their noise.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return torch.from_numpy(file["probabilities"])
    except Exception as error:  # NumPy and zipfile raise many types for a broken archive
        raise DataError(f"{path}: cannot be read as class probabilities ({error})") from error


def load_probabilities(path: str | Path | None, labels: Tensor, num_classes: int) -> Tensor:
    """Read class probabilities (N, C) float32, and check that they belong to these labels.

    Args:
        path: an `.npz` with `probabilities` (N, C) and optional true `labels` (N,).
        labels: the data set's true labels (N,).
        num_classes: C.

    Raises:
        ConfigError: ``path`` is None.
        DataError: the file is missing, corrupt, of another shape, or was made for other labels.
    """
    if path is None:
        raise ConfigError(
            "noise.probabilities: name an .npz with class probabilities (N, C); "
            "slnlab.train makes it itself, a bare datamodule does not"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            probabilities = torch.from_numpy(file["probabilities"]).float()
            stored = torch.from_numpy(file["labels"]) if "labels" in file else labels
    except FileNotFoundError:
        raise DataError(f"noise.probabilities: there is no file {path}") from None
    except Exception as error:  # NumPy and zipfile raise many types for a broken archive
        raise DataError(f"noise.probabilities: {path} cannot be read ({error})") from error
    if probabilities.shape != (len(labels), num_classes):
        raise DataError(
            f"noise.probabilities: {path} has shape {tuple(probabilities.shape)}, "
            f"but it must be {(len(labels), num_classes)}"
        )
    if not torch.equal(stored, labels):
        raise DataError(f"noise.probabilities: {path} was made for other labels than this data set's")
    return probabilities
