"""The stored label noise of another run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from slnlab.errors import DataError
from slnlab.noise.record import NoiseRecord


def from_record(labels: Tensor, path: str | Path) -> NoiseRecord:
    """Load a stored noise record, and check that it was made for these labels.

    Args:
        labels: the data set's true labels, shape (N,), int64.
        path: a `noise.npz`, or a run directory with one, of at least N samples; the first N are used, so that a run
            on fewer (`data.train_size`) has the same noise.

    Raises:
        DataError: the file is missing, corrupt, or was made for other labels; the first differing sample is named.
    """
    path, size = Path(path), len(labels)
    record = NoiseRecord.load(path / "noise.npz" if path.is_dir() else path)
    if len(record.true) < size:
        raise DataError(f"{path}: the record has {len(record.true)} samples, the data have {size}")
    if not torch.equal(record.true[:size], labels):
        row = int((record.true[:size] != labels).nonzero()[0])
        raise DataError(
            f"{path}: made for other data: sample {row} has the true label {int(record.true[row])} in the record "
            f"and {int(labels[row])} in the data"
        )
    return record.first(size)
