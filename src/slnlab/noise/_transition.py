"""Label noise of a transition matrix of one's own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slnlab.errors import ConfigError, DataError
from slnlab.losses._check import check_transition
from slnlab.noise._check import check_generator, check_labels, check_num_classes

__all__ = ["read_transition", "transition"]


def transition(labels: Tensor, path: str | os.PathLike[str], num_classes: int, generator: torch.Generator) -> Tensor:
    """Draw each given label from the row of its true label in a matrix T, T[i, j] = P(given j | true i).

    Any class-conditional noise is such a matrix (Patrini et al., CVPR 2017, section 2). The number of flips is
    random. A class of probability 0 is never drawn.

    Args:
        labels: true labels, (N,) int64 on the CPU, in [0, num_classes).
        path: the file with T, see `read_transition`.
        num_classes: C, at least 2.
        generator: CPU generator, advanced by the call.

    Returns:
        Given labels, (N,) int64; a new tensor.

    Raises:
        ConfigError: an argument of another type, shape or range; or T is no matrix (C, C) whose rows sum to 1.
        DataError: the file is missing or holds no matrix.
    """
    num_classes = check_num_classes(num_classes)
    check_labels(labels, num_classes)
    check_generator(generator)
    matrix = check_transition(read_transition(Path(path), "noise.path"), f"noise.path: {path}")
    if len(matrix) != num_classes:
        raise ConfigError(f"noise.path: {path} has {len(matrix)} classes, the data have {num_classes}")
    bounds = matrix.cumsum(1)
    bounds /= bounds[:, -1:].clone()  # which rounding may leave below 1
    draws = torch.rand(len(labels), generator=generator, dtype=torch.float64)
    given = torch.empty_like(labels)
    for true_class in labels.unique():
        rows = labels == true_class
        given[rows] = torch.searchsorted(bounds[true_class], draws[rows], right=True)
    return given


def read_transition(path: Path, key: str) -> Tensor:
    """Read a matrix (C, C) float64 from an `.npy` file, or from a text file: a line per row, commas between numbers.

    Args:
        path: the file.
        key: of the configuration, for messages.

    Raises:
        DataError: the file cannot be read as a matrix of numbers.
    """
    try:
        if path.suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
        else:  # spreadsheets write a byte order mark
            matrix = np.loadtxt(path, delimiter=",", ndmin=2, encoding="utf-8-sig")
        return torch.from_numpy(np.asarray(matrix, dtype=np.float64))
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise DataError(f"{key}: {path} cannot be read as a matrix ({error})") from error
