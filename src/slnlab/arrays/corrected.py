"""Training samples of a file of arrays whose labels a CSV file overrides, by the names of the samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slnlab.arrays.contents import ArrayContents, Kind, read_arrays
from slnlab.errors import DataError
from slnlab.image_folder import listed
from slnlab.image_folder.contents import ImageFolderContents, Listing


class CorrectedArrays(NamedTuple):
    """A file of arrays with its corrections."""

    contents: ArrayContents
    """Labels, true labels and names of the training samples that are left."""
    rows: npt.NDArray[np.int64]
    """Their rows (M,) in the file."""
    corrections: dict[str, tuple[int, int | None]]
    """See `ImageFolderContents.corrections`."""
    weights: dict[str, float]
    """Name → weight in [0, 1], where it is not 1."""


_read: dict[tuple[str, Kind, str], tuple[ArrayContents, int, CorrectedArrays]] = {}
"""(root, kind, labels) → contents, time of change of the CSV file in ns, result. Composing a run asks often."""


def read_corrected(root: str, kind: Kind, labels: str | None) -> CorrectedArrays:
    """Read a file of arrays (see `read_arrays`), and override its training labels.

    Args:
        root, kind: see `read_arrays`.
        labels: CSV file, see `slnlab.image_folder.listed.corrected`; its column `path` has the names of the samples,
            or its column `index` their rows, if they have no names. None: no file.

    Raises:
        DataError: see `read_arrays` and `listed.corrected`; or a sample without a name is left out, as the rows of the
            others would change.
    """
    contents = read_arrays(root, kind)
    if labels is None:
        return CorrectedArrays(contents, np.arange(len(contents.labels["train"])), {}, {})
    file = Path(labels).expanduser()
    changed = file.stat().st_mtime_ns if file.is_file() else -1
    found = _read.get((root, kind, labels))
    if found is None or found[0] is not contents or found[1] != changed:
        found = _read[root, kind, labels] = (contents, changed, _corrected(Path(root), contents, file))
    return found[2]


def _corrected(root: Path, contents: ArrayContents, file: Path) -> CorrectedArrays:
    paths = contents.paths or [str(row) for row in range(len(contents.labels["train"]))]
    train = Listing(paths, contents.labels["train"].tolist())
    named = ImageFolderContents(root, contents.classes, {"train": train}, {}, Counter(), [], [], {})
    after = listed.corrected(named, file, "index" if contents.paths is None else "path")
    kept, labels = after.splits["train"]
    if contents.paths is None and len(kept) < len(paths):
        raise DataError(
            f"{file}: leaves out samples without names; only those that {root} names in train_paths can be left out"
        )
    row_of = {path: row for row, path in enumerate(paths)}
    rows = np.array([row_of[path] for path in kept], np.int64)
    left = contents._replace(
        labels={**contents.labels, "train": np.array(labels, np.int64)},
        true=None if contents.true is None else contents.true[rows],
        paths=None if contents.paths is None else kept,
    )
    return CorrectedArrays(left, rows, after.corrections or {}, after.weights or {})
