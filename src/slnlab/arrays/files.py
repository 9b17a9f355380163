"""Named arrays in a file: an `.npz` archive, a folder of `.npy` files, or a Parquet table. Nothing is unpickled."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from slnlab.errors import DataError
from slnlab.text.messages import quoted

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]


class Arrays(Protocol):
    """Arrays by name."""

    names: list[str]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, without reading the array if the format allows."""

    def read(self, name: str) -> Array:
        """The array, never of objects."""


def open_arrays(path: Path, labelled: bool = True) -> Arrays:
    """Open a file of arrays.

    Args:
        path: an `.npz` archive, a folder of `<name>.npy` files, or a `.parquet` file.
        labelled: a `.parquet` file must have labels.

    Raises:
        DataError: there is no such file, it is damaged, or it has another format.
    """
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        raise DataError(f"data.source.root: there is no file {str(path)!r}")
    if path.suffix == ".parquet":
        return _Parquet(path, labelled)
    if path.suffix == ".npz":
        return _Archive(path)
    raise DataError(
        f"data.source.root: {path} is neither an .npz file, a folder of .npy files (train_features.npy, "
        "train_labels.npy, …), nor a .parquet file"
    )


class _Archive:
    def __init__(self, path: Path) -> None:
        self.path = path
        with damaged(path), zipfile.ZipFile(path) as archive:
            self.names = [name.removesuffix(".npy") for name in archive.namelist()]

    def shape(self, name: str) -> tuple[int, ...]:
        with damaged(self.path, name), zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            return _header(file)

    def read(self, name: str) -> Array:
        with damaged(self.path, name), np.load(self.path, allow_pickle=False) as archive:
            return np.asarray(archive[name])


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        with damaged(path):
            self.names = sorted(file.stem for file in path.glob("*.npy"))
        if not self.names:
            raise DataError(f"data.source.root: the folder {path} has no .npy file, such as train_features.npy")

    def shape(self, name: str) -> tuple[int, ...]:
        with damaged(self.path, name), open(self.path / f"{name}.npy", "rb") as file:
            return _header(file)

    def read(self, name: str) -> Array:
        with damaged(self.path, name):
            return np.asarray(np.load(self.path / f"{name}.npy", allow_pickle=False))


_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
"""Values of a table's column `split` → the split's prefix of names."""


class _Parquet:
    """A table with a row for each sample: `label`, perhaps `split` and `true_label`, and the features.

    The features are one column `features` of equally long lists, or else all columns of numbers. A further column that
    is named like a label is refused, because a network would learn from it.
    """

    def __init__(self, path: Path, labelled: bool) -> None:
        try:
            from pyarrow import parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise DataError(f"{path}: reading Parquet needs the extra: pip install 'slnlab[parquet]'") from None
        with damaged(path):
            table = parquet.read_table(path)
        if labelled and "label" not in table.column_names:
            raise DataError(f"{path}: has no column 'label'; its columns are {quoted(table.column_names)}")
        # The index of a pandas table that was filtered or shuffled; of a sorted one it would give the labels away.
        index = {
            name for name in (table.schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)
        }
        columns = [name for name in table.column_names if name not in {"label", "split", "true_label", *index}]
        if "features" in columns:
            columns = ["features"]
        for name in columns:
            if "label" in name.casefold():
                raise DataError(
                    f"{path}: the column {name!r} would be a feature, as all columns of numbers beside label, split "
                    "and true_label are; drop or rename it, or put the features into a column 'features' of lists"
                )
        if columns != ["features"]:
            log.info("%s: %d features, the columns %s", path, len(columns), quoted(columns))
        for name in [*columns, *(["label"] if labelled else [])]:
            if table[name].null_count:
                row = table[name].is_null().to_numpy().argmax()
                raise DataError(f"{path}: row {row} (from 0) has no value in the column {name!r}")
        with damaged(path):
            arrays = {"features": _features(path, table, columns)}
            if labelled:
                arrays["labels"] = np.asarray(table["label"].to_pylist())
            if labelled and "true_label" in table.column_names:
                arrays["true_labels"] = np.asarray(table["true_label"].to_pylist())
        if "split" not in table.column_names:
            self._arrays = arrays
        else:
            splits = np.asarray([str(name).strip().lower() for name in table["split"].to_pylist()])
            for row, name in enumerate(splits.tolist()):
                if name not in _SPLITS:
                    raise DataError(f"{path}: row {row} (from 0) has the split {name!r}; allowed: {quoted(_SPLITS)}")
            prefixes = np.asarray([_SPLITS[name] for name in splits])
            self._arrays = {
                f"{prefix}_{name}": values[prefixes == prefix]
                for prefix in dict.fromkeys(prefixes.tolist())
                for name, values in arrays.items()
                if name != "true_labels" or prefix == "train"
            }
        self.names = list(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._arrays[name].shape

    def read(self, name: str) -> Array:
        return self._arrays[name]


def _features(path: Path, table: Any, columns: list[str]) -> Array:
    """The features (N, D) of a table."""
    if columns == ["features"]:
        rows = table["features"].to_pylist()
        width = len(rows[0]) if rows else 0
        for number, row in enumerate(rows):
            if len(row) != width:
                raise DataError(f"{path}: row {number} (from 0) has {len(row)} features, row 0 has {width}")
        return np.asarray(rows, dtype=np.float32).reshape(len(rows), width)
    for name in columns:
        if table[name].to_numpy().dtype.kind not in "iufb":
            raise DataError(
                f"{path}: the column {name!r} holds no numbers; the features are a column 'features' of lists, or all "
                "columns beside label, split and true_label"
            )
    found = [table[name].to_numpy().astype(np.float32) for name in columns]
    return np.stack(found, axis=1) if found else np.empty((table.num_rows, 0), np.float32)


def _header(file: IO[bytes]) -> tuple[int, ...]:
    """The shape in the header of an `.npy` file."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape: tuple[int, ...] = read(file)[0]
    return shape


@contextmanager
def damaged(path: Path, name: str | None = None) -> Iterator[None]:
    """Turn the errors of libraries about a damaged file into a `DataError`."""
    where = f"{path}" if name is None else f"{path}: {name}"
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # zipfile, NumPy and Arrow raise many types for a broken file
        if "allow_pickle" in str(error):
            raise DataError(
                f"{where}: holds Python objects, which are never read, because reading them would execute code; store "
                "numbers, or text as array.astype(str)"
            ) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{where}: is damaged or cannot be read ({reason})") from error
