"""The ranking of training labels on four samples by hand, its judge and its verdict."""

from __future__ import annotations

import csv
import io
import os
import re

import numpy as np
import pytest

from slnlab.analysis.label_issues import chosen_judge, label_verdict, label_warning, write_label_issues
from slnlab.record.result import ChosenEpoch, LabelFindings, LabelIssues, ResultRow, ValidationAccuracy

COLUMNS = {
    "index": np.array([3, 5, 6, 9]),
    "given": np.array([0, 1, 2, 0]),
    "network_prediction": np.array([1, 2, 2, 2]),
    "network_margin": np.log([1 / 3, 1 / 9, 4.0, 1e-4], dtype=np.float32),
    "probability_mean": np.array([0.25, 0.125, 0.75, 0.0]),
}


def written(columns: dict[str, np.ndarray], classes: list[str] | None = None) -> tuple[int, list[str]]:
    file = io.BytesIO()
    count = write_label_issues(file, columns, "network", classes)
    return count, file.getvalue().decode("utf-8", "surrogateescape").splitlines()


def test_label_issues_lists_all_samples_by_ascending_mean_probability() -> None:
    """The margin m is log(p / q), so the quality p / (p + q) is 1 / (1 + exp(-m)): 1/10,001, 1/10, 1/4 and 4/5."""
    assert written(COLUMNS) == (
        3,
        [
            "rank,index,given_label,predicted_label,mean_probability,label_quality,is_label_issue",
            "1,9,0,2,0,9.999e-05,True",
            "2,5,1,2,0.125,0.1,True",
            "3,3,0,1,0.25,0.25,True",
            "4,6,2,2,0.75,0.8,False",
        ],
    )


def test_memorised_labels_are_ranked_by_their_past_and_equal_ones_by_their_margin() -> None:
    """A float64 cannot tell 1 / (1 + exp(-50)) from 1, and a float32 overflows in exp(-(-1000))."""
    margins = np.array([50, 900, 1000, 40], dtype=np.float32)
    memorised = COLUMNS | {"network_prediction": COLUMNS["given"], "network_margin": margins}
    count, lines = written(memorised)
    assert count == 0
    rows = list(csv.DictReader(lines))
    assert [row["index"] for row in rows] == ["9", "5", "3", "6"], "by their past"
    assert {row["label_quality"] for row in rows} == {"1"}
    _, lines = written(memorised | {"probability_mean": np.full(4, 0.5)})
    assert [row["index"] for row in csv.DictReader(lines)] == ["9", "3", "5", "6"]
    _, lines = written(memorised | {"probability_mean": np.full(4, 0.5), "network_margin": -margins})
    assert [row["index"] for row in csv.DictReader(lines)] == ["6", "5", "3", "9"]


def test_the_list_names_classes_and_files() -> None:
    not_utf8 = os.fsdecode(b"\xff.png")
    paths = {"path": np.array([b"a.png", b'b, "c".png', b"d.png", b"\xff.png"])}
    _, lines = written(COLUMNS | paths, classes=["cat", "døg", "owl"])
    assert lines == [
        "rank,index,path,given_label,predicted_label,mean_probability,label_quality,is_label_issue",
        f"1,9,{not_utf8},cat,owl,0,9.999e-05,True",
        '2,5,"b, ""c"".png",døg,owl,0.125,0.1,True',
        "3,3,a.png,cat,døg,0.25,0.25,True",
        "4,6,d.png,owl,owl,0.75,0.8,False",
    ]


def weights(agreement: float, noisy_val: float | None = None, clean_val: float | None = None) -> ResultRow:
    def accuracy(last: float | None) -> ValidationAccuracy | None:
        best = ChosenEpoch(accuracy=1.0, epoch=1)  # of an epoch that is past
        return None if last is None else ValidationAccuracy(last=last, mean_last_10=1.0, best=best)

    unknown = dict.fromkeys(("true_accuracy", "memorised", "recovered", "auroc", "average_precision"))
    return ResultRow(
        title=f"<{agreement}>",
        test_accuracy=None,
        noisy_val_accuracy=accuracy(noisy_val),
        clean_val_accuracy=accuracy(clean_val),
        findings=LabelFindings(given_accuracy=agreement, **unknown),
    )


@pytest.mark.parametrize(
    ("rows", "first_weights", "name", "reason"),
    [
        ({"network": weights(0.1)}, 0, "network", "no other"),
        ({"network": weights(0.98), "momentum": weights(0.6)}, 0.05, "momentum", "average"),
        (
            {"network": weights(0.649), "momentum": weights(0.18)},
            0.94,
            "network",
            r"<0.18> lags: 94\.0 %.* 64\.9 %",
        ),
        ({"network": weights(0.25), "momentum": weights(0.13)}, 0.88, "network", r"13\.0 %"),  # both early
        ({"network": weights(0.73), "momentum": weights(0.73)}, 0.88, "momentum", "average"),  # no harm was done
        ({"network": weights(0.9), "best": weights(0.6), "momentum": weights(0.7)}, 0, "best", "Label Wave"),
        ({"network": weights(0.9, 0.5), "best": weights(0.6, 0.5)}, 0, "best", "held-out noisy"),
        ({"network": weights(0.9, 0.6), "best": weights(0.6, 0.5)}, 0, "network", "held-out noisy"),
        (
            {"network": weights(0.9, 0.5), "momentum": weights(0.6, 0.58)},
            0.9,
            "momentum",
            r"58\.0 % .*held-out noisy",
        ),
        (
            {"network": weights(0.9, 0.59), "momentum": weights(0.6, 0.58)},
            0,
            "network",
            r"59\.0 % .*held-out noisy",
        ),
        ({"network": weights(0.9, 0.5), "momentum": weights(0.6, 0.5)}, 0, "momentum", "held-out noisy"),
        ({"network": weights(0.9, 0.5, 0.7), "momentum": weights(0.6, 0.6, 0.6)}, 0, "network", "clean validation"),
        (
            {name: weights(0.7) for name in ("network", "network_2", "ensemble", "momentum", "momentum_2")},
            0,
            "ensemble",
            "average",
        ),
        ({"teacher": weights(0.5), "student": weights(0.9)}, 0, "teacher", "first"),
    ],
)
def test_the_judge_is_chosen_with_a_reason(
    rows: dict[str, ResultRow], first_weights: float, name: str, reason: str
) -> None:
    judging, why = chosen_judge(rows, first_weights)
    assert judging == name
    assert re.search(reason, why), why


@pytest.mark.parametrize(
    ("agreement", "commonest", "held_out", "verdict"),
    [
        (0.6, 0.1, None, "usable"),
        (0.979, 0.1, None, "usable"),
        (0.98, 0.1, None, "memorised"),
        (1.0, 0.5, None, "memorised"),
        (0.933, 0.1, 0.72, "memorised"),  # 6.7 % of what it has seen, 28 % of what it has not
        (0.87, 0.1, 0.72, "memorised"),
        (0.86, 0.1, 0.72, "usable"),  # exactly half as often
        (1.0, 0.1, 1.0, "usable"),
        (1.0, 0.1, 0.97, "usable"),  # of 100 held-out labels 3 may be a chance
        (0.8, 0.1, 0.72, "usable"),
        (0.99, 0.1, 0.985, "usable"),  # so few are wrong
        (0.49, 0.1, None, "undertrained"),
        (0.49, 0.1, 0.5, "undertrained"),
        (0.52, 0.52, None, "undertrained"),  # all samples in the commonest of two classes
        (0.53, 0.52, None, "usable"),
    ],
)
def test_the_verdict_warns_of_a_useless_list(
    agreement: float, commonest: float, held_out: float | None, verdict: str
) -> None:
    assert label_verdict(agreement, commonest, held_out) == verdict
    issues = LabelIssues(
        judge="momentum",
        reason="",
        samples=1000,
        suspected=round(1000 * (1 - agreement)),
        agreement=agreement,
        held_out=held_out,
        verdict=label_verdict(agreement, commonest, held_out),
    )
    warning = label_warning(issues, "SLN-MO")
    if verdict == "usable":
        assert warning is None
    else:
        assert warning is not None
        assert warning.startswith(f"SLN-MO disagrees with {100 * (1 - agreement):.1f} %")
        assert ("has memorised labels" in warning) == (verdict == "memorised")
        assert ("those held out" in warning) == (held_out is not None)
