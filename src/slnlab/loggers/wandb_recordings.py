"""W&B recordings on this disk, and which of them are unsent. A run has one for each start."""

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
    """The offline recording of one start of a run."""

    path: Path
    running: bool = False
    """True while it is written. Sent now, it would lack its end."""

    @property
    def state(self) -> Literal["sent", "running", "gone", "to send"]:
        """The state; `gone` if its folder outside the run's directory (WANDB_DIR) has disappeared."""
        if not self.path.exists():
            return "gone"
        if any(self.path.glob("*.wandb.synced")):
            return "sent"
        return "running" if self.running else "to send"


def link_recording(recording: Path, run: Path) -> None:
    """Link a recording from `wandb/` in the run's directory, so that `recordings` finds it at any place.

    Args:
        recording: W&B's folder, `run-…` or `offline-run-…`.
        run: the run's directory.
    """
    link = run / "wandb" / f"offline-{recording.name.removeprefix('offline-')}"
    if link.exists() or not any(recording.glob("*.wandb")):
        return
    link.parent.mkdir(exist_ok=True)
    inside = recording.resolve().parent == link.parent.resolve()  # a relative link survives a move of both
    link.symlink_to(recording.name if inside else recording.resolve(), target_is_directory=True)


def recordings(paths: Sequence[Path]) -> list[Recording]:
    """The recordings of the runs at or below `paths`, ordered by directory and start.

    Raises:
        DataError: a path is no directory.
    """
    found: list[Recording] = []
    for path in paths:
        if not path.is_dir():
            raise DataError(f"{path}: there is no such directory")
        for folder in sorted(_offline(path)):
            found.append(Recording(folder, is_held(folder.parent.parent)))
    return list(dict.fromkeys(found))


def has_unsent(run: Path, wandb_id: str) -> bool:
    """True if an earlier start of this W&B run left an unsent recording."""
    mine = [Recording(path) for path in _offline(run / "wandb") if f"-{wandb_id}" in path.name]
    return any(recording.state == "to send" for recording in mine)


def _offline(path: Path) -> Iterator[Path]:
    for name, subfolders, files in os.walk(path):
        folder = Path(name)
        if folder.name == "wandb":
            yield from (folder / sub for sub in (*subfolders, *files) if sub.startswith("offline-run-"))
            subfolders.clear()
