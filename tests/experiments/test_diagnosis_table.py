"""The page of `experiments/diagnosis`: committed, and from a few lines by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import correcting
import diagnosis
import diagnosis_page
import diagnosis_summary
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
    unit = diagnosis_page.unit_of(lines)
    assert diagnosis_page.by_unit(lines, lambda line: next(values), unit) == pytest.approx({"a": 0.3, "b": 0.9})
    values = iter([0.2, 0.4])
    unit = diagnosis_page.unit_of(lines[:2])
    assert diagnosis_page.by_unit(lines[:2], lambda line: next(values), unit) == pytest.approx({"0": 0.2, "1": 0.4})


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


def test_the_tables_of_the_readme_follow_from_its_files() -> None:
    folder = EXPERIMENTS / "diagnosis"
    readme = (folder / "README.md").read_text("utf-8")
    assert diagnosis_summary.with_tables(readme, folder) == readme
    assert readme.count("| Fashion-MNIST |") >= 6
    assert "cleanlab, five folds of CE" in readme


def test_a_readme_by_hand(tmp_path: Path) -> None:
    """CE and ELR have draws a and b in common: .8 of .9 and .7, .1 above the loss; SLN-MO has another draw.

    cleanlab has draw a alone.
    """
    scores = [
        {**RUN, **MEASURES, "noise_hash": draw, "row": row, "score": score, "auroc": auroc}
        for draw, row, score, auroc in (
            ("a", "CE", "mean_probability", "0.9"),
            ("b", "CE", "mean_probability", "0.7"),
            ("a", "CE", "loss", "0.7"),
            ("b", "CE", "loss", "0.7"),
            ("a", "ELR", "mean_probability", "1"),
            ("b", "ELR", "mean_probability", "1"),
            ("c", "ELR", "mean_probability", "0.1"),
            ("d", "SLN-MO", "mean_probability", "1"),
            ("a", "CE", diagnosis_page.CLEANLAB, "0.85"),
        )
    ]
    policies = [
        {**RUN, "judge": judge, "policy": policy, "wrong_left": "0.25", "test_last": accuracy}
        for judge, policy, accuracy in (("CE", "drop", "0.7"), ("", "truth", "0.9"))
    ]
    for name, lines in (("scores", scores), ("policies", policies)):
        diagnosis.write(tmp_path / f"{name}.csv", lines)
    marks = "".join(f"<!-- {name} -->\n| replaced |\n\n" for name in ("auroc", "dynamics", "cleanlab", "policies"))
    page = diagnosis_summary.with_tables(f"before\n\n{marks}after\n", tmp_path)
    assert "| digits | symmetric, 40 % | 2 | .800 | **1.000** | – | – | – |\n" in page
    assert "| digits | symmetric, 40 % | 2 | +.100 | – | – | – | – |\n" in page
    assert "| digits | symmetric, 40 % | CE, mean probability | 1 | 1 | **.900** | **.500** |" in page
    assert "| digits | symmetric, 40 % | cleanlab, five folds of CE | 1 | 4 | .850 | **.500** |" in page
    assert "| drop, by CE | 70.0 (25) |\n" in page
    assert "| true labels | 90.0 (25) |\n\nafter\n" in page
    assert "replaced" not in page


def test_new_lines_replace_those_of_the_same_run_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    first = [{**RUN, "seed": seed, "score": "aum", "auroc": 0.5} for seed in (0, 10)]
    diagnosis.write(path, diagnosis.with_earlier(first, path))
    again = [{**RUN, "seed": seed, "score": score, "auroc": 0.75} for seed, score in ((10, "aum"), (2, "loss"))]
    diagnosis.write(path, diagnosis.with_earlier(again, path))
    found = [(line["seed"], line["score"], line["auroc"]) for line in diagnosis_page.read(path)]
    assert found == [("0", "aum", "0.5"), ("2", "loss", "0.75"), ("10", "aum", "0.75")]


def test_a_run_measured_again_loses_what_it_no_longer_has(tmp_path: Path) -> None:
    """A renamed score must not stay beside the new one; cleanlab's folds may lie on another machine."""
    path = tmp_path / "scores.csv"
    names = ("former name", "cleanlab: self-confidence")
    diagnosis.write(path, diagnosis.with_earlier([{**RUN, "score": name, "auroc": 0.5} for name in names], path))
    diagnosis.write(path, diagnosis.with_earlier([{**RUN, "score": "aum", "auroc": 0.75, "new": 1}], path))
    found = [(line["score"], line["auroc"], line["new"]) for line in diagnosis_page.read(path)]
    assert found == [("cleanlab: self-confidence", "0.5", ""), ("aum", "0.75", "1")]


def test_settings_that_no_page_has_named_are_shown_as_they_are() -> None:
    lines: list[Line] = [
        {**RUN, "data": "my photos", "noise": "csv labels.csv 0", "score": "aum"},
        {**RUN, "score": "aum"},
    ]
    settings = diagnosis_summary._settings(lines)
    assert settings == [("digits", "sym 0.4"), ("my photos", "csv labels.csv 0")]
    assert diagnosis_summary._titled(settings[1]) == ["my photos", "csv labels.csv"]
