"""How well do the scores of `slnlab diagnose` find wrong labels? Every score of finished runs with known truth.

    python experiments/diagnosis.py runs/fashion_mnist --out experiments/diagnosis

writes `scores.csv` (a line per run, row and score), `rates.csv` (the estimated share of wrong labels), and `table.md`
from both. `--table` only writes `table.md` again. Nothing is trained.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from evidence import Line, read, table

from slnlab.analysis.noise_estimate import estimate_noise
from slnlab.analysis.runs import find_runs
from slnlab.analysis.scores import RULES
from slnlab.analysis.statistics import paired

METHODS = ("ce", "sln", "sln_mo_lc", "elr")
"""The compared methods, in the order of the tables."""

OF_DYNAMICS = ("aum", "ema_loss", "mean_probability")
"""Scores of the whole training that are compared with the final loss."""

OF_RATE = (*OF_DYNAMICS, "loss")
"""Scores whose two-component mixture estimates the share of wrong labels."""


def measured(folders: Iterable[Path]) -> Iterator[tuple[list[Line], list[Line]]]:
    """The lines of both files for each row of each run with known wrong labels."""
    from slnlab.inference.diagnosis import diagnose
    from slnlab.inference.trained_run import load

    runs = [run for run in find_runs([*folders]).runs if run.result.method in METHODS]
    for run in sorted(runs, key=lambda run: (METHODS.index(run.result.method), *run.pair)):
        for weights in run.result.rows:
            loaded = load(run.directory.path, weights)
            found = diagnose(loaded)
            common = {
                "data": run.result.data,
                "noise": f"{run.noise} {run.result.noise_rate:g}",
                "row": run.result.rows[weights].title,
                "seed": run.result.seed,
                "noise_hash": run.result.label_noise["hash"],
                "git": run.result.environment["git"]["commit"],
            }
            scores = [{**common, "score": name, **each._asdict()} for name, each in found.qualities().items()]
            truth = run.result.label_noise["realised_rate"]
            labels = found.columns["given"], found.suggested, len(loaded.classes)
            rates = [
                {
                    **common,
                    "score": name,
                    **estimate_noise(found.suspicions[name], *labels).rate._asdict(),
                    "true": truth,
                }
                for name in OF_RATE
            ]
            yield as_text(scores), as_text(rates)
            print(f"{run.directory.path}, {weights}", flush=True)


def as_text(lines: Iterable[dict[str, Any]]) -> list[Line]:
    return [{k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in line.items()} for line in lines]


def write(path: Path, lines: list[Line]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*lines[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def by_unit(lines: Iterable[Line], value: Callable[[Line], float]) -> dict[str, float]:
    """The mean of a value for each draw of noisy labels, or for each seed if there is one draw only."""
    found = defaultdict(list)
    lines = [*lines]
    several = len({line["noise_hash"] for line in lines}) > 1
    for line in lines:
        found[line["noise_hash" if several else "seed"]].append(value(line))
    return {unit: fmean(values) for unit, values in sorted(found.items())}


def spread(values: Iterable[float]) -> str:
    values = [*values]
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def page(folder: Path) -> str:
    """`table.md`, from `scores.csv` and `rates.csv`."""
    scores, rates = read(folder / "scores.csv"), read(folder / "rates.csv")
    blocks = []
    for data, noise in dict.fromkeys((line["data"], line["noise"]) for line in scores):
        here = [line for line in scores if (line["data"], line["noise"]) == (data, noise)]
        rows = [*dict.fromkeys(line["row"] for line in here)]
        runs = {row: len({(line["seed"], line["noise_hash"]) for line in here if line["row"] == row}) for row in rows}
        blocks += [f"## {data}, {noise}", _counts(here, runs)]
        for measure, title in (("auroc", "AUROC"), ("average_precision", "Average precision")):
            blocks += [f"### {title}", _qualities(here, rows, measure)]
        blocks += ["### Dynamics against the final loss: difference of AUROC", _differences(here, rows)]
        there = [line for line in rates if (line["data"], line["noise"]) == (data, noise)]
        blocks += ["### The estimated share of wrong labels, in percent", _rates(there, rows)]
    return "\n\n".join(blocks) + "\n"


def _counts(lines: list[Line], runs: dict[str, int]) -> str:
    draws = len({line["noise_hash"] for line in lines})
    unit = "draws of noisy labels, seeds averaged" if draws > 1 else "seeds"
    each = ", ".join(f"{row} {count}" for row, count in runs.items())
    return (
        f"Runs: {each}; {draws} draw{'s' if draws > 1 else ''} of noisy labels. Mean ± standard deviation over {unit}."
    )


def _of(lines: list[Line], row: str, score: str) -> list[Line]:
    return [line for line in lines if line["row"] == row and line["score"] == score]


def _qualities(lines: list[Line], rows: list[str], measure: str) -> str:
    body = []
    for score in (score for score in RULES if any(line["score"] == score for line in lines)):
        cells = [_of(lines, row, score) for row in rows]
        shown = [spread(by_unit(cell, lambda line: float(line[measure])).values()) if cell else "–" for cell in cells]
        body.append([f"`{score}`", *shown])
    return table(["score", *rows], body, frozenset(rows))


def _differences(lines: list[Line], rows: list[str]) -> str:
    body = []
    for score in OF_DYNAMICS:
        cells = []
        for row in rows:
            ours, loss = (by_unit(_of(lines, row, name), lambda line: float(line["auroc"])) for name in (score, "loss"))
            found = paired([*ours.values()], [*loss.values()]) if len(ours) > 1 else None
            only = f"{fmean(ours.values()) - fmean(loss.values()):+.3f}" if ours else "–"
            cells.append(only if found is None else f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
        body.append([f"`{score}` − `loss`", *cells])
    return table(["difference", *rows], body, frozenset(rows))


def _rates(lines: list[Line], rows: list[str]) -> str:
    body = []
    for score in OF_RATE:
        cells = []
        for row in rows:
            its = _of(lines, row, score)
            inside = sum(float(line["low"]) <= float(line["true"]) <= float(line["high"]) for line in its)
            cells.append(f"{100 * fmean(float(line['value']) for line in its):.1f} ({inside} of {len(its)})")
        body.append([f"`{score}`", *cells])
    true = fmean(float(line["true"]) for line in lines)
    remark = f"True: {100 * true:.1f}. In brackets: in how many runs the 95 % interval contains the truth."
    return f"{table(['score', *rows], body, frozenset(rows))}\n\n{remark}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only write table.md from the files")
    asked = parser.parse_args()
    if not asked.table:
        scores, rates = [], []
        for some, other in measured(asked.runs):
            scores += some
            rates += other
        asked.out.mkdir(parents=True, exist_ok=True)
        write(asked.out / "scores.csv", scores)
        write(asked.out / "rates.csv", rates)
    (asked.out / "table.md").write_text(page(asked.out), encoding="utf-8")


if __name__ == "__main__":
    main()
