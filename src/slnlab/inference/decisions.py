"""Decisions of a person about training labels, as a CSV file: what the review page exports, or a hand-written file."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from slnlab.data.datamodule import IndexedDataModule
from slnlab.errors import DataError
from slnlab.inference.images import check_labels, data_of, sample_names
from slnlab.inference.trained_run import TrainedRun
from slnlab.storage.tables import finder, records
from slnlab.text.messages import quoted

DECISIONS = ("keep", "relabel", "drop")
"""Words of the column `decision`."""

Decisions = dict[str, int | None]
"""Name of a sample, see `sample_names` → label in [0, C) after the review, or None for a sample left out."""


def droppable(run: TrainedRun) -> bool:
    """True if a sample of the run can be left out: its data set reads `data.labels` by the names of the samples."""
    return "path" in run.samples and "labels" in run.config.data.source


def place_of(data: IndexedDataModule) -> Literal["path", "index"]:
    """The column of a CSV file that names samples: "path" for image files and names, "index" for others in memory."""
    return "index" if data.paths(data.rows(0)[:1]) is None else "path"


def decisions_of(run: TrainedRun, file: Path) -> Decisions:
    """Read decisions about the training samples of a run, with those that its `data.labels` left out.

    Raises:
        DataError: see `read_decisions`; or the data set has changed since the run.
    """
    data = data_of(run)
    check_labels(run, data, data.rows(0))
    known = {name: before for name, (before, _) in data.corrections().items()}
    known |= dict(zip(sample_names(data), data.labels.given.tolist(), strict=True))
    return read_decisions(file, place_of(data), known, run.classes, droppable(run))


def read_decisions(
    file: Path, place: str, known: Mapping[str, int], classes: Sequence[str], droppable: bool = True
) -> Decisions:
    """Read a CSV file with the columns `path` or `index`, `decision` and `label`; other columns are ignored.

    A row states the label of a sample after the review. So it also holds for a later run with corrected labels.

    - `keep`: the label is right. The cell holds the present label, or is empty.
    - `relabel`: the name of the right class.
    - `drop`: the sample is left out. The cell does not count.

    Args:
        file: the CSV file.
        place: column that names a sample: "path" for image files, "index" for samples in memory.
        known: name of a training sample (path or index) → its present label.
        classes: names of the C classes.
        droppable: False refuses `drop`.

    Raises:
        DataError: a column is missing; a sample, a class or a decision does not exist; `keep` has another label than
            the present one; or a sample has two rows. The message names the file and the line.
    """
    _, rows = records(file, (place, "decision", "label"))
    find = finder(known)
    number_of = {unicodedata.normalize("NFC", name): number for number, name in enumerate(classes)}
    found: Decisions = {}
    for line, row in rows:
        where = f"{file}: line {line}"
        name = find(row[place])
        if name is None:
            raise DataError(f"{where}: there is no training sample with the {place} {row[place]!r}")
        if name in found:
            raise DataError(f"{where}: a second row of {row[place]!r}")
        decision, label = row["decision"], unicodedata.normalize("NFC", row["label"])
        if decision not in DECISIONS:
            raise DataError(f"{where}: the decision {decision!r} is not allowed: {', '.join(DECISIONS)}")
        if decision == "drop":
            if not droppable:
                raise DataError(f"{where}: no sample of this data set can be left out; keep or relabel")
            found[name] = None
        elif decision == "keep" and label in number_of and number_of[label] != known[name]:
            raise DataError(f"{where}: keeps {label!r}, but the label is {classes[known[name]]!r}; write relabel")
        elif label in number_of:
            found[name] = number_of[label]
        elif decision == "keep" and not label:
            found[name] = known[name]
        else:
            raise DataError(f"{where}: there is no class {label!r}; the classes are {quoted(classes)}")
    return found
