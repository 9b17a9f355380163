"""`result.json`: the result of a finished run. The classes below are its schema.

Accuracies and fractions lie in [0, 1], losses are mean cross entropies in nats, epochs count from 1, times are in
seconds. Values that could not be measured are null: no test set, no held-out samples, truth unknown, no wrong label.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slnlab.errors import DataError
from slnlab.image_folder.decoding import Background
from slnlab.storage.writing import replacing

SCHEMA_VERSION = 1

TOP5_CLASSES = 50
"""Classes from which on results have a top-5 accuracy, as WebVision's and ImageNet's do."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ChosenEpoch(_Record):
    """The accuracy at a chosen epoch."""

    accuracy: float
    epoch: int


class TestAccuracy(_Record):
    """The test accuracy of a run, by the rule that chooses the epoch."""

    __test__ = False  # pytest: not a test

    last: float = Field(description="at the last epoch, as in the paper's tables")
    mean_last_10: float = Field(description="mean over the last 10 epochs (all, if there are fewer)")
    best_noisy_val: ChosenEpoch | None = Field(
        description="at the first epoch of best accuracy on the held-out noisy labels; null if none were held out"
    )
    best_clean_val: ChosenEpoch | None = Field(
        default=None,
        description="at the first epoch of best accuracy on a clean validation set, of the momentum model if there is "
        "one, as reported for Clothing1M; null without such a set",
    )
    label_wave: ChosenEpoch | None = Field(
        default=None,
        description="where Label Wave stops by the changes of the training predictions, without held-out labels; at "
        "the last evaluated epoch until then. null without these counts",
    )
    oracle: ChosenEpoch = Field(description="the best of all evaluated epochs, chosen on the test set: never a result")


class ValidationAccuracy(_Record):
    """The accuracy on validation samples: held-out samples with their *noisy* labels, or a clean validation set."""

    last: float = Field(description="at the last epoch")
    mean_last_10: float = Field(description="mean over the last 10 epochs (all, if there are fewer)")
    best: ChosenEpoch


class LabelFindings(_Record):
    """Findings of the final weights on the training labels, in eval mode and without augmentation."""

    given_accuracy: float = Field(description="fraction predicted as their given label")
    true_accuracy: float | None = Field(description="fraction predicted as their true label, without replaced images")
    memorised: float | None = Field(description="fraction of wrongly labelled samples predicted as their given label")
    recovered: float | None = Field(description="fraction of flipped labels predicted as their true label")
    auroc: float | None = Field(description="area under the ROC curve when the loss ranks wrong labels first")
    average_precision: float | None = Field(description="average precision when the loss ranks wrong labels first")

    @classmethod
    def mean(cls, findings: Sequence[LabelFindings]) -> LabelFindings:
        """The mean of each finding; None where any value is None.

        Args:
            findings: at least one.
        """
        columns = {name: [getattr(each, name) for each in findings] for name in cls.model_fields}
        means = {name: None if None in values else fmean(values) for name, values in columns.items()}
        return cls.model_validate(means)


class TestQuality(_Record):
    """Recall and calibration on the test set at the last epoch. The confidence is the largest softmax probability."""

    __test__ = False

    class_recall: list[float | None] = Field(description="accuracy on each class; null: the test set has none of it")
    balanced_accuracy: float = Field(description="mean recall of the classes in the test set")
    top5_accuracy: float | None = Field(
        default=None, description="true label among the five likeliest classes; null: fewer than 50 classes"
    )
    ece: float = Field(description="expected calibration error, 15 bins of equal width: mean |accuracy − confidence|")
    nll: float = Field(description="mean cross entropy of the true label, in nats")
    brier: float = Field(description="mean squared distance of the probabilities from the one-hot label, in [0, 2]")

    @classmethod
    def mean(cls, qualities: Sequence[TestQuality]) -> TestQuality:
        """The mean of each value over several networks; at least one."""
        recalls = zip(*(each.class_recall for each in qualities), strict=True)
        top5 = [each.top5_accuracy for each in qualities if each.top5_accuracy is not None]
        return cls(
            class_recall=[None if None in values else fmean(values) for values in recalls],
            top5_accuracy=fmean(top5) if top5 else None,
            **{
                name: fmean(getattr(each, name) for each in qualities)
                for name in ("balanced_accuracy", "ece", "nll", "brier")
            },
        )


class KeptWeights(_Record):
    """The weights that a best epoch has left (best_epoch.enabled)."""

    row: str = Field(description="the row whose weights they were, e.g. momentum")
    epoch: int


class ResultRow(_Record):
    """The results of one set of weights: the network, its momentum model, …"""

    title: str = Field(description="title of the row in tables, e.g. SLN-MO")
    kept: KeptWeights | None = Field(
        default=None, description="row `best`: these weights, which all its accuracies describe; null for other rows"
    )
    secondary: bool = Field(default=False, description="true: shown only on request, as a network beside its average")
    test_accuracy: TestAccuracy | None
    noisy_val_accuracy: ValidationAccuracy | None = None
    clean_val_accuracy: ValidationAccuracy | None = Field(default=None, description="null without a clean set")
    test_quality: TestQuality | None = Field(default=None, description="null: the test set was not read")
    findings: LabelFindings


LabelVerdict = Literal["usable", "memorised", "undertrained"]


class LabelIssues(_Record):
    """The judge of `label_issues.csv`, and how far the list can be trusted."""

    judge: str = Field(description="the row of `rows` whose weights rank the labels")
    reason: str = Field(description="why these weights judge")
    samples: int = Field(description="training samples in the list")
    suspected: int = Field(description="samples predicted to have another label")
    agreement: float = Field(description="fraction predicted as their given label")
    held_out: float | None = Field(description="the same fraction on held-out noisy labels; null without any")
    verdict: LabelVerdict = Field(
        description="usable: trust order and number; memorised: wrong labels are memorised or nearly absent, so trust "
        "only the order; undertrained: trust neither"
    )


class NoiseRateUsed(_Record):
    """The noise rate used by the method."""

    value: float
    source: Literal["configured", "loss mixture", "anchor points"] = Field(
        description="configured (by default the nominal rate), or estimated from the losses or by anchor points"
    )


class NoiseRateEstimate(_Record):
    """The share of wrong training labels, estimated without true labels, see `slnlab.analysis.noise_estimate`."""

    value: float
    low: float = Field(description="lower limit of the interval, if the model of the estimate is right")
    high: float = Field(description="upper limit")
    source: Literal["loss mixture", "anchor points"] = Field(
        default="loss mixture",
        description="two Gaussians for each given class, on the mean probability of the label over the epochs, as "
        "`slnlab diagnose` prints; or the transition matrix at the anchor points of the weights that judge the labels, "
        "which fails if these memorise",
    )
    error: float | None = Field(description="value minus the share of wrong labels of these samples; null if unknown")


class Timing(_Record):
    """Training time with label correction, without evaluation."""

    seconds_per_epoch: float = Field(description="median over epochs")
    images_per_second: float = Field(description="median over epochs")
    total_seconds: float = Field(description="training time of all epochs together")


class TransitionUsed(_Record):
    """The transition matrix used by the method, compared with the matrix of the training labels."""

    source: Literal["known", "estimated", "file", "learned"]
    matrix: list[list[float]] = Field(description="[i][j] = P(given j | true i)")
    max_error: float | None = Field(
        description="the largest difference from the true matrix of the training labels; null if that is unknown"
    )
    mean_error: float | None = Field(description="the mean difference over all entries")
    row_l1: list[float] | None = Field(description="for each true class the sum of the differences, in [0, 2]")


class Preprocessing(_Record):
    """The path from an image to the network's input in evaluation. Sizes are (height, width) in pixels."""

    resize: tuple[int, int] | None = Field(
        description="the image is scaled (bilinear, antialias) until it covers this size, then its middle is cut out; "
        "an image of this size keeps its pixels; null: the input is a vector"
    )
    crop: tuple[int, int] | None = Field(
        description="the middle of the resized image, which the network sees; null: a vector"
    )
    pixel_range: list[float] | None = Field(default=None, description="black and white of images with over 8 bits")
    background: Background = Field(default="white", description="colour behind transparent pixels")
    mean: list[float] = Field(description="per channel, subtracted from pixels in [0, 1]; or per feature of a vector")
    std: list[float] = Field(description="per channel, divides the difference")


class Result(_Record):
    """`result.json`."""

    schema_version: int = SCHEMA_VERSION
    data: str = Field(description="the data set; `(unverified files)` follows if they differ from the published ones")
    unverified_pixels: str | None = Field(
        default=None,
        description="SHA-256 of the training images (uint8, N × channels × height × width) if the files differ from "
        "the published ones (data.source.verify=false); otherwise null",
    )
    noise: str
    noise_rate: float = Field(description="as configured; see label_noise.realised_rate")
    method: str
    seed: int
    group: str = Field(
        description="hash of the configuration without its seed, but with noise.seed; averages cover several draws too"
    )
    identity: dict[str, Any] = Field(description="the resolved keys of the configuration that can change a result")
    epochs: int
    preprocessing: Preprocessing
    rows: dict[str, ResultRow]
    label_issues: LabelIssues | None = Field(default=None, description="summary of label_issues.csv")
    noise_rate_used: NoiseRateUsed | None = Field(
        default=None, description="null: the method needs none, or had not estimated it yet"
    )
    noise_rate_estimate: NoiseRateEstimate | None = Field(default=None, description="null: fewer than two samples")
    noise_rate_by_anchors: NoiseRateEstimate | None = Field(
        default=None, description="the same by anchor points; null: over 10⁸ probabilities of samples and classes"
    )
    transition_used: TransitionUsed | None = Field(default=None, description="null: the method needs none")
    label_noise: dict[str, Any] = Field(
        description="summary of the noise record: realised rate, matrix, hash, …; for noise=real only the known parts"
    )
    timing: Timing
    environment: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the result, whole or not at all.

        Raises:
            DataError: the file cannot be written.
        """
        with replacing(path) as file:
            file.write((json.dumps(self.model_dump(), indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read a result.

        Raises:
            DataError: the file is unreadable, no result of slnlab, or of another schema version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as a result ({error})") from error
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise DataError(f"{path}: has schema version {version!r}, this slnlab reads {SCHEMA_VERSION}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise DataError(f"{path}: is no result of slnlab: {key}: {first['msg']}") from error


if __name__ == "__main__":
    print(json.dumps(Result.model_json_schema(), indent=2))
