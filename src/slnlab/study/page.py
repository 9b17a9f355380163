"""A study as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from slnlab.study.plan import typed
from slnlab.study.record import Study


def page(study: Study) -> str:
    """The study as Markdown: the comparison, the trials, the choice and the final runs."""
    when = "at the last epoch" if study.last == 1 else f"mean of the last {study.last} epochs"
    fixed = f" Fixed: `{' '.join(study.fixed)}`." if study.fixed else ""
    parts = [
        f"# {study.method} on {study.data}, {study.noise}: {', '.join(study.space)}",
        f"By {study.by}. {study.noisy_val} of the {study.training_samples} training samples are held out with their "
        f"*noisy* labels. The study compares the accuracy of {study.title} on them, {when}, over "
        f"{_seeds_of(study.trial_seeds)}. No trial has read the test set.{fixed}",
    ]
    if study.trials:
        parts.append(_table(study))
    if study.chosen:
        parts.append(f"**Chosen: {typed(study.chosen)}.** " + " ".join(study.remarks))
    if study.finals:
        parts.append(_final_table(study))
    return "\n\n".join(part.rstrip() for part in parts)


def _table(study: Study) -> str:
    keys = list(study.trials[0].values)
    lines = [f"| {' | '.join(keys)} | held-out noisy labels, % | |", "|" + "---:|" * (len(keys) + 1) + "---|"]
    for trial in study.trials:
        if trial.state == "finished":
            mean, remark = _percent(trial.accuracies), "chosen" if trial.values == study.chosen else ""
        else:
            mean, remark = "–", f"{trial.state}: {trial.message}" if trial.message else trial.state
        cells = [_short(value) for value in trial.values.values()]
        lines.append(f"| {' | '.join([*cells, mean, remark.replace('|', '/')])} |")
    return "\n".join(lines)


def _final_table(study: Study) -> str:
    seeds = _seeds_of([final.seed for final in study.finals])
    left = study.training_samples - study.final_noisy_val
    samples = f"{left} of the {study.training_samples}" if study.final_noisy_val else f"all {left}"
    lines = [
        f"Retrained on {samples} training samples, {seeds}:",
        "",
        "| | test accuracy at the last epoch, % |",
        "|---|---:|",
    ]
    for name in study.finals[0].test_accuracy:
        lines.append(f"| {study.titles.get(name, name)} | {_percent([f.test_accuracy[name] for f in study.finals])} |")
    return "\n".join(lines)


def _seeds_of(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _percent(values: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.2f}{spread}"


def _short(value: str) -> str:
    """A value with at most four digits, as Optuna's numbers have sixteen."""
    try:
        return value if len(value) < 7 else f"{float(value):.4g}"
    except ValueError:
        return value
