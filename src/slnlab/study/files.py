"""The files of a study."""

from __future__ import annotations

import json
from pathlib import Path

from slnlab.errors import DataError
from slnlab.storage.tables import csv_bytes
from slnlab.storage.writing import replacing
from slnlab.study.page import page
from slnlab.study.record import Study


def save(study: Study, directory: Path) -> None:
    """Write `study.json`, `study.md` and `trials.csv`, each whole or not at all.

    Raises:
        DataError: a file cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{directory}: cannot be made: {error.strerror or error}") from error
    with replacing(directory / "study.json") as file:
        file.write((json.dumps(study.model_dump(), indent=2) + "\n").encode())
    with replacing(directory / "study.md") as file:
        file.write((page(study) + "\n").encode(errors="backslashreplace"))
    _write_trials(study, directory / "trials.csv")


def _write_trials(study: Study, path: Path) -> None:
    keys = list(study.trials[0].values) if study.trials else []
    rows: list[list[object]] = [
        [*keys, "state", *(f"noisy_val_accuracy_seed{seed}" for seed in study.trial_seeds), "mean"]
    ]
    for trial in study.trials:
        missing = [None] * (len(study.trial_seeds) - len(trial.accuracies))
        mean = trial.accuracy if trial.state == "finished" else None
        rows.append([*trial.values.values(), trial.state, *trial.accuracies, *missing, mean])
    with replacing(path) as file:
        file.write(csv_bytes(rows, "backslashreplace"))
