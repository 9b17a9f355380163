"""Which runs a sweep consists of, written down before it begins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from slnlab.errors import DataError
from slnlab.storage.writing import replacing

PLANS = ".sweeps"


def write_plan(runs_dir: Path, directories: Iterable[Path], command: Sequence[str]) -> None:
    """Write down what a sweep consists of. The same sweep again is the same plan.

    Args:
        runs_dir: where `slnlab.sweep` will look.
        directories: of its runs, below `runs_dir`.
        command: the overrides as typed.

    Raises:
        DataError: the plan cannot be written.
    """
    runs = sorted(str(directory.relative_to(runs_dir)) for directory in directories)
    folder = runs_dir / PLANS
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror or error}") from error
    name = hashlib.sha256("\n".join(runs).encode()).hexdigest()[:10]
    with replacing(folder / f"{name}.json") as file:
        file.write(json.dumps({"command": list(command), "runs": runs}, indent=1).encode())


def planned(folder: Path) -> Iterator[str]:
    """The runs of all sweeps below a folder, by their directories in it."""
    for plan in folder.glob(f"{PLANS}/*.json"):
        yield from json.loads(plan.read_text(encoding="utf-8"))["runs"]
