"""Feature vectors without labels, for prediction."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slnlab.arrays.contents import finite
from slnlab.arrays.files import Array, damaged, open_arrays
from slnlab.errors import DataError
from slnlab.text.messages import quoted


class VectorArray(NamedTuple):
    """An array of vectors in a file."""

    file: Path
    name: str
    vectors: npt.NDArray[np.float32]
    """(N, D), finite."""
    paths: list[str] | None
    """Names of the N samples; None: they have none."""


def vector_arrays(file: Path, width: int) -> Iterator[VectorArray]:
    """The arrays of vectors in a file: all of an `.npz` file or a folder of `.npy` files whose name is or ends in
    `features`, an `.npy` file, or a `.parquet` table (see `slnlab.arrays.files`). Labels are ignored.

    Args:
        file: the file.
        width: needed length D of a vector.

    Raises:
        DataError: the file is damaged or of another kind, has no such array, or an array has another shape or type or
            values that are not finite.
    """
    if file.suffix == ".npy":
        with damaged(file):
            found: Array = np.load(file, mmap_mode="r", allow_pickle=False)
        yield VectorArray(file, file.stem, _fitting(file, file.stem, found, width), None)
        return
    if not (file.is_dir() or file.suffix in (".npz", ".parquet")):
        raise DataError(f"{file}: the run classifies vectors: .npz, .npy or .parquet files, or a folder of .npy files")
    arrays = open_arrays(file, labelled=False)
    names = [name for name in arrays.names if name == "features" or name.endswith("_features")]
    if not names:
        raise DataError(f"{file}: has no array 'features' or '…_features'; its arrays are {quoted(arrays.names)}")
    for name in names:
        vectors, of_paths = _fitting(file, name, arrays.read(name), width), f"{name.removesuffix('features')}paths"
        paths = [os.fsdecode(path) for path in arrays.read(of_paths).tolist()] if of_paths in arrays.names else None
        if paths is not None and len(paths) != len(vectors):
            raise DataError(f"{file}: {name} has {len(vectors)} rows, but {of_paths} {len(paths)}")
        yield VectorArray(file, name, vectors, paths)


def _fitting(file: Path, name: str, found: Array, width: int) -> npt.NDArray[np.float32]:
    if found.ndim != 2 or found.shape[1] != width:
        raise DataError(f"{file}: {name} has the shape {found.shape}; the run classifies vectors (N, {width})")
    return finite(file, name, found)
