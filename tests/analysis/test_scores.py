"""Scores of labels and their quality, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from slnlab.analysis.scores import quality, ranked, suspicion

NAN = np.nan


def test_high_suspicion_means_a_low_margin_and_a_high_loss() -> None:
    columns = {
        "aum": np.array([2.0, -1.0]),
        "probability_mean": np.array([1.0, 0.0]),
        "network_loss": np.array([0.1, 3.0]),
        "momentum_loss": np.array([9.0, 0.0]),
    }
    found = suspicion(columns, "network")
    assert found.keys() == {"aum", "mean_probability", "loss"}, "scores without a column are left out"
    assert found["mean_probability"].tolist() == [0, pytest.approx(126 * np.log(2))], "-log of the least float32"
    assert found["aum"].tolist() == [-2, 1]
    assert found["loss"].tolist() == [0.1, 3], "of the judge"


def test_a_never_learned_label_comes_first_and_an_unseen_sample_last() -> None:
    forgetting = suspicion({"forgetting": np.array([1.0, np.inf, NAN, 0.0])}, "network")["forgetting"]
    assert ranked(forgetting, np.zeros(4)).tolist() == [1, 0, 3, 2]


def test_equal_suspicions_are_ordered_by_the_other_score() -> None:
    assert ranked(np.array([1.0, 1.0, 2.0]), np.array([0.0, 5.0, -9.0])).tolist() == [2, 1, 0]


def test_quality_by_hand() -> None:
    """Ranks: wrong, right, wrong, right; the cut takes two of them."""
    found = quality(np.array([1.0, 4.0, 3.0, np.inf]), np.array([False, False, True, True]), count=2)
    assert found is not None
    assert found.auroc == 3 / 4
    assert found.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert found.precision_at_100 == found.precision_at_cut == found.recall_at_cut == 1 / 2


def test_quality_equals_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    values, wrong = generator.normal(size=300), generator.random(300) < 0.3
    values += wrong
    found = quality(values, wrong, count=50)
    assert found is not None
    assert found.auroc == pytest.approx(roc_auc_score(wrong, values))
    assert found.average_precision == pytest.approx(average_precision_score(wrong, values))
    assert found.precision_at_100 == wrong[np.argsort(-values)[:100]].mean()
    assert found.recall_at_cut == pytest.approx(found.precision_at_cut * 50 / wrong.sum())


def test_without_wrong_or_right_labels_there_is_no_quality() -> None:
    assert quality(np.arange(3.0), np.array([False] * 3), 1) is None
    assert quality(np.arange(3.0), np.array([True] * 3), 1) is None
