"""Labels of CIFAR images by people on Amazon Mechanical Turk: CIFAR-10N and CIFAR-100N (Wei et al. 2022)."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from slnlab.errors import ConfigError, DataError
from slnlab.noise._check import check_labels, check_num_classes

__all__ = ["Annotation", "human"]

Annotation = Literal["aggre", "worse", "random1", "random2", "random3", "noisy"]

_KEYS: dict[str, str] = {
    "aggre": "aggre_label",
    "worse": "worse_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
    "noisy": "noisy_label",
}
"""Keys of the annotations in the published files."""

_TRUE = "clean_label"

# NumPy rebuilds arrays by this function. NumPy 2 renamed its module, and each file names the module of its time.
_RECONSTRUCT = np.zeros(1, np.int64).__reduce__()[0]
_INTEGERS = [type(np.dtype(f"{sign}int{bits}")) for sign in ("", "u") for bits in (8, 16, 32, 64)]
_ALLOWED: list[Any] = [
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),
    (_RECONSTRUCT, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    *_INTEGERS,
]


def human(
    labels: Tensor,
    path: str | os.PathLike[str],
    annotation: Annotation,
    num_classes: int,
    num_train: int | None = None,
) -> Tensor:
    """Read human labels from the published ``CIFAR-10_human.pt`` or ``CIFAR-100_human.pt``.

    The file is a dictionary of integer arrays or lists (N,), saved by ``torch.save``. The pickle executes nothing:
    anything but integer arrays is refused. Its ``clean_label`` must repeat the data's true labels, because the same
    annotations are also published for another order of the images.

    Noise rates by the authors: ``aggre`` about 9 %, ``random1`` 17.23 %, ``random2`` 18.12 %, ``random3`` 17.64 %,
    ``worse`` 40.21 % (CIFAR-10N); ``noisy`` 40.20 % (CIFAR-100N, fine labels).

    Args:
        labels: true labels, (N,) int64 on the CPU, in [0, num_classes).
        path: the file, with N or ``num_train`` samples; the first N are used.
        annotation: for CIFAR-10N the first, second or third annotator of each image (``random1`` to ``random3``),
            their majority (``aggre``), or a wrong one of the three where there is one (``worse``). CIFAR-100N has
            only ``noisy``.
        num_classes: C, at least 2.
        num_train: size of the whole training set, which begins with ``labels``; None: N.

    Returns:
        Given labels, (N,) int64.

    Raises:
        ConfigError: labels, num_classes or annotation of another type, shape or range.
        DataError: the file is missing, damaged, holds anything but integers, or lacks this annotation; or it has
            another length, labels outside the classes, or another ``clean_label`` than the data. The first such
            sample is named.
    """
    num_classes = check_num_classes(num_classes)
    labels = check_labels(labels, num_classes)
    if annotation not in _KEYS:
        raise ConfigError(f"noise.annotation: {annotation!r} is none of {', '.join(get_args(Annotation))}")
    content = _read(Path(path))
    true = _column(path, content, _TRUE, len(labels), num_train)
    if int(true.max()) >= num_classes:
        raise DataError(
            f"{path}: {_TRUE} has classes up to {int(true.max())}, the data have {num_classes}; is it the file of "
            "another data set?"
        )
    if _KEYS[annotation] not in content:
        known = [name for name, key in _KEYS.items() if key in content]
        raise DataError(f"{path}: has no annotation {annotation!r}; noise.annotation may be {' or '.join(known)}")
    given = _column(path, content, _KEYS[annotation], len(labels), num_train)
    for key, values in ((_TRUE, true), (_KEYS[annotation], given)):
        outside = (values < 0) | (values >= num_classes)
        if outside.any():
            sample = int(outside.nonzero()[0])
            raise DataError(
                f"{path}: {key} of sample {sample} is {int(values[sample])}, outside the classes [0, {num_classes})"
            )
    if not torch.equal(true, labels):
        sample = int((true != labels).nonzero()[0])
        raise DataError(
            f"{path}: {_TRUE} of sample {sample} is {int(true[sample])}, but the data's label is "
            f"{int(labels[sample])}; the file belongs to another data set or another order of the samples"
        )
    return given


def _column(path: Any, content: dict[Any, Any], key: str, size: int, num_train: int | None) -> Tensor:
    """Return the first `size` values of an entry, int64."""
    try:
        values = np.asarray(content[key])
    except ValueError:  # a list of lists of different lengths
        values = np.empty(0)
    if values.dtype.kind not in "iu":
        raise DataError(f"{path}: {key} is no array or list of integers")
    if values.ndim != 1 or len(values) not in (size, num_train):
        shape = "×".join(map(str, values.shape))
        wanted = f"{size} samples" if num_train in (None, size) else f"{size} samples, the first of {num_train}"
        raise DataError(f"{path}: {key} has {shape or 'no'} entries, but the data has {wanted}")
    return torch.from_numpy(values[:size].astype(np.int64))


def _read(path: Path) -> dict[Any, Any]:
    """Read the file: arrays, numbers and plain containers, nothing else."""
    if path.suffix == ".npy":
        raise DataError(
            f"{path}: is in the order of TensorFlow's data set; noise=human reads CIFAR-10_human.pt or "
            "CIFAR-100_human.pt, which are in the order of the published images"
        )
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        # torch's own message advises to execute the file.
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise DataError(
            f"{path}: is damaged, or holds more than arrays of integers{what}; nothing in it was executed"
        ) from error
    except Exception as error:  # torch, zipfile and NumPy raise many types for a broken file
        raise DataError(f"{path}: is truncated, damaged, or was not written by torch.save") from error
    if not isinstance(content, dict) or _TRUE not in content:
        raise DataError(f"{path}: is no file of CIFAR-10N or CIFAR-100N: it has no {_TRUE}")
    return content
