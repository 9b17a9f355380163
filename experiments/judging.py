"""What the result files of an experiment say about a claim of the paper.

A claim about a difference of two rows is judged on pairs: runs of one experiment with the same seed, noisy labels and
settings. Differences are oriented so that a positive one supports the claim.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from evidence import Line, percent, read, results

from slnlab.tables.statistics import Summary, holm, paired, welch


class Finding(NamedTuple):
    """What an experiment says about a claim.

    Args:
        where: experiment, data set and noise.
        numbers: what was measured.
        verdict: `holds`, `undecided`, `fails`, or `one run`: a single pair or value has no interval.
        p: p-value of the paired t-test; None: the verdict rests on no such test.
        part: subfolder of the experiment whose runs it rests on; empty: the folder itself.
    """

    where: str
    numbers: str
    verdict: str
    p: float | None = None
    part: str = ""


LEVEL = 0.05
"""Largest corrected p-value of a difference that counts."""

Judge = Callable[[Path], Iterator[Finding]]
"""Folder of an experiment → its findings; none if it lacks the files."""


def interval(low: float, high: float) -> str:
    """The verdict of a 95 % interval of a difference."""
    return "holds" if low > 0 else "fails" if high < 0 else "undecided"


def judge_pairs(differences: Mapping[str, Sequence[float]], unit: str) -> Finding:
    """The mean difference with Student's interval, the supporting pairs, and the verdict, without a place.

    With several draws of noisy labels the draws are the independent units, and a draw's seeds are averaged. Otherwise
    the seeds are.

    Args:
        differences: draw of noisy labels → a difference for each seed; at least one.
        unit: of the differences.
    """
    every = [value for values in differences.values() for value in values]
    units = [fmean(values) for values in differences.values()] if len(differences) > 1 else every
    draws = f" on {len(differences)} draws" if 1 < len(differences) < len(every) else ""
    count = f"{sum(value > 0 for value in every)} of {len(every)} pairs{draws}"
    found = paired(units)
    if found is None:
        return Finding("", f"{fmean(units):+.2f} {unit}; {count}", "one run" if len(units) == 1 else "undecided")
    numbers = f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}] {unit}; {count}"
    return Finding("", numbers, interval(found.low, found.high), found.p)


def corrected(findings: Sequence[Finding]) -> list[Finding]:
    """An experiment's findings on a claim, p-values corrected by Holm's method; from 5 % on they are undecided.

    The findings of a part are corrected among themselves.
    """
    families: dict[str, list[float]] = defaultdict(list)
    for each in findings:
        if each.p is not None:
            families[each.part].append(each.p)
    p_values = {part: holm(family) for part, family in families.items()}
    made = []
    for each in findings:
        if each.p is not None:
            p = p_values[each.part].pop(0)
            verdict = each.verdict if p < LEVEL or each.verdict == "undecided" else "undecided"
            each = each._replace(numbers=f"{each.numbers}; p = {p:.2g}", verdict=verdict, p=p)
        made.append(each)
    return made


def compared(
    lines: Callable[[Path], Sequence[Line]],
    pairs: Sequence[tuple[str, str]],
    difference: Callable[[Line, Line], float],
    unit: str = "points",
    values: Callable[[Line], str | float] | None = None,
) -> Judge:
    """Judge a claim on the difference of two rows.

    Args:
        lines: the lines of a folder.
        pairs: (label, label) of the compared rows.
        difference: of two lines; positive supports the claim.
        unit: of the difference.
        values: a line's value, whose means are shown; None: accuracy at the peak and at the last epoch.
    """

    def judge(folder: Path) -> Iterator[Finding]:
        found: dict[tuple[str, ...], dict[tuple[str, str], dict[str, Line]]] = defaultdict(lambda: defaultdict(dict))
        for line in lines(folder):
            place = (line["data"], line["noise"], line["noise_rate"], line.get("part", ""), line["setting"])
            pair = (line["seed"], line.get("noise_hash") or line.get("noise_seed") or "")
            found[place][pair][line["label"]] = line
        for place, runs in found.items():
            if "sln.sigma=" in place[-1]:  # a sweep over σ is the claim of Fig. 6
                continue
            for ours, theirs in pairs:
                both = [(run[ours], run[theirs]) for run in runs.values() if ours in run and theirs in run]
                if not both:
                    continue
                by_draw: dict[str, list[float]] = defaultdict(list)
                for (_, draw), run in runs.items():
                    if ours in run and theirs in run:
                        by_draw[draw].append(difference(run[ours], run[theirs]))
                found_here = judge_pairs(by_draw, unit)
                means = " · ".join(
                    f"{label} {_means([pair[side] for pair in both], values)}"
                    for side, label in ((1, theirs), (0, ours))
                )
                where, numbers = _where(folder, *place), f"{means}: {found_here.numbers}"
                yield found_here._replace(where=where, numbers=numbers, part=place[3])

    return judge


def _means(lines: Sequence[Line], values: Callable[[Line], str | float] | None) -> str:
    if values is not None:
        return f"{fmean(float(values(line)) for line in lines):.3g}"
    peak, last = (fmean(percent(line, column) for line in lines) for column in ("test_oracle", "test_last"))
    return f"{peak:.1f} → {last:.1f}"


def _where(folder: Path, data: str = "", noise: str = "", rate: str = "", *more: str) -> str:
    known = f" {float(rate):g}" if float(rate or 0) else ""
    return ", ".join(filter(None, (f"[{folder.name}]({folder.name}/README.md)", data, noise + known, *more)))


def last(line: Line) -> float:
    """Test accuracy at the last epoch, in percent."""
    return percent(line, "test_last")


def peak(line: Line) -> float:
    """Test accuracy at the best epoch, in percent."""
    return percent(line, "test_oracle")


def ends_higher(ours: Line, theirs: Line) -> float:
    """Difference of the test accuracies at the last epoch, in points."""
    return last(ours) - last(theirs)


def per_run(kind: str, **wanted: str) -> Callable[[Path], list[Line]]:
    """The lines of `<kind>.csv` that have these values."""

    def lines(folder: Path) -> list[Line]:
        return [line for line in read(folder / f"{kind}.csv") if all(line[key] == wanted[key] for key in wanted)]

    return lines


def with_eigenvalue(folder: Path) -> list[Line]:
    """The lines of `flatness.csv` with a positive eigenvalue; a search that did not converge leaves none."""
    return [line for line in read(folder / "flatness.csv") if float(line["largest_hessian_eigenvalue"] or 0) > 0]


def sam_rise(line: Line) -> float:
    """Rise of the loss in `flatness.csv` for the smallest radius, in nats."""
    columns = [column for column in line if column.startswith("sam_rise_")]
    return float(line[min(columns, key=lambda column: float(column.removeprefix("sam_rise_")))])


def density(folder: Path) -> list[Line]:
    """A line per run of `density.csv`, with the mean probability of correct and of wrong given labels."""
    runs: dict[tuple[str, ...], Line] = {}
    for line in read(folder / "density.csv"):
        names = ("data", "noise", "noise_rate", "label", "setting", "seed", "noise_seed")
        run = runs.setdefault(tuple(line.get(name, "") for name in names), dict(line))
        run[line["given_labels"]] = line["mean_probability"]
    return list(runs.values())


WAYS = ("loss", "inverse")
"""Values of `correction.weighting`: the weight of the given label grows with its loss, or falls."""


def weighting(folder: Path) -> Iterator[Finding]:
    """Both weightings of label correction at the last epoch, paired by seed and noisy labels."""
    found: dict[tuple[str, ...], dict[tuple[str, str], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for line in results(folder):
        way = next((way for way in WAYS if f"correction.weighting={way}" in line["setting"]), None)
        if way and line["label"] == "SLN-MO-LC":
            others = ", ".join(part for part in line["setting"].split(", ") if "correction.weighting" not in part)
            place = (line["data"], line["noise"], line["noise_rate"], others)
            found[place][line["noise_hash"], line["seed"]][way] = last(line)
    for place, runs in found.items():
        both = {pair: run for pair, run in runs.items() if len(run) == len(WAYS)}
        if not both:
            continue
        by_draw: dict[str, list[float]] = defaultdict(list)
        for (draw, _), run in both.items():
            by_draw[draw].append(run["loss"] - run["inverse"])
        means = " · ".join(f"{way} {fmean(run[way] for run in both.values()):.2f}" for way in reversed(WAYS))
        judged = judge_pairs(by_draw, "points")
        yield judged._replace(where=_where(folder, *place), numbers=f"{means}: {judged.numbers}")


PAPER_COSTS = {"SLN-MO": 1.30 / 1.18, "SLN-MO-LC": 1.31 / 1.18}
"""The paper's training time over cross entropy's (Table 1)."""


def cost(folder: Path) -> Iterator[Finding]:
    """The costs of `costs.json` against the paper's, over the rounds of the measurement."""
    path = folder / "costs.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cost": {}}
    if not {"sln", "sln_mo_lc"} <= found["cost"].keys():
        return
    for label, method in {"SLN-MO": "sln", "SLN-MO-LC": "sln_mo_lc"}.items():
        paper, rounds = PAPER_COSTS[label], found["rounds"][method]
        below = judge_pairs({"": [paper - ratio for ratio in rounds]}, "× CE")
        ours = f"a run costs {found['cost'][method]:.2f} × CE, the median of {len(rounds)} rounds"
        numbers = f"{label}: {ours}; the paper's {paper:.2f}, less ours: {below.numbers.replace('pairs', 'rounds')}"
        yield below._replace(where=_where(folder), numbers=numbers)


def sigma(folder: Path) -> Iterator[Finding]:
    """The best σ within the grid of `sigma.csv` against its smallest and its largest, by Welch's test.

    It fails if one of the two is better. Only SLN's row counts, the paper's figure has no other.
    """
    rows: dict[tuple[str, ...], list[tuple[float, Summary]]] = defaultdict(list)
    for line in (each for each in read(folder / "sigma.csv") if each["label"] == "SLN"):
        n = int(line.get("num_runs") or line["num_seeds"])
        mean, std = (line[f"test_last_percent_{name}"] for name in ("mean", "std"))
        place = (line["data"], line["noise"], line["noise_rate"], line["label"])
        rows[place].append((float(line["sigma"]), Summary(float(mean), float(std) if std else None, n)))
    for (data, noise, rate, label), grid in rows.items():
        grid.sort(key=lambda point: point[0])
        if len(grid) < 3:  # no σ within
            continue
        (first, *inner, end) = grid
        _, top = max(inner, key=lambda point: point[1].mean)
        against = [welch(top, value) for _, value in (first, end)]
        low = all(each is not None and each.low > 0 for each in against)
        high = any(each is not None and each.high < 0 for each in against)
        verdict = "holds" if low else "fails" if high else "undecided"
        shown = " · ".join(f"σ = {at:g}: {value.mean:.1f}" for at, value in grid)
        yield Finding(_where(folder, data, noise, rate, label), shown, verdict)


PREDICTS = 0.95
"""Least R² of a proposition that holds. Measured values have a sampling error, so 1 is not reached."""


def propositions(folder: Path) -> Iterator[Finding]:
    """R² of the predicted standard deviations in `propositions.csv`, the least over runs."""
    found: dict[tuple[str, ...], dict[tuple[str, str], float]] = defaultdict(dict)
    for line in read(folder / "propositions.csv"):
        label, run = f"{line['label']} {line['setting']}".strip(), (line["seed"], line.get("noise_seed", ""))
        place = (line["data"], line["noise"], line["noise_rate"], label, line["proposition"])
        found[place][run] = float(line["r_squared_of_all"])
    for (data, noise, rate, label, number), of_runs in found.items():
        values = [*of_runs.values()]
        runs = "one run" if len(values) == 1 else f"the least of {len(values)} runs"
        numbers = f"Proposition {number}, {label}: R² = {min(values):.4f}, {runs}"
        verdict = "fails" if min(values) < PREDICTS else "holds" if len(values) > 1 else "one run"
        yield Finding(_where(folder, data, noise, rate), numbers, verdict)
