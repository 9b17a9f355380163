"""The list of labels that trained weights do not agree with, on four samples worked out by hand."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest

from slnlab.analysis.label_issues import best_informed, write_label_issues

COLUMNS = {
    "index": np.array([3, 5, 6, 9]),
    "given": np.array([0, 1, 2, 0]),
    "network_loss": np.log([2.0, 10.0, 4.0, 1e4]),
    "network_prediction": np.array([1, 2, 2, 2]),
    "momentum_loss": np.zeros(4),
    "momentum_prediction": np.array([0, 1, 2, 0]),
}


def written(columns: dict[str, np.ndarray], evaluator: str = "network", classes: list[str] | None = None) -> list[str]:
    file = io.BytesIO()
    count = write_label_issues(file, columns, evaluator, classes)
    lines = os.fsdecode(file.getvalue()).splitlines()
    assert count == len(lines) - 1
    return lines


def test_the_least_believed_label_comes_first() -> None:
    """Its quality is exp(−loss): 1/10,000, 1/10, 1/2. The third sample is predicted as labelled."""
    assert written(COLUMNS) == [
        "index,given_label,predicted_label,label_quality",
        "9,0,2,0.0001",
        "5,1,2,0.1",
        "3,0,1,0.5",
    ]
    assert len(written(COLUMNS, "momentum")) == 1, "which agrees with every label"


def test_classes_and_files_by_name() -> None:
    not_utf8 = os.fsdecode(b"\xff.png")
    paths = {"path": np.array([b"a.png", b'b, "c".png', b"d.png", b"\xff.png"])}
    lines = written(COLUMNS | paths, classes=["cat", "dog", "owl"])
    assert lines == [
        "index,path,given_label,predicted_label,label_quality",
        f"9,{not_utf8},cat,owl,0.0001",
        '5,"b, ""c"".png",dog,owl,0.1',
        "3,a.png,cat,dog,0.5",
    ]


@pytest.mark.parametrize(
    ("evaluators", "name"),
    [
        (["network"], "network"),
        (["network", "momentum"], "momentum"),
        (["network", "best"], "best"),
        (["network", "network_2", "ensemble", "momentum", "momentum_2"], "ensemble"),
        (["teacher", "student"], "teacher"),
    ],
)
def test_whose_word_counts(evaluators: list[str], name: str) -> None:
    assert best_informed(evaluators) == name
