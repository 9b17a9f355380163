"""The warning about a run that has hardly learned its labels."""

from __future__ import annotations

import pytest

from slnlab.analysis.learned import learned_little
from slnlab.result import Evaluator, LabelFindings, Result, Timing

UNKNOWN = dict.fromkeys(("true_accuracy", "memorised", "recovered", "auroc", "average_precision"))


def result(rate: float | None, **agreement: float) -> Result:
    findings = {name: LabelFindings(given_accuracy=share, **UNKNOWN) for name, share in agreement.items()}
    return Result(
        data="folder",
        noise="real",
        noise_rate=0,
        method="sln",
        seed=0,
        group="",
        identity={"trainer": {"max_epochs": 20}, "optimizer": {"lr": 0.001}},
        epochs=20,
        evaluators={
            name: Evaluator(label=name.upper(), test_accuracy=None, labels=found) for name, found in findings.items()
        },
        label_noise={} if rate is None else {"realised_rate": rate},
        timing=Timing(seconds_per_epoch=1, images_per_second=1, total_seconds=1),
        environment={},
    )


@pytest.mark.parametrize(
    ("rate", "agreement", "little"),
    [
        (None, {"network": 0.38}, True),
        (None, {"network": 0.5}, False),
        (0.0, {"network": 0.38}, True),
        (0.0, {"network": 0.9}, False),
        (0.4, {"network": 0.38}, False),
        (0.4, {"network": 0.2, "momentum": 0.1}, True),
        (0.4, {"network": 0.2, "momentum": 0.55}, False),
        (0.8, {"network": 0.2}, False),
    ],
)
def test_few_labels_are_agreed_with(rate: float | None, agreement: dict[str, float], little: bool) -> None:
    warning = learned_little(result(rate, **agreement))
    assert (warning is not None) == little
    if warning:
        assert warning.startswith(f"NETWORK agrees with {100 * agreement['network']:.0f} % of the training labels, ")
        assert "trainer.max_epochs was 20" in warning
        assert "optimizer.lr was 0.001" in warning
