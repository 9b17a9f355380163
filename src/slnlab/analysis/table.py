"""Measurements of finished runs: a line per run and row, means over seeds and noise draws, as CSV or Markdown."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from slnlab.analysis.runs import Group, differing_keys
from slnlab.config.container import flat
from slnlab.record.result import Result

TEST = ("test_last", "test_mean_last_10", "test_best_noisy_val", "test_best_clean_val", "test_oracle")
VAL = ("noisy_val_last", "noisy_val_mean_last_10")
LABELS = ("given_accuracy", "true_accuracy", "memorised", "recovered")
FINDING = ("auroc", "average_precision")
TIMING = ("seconds_per_epoch", "images_per_second", "total_seconds")
MEASURES = (*TEST, *VAL, *LABELS, *FINDING, *TIMING)
"""Measures that are averaged over the runs of a group. The first three kinds are fractions, shown in percent."""

NOTE = """\
Test accuracy in percent, mean ± sample standard deviation over runs: at the last epoch (last), mean of the last 10.
oracle*: at the best epoch, chosen on the test set, so not a result. memorised: percent of the wrongly labelled samples
predicted as their given label. recovered: percent of the flipped ones predicted as their true label. AUROC: of finding
wrong labels by their loss. s/epoch: training time."""
VAL_NOTE = "\nbest val: test accuracy at the epoch of best accuracy on held-out noisy labels."
CLEAN_VAL_NOTE = "\nbest clean val: test accuracy at the epoch of best accuracy on a clean validation set."
COST_NOTE = "\ncost: an epoch's computing time as a multiple of cross entropy's, measured side by side."
NOISY_VAL_NOTE = "\nnoisy val: accuracy at the last epoch on held-out training samples against their noisy labels."


class Statistic(NamedTuple):
    """Mean and spread over the runs of a group."""

    mean: float
    std: float | None
    """Sample standard deviation (ddof 1); None for a single run."""


@dataclass(frozen=True)
class Row:
    """One row of a configuration's results."""

    group: Group
    name: str
    statistics: dict[str, Statistic | None]
    """Statistics by name in MEASURES, in the units of result.json; None if any run lacks the value."""

    @property
    def title(self) -> str:
        """Title of the row in tables."""
        return self.group.rows[self.name].title


def measured(result: Result, name: str) -> dict[str, float | None]:
    """The values of a row of a run, by name in MEASURES, in the units of result.json.

    Args:
        result: of the run.
        name: of the row, e.g. momentum.
    """
    found = result.rows[name]
    test = found.test_accuracy
    val = test.best_noisy_val if test else None
    noisy_val = found.noisy_val_accuracy
    return {
        "test_last": test.last if test else None,
        "test_mean_last_10": test.mean_last_10 if test else None,
        "test_best_noisy_val": val.accuracy if val else None,
        "test_best_clean_val": test.best_clean_val.accuracy if test and test.best_clean_val else None,
        "test_oracle": test.oracle.accuracy if test else None,
        "noisy_val_last": noisy_val.last if noisy_val else None,
        "noisy_val_mean_last_10": noisy_val.mean_last_10 if noisy_val else None,
        **found.findings.model_dump(),
        **result.timing.model_dump(),
    }


def statistic(values: Sequence[float | None]) -> Statistic | None:
    """Mean and sample standard deviation; None if there is no value or one is missing."""
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return None
    return Statistic(fmean(numbers), stdev(numbers) if len(numbers) > 1 else None)


def make_rows(groups: Iterable[Group]) -> list[Row]:
    """A row per group and row of its results, in the order of the groups. Groups of one method are ordered by title."""
    rows = []
    for _, same in groupby(groups, key=lambda group: (_section(group), group.first.method)):
        some = []
        for group in same:
            for name in group.rows:
                runs = [measured(run.result, name) for run in group.runs]
                statistics = {measure: statistic([run[measure] for run in runs]) for measure in MEASURES}
                some.append(Row(group, name, statistics))
        rows += sorted(some, key=lambda row: row.title)  # stable: settings stay in order
    return rows


def _section(group: Group) -> tuple[str, str]:
    return group.first.data, group.noise


def markdown(rows: Sequence[Row], secondary: bool = False, costs: Mapping[str, float] | None = None) -> str:
    """A table per data set and noise with headings, followed by the meaning of the columns.

    Args:
        rows: from `make_rows`.
        secondary: show secondary rows too.
        costs: method → time of an epoch as a multiple of cross entropy's; adds a column.
    """
    shown = [row for row in rows if secondary or not row.group.rows[row.name].secondary]
    blocks = []
    for (data, noise), section in groupby(shown, key=lambda row: _section(row.group)):
        same = list(section)
        wrong = _span([100 * rate for row in same if (rate := _realised_rate(row.group)) is not None], "{:.1f}")
        epochs = _span([row.group.first.epochs for row in same], "{:d}")
        title = f"### {data}, {noise}" + (f" ({wrong} % of the labels wrong)" if wrong else "") + f", {epochs} epochs"
        blocks.append(f"{title}\n\n{_markdown_table(same, costs or {})}")
        if unlike := _unlike(same):
            blocks.append(f"Mind: these rows differ in {unlike}.")
        if not any(key.startswith(("noise.", "data.")) for row in same for key in row.group.settings):
            hashes = [{run.result.label_noise.get("hash") for run in row.group.runs} for row in same]
            if any(found != hashes[0] or len(found) > max(1, len(same[0].group.draws)) for found in hashes):
                blocks.append("Mind: these runs did not all train on the same noisy labels (label_noise.hash differs).")
    note = NOTE
    if any(row.statistics["test_best_noisy_val"] for row in shown):
        note += VAL_NOTE
    if any(row.statistics["test_best_clean_val"] for row in shown):
        note += CLEAN_VAL_NOTE
    if any(row.statistics["noisy_val_last"] and not row.statistics["test_last"] for row in shown):
        note += NOISY_VAL_NOTE
    if costs:
        note += COST_NOTE
    return "\n\n".join([*blocks, note])


def _unlike(rows: Sequence[Row]) -> str:
    """Keys of data, noise, network and trainer in which the rows differ without a setting that shows it."""
    configurations = [flat(row.group.first.identity) for row in rows]
    keys = set().union(*(differing_keys(configurations[0], other) for other in configurations[1:]))
    keys = {key for key in keys if key.startswith(("data.", "noise.", "model.", "trainer."))}
    return ", ".join(sorted(keys.difference(*(row.group.settings for row in rows))))


def _markdown_table(rows: Sequence[Row], costs: Mapping[str, float]) -> str:
    def show(name: str, digits: int, factor: float = 1, std: bool = False) -> Callable[[Row], str]:
        def cell(row: Row) -> str:
            value = row.statistics[name]
            if value is None:
                return "–"
            spread = f" ± {factor * value.std:.{digits}f}" if std and value.std is not None else ""
            return f"{factor * value.mean:.{digits}f}{spread}"

        return cell

    columns: dict[str, Callable[[Row], str]] = {"method": lambda row: row.title}
    if any(row.group.settings for row in rows):
        columns["setting"] = lambda row: row.group.setting
    if len({row.group.first.epochs for row in rows}) > 1:
        columns["epochs"] = lambda row: str(row.group.first.epochs)
    if any(len(row.group.draws) > 1 for row in rows):
        columns["runs"] = lambda row: _runs(row.group)
    else:
        columns["seeds"] = lambda row: f"{len(row.group.seeds)} ({_ranges(row.group.seeds)})"
    if any(row.statistics["test_last"] for row in rows):
        columns["last"] = show("test_last", 2, 100, std=True)
        columns["last 10"] = show("test_mean_last_10", 2, 100)
        if any(row.statistics["test_best_noisy_val"] for row in rows):
            columns["best val"] = show("test_best_noisy_val", 2, 100, std=True)
        if any(row.statistics["test_best_clean_val"] for row in rows):
            columns["best clean val"] = show("test_best_clean_val", 2, 100, std=True)
        columns["oracle*"] = show("test_oracle", 2, 100)
    elif any(row.statistics["noisy_val_last"] for row in rows):  # runs of a study do not read the test set
        columns["noisy val"] = show("noisy_val_last", 2, 100, std=True)
    columns["memorised"] = show("memorised", 1, 100)
    columns["recovered"] = show("recovered", 1, 100)
    columns["AUROC"] = show("auroc", 3)
    columns["s/epoch"] = show("seconds_per_epoch", 2)
    if costs:
        columns["cost"] = lambda row: f"{costs[method]:.2f}" if (method := row.group.first.method) in costs else "–"

    text = ("method", "setting")
    cells = [[name, *(cell(row).replace("|", r"\|") for row in rows)] for name, cell in columns.items()]
    padded = []
    for name, column in zip(columns, cells, strict=True):
        width = max(map(len, column))
        rule = ":" + "-" * (width - 1) if name in text else "-" * (width - 1) + ":"
        first, *others = (value.ljust(width) if name in text else value.rjust(width) for value in column)
        padded.append([first, rule, *others])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*padded, strict=True))


def _span(values: Sequence[Any], form: str) -> str:
    """The value, or the range from the least to the greatest; empty without values."""
    return "–".join(dict.fromkeys(form.format(value) for value in (min(values), max(values)))) if values else ""


def _runs(group: Group) -> str:
    """The number of runs, e.g. `9 (3 seeds × 3 noise draws)`; a comma instead of the cross if combinations lack."""
    seeds, draws = len(group.seeds), max(1, len(group.draws))
    cross = " ×" if len(group.runs) == seeds * draws else ","
    counts = (
        f"{number} {what}{'' if number == 1 else 's'}" for number, what in ((seeds, "seed"), (draws, "noise draw"))
    )
    return f"{len(group.runs)} ({f'{cross} '.join(counts)})"


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as `0–2, 5`."""
    breaks = [i for i, (a, b) in enumerate(pairwise(numbers), 1) if b > a + 1]
    parts = [numbers[i:j] for i, j in zip([0, *breaks], [*breaks, len(numbers)], strict=True)]
    return ", ".join("–".join(dict.fromkeys(map(str, (part[0], part[-1])))) for part in parts)


def _realised_rate(group: Group) -> float | None:
    """The mean over runs. Those of one noise draw share their noise unless its files have changed."""
    found = statistic([run.result.label_noise.get("realised_rate") for run in group.runs])
    return found.mean if found else None


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
    """The noise rate and the transition matrix used by the method."""
    rate, transition = result.noise_rate_used, result.transition_used
    return {
        "noise_rate_used": rate.value if rate else None,
        "noise_rate_source": rate.source if rate else None,
        "transition_source": transition.source if transition else None,
        "transition_max_error": transition.max_error if transition else None,
        "transition_mean_error": transition.mean_error if transition else None,
    }


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV line per row: mean and std over runs, unrounded, fractions in percent (`…_percent_…`)."""
    lines = []
    for row in rows:
        seeds, draws = row.group.seeds, row.group.draws
        line = _names(row) | {"seeds": " ".join(map(str, seeds)), "num_seeds": len(seeds)}
        line |= {"noise_seeds": " ".join(map(str, draws)), "num_runs": len(row.group.runs)}
        line |= {"epochs": row.group.first.epochs, "realised_rate": _realised_rate(row.group)}
        for name in MEASURES:
            percent = name in (*TEST, *VAL, *LABELS)
            factor, unit = (100, "_percent") if percent else (1, "")
            mean, std = row.statistics[name] or (None, None)
            line[f"{name}{unit}_mean"] = None if mean is None else factor * mean
            line[f"{name}{unit}_std"] = None if std is None else factor * std
        lines.append(line)
    write_csv(path, lines)


def _names(row: Row) -> dict[str, Any]:
    first = row.group.first
    return {
        "data": first.data,
        "noise": first.noise,
        "noise_rate": first.noise_rate,
        "label": row.title,
        "method": first.method,
        "evaluator": row.name,
        "setting": row.group.full_setting,
        "group": " ".join(dict.fromkeys(run.result.group for run in row.group.runs)),
    }


def write_csv(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Write lines with equal keys as CSV with a header. None is an empty cell."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, list(lines[0]) if lines else [])
        writer.writeheader()
        writer.writerows(lines)
