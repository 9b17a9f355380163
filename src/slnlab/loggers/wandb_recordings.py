"""W&B recordings on this disk: which of them still have to be sent. A run has one for each of its starts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slnlab.errors import DataError
from slnlab.storage.locks import is_held


@dataclass(frozen=True)
class Recording:
    """What one start of a run has recorded and W&B has not got."""

    path: Path
    running: bool = False
    """Still being written: sent now, its end would be missing."""

    @property
    def state(self) -> Literal["sent", "running", "gone", "to send"]:
        """Gone: it was outside the run's directory (WANDB_DIR), and is not there any more."""
        if not self.path.exists():
            return "gone"
        if any(self.path.glob("*.wandb.synced")):
            return "sent"
        return "running" if self.running else "to send"


def to_be_sent(recording: Path, run: Path) -> None:
    """Let `recordings` find what W&B has recorded in any place: a link in `wandb/` of the run's directory names it.

    Args:
        recording: W&B's folder, `run-…` or `offline-run-…`.
        run: the run's directory.
    """
    link = run / "wandb" / f"offline-{recording.name.removeprefix('offline-')}"
    if link.exists() or not any(recording.glob("*.wandb")):
        return
    link.parent.mkdir(exist_ok=True)
    inside = recording.resolve().parent == link.parent.resolve()  # then both may be moved together
    link.symlink_to(recording.name if inside else recording.resolve(), target_is_directory=True)


def recordings(paths: Sequence[Path]) -> list[Recording]:
    """What W&B has not got of the runs at or below `paths`, in the order of their directories and their start.

    Raises:
        DataError: a path that does not exist.
    """
    found: list[Recording] = []
    for path in paths:
        if not path.is_dir():
            raise DataError(f"{path}: there is no such directory")
        for folder in sorted(_offline(path)):
            found.append(Recording(folder, is_held(folder.parent.parent)))
    return list(dict.fromkeys(found))


def waiting(run: Path, wandb_id: str) -> bool:
    """Whether an earlier start of this W&B run has left something to be sent."""
    mine = [Recording(path) for path in _offline(run / "wandb") if f"-{wandb_id}" in path.name]
    return any(recording.state == "to send" for recording in mine)


def _offline(path: Path) -> Iterator[Path]:
    for name, subfolders, files in os.walk(path):
        folder = Path(name)
        if folder.name == "wandb":
            yield from (folder / sub for sub in (*subfolders, *files) if sub.startswith("offline-run-"))
            subfolders.clear()
