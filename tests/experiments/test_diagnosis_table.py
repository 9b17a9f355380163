"""The page of `experiments/diagnosis`: committed, and from a few lines by hand."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import correcting
import diagnosis
import diagnosis_page
import numpy as np
import pytest
from evidence import EXPERIMENTS, Line

RUN: Line = {"data": "digits", "noise": "sym 0.4", "row": "CE", "seed": "0", "noise_hash": "a", "git": ""}
MEASURES = {"average_precision": "0.5", "precision_at_100": "1", "precision_at_cut": "1", "recall_at_cut": "1"}


def test_the_committed_page_follows_from_its_files() -> None:
    folder = EXPERIMENTS / "diagnosis"
    assert diagnosis_page.page(folder) == (folder / "table.md").read_text(encoding="utf-8")


def test_seeds_are_averaged_within_a_draw() -> None:
    """Draw a has two seeds, so its mean counts once beside draw b. With one draw the seeds are the units."""
    lines: list[Line] = [
        {**RUN, "seed": seed, "noise_hash": draw} for seed, draw in (("0", "a"), ("1", "a"), ("0", "b"))
    ]
    values = iter([0.2, 0.4, 0.9])
    assert diagnosis_page.by_unit(lines, lambda line: next(values)) == pytest.approx({"a": 0.3, "b": 0.9})
    values = iter([0.2, 0.4])
    assert diagnosis_page.by_unit(lines[:2], lambda line: next(values)) == pytest.approx({"0": 0.2, "1": 0.4})


def test_a_page_by_hand(tmp_path: Path) -> None:
    """AUM beats the loss by .2 and .3 on two draws: .25 ± 12.706·.0707/√2 = .635. One interval of two holds."""
    scores = [
        {**RUN, "noise_hash": draw, "score": score, "auroc": auroc, **MEASURES}
        for draw, score, auroc in (("a", "aum", "0.9"), ("a", "loss", "0.7"), ("b", "aum", "0.9"), ("b", "loss", "0.6"))
    ]
    limits = (("a", "0.3", "0.5"), ("b", "0.45", "0.5"))
    rates = [
        {**RUN, "noise_hash": draw, "score": score, "value": "0.4", "low": low, "high": high, "true": "0.4"}
        for score in diagnosis_page.OF_RATE
        for draw, low, high in limits
    ]
    diagnosis.write(tmp_path / "scores.csv", scores)
    diagnosis.write(tmp_path / "rates.csv", rates)
    page = diagnosis_page.page(tmp_path)
    assert "| `aum` | 0.900 ± 0.000 |" in page
    assert "| `loss` | 0.650 ± 0.071 |" in page
    assert "| `aum` − `loss` | +0.250 [-0.385, +0.885] |" in page
    assert "| `aum` | 40.0 (1 of 2) |" in page
    assert "cleanlab" not in page, "no folds"


def test_cleanlab_is_compared_on_the_draws_that_have_folds(tmp_path: Path) -> None:
    """Folds on draw a alone: .9 − .8. Draw b of CE does not count there."""
    scores = [
        {**RUN, **MEASURES, "row": row, "noise_hash": draw, "score": score, "auroc": auroc}
        for row, draw, score, auroc in (
            ("CE", "a", "mean_probability", "0.9"),
            ("CE", "b", "mean_probability", "0.1"),
            ("CE", "a", diagnosis_page.CLEANLAB, "0.8"),
        )
    ]
    policies = [
        {**RUN, "judge": judge, "policy": policy, "wrong_left": "0.25", "test_last": accuracy}
        for judge, policy, accuracy in (("CE", "drop", "0.7"), ("CE", "drop", "0.8"), ("", "truth", "0.9"))
    ]
    rates = [{**RUN, "score": "aum", "value": "0.5", "low": "", "high": "", "true": "0.4"}]
    for name, lines in (("scores", scores), ("rates", rates), ("policies", policies)):
        diagnosis.write(tmp_path / f"{name}.csv", lines)
    page = diagnosis_page.page(tmp_path)
    assert "| digits, sym 0.4 | 1 | 0.800 | 0.900 | +0.100 |\n" in page
    assert "| drop, by CE | 75.0 ± 7.1 (25) |\n| truth | 90.0 (25) |" in page
    assert "| `aum` | 50.0 |" in page, "without an interval"


def test_policies_by_hand() -> None:
    """Samples 0 and 2 are suspected; P(wrong) of sample 2 is .75."""
    found = SimpleNamespace(
        columns={"given": np.array([0, 1, 1])},
        suggested=np.array([1, 0, 0]),
        order=np.array([0, 2, 1]),
        estimate=SimpleNamespace(wrong=np.array([0.9, 0.1, 0.75]), suspected=np.array([True, False, True])),
    )
    assert correcting.by_policy(found, "relabel") == [("1", 1.0), ("1", 1.0), ("0", 1.0)]
    assert correcting.by_policy(found, "drop") == [("", 1.0), ("1", 1.0), ("", 1.0)]
    assert correcting.by_policy(found, "weight") == [("0", 0.1), ("1", 1.0), ("1", 0.25)]


def test_the_truth_leaves_out_images_of_no_class() -> None:
    """The label of sample 2 is wrong although it is the true one: its image was replaced."""
    columns = {"given": np.array([0, 1, 1]), "true": np.array([0, 0, 1]), "wrong": np.array([False, True, True])}
    assert correcting.by_truth(SimpleNamespace(samples=columns)) == [("0", 1.0), ("0", 1.0), ("", 1.0)]


def test_the_numbers_of_the_page_are_those_of_its_tables() -> None:
    """Each cell of the AUROC table on the page, and the accuracies on corrected labels."""
    page = (EXPERIMENTS / "diagnosis" / "README.md").read_text("utf-8")
    noises = {"sym": "symmetric", "asym": "asymmetric", "dependent": "instance-dependent", "open_set": "open-set"}
    sets = {"fashion_mnist": "Fashion-MNIST", "fashion_mnist_five": "Fashion-MNIST (five classes)", "digits": "digits"}
    places = {(data, f"{noise} 0.4"): f"{sets[data]}, {noises[noise]}" for data in sets for noise in noises}
    places["cifar10 (unverified files)", "human 0"] = "CIFAR-10, 10,000 images, human labels"
    scores = diagnosis_page.read(EXPERIMENTS / "diagnosis" / "scores.csv")
    found = 0
    for (data, noise), place in places.items():
        here = [line for line in scores if (line["data"], line["noise"]) == (data, noise)]
        for row in ("CE", "ELR", "SLN-MO", "SLN-MO-LC", "slnlab"):
            cells = []
            for score in ("mean_probability", "aum", "ema_loss", "loss", "confident_learning"):
                its = [line for line in here if (line["row"], line["score"]) == (row, score)]
                means = diagnosis_page.by_unit(its, diagnosis_page.number("auroc")).values()
                cells.append(f"{fmean(means):.3f}".removeprefix("0") if means else "")
            shown = [line for line in page.splitlines() if line.startswith(f"| {row}, {place} |")]
            for line in shown:
                assert line.replace("*", "") == f"| {row}, {place} | {' | '.join(cells)} |"
                found += 1
    assert found == sum(line.count("|") == 7 and ", " in line and line[0] == "|" for line in page.splitlines())
    assert found >= 30
    for line in diagnosis_page.read(EXPERIMENTS / "diagnosis" / "policies.csv"):
        assert f"{100 * float(line['test_last']):.1f} ({100 * float(line['wrong_left']):.0f})" in page
