"""`result.json`: what a finished run says of itself. The classes below are its schema.

All accuracies and fractions lie in [0, 1]; losses are mean cross entropies in nats; epochs count from 1; times are
in seconds. What could not be measured is null: no test set, nothing held out, truth unknown, no wrong label.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slnlab.errors import DataError
from slnlab.image_folder.decoding import Background
from slnlab.storage.writing import replacing

SCHEMA_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BestEpoch(_Record):
    """The accuracy at an epoch that was chosen."""

    accuracy: float
    epoch: int


class TestAccuracy(_Record):
    """The test accuracy over the epochs, under the name of how its epoch was chosen."""

    __test__ = False  # pytest: not a test

    last: float = Field(description="at the last epoch: what the paper's tables report")
    mean_last_10: float = Field(description="mean over the last 10 epochs (all, if there are fewer)")
    best_noisy_val: BestEpoch | None = Field(
        description="at the first epoch of best accuracy on the held-out noisy labels; null if none were held out"
    )
    best_clean_val: BestEpoch | None = Field(
        default=None,
        description="at the first epoch of best accuracy on a clean validation set, whose labels are known, of the "
        "momentum model if there is one: what is reported of Clothing1M; null without such a set",
    )
    oracle: BestEpoch = Field(description="the best of all epochs, chosen on the test set: never a result")


class ValidationAccuracy(_Record):
    """The accuracy on samples to choose by: held-out training samples against their *noisy* labels, or a clean set."""

    last: float = Field(description="at the last epoch")
    mean_last_10: float = Field(description="mean over the last 10 epochs (all, if there are fewer)")
    best: BestEpoch


class LabelFindings(_Record):
    """What the final weights say about the training labels: eval mode, images as they are, given labels."""

    given_accuracy: float = Field(description="fraction predicted as their given label")
    true_accuracy: float | None = Field(description="fraction predicted as their true label, replaced images left out")
    memorised: float | None = Field(description="fraction of the wrong-labelled predicted as their given label")
    recovered: float | None = Field(description="fraction of the flipped predicted as their true label")
    auroc: float | None = Field(description="of finding wrong labels by their loss")
    average_precision: float | None = Field(description="of finding wrong labels by their loss")

    @classmethod
    def mean(cls, findings: Sequence[LabelFindings]) -> LabelFindings:
        """The mean of each finding; null where one is."""
        columns = {name: [getattr(each, name) for each in findings] for name in cls.model_fields}
        means = {name: None if None in values else fmean(values) for name, values in columns.items()}
        return cls.model_validate(means)


class ResultRow(_Record):
    """One set of weights: the network, its momentum model, …"""

    title: str = Field(description="of its row in tables, e.g. SLN-MO")
    secondary: bool = Field(default=False, description="shown on request only: a network beside the model it serves")
    test_accuracy: TestAccuracy | None
    noisy_val_accuracy: ValidationAccuracy | None = None
    clean_val_accuracy: ValidationAccuracy | None = Field(default=None, description="of a data set that has such a set")
    findings: LabelFindings


LabelVerdict = Literal["usable", "memorised", "undertrained"]


class LabelIssues(_Record):
    """`label_issues.csv`: whose it is, and how far it can be trusted."""

    judge: str = Field(description="whose predictions they are, a key of `rows`")
    reason: str = Field(description="why this one judges, and no other")
    samples: int = Field(description="training samples in the list")
    suspected: int = Field(description="those that are predicted to have another label")
    agreement: float = Field(description="fraction that is predicted to have the given label")
    held_out: float | None = Field(description="the same of held-out noisy labels; null if none were held out")
    verdict: LabelVerdict = Field(
        description="memorised: wrong labels are learned by heart, or nearly absent, so that the order says something "
        "and the number suspected does not; undertrained: neither does; else usable"
    )


class NoiseRateUsed(_Record):
    """The noise rate that the method was told or found, if it needs one."""

    value: float
    source: Literal["configured", "loss mixture"] = Field(
        description="the configuration's number, by default the nominal rate, or estimated from the losses"
    )


class Timing(_Record):
    """Training time, label correction included, evaluation not; medians over epochs."""

    seconds_per_epoch: float
    images_per_second: float
    total_seconds: float = Field(description="training time of all epochs together")


class TransitionUsed(_Record):
    """The transition matrix that the method was told or estimated, if it needs one, against that of the labels."""

    source: Literal["known", "estimated", "file"]
    matrix: list[list[float]] = Field(description="[i][j] = P(given j | true i)")
    max_error: float | None = Field(
        description="the largest difference from the true matrix of the training labels; null if that is unknown"
    )
    mean_error: float | None = Field(description="the mean difference over all entries")
    row_l1: list[float] | None = Field(description="of each true class, the sum of the differences, in [0, 2]")


class Preprocessing(_Record):
    """From an image to what the network sees in evaluation; sizes are (height, width) in pixels."""

    resize: tuple[int, int] = Field(
        description="the image is scaled (bilinear, antialias) until it covers this size, and its middle is cut out; "
        "an image of this size keeps its pixels"
    )
    crop: tuple[int, int] = Field(description="the middle of that: what the network sees")
    pixel_range: list[float] | None = Field(default=None, description="black and white of images of more than 8 bits")
    background: Background = Field(default="white", description="behind transparent pixels")
    mean: list[float] = Field(description="of each channel, subtracted from its pixels in [0, 1]")
    std: list[float] = Field(description="of each channel; the difference is divided by it")


class Result(_Record):
    """`result.json`."""

    schema_version: int = SCHEMA_VERSION
    data: str = Field(description="the data set, and whether its files are not the published ones")
    unverified_pixels: str | None = Field(
        default=None,
        description="SHA-256 of the training images (uint8, N × channels × height × width) where the files are not the "
        "published ones (data.source.verify=false); otherwise null",
    )
    noise: str
    noise_rate: float = Field(description="as configured; see label_noise.realised_rate")
    method: str
    seed: int
    group: str = Field(description="hash of the configuration without its seed: runs to average")
    identity: dict[str, Any] = Field(description="the resolved configuration, as far as it can change a result")
    epochs: int
    preprocessing: Preprocessing
    rows: dict[str, ResultRow]
    label_issues: LabelIssues | None = Field(default=None, description="of label_issues.csv")
    noise_rate_used: NoiseRateUsed | None = Field(default=None, description="null: the method does not need one")
    transition_used: TransitionUsed | None = Field(default=None, description="null: the method does not need one")
    label_noise: dict[str, Any] = Field(
        description="summary of the noise record: realised rate, matrix, hash, …; of noise=real what is known of it"
    )
    timing: Timing
    environment: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write it, complete or not at all.

        Raises:
            DataError: it cannot be written.
        """
        with replacing(path) as file:
            file.write((json.dumps(self.model_dump(), indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read it.

        Raises:
            DataError: not a result of ours, or of another schema version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as a result ({error})") from error
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise DataError(f"{path}: schema version {version!r}, this slnlab reads {SCHEMA_VERSION}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise DataError(f"{path}: not a result of slnlab: {key}: {first['msg']}") from error


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of `metrics.csv`, one per epoch."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def summarise_test(rows: Sequence[dict[str, float]], weights: str) -> TestAccuracy | None:
    """The ways to report a run's test accuracy, or None if it was never tested.

    Args:
        rows: one per epoch, with `epoch`, `test/<weights>/accuracy`, `val/<weights>/accuracy` if samples were held
            out, and `val_clean/<weights>/accuracy` if there is a clean validation set.
        weights: e.g. `network`. Where it has a momentum model, that one's accuracy on the clean validation set
            chooses the epoch, as in the paper's Clothing1M results.
    """
    test, val, clean = (f"{split}/{weights}/accuracy" for split in ("test", "val", "val_clean"))
    if not rows or test not in rows[0]:
        return None
    of_momentum = clean.replace("/network", "/momentum")
    clean = of_momentum if of_momentum in rows[0] else clean

    def at_best(key: str) -> BestEpoch:
        best = max(rows, key=lambda row: row[key])  # the first of equals
        return BestEpoch(accuracy=best[test], epoch=int(best["epoch"]))

    return TestAccuracy(
        last=rows[-1][test],
        mean_last_10=fmean(row[test] for row in rows[-10:]),
        best_noisy_val=at_best(val) if val in rows[0] else None,
        best_clean_val=at_best(clean) if clean in rows[0] else None,
        oracle=at_best(test),
    )


def summarise_validation(
    rows: Sequence[dict[str, float]], weights: str, split: Literal["val", "val_clean"] = "val"
) -> ValidationAccuracy | None:
    """The accuracy on held-out noisy labels, or on a clean validation set, over the epochs; None if there are none."""
    val = f"{split}/{weights}/accuracy"
    if not rows or val not in rows[0]:
        return None
    best = max(rows, key=lambda row: row[val])  # the first of equals
    return ValidationAccuracy(
        last=rows[-1][val],
        mean_last_10=fmean(row[val] for row in rows[-10:]),
        best=BestEpoch(accuracy=best[val], epoch=int(best["epoch"])),
    )


def summarise_timing(rows: Sequence[dict[str, float]]) -> Timing:
    """Medians over epochs, so that one disturbed epoch does not count."""
    seconds = [row["seconds"] for row in rows]
    return Timing(
        seconds_per_epoch=median(seconds),
        images_per_second=median(row["images_per_second"] for row in rows),
        total_seconds=math.fsum(seconds),
    )


if __name__ == "__main__":
    print(json.dumps(Result.model_json_schema(), indent=2))
