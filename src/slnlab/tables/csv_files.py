"""The tables as CSV files: a line per run and row, and a line per configuration and row."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slnlab.record.result import Result
from slnlab.storage.tables import write_csv
from slnlab.tables.comparison import Comparison
from slnlab.tables.runs import Group
from slnlab.tables.table import LABELS, MEASURES, TEST, VAL, Row, make_rows, measured


def write_results(path: Path, groups: Iterable[Group]) -> None:
    """Write a CSV line per run and row, unrounded, with fractions in [0, 1] as in result.json."""
    lines = []
    for row in make_rows(groups):
        for run in row.group.runs:
            result, environment = run.result, run.result.environment
            git = environment.get("git") or {}
            test = result.rows[row.name].test_accuracy
            lines.append(
                {
                    **_names(row),
                    "group": result.group,
                    "seed": result.seed,
                    "noise_seed": run.draw,
                    "epochs": result.epochs,
                    **measured(result, row.name),
                    "best_noisy_val_epoch": test.best_noisy_val.epoch if test and test.best_noisy_val else None,
                    "label_wave_epoch": test.label_wave.epoch if test and test.label_wave else None,
                    "oracle_epoch": test.oracle.epoch if test else None,
                    "realised_rate": result.label_noise.get("realised_rate"),
                    "noise_hash": result.label_noise.get("hash"),
                    **_used(result),
                    "git_commit": git.get("commit"),
                    "git_dirty": git.get("dirty"),
                    "processor": environment.get("processor"),
                    "gpus": "; ".join(environment.get("gpus") or []),
                    "directory": run.directory.path,
                }
            )
    write_csv(path, lines)


def _used(result: Result) -> dict[str, Any]:
    """The noise rate and the transition matrix used by the method, and the estimates of the noise rate."""
    rate, transition, estimate = result.noise_rate_used, result.transition_used, result.noise_rate_estimate
    anchors = result.noise_rate_by_anchors
    return {
        "noise_rate_used": rate.value if rate else None,
        "noise_rate_source": rate.source if rate else None,
        "noise_rate_estimate": estimate.value if estimate else None,
        "noise_rate_estimate_error": estimate.error if estimate else None,
        "noise_rate_by_anchors": anchors.value if anchors else None,
        "noise_rate_by_anchors_error": anchors.error if anchors else None,
        "transition_source": transition.source if transition else None,
        "transition_max_error": transition.max_error if transition else None,
        "transition_mean_error": transition.mean_error if transition else None,
    }


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV line per row: mean and std over runs, unrounded.

    Accuracies and shares of samples are in percent (`…_percent_…`), other measures as in result.json.
    """
    lines = []
    for row in rows:
        seeds, draws = row.group.seeds, row.group.draws
        line = _names(row) | {"seeds": " ".join(map(str, seeds)), "num_seeds": len(seeds)}
        line |= {"noise_seeds": " ".join(map(str, draws)), "num_runs": len(row.group.runs)}
        line |= {"epochs": row.group.first.epochs, "realised_rate": row.realised_rate}
        for name in MEASURES:
            percent = name in (*TEST, *VAL, *LABELS, "balanced_accuracy")
            factor, unit = (100, "_percent") if percent else (1, "")
            mean, std = row.statistics[name] or (None, None)
            line[f"{name}{unit}_mean"] = None if mean is None else factor * mean
            line[f"{name}{unit}_std"] = None if std is None else factor * std
        lines.append(line)
    write_csv(path, lines)


def write_comparison(path: Path, comparisons: Iterable[Comparison]) -> None:
    """Write a CSV line per compared row, unrounded, in percentage points."""
    lines = []
    for each in comparisons:
        interval = each.interval
        lines.append(
            {
                **_names(each.row),
                "reference": each.reference.title if each.reference else None,
                "reference_setting": each.reference.group.full_setting if each.reference else None,
                "measure": each.measure,
                "difference_points_mean": each.mean,
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "p": interval.p if interval else None,
                "p_holm": each.p,
                "pairs": each.pairs,
                "units": each.units,
                "unit": each.unit,
                "remark": each.remark,
            }
        )
    write_csv(path, lines)


def _names(row: Row) -> dict[str, Any]:
    first = row.group.first
    return {
        "data": first.data,
        "noise": row.group.runs[0].noise,
        "noise_rate": first.noise_rate,
        "label": row.title,
        "method": first.method,
        "evaluator": row.name,
        "setting": row.group.full_setting,
        "group": " ".join(dict.fromkeys(run.result.group for run in row.group.runs)),
    }
