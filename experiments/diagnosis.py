"""How well do the scores of `slnlab diagnose` find wrong labels? Every score of finished runs with known truth.

    python experiments/diagnosis.py runs/diagnosis --out experiments/diagnosis

writes `scores.csv` (a line per run, row and score), `rates.csv` (the estimated share of wrong labels), `policies.csv`
(CE on corrected labels), and from them `table.md` and the tables of `README.md`. Lines of other runs in these files
stay, so that runs of several machines add up. `--table` only writes the tables again. Nothing is trained;
`correcting.py` trains the folds and on corrected labels.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from correcting import CORRECTED, JUDGES, POLICIES, TRUTH, Setting, finished_folds, settings
from diagnosis_page import OF_RATE, page
from diagnosis_summary import with_tables
from evidence import Line, read

from slnlab.analysis.noise_estimate import estimate_rate
from slnlab.analysis.scores import OF_FOLDS, quality
from slnlab.errors import DataError
from slnlab.inference.diagnosis import Diagnosis, diagnose
from slnlab.inference.trained_run import load
from slnlab.record.result import Result
from slnlab.storage.tables import write_csv
from slnlab.tables.runs import FinishedRun, find_runs

METHODS = ("ce", "sln", "sln_mo_lc", "elr", "slnlab")
"""The compared methods, in the order of the tables."""

ROWS = ("CE", "SLN", "SLN-MO", "SLN-MO-LC (network)", "SLN-MO-LC", "ELR", "slnlab (network)", "slnlab")
"""The rows of their results, in the order of the tables."""

KEYS = ("data", "noise", "seed", "noise_hash", "row", "score", "judge", "policy")
"""The columns that name what was measured; the others are the measurement."""

OF_CLEANLAB = {"cleanlab: self-confidence": "self_confidence", "cleanlab: normalised margin": "normalized_margin"}
"""Title of a ranking by cleanlab, of out-of-fold probabilities → its name there. The first is cleanlab's default."""


CONTRADICTED = "contradicted out of fold"
OF_FOLDS_ALONE = (*OF_CLEANLAB, "cleanlab's count", CONTRADICTED, OF_FOLDS)
"""Scores that a run without its folds does not have."""


class Measured(NamedTuple):
    """Lines of `scores.csv` and `rates.csv`."""

    scores: list[dict[str, Any]]
    rates: list[dict[str, Any]]


def of_run(run: FinishedRun) -> dict[str, Any]:
    """The columns that all files have."""
    return {
        "data": run.result.data,
        "noise": f"{run.noise} {run.result.noise_rate:g}",
        "seed": run.result.seed,
        "noise_hash": run.result.label_noise["hash"],
        "git": run.result.environment["git"]["commit"],
    }


def measured(run: FinishedRun) -> Iterator[Measured]:
    """The lines of each row of a run, and of its folds if they are finished."""
    for weights in run.result.rows:
        loaded = load(run.directory.path, weights)
        found = diagnose(loaded)
        common = {**of_run(run), "row": run.result.rows[weights].title}
        yield Measured(
            [{**common, "score": name, **each._asdict()} for name, each in found.qualities().items()],
            [_rate(common, found, name) for name in OF_RATE],
        )
        print(f"{run.directory.path}, {weights}", flush=True)
    outside = finished_folds(loaded)
    if outside is not None:
        yield by_cleanlab(common, diagnose(loaded, outside=outside), outside)


def _rate(common: dict[str, Any], found: Diagnosis, score: str) -> dict[str, Any]:
    rate = estimate_rate(found.suspicions[score], found.columns["given"])
    return {**common, "score": score, **rate._asdict(), "true": found.columns["wrong"].mean()}


def by_cleanlab(common: dict[str, Any], found: Diagnosis, outside: np.ndarray) -> Measured:
    """cleanlab's own rankings, its own cut and its own count. The cut is the same for both rankings."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    given, wrong = found.columns["given"], found.columns["wrong"]
    issues = find_label_issues(given, outside)
    scores = []
    for title, method in OF_CLEANLAB.items():
        each = quality(-get_label_quality_scores(given, outside, method=method), wrong, int(issues.sum()))
        if each is not None and issues.any():
            recall = float((wrong & issues).sum() / wrong.sum())
            each = each._replace(precision_at_cut=float(wrong[issues].mean()), recall_at_cut=recall)
            scores.append({**common, "score": title, **each._asdict()})
    assert found.unseen is not None
    shares = {"cleanlab's count": (found.confident_count or 0) / len(given), CONTRADICTED: found.unseen.contradicted}
    counted = [
        {**common, "score": name, "value": share, "low": "", "high": "", "true": wrong.mean()}
        for name, share in shares.items()
    ]
    return Measured(scores, [_rate(common, found, OF_FOLDS), *counted])


def by_policies(setting: Setting) -> Iterator[dict[str, Any]]:
    """A line for each finished run on corrected labels of a setting, and its run of CE on the given labels first."""
    run = setting.baseline
    samples = load(run.directory.path).samples
    true, wrong = samples["true"], samples["wrong"]
    replaced = wrong & (true == samples["given"])

    def line(judge: str, policy: str, result: Result, wrong_left: float) -> dict[str, Any]:
        test = result.rows["network"].test_accuracy
        assert test is not None
        return {**of_run(run), "judge": judge, "policy": policy, "wrong_left": wrong_left, "test_last": test.last}

    yield line("", "given labels", run.result, float(wrong.mean()))
    names = [(judge, policy, f"{judge}-{policy}") for judge in JUDGES for policy in POLICIES] + [("", TRUTH, TRUTH)]
    for judge, policy, name in names:
        folder = run.directory.path / CORRECTED
        if not (folder / name / "result.json").exists():
            continue
        with (folder / f"{name}.csv").open(encoding="utf-8") as file:
            rows = [*csv.DictReader(file)]
        weight = np.array([float(row["weight"]) if row["label"] else 0 for row in rows])
        now = np.array([int(row["label"] or -1) for row in rows])
        left = float(weight @ ((now != true) | replaced) / weight.sum())
        title = setting.judges[judge].result.rows[JUDGES[judge]].title if judge else ""
        yield line(title, policy, Result.load(folder / name / "result.json"), left)


def with_earlier(lines: Iterable[dict[str, Any]], path: Path) -> list[Line]:
    """These lines, and those of the file for other runs.

    The lines of a run that is measured again are replaced, but for cleanlab's: its folds may lie on another machine.
    """
    new = as_text(lines)

    def of_run(line: Line) -> tuple[str | None, ...]:
        return tuple(line.get(name) for name in ("data", "noise", "seed", "noise_hash", "row"))

    again = {of_run(line) for line in new}
    stays = [line for line in read(path) if "policy" in line or line["score"] in OF_FOLDS_ALONE]
    kept = [line for line in read(path) if line in stays or of_run(line) not in again]
    found = {tuple(line.get(name) for name in KEYS): line for line in (*kept, *new)}

    def place(line: Line) -> tuple[object, ...]:
        row = ROWS.index(line["row"]) if line.get("row") in ROWS else len(ROWS)
        return line["data"], line["noise"], row, int(line["seed"]), line["noise_hash"]

    return sorted(found.values(), key=place)


def as_text(lines: Iterable[dict[str, Any]]) -> list[Line]:
    return [{k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in line.items()} for line in lines]


def write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    texts = as_text(lines)
    columns = dict.fromkeys(name for line in texts for name in line)
    write_csv(path, [{name: line.get(name, "") for name in columns} for line in texts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only write the tables from the files")
    asked = parser.parse_args()
    if not asked.table:
        found = (run for run in find_runs(asked.runs).runs if run.result.method in METHODS)
        # Runs with a softmax average were made for dependent noise.
        runs = [run for run in found if not run.result.identity["softmax_average"]["enabled"]]
        # minima_digits has label correction with the inverse weighting, too.
        runs = [run for run in runs if run.result.identity["correction"].get("weighting", "loss") == "loss"]
        # Two experiments may have the same run: the first counts.
        runs = [*{(run.result.data, run.result.method, *run.pair): run for run in reversed(runs)}.values()]
        runs.sort(key=lambda run: (run.result.data, METHODS.index(run.result.method), *run.pair))
        lines: list[Measured] = []
        for run in runs:
            try:
                lines += measured(run)
            except DataError as error:  # an old run has no training dynamics
                print(f"left out: {error}", flush=True)
        asked.out.mkdir(parents=True, exist_ok=True)
        corrected = [[*by_policies(setting)] for setting in settings(runs)]
        for name, made in {
            "scores": [line for each in lines for line in each.scores],
            "rates": [line for each in lines for line in each.rates],
            "policies": [line for each in corrected if len(each) > 1 for line in each],
        }.items():
            path = asked.out / f"{name}.csv"
            write(path, with_earlier(made, path))
    (asked.out / "table.md").write_text(page(asked.out), encoding="utf-8")
    readme = asked.out / "README.md"
    if readme.exists():
        readme.write_text(with_tables(readme.read_text("utf-8"), asked.out), encoding="utf-8")


if __name__ == "__main__":
    main()
