"""`table.md` of `experiments/diagnosis`, from its CSV files and the costs of methods_digits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import fmean, stdev

from evidence import Line, read, table

from slnlab.analysis.scores import RANKING, RULES
from slnlab.tables.costs import read_costs
from slnlab.tables.statistics import paired

OF_DYNAMICS = ("aum", "ema_loss", "mean_probability")
"""Scores of the whole training that are compared with the final loss."""

OF_RATE = (*OF_DYNAMICS, "loss")
"""Scores whose mixtures estimate the share of wrong labels."""

MEASURES = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "precision_at_100": "Precision among the first 100",
    "precision_at_cut": "Precision at the cut",
    "recall_at_cut": "Recall at the cut",
}

COSTS = Path(__file__).parent / "methods_digits" / "costs.json"

METHOD_OF = {"CE": "ce", "SLN-MO-LC": "sln_mo_lc", "slnlab": "slnlab"}
"""Row → its method in `costs.json`."""

OURS = (("CE", "mean_probability"), ("SLN-MO-LC", "mean_probability"), ("slnlab", "mean_probability"))
"""Rows and scores that are compared with cleanlab's own."""

CLEANLAB = "cleanlab: self-confidence"

Value = Callable[[Line], float]


def number(measure: str) -> Value:
    """The value of a column; NaN for an empty one."""
    return lambda line: float(line[measure] if line[measure] not in ("", "None") else "nan")


def unit_of(lines: Iterable[Line]) -> str:
    """The column of the independent units of a setting: the draw of noisy labels; the seed if there is one draw."""
    return "noise_hash" if len({line["noise_hash"] for line in lines}) > 1 else "seed"


def by_unit(lines: Iterable[Line], value: Value, unit: str) -> dict[str, float]:
    """The mean of a value for each unit, see `unit_of`."""
    found = defaultdict(list)
    for line in lines:
        found[line[unit]].append(value(line))
    return {name: fmean(values) for name, values in sorted(found.items())}


def spread(values: Iterable[float], digits: int = 3) -> str:
    values = [*values]
    if not values:
        return "–"
    return f"{fmean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def page(folder: Path) -> str:
    """The whole page: a summary beside cleanlab, the policies, and the tables of each noise."""
    scores, rates, policies = (read(folder / f"{name}.csv") for name in ("scores", "rates", "policies"))
    blocks = []
    if any(line["score"] == CLEANLAB for line in scores):
        blocks += ["## Beside cleanlab with five folds", *_beside_cleanlab(scores)]
    if policies:
        blocks += ["## Accuracy of CE on corrected labels, in percent", _policies(policies)]
    if rates:
        blocks += ["## The share of wrong labels that `slnlab diagnose` prints, in points", _shares(rates)]
    for setting in dict.fromkeys(map(_setting, rates)):
        here, there = ([line for line in lines if _setting(line) == setting] for lines in (scores, rates))
        rows = [*dict.fromkeys(line["row"] for line in there)]
        blocks += [f"## {setting[0]}, {setting[1]}", _counts(there, rows)]
        if here:  # some labels are wrong
            for measure, title in MEASURES.items():
                blocks += [f"### {title}", _qualities(here, rows, measure)]
            blocks += ["### Dynamics against the final loss: difference of AUROC", _differences(here, rows)]
        blocks += ["### The estimated share of wrong labels, in percent", _rates(there, rows)]
    return "\n\n".join(blocks) + "\n"


def _shares(rates: list[Line]) -> str:
    """Errors and intervals of the printed share for each data set and method, each run once."""
    found: dict[tuple[str, str], dict[tuple[str, ...], Line]] = defaultdict(dict)
    for line in rates:
        method = line["row"].removesuffix(" (network)")
        if line["score"] == RANKING and method != "SLN-MO":  # of the training, so the same for all rows of a run
            clean = ", no wrong label" if float(line["true"]) == 0 else ""
            found[line["data"] + clean, method][line["noise"], line["noise_hash"], line["seed"]] = line
    body = []
    for (data, method), runs in found.items():
        lines = [*runs.values()]
        errors = [100 * (float(line["value"]) - float(line["true"])) for line in lines]
        inside = sum(float(line["low"]) <= float(line["true"]) <= float(line["high"]) for line in lines)
        numbers = f"{fmean(errors):+.1f}", f"{fmean(map(abs, errors)):.1f}", f"{max(errors, key=abs):+.1f}"
        body.append([data, method, str(len(lines)), *numbers, f"{inside} of {len(lines)}"])
    header = ["data", "method", "runs", "mean error", "mean size of it", "largest error", "intervals with the truth"]
    return table(header, body, frozenset(header[2:]))


def _setting(line: Line) -> tuple[str, str]:
    return line["data"], line["noise"]


def _counts(lines: list[Line], rows: list[str]) -> str:
    draws = len({line["noise_hash"] for line in lines})
    unit = "draws of noisy labels, seeds averaged" if draws > 1 else "seeds"
    runs = {row: len({(line["seed"], line["noise_hash"]) for line in lines if line["row"] == row}) for row in rows}
    each = ", ".join(f"{row} {count}" for row, count in runs.items())
    return (
        f"Runs: {each}; {draws} draw{'s' if draws > 1 else ''} of noisy labels. Mean ± standard deviation over {unit}."
    )


def _of(lines: list[Line], row: str, score: str) -> list[Line]:
    return [line for line in lines if line["row"] == row and line["score"] == score]


def _scores(lines: list[Line]) -> list[str]:
    """The scores of some lines: ours in the order of `RULES`, then others."""
    present = [*dict.fromkeys(line["score"] for line in lines)]
    return [*(name for name in RULES if name in present), *(name for name in present if name not in RULES)]


def _qualities(lines: list[Line], rows: list[str], measure: str) -> str:
    unit = unit_of(lines)
    body = [
        [f"`{score}`", *(spread(by_unit(_of(lines, row, score), number(measure), unit).values()) for row in rows)]
        for score in _scores(lines)
    ]
    return table(["score", *rows], body, frozenset(rows))


def _difference(ours: dict[str, float], theirs: dict[str, float]) -> str:
    """The mean difference over the units that both have, with its interval from two units on."""
    units = [unit for unit in ours if unit in theirs]
    if not units:
        return "–"
    differences = [ours[unit] - theirs[unit] for unit in units]
    found = paired(differences)
    if found is None:
        return f"{differences[0]:+.3f}"
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _differences(lines: list[Line], rows: list[str]) -> str:
    unit = unit_of(lines)

    def cell(row: str, score: str) -> str:
        return _difference(*(by_unit(_of(lines, row, name), number("auroc"), unit) for name in (score, "loss")))

    body = [[f"`{score}` − `loss`", *(cell(row, score) for row in rows)] for score in OF_DYNAMICS]
    return table(["difference", *rows], body, frozenset(rows))


def _beside_cleanlab(scores: list[Line]) -> Iterator[str]:
    """For each measure a table: a line for each setting with finished folds, over the seeds that have them."""
    present = {line["row"] for line in scores}
    compared = [(row, score) for row, score in OURS if row in present]
    titles = [f"`{score}` of {row}" for row, score in compared]
    costs = read_costs(COSTS)

    def cost(row: str) -> str:
        return f"{costs[METHOD_OF[row]]:.2f}" if METHOD_OF[row] in costs else "(not measured)"

    yield (
        "Cost in runs of CE: "
        + ", ".join(f"{title} {cost(row)}" for title, (row, _) in zip(titles, compared, strict=True))
        + "; cleanlab 4, as five runs train on four fifths of the labels (5 with the network that remains). cleanlab "
        "ranks by the self-confidence of CE out of fold, and cuts by `find_label_issues`. In brackets: the 95 % "
        "interval of the difference, paired by draw or seed."
    )
    for measure, title in MEASURES.items():
        body = []
        for setting in dict.fromkeys(_setting(line) for line in scores):
            here = [line for line in scores if _setting(line) == setting]
            folds = _of(here, "CE", CLEANLAB)
            if not folds:
                continue
            runs = {(line["seed"], line["noise_hash"]) for line in folds}
            same = [line for line in here if (line["seed"], line["noise_hash"]) in runs]
            theirs, *ours = (
                by_unit(_of(same, row, score), number(measure), unit_of(same))
                for row, score in (("CE", CLEANLAB), *compared)
            )
            body.append(
                [
                    *(", ".join(setting), str(len(runs)), spread(theirs.values())),
                    *(cell for each in ours for cell in (spread(each.values()), _difference(each, theirs))),
                ]
            )
        header = ["noise", "runs", "cleanlab", *(name for each in titles for name in (each, "− cleanlab"))]
        yield f"### {title}\n\n{table(header, body, frozenset(header[1:]))}"


def _policies(lines: list[Line]) -> str:
    settings = [*dict.fromkeys(map(_setting, lines))]
    body = []
    for judge, policy in dict.fromkeys((line["judge"], line["policy"]) for line in sorted(lines, key=_place)):
        cells = []
        for setting in settings:
            its = [
                line for line in lines if (*_setting(line), line["judge"], line["policy"]) == (*setting, judge, policy)
            ]
            accuracy = spread((100 * float(line["test_last"]) for line in its), 1)
            left = f" ({100 * fmean(float(line['wrong_left']) for line in its):.0f})" if its else ""
            cells.append(accuracy + left)
        body.append([f"{policy}, by {judge}" if judge else policy, *cells])
    names = [", ".join(setting) for setting in settings]
    remark = "Mean ± standard deviation over seeds. In brackets: percent of wrong labels left, each with its weight."
    return f"{table(['labels', *names], body, frozenset(names))}\n\n{remark}"


def _place(line: Line) -> tuple[bool, str, str]:
    """Given labels first, then by judge, the truth last."""
    return line["policy"] == "truth", line["judge"], line["policy"]


def _rates(lines: list[Line], rows: list[str]) -> str:
    body = []
    for score in _scores(lines):
        cells = []
        for row in rows:
            its = _of(lines, row, score)
            value = f"{100 * fmean(map(number('value'), its)):.1f}" if its else "–"
            limits = [line for line in its if line["low"]]
            inside = sum(float(line["low"]) <= float(line["true"]) <= float(line["high"]) for line in limits)
            cells.append(value + (f" ({inside} of {len(limits)})" if limits else ""))
        body.append([f"`{score}`", *cells])
    true = fmean(float(line["true"]) for line in lines)
    remark = f"True: {100 * true:.1f}. In brackets: in how many runs the interval contains the truth."
    return f"{table(['score', *rows], body, frozenset(rows))}\n\n{remark}"
