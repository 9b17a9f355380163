"""`samples.npz` of a finished run, as columns."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slnlab.errors import DataError


def read_samples(path: Path, needed: Collection[str] = ()) -> dict[str, npt.NDArray[Any]]:
    """Read the training samples as columns of equal length, paths as text.

    Args:
        path: of the file.
        needed: names of columns that the caller uses.

    Raises:
        DataError: the file is missing, cannot be read, or lacks a needed column.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError(f"{path}: is missing; a run writes it when it finishes") from None
    except Exception as error:  # numpy and zipfile raise many kinds of error for a broken archive
        raise DataError(f"{path}: cannot be read as the training samples ({error})") from error
    if missing := [name for name in needed if name not in columns]:
        raise DataError(f"{path}: has no column {missing[0]}; it has {', '.join(columns)}")
    if "path" in columns:
        columns["path"] = np.array([os.fsdecode(path) for path in columns["path"]])
    return columns
