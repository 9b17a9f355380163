"""Checkpoints of a run. They are written whole or not at all, are checked when read, and never run code."""

from __future__ import annotations

import io
import logging
import os
import pickle
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from slnlab.errors import DataError
from slnlab.storage.writing import replacing

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the content of a checkpoint. Raise it when an older checkpoint would be misunderstood."""

STAMP = "slnlab"
"""Key of a checkpoint that holds its format, version and identity."""

BEST_EPOCH = "BestEpoch"
"""Key of the best epoch's weights among the states of the callbacks."""


def best_weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The state of the best epoch's network in a checkpoint; KeyError without `best_epoch.enabled`."""
    weights: dict[str, Any] = checkpoint["callbacks"][BEST_EPOCH]["weights"]
    return weights


def read_checkpoint(path: Path, identity: str | None = None, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values only.

    Args:
        path: the file.
        identity: hash of the configuration to which it must belong; None: any.
        map_location: see `torch.load`.

    Raises:
        DataError: the file is truncated, damaged, holds code, or belongs to another configuration or slnlab.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.save stores checksums, torch.load ignores them
        if damaged is not None:
            raise DataError(f"{path}: is damaged (the checksum of {damaged} is wrong)")
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except DataError:
        raise
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: holds more than tensors and plain values, and is not executed") from error
    except Exception as error:  # zipfile and torch raise many kinds of error for a broken archive
        raise DataError(f"{path}: is truncated, damaged, or no checkpoint at all ({error})") from error
    stamp = checkpoint.get(STAMP) if isinstance(checkpoint, dict) else None
    if not isinstance(stamp, dict):
        raise DataError(f"{path}: was not written by slnlab: its mark is missing")
    if stamp.get("format") != FORMAT:
        raise DataError(
            f"{path}: was written by slnlab {stamp.get('version')} in format {stamp.get('format')}; "
            f"this slnlab {metadata.version('slnlab')} reads format {FORMAT}"
        )
    if identity not in (None, stamp.get("identity")):
        raise DataError(f"{path}: belongs to another configuration (hash {stamp.get('identity')}, not {identity})")
    return dict(checkpoint)


class Checkpoints(CheckpointIO):
    """The newest checkpoint `last.ckpt`, and `previous.ckpt`, the one before.

    Lightning's Trainer writes and reads through this class. Both files are renamed and never rewritten, so at least
    one is whole whenever the process or the machine dies.

    Args:
        last: path of the newest checkpoint.
        identity: hash of the configuration; every checkpoint must belong to it.
    """

    def __init__(self, last: Path, identity: str) -> None:
        self.last, self.previous = last, last.with_name("previous.ckpt")
        self.identity = identity

    def newest(self) -> Path | None:
        """Newest checkpoint from which the run can continue; None without a checkpoint.

        A damaged `last.ckpt` is logged and renamed to `last.ckpt.bad`.

        Raises:
            DataError: no existing checkpoint is usable; gives the reason for each.
        """
        complaints: list[DataError] = []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                self.load_checkpoint(path)
            except DataError as error:
                complaints.append(error)
                continue
            if complaints:
                aside = self.last.with_name(f"{self.last.name}.bad")
                # In its old place the next checkpoint would push it onto the good one.
                self.last.replace(aside)
                log.warning("%s; it is now %s, and the run continues from %s", complaints[0], aside.name, path)
            else:
                log.info("continuing from %s", path)
            return path
        if complaints:
            reasons = "\n  ".join(map(str, complaints))
            raise DataError(f"no checkpoint is usable; force=true starts the run over:\n  {reasons}")
        return None

    # Lightning's interface

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint. The former `last.ckpt` becomes `previous.ckpt`.

        Raises:
            DataError: the file cannot be written; the former checkpoints remain.
        """
        path = Path(path)
        stamp = {"format": FORMAT, "version": metadata.version("slnlab"), "identity": self.identity}
        buffer = io.BytesIO()  # torch.save into a file reports a full disk as an internal assertion
        torch.save({**checkpoint, STAMP: stamp}, buffer)
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
        with replacing(path) as file:
            file.write(buffer.getbuffer())
            file.flush()  # a full disk shows now, while both former checkpoints are in place
            os.fsync(file.fileno())
            if path == self.last and path.exists():
                path.replace(self.previous)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint of this run, see `read_checkpoint`, also with `weights_only=False`."""
        return read_checkpoint(Path(path), self.identity, map_location)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the file, if it exists."""
        Path(path).unlink(missing_ok=True)
