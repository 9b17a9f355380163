"""The tables of `experiments/diagnosis/README.md`, each below its mark such as `<!-- auroc -->`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import isnan
from pathlib import Path
from statistics import fmean

from diagnosis_page import CLEANLAB, COSTS, METHOD_OF, OURS, Value, by_unit, number, unit_of
from evidence import Line, read, table

from slnlab.analysis.scores import RANKING
from slnlab.tables.costs import read_costs

SETS = {
    "fashion_mnist": "Fashion-MNIST",
    "fashion_mnist_five": "Fashion-MNIST, five classes",
    "cifar10": "CIFAR-10, 10,000 images",
    "cifar10 (unverified files)": "CIFAR-10, 10,000 images",
    "digits": "digits",
}
NOISES = {
    "sym": "symmetric",
    "asym": "asymmetric",
    "dependent": "instance-dependent",
    "part_dependent": "part-dependent",
    "open_set": "open-set",
    "human": "human labels",
    "none": "no noise",
}
ROWS = ("CE", "ELR", "SLN-MO", "SLN-MO-LC", "slnlab")
MEASURES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "precision_at_100": "precision at 100",
    "precision_at_cut": "at the cut",
    "recall_at_cut": "recall at the cut",
}

Setting = tuple[str, str]
"""Data and noise as in the files, e.g. ("digits", "sym 0.4")."""


def with_tables(text: str, folder: Path) -> str:
    """The page with each table below its mark made anew from the files of the folder."""
    scores, policies = read(folder / "scores.csv"), read(folder / "policies.csv")
    tables = {
        "auroc": _by_method(scores),
        "dynamics": _by_method(scores, minus="loss"),
        "cleanlab": _beside_cleanlab(scores),
        "shares": _far_off(read(folder / "rates.csv")),
        "policies": _policies(policies),
    }
    for name, made in tables.items():
        text = re.sub(rf"(<!-- {name} -->\n)(\|.*\n)*", lambda found, new=made: f"{found[1]}{new}\n", text)  # type: ignore[misc]
    return text


def _settings(lines: Iterable[Line]) -> list[Setting]:
    """The settings of some lines in the order of `SETS` and `NOISES`, 40 % before lower rates."""

    def place(setting: Setting) -> tuple[int, int, float]:
        name, rate = setting[1].rsplit(" ", 1)
        of_data, of_noise = ([*known, each].index(each) for known, each in ((SETS, setting[0]), (NOISES, name)))
        return of_data, of_noise, -float(rate)

    return sorted({(line["data"], line["noise"]) for line in lines}, key=place)


def _titled(setting: Setting) -> list[str]:
    name, rate = setting[1].rsplit(" ", 1)
    known = f", {100 * float(rate):.0f} %" if float(rate) else ""
    return [SETS.get(setting[0], setting[0]), NOISES.get(name, name) + known]


def _mean(lines: Iterable[Line], value: Value, unit: str) -> float | None:
    """The mean over units, see `unit_of`, that have the value; None without one."""
    values = [found for found in by_unit(lines, value, unit).values() if not isnan(found)]
    return fmean(values) if values else None


def _runs(lines: Iterable[Line]) -> set[tuple[str, str]]:
    return {(line["seed"], line["noise_hash"]) for line in lines}


def _short(value: float | None, sign: str = "") -> str:
    """Three digits without the zero before the point; – for None."""
    return "–" if value is None else re.sub(r"^([+-]?)0\.", r"\1.", f"{round(value, 3) + 0.0:{sign}.3f}")


def _marked(values: list[float | None]) -> list[str]:
    """The values, those that round to the largest in bold."""
    largest = _short(max((value for value in values if value is not None), default=None))
    return [f"**{text}**" if text == largest != "–" else text for text in map(_short, values)]


def _by_method(scores: list[Line], minus: str = "") -> str:
    """AUROC of the mean probability, less that of another score: a line for each setting, a column for each row.

    The rows of a setting have the same seeds and noisy labels. A row that shares none with those before it is left out.
    """
    body = []
    for setting in _settings(scores):
        here = [line for line in scores if (line["data"], line["noise"]) == setting]
        common: set[tuple[str, str]] = set()
        compared = set()
        for row in ROWS:
            its = _runs(line for line in here if line["row"] == row)
            if its and (not common or common & its):
                common = common & its or its
                compared.add(row)
        same = [line for line in here if (line["seed"], line["noise_hash"]) in common]
        unit = unit_of(same)
        values = []
        for row in ROWS:
            lines = [line for line in same if line["row"] == row and row in compared]
            value, other = (_mean(_of(lines, name), number("auroc"), unit) for name in ("mean_probability", minus))
            values.append(value - other if value is not None and other is not None else None if minus else value)
        cells = [_short(value, "+") for value in values] if minus else _marked(values)
        body.append([*_titled(setting), str(len(common)), *cells])
    header = ["data", "noise", "runs", *ROWS]
    return table(header, body, frozenset(header[2:]))


def _of(lines: list[Line], score: str) -> list[Line]:
    return [line for line in lines if line["score"] == score]


def _beside_cleanlab(scores: list[Line]) -> str:
    """For each setting with finished folds our rankings and cleanlab's, over the runs that have them."""
    costs = read_costs(COSTS)
    rankings = [
        *((f"{row}, mean probability", row, score, f"{costs[METHOD_OF[row]]:.3g}") for row, score in OURS),
        ("cleanlab, five folds of CE", "CE", CLEANLAB, "4"),
    ]
    body = []
    for setting in _settings(_of(scores, CLEANLAB)):
        here = [line for line in scores if (line["data"], line["noise"]) == setting]
        folded = _runs(_of(here, CLEANLAB))
        for _, row, score, _ in rankings:  # the runs that all rankings have
            its = _runs(line for line in _of(here, score) if line["row"] == row)
            folded = folded & its or folded
        same = [line for line in here if (line["seed"], line["noise_hash"]) in folded]
        lines = [[line for line in _of(same, score) if line["row"] == row] for _, row, score, _ in rankings]
        unit = unit_of(same)
        columns = [_marked([_mean(its, number(measure), unit) for its in lines]) for measure in MEASURES]
        for place, (title, _, _, cost) in enumerate(rankings):
            cells = [column[place] for column in columns]
            body.append([*_titled(setting), title, str(len(_runs(lines[place]))), cost, *cells])
    header = ["data", "noise", "ranking", "runs", "cost", *MEASURES.values()]
    return table(header, body, frozenset(header[3:]))


FAR = 0.08
"""Mean error of the estimated share of wrong labels from which on a method is far off."""


def _far_off(rates: list[Line]) -> str:
    """For each setting the true share of wrong labels, and what the methods say that are far off on average."""
    body = []
    printed = _of(rates, RANKING)
    for setting in _settings(printed):
        here = [line for line in printed if (line["data"], line["noise"]) == setting]
        said = []
        for row in ("CE", "SLN", "SLN-MO-LC", "ELR", "slnlab"):  # SLN-MO is the same training as SLN
            its = [line for line in here if line["row"] == row]
            if its and abs(fmean(float(line["value"]) - float(line["true"]) for line in its)) >= FAR:
                said.append(f"{row} {_between(line['value'] for line in its)}")
        if said:
            body.append([*_titled(setting), _between(line["true"] for line in here), ", ".join(said)])
    return table(["data", "noise", "wrong, %", "estimate, %"], body, frozenset(["wrong, %"]))


def _between(shares: Iterable[str]) -> str:
    """The smallest and the largest share in percent, as `19–26`."""
    percents = sorted(round(100 * float(share)) for share in shares)
    return "–".join(dict.fromkeys(map(str, (percents[0], percents[-1]))))


def _policies(lines: list[Line]) -> str:
    """Test accuracy of CE in percent on the labels of each policy, and the percentage of wrong labels left."""
    settings = _settings(lines)
    judged = dict.fromkeys((line["judge"], line["policy"]) for line in lines if line["judge"])
    treatments = [("", "given labels"), *sorted(judged, key=lambda pair: [*METHOD_OF].index(pair[0])), ("", "truth")]
    body = []
    for judge, policy in treatments:
        cells = []
        for setting in settings:
            keys = (*setting, judge, policy)
            its = [line for line in lines if (line["data"], line["noise"], line["judge"], line["policy"]) == keys]
            accuracy, left = (_mean(its, number(column), "seed") for column in ("test_last", "wrong_left"))
            cells.append("–" if accuracy is None or left is None else f"{100 * accuracy:.1f} ({100 * left:.0f})")
        body.append([f"{policy}, by {judge}" if judge else policy.replace("truth", "true labels"), *cells])
    names = [", ".join(_titled(setting)) for setting in settings]
    return table(["labels", *names], body, frozenset(names))
