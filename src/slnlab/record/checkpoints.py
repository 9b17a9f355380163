"""Checkpoints of a run: written whole or not at all, checked when read, and never executed."""

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
"""Of what a checkpoint holds. Raise it with any change after which an older checkpoint would be misunderstood."""

STAMP = "slnlab"
"""The key of a checkpoint under which format, version and identity stand."""


class Checkpoints(CheckpointIO):
    """`last.ckpt`, and beside it `previous.ckpt`, the one before.

    Lightning's Trainer writes and reads through this. The two are renamed, never rewritten, so whenever the process
    or the machine dies, at least one of them is whole.

    Args:
        last: path of the newest checkpoint.
        identity: hash of the configuration that a checkpoint must belong to.
    """

    def __init__(self, last: Path, identity: str) -> None:
        self.last, self.previous = last, last.with_name("previous.ckpt")
        self.identity = identity

    def newest(self) -> Path | None:
        """The newest checkpoint that can be gone on from; None if there is none at all.

        A spoiled newer one is logged and set aside as `last.ckpt.bad`.

        Raises:
            DataError: there are checkpoints, but none can be used; says why of each.
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
                # Not left in its place: the next checkpoint would push it onto the good one.
                self.last.replace(aside)
                log.warning("%s; it is now %s, and the run goes on from %s", complaints[0], aside.name, path)
            else:
                log.info("going on from %s", path)
            return path
        if complaints:
            reasons = "\n  ".join(map(str, complaints))
            raise DataError(f"no checkpoint can be gone on from; force=true starts the run over:\n  {reasons}")
        return None

    # What Lightning calls

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it; what was `last.ckpt` becomes `previous.ckpt`.

        Raises:
            DataError: it cannot be written; the former ones are still there.
        """
        path = Path(path)
        stamp = {"format": FORMAT, "version": metadata.version("slnlab"), "identity": self.identity}
        buffer = io.BytesIO()  # torch.save into a file turns a full disk into an assertion of its own
        torch.save({**checkpoint, STAMP: stamp}, buffer)
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
        with replacing(path) as file:
            file.write(buffer.getbuffer())
            file.flush()  # a full disk is found here, with both former checkpoints in their places
            os.fsync(file.fileno())
            if path == self.last and path.exists():
                path.replace(self.previous)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read one: tensors and plain values only, whatever is asked for.

        Raises:
            DataError: it is truncated, damaged, holds code, or belongs to another configuration or slnlab.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # torch.save stores checksums, torch.load does not look at them
            if damaged is not None:
                raise DataError(f"{path}: is damaged (the checksum of {damaged} is wrong)")
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
        except DataError:
            raise
        except pickle.UnpicklingError as error:
            raise DataError(f"{path}: holds more than tensors and plain values, and is not executed") from error
        except Exception as error:  # zipfile and torch have many words for a broken archive
            raise DataError(f"{path}: is truncated, damaged, or no checkpoint at all ({error})") from error
        stamp = checkpoint.get(STAMP) if isinstance(checkpoint, dict) else None
        if not isinstance(stamp, dict):
            raise DataError(f"{path}: was not written by slnlab, or by one before it marked its checkpoints")
        if stamp.get("format") != FORMAT:
            raise DataError(
                f"{path}: was written by slnlab {stamp.get('version')} in format {stamp.get('format')}; "
                f"this slnlab {metadata.version('slnlab')} reads format {FORMAT}"
            )
        if stamp.get("identity") != self.identity:
            raise DataError(
                f"{path}: belongs to another configuration (hash {stamp.get('identity')}, here {self.identity})"
            )
        return dict(checkpoint)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the file."""
        Path(path).unlink(missing_ok=True)
