"""Tables as text: titles, columns and notes, for every format. One table per data set and noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from slnlab.config.identity import flat_identity
from slnlab.schema.law import OF_BEST_EPOCH
from slnlab.tables.comparison import Comparison, compare, reference_names
from slnlab.tables.costs import cost_of, epochs_of_cross_entropy
from slnlab.tables.quality_columns import NOTE as QUALITY_NOTE
from slnlab.tables.quality_columns import quality_columns
from slnlab.tables.runs import Group
from slnlab.tables.settings import differing_keys
from slnlab.tables.table import Row, sections

NOTE = """\
Test accuracy in percent, mean ± sample standard deviation over runs: at the last epoch (last), mean of the last 10.
oracle*: at the best epoch, chosen on the test set, so not a result. memorised: percent of the wrongly labelled samples
predicted as their given label. recovered: percent of the flipped ones predicted as their true label. AUROC: of finding
wrong labels by their loss. s/epoch: training time."""
COLUMN_NOTES = {
    "best val": "\nbest val: test accuracy at the epoch of best accuracy on held-out noisy labels.",
    "best clean val": "\nbest clean val: test accuracy at the epoch of best accuracy on a clean validation set.",
    "label wave": (
        "\nlabel wave: at the first minimum of the changes of training predictions from epoch to epoch, else at the "
        "last epoch."
    ),
    "balanced": "\nbalanced: mean test accuracy over the classes at the last epoch.",
    "ECE": QUALITY_NOTE,
    "noisy val": "\nnoisy val: accuracy at the last epoch on held-out training samples against their noisy labels.",
    "cost": """
cost: a run's computing time as a multiple of cross entropy's, measured side by side for each method; a run of cross
entropy that it needs first counts as 1. –: not measured for such a run (init.from, sam.rho, other epochs).""",
}
"""Name of a column that not every table has → its meaning."""
BEST_NOTE = "\n(best epoch): the weights that best_epoch.criterion has chosen, which all its columns describe."
COMPARISON_NOTE = """
vs: mean difference in percentage points at the last epoch [95 % interval], from pairs of runs on the same seed and
noisy labels. With several noise draws, differences are averaged over the seeds of a draw, and draws are the independent
units; otherwise seeds are, and the interval holds for these noisy labels only. p: paired t-test, corrected by Holm over
the comparisons of a table."""

UNBALANCED = 0.01
"""Difference between accuracy and balanced accuracy from which on a table shows both."""

TEXT_COLUMNS = ("method", "setting")
"""Columns of words; the others hold numbers."""


@dataclass(frozen=True)
class Table:
    """The rows of one data set and noise as text."""

    rows: list[Row]
    columns: dict[str, list[str]]
    """Name → a cell per row."""
    remarks: list[str] = field(default_factory=list)
    """What a reader must know before comparing the rows."""
    comparisons: list[Comparison] = field(default_factory=list)
    """A comparison per row with the reference; empty without a reference."""

    @property
    def title(self) -> str:
        """Data set, noise, percentage of wrong labels, epochs."""
        data, noise = self.rows[0].section
        wrong = _span([100 * row.realised_rate for row in self.rows if row.realised_rate is not None], "{:.1f}")
        epochs = _span([row.group.first.epochs for row in self.rows], "{:d}")
        return f"{data}, {noise}" + (f" ({wrong} % of the labels wrong)" if wrong else "") + f", {epochs} epochs"


def make_tables(
    rows: Sequence[Row],
    secondary: bool = False,
    costs: Mapping[str, float] | None = None,
    reference: str | None = None,
    quality: bool = False,
) -> list[Table]:
    """A table per data set and noise.

    Args:
        rows: from `make_rows`.
        secondary: show secondary rows too.
        costs: method → time of a run as a multiple of cross entropy's; adds a column.
        reference: title of a row or name of a method; adds the difference of each row from it.
        quality: add the columns of `quality_columns`.

    Raises:
        ConfigError: `reference` names no row.
    """
    titles = (
        None
        if reference is None
        else reference_names([row for each in sections(rows, secondary) for row in each], reference)
    )
    made = []
    for same in sections(rows, secondary):
        comparisons = [] if titles is None else compare(same, titles)
        columns = _columns(same, costs or {})
        if quality:
            columns |= quality_columns(same)
        if titles:
            columns |= _comparison_columns(comparisons, next(iter(titles)))
        made.append(Table(same, columns, _remarks(same, comparisons), comparisons))
    return made


def note(tables: Sequence[Table]) -> str:
    """The meaning of the columns of all tables."""
    shown = {name for table in tables for name in table.columns}
    if "ECE" in shown:
        shown.discard("balanced")  # the note on ECE names it too
    text = NOTE + "".join(each for name, each in COLUMN_NOTES.items() if name in shown)
    if any(row.title.endswith(OF_BEST_EPOCH) for table in tables for row in table.rows):
        text += BEST_NOTE
    if any(table.comparisons for table in tables):
        text += COMPARISON_NOTE
    return text


def _remarks(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> list[str]:
    remarks = []
    digests = {run.result.unverified_pixels for row in rows for run in row.group.runs} - {None}
    if digests:
        named = ", ".join(sorted(str(digest)[:12] for digest in digests))
        remarks.append(f"Unverified files: the pixels of the training images have the SHA-256 {named}….")
    if unlike := _unlike(rows):
        remarks.append(f"Mind: these rows differ in {unlike}.")
    if not any(key.startswith(("noise.", "data.")) for row in rows for key in row.group.settings):
        hashes = [{run.result.label_noise.get("hash") for run in row.group.runs} for row in rows]
        if any(found != hashes[0] or len(found) > max(1, len(rows[0].group.draws)) for found in hashes):
            remarks.append("Mind: these runs did not all train on the same noisy labels (label_noise.hash differs).")
    uncompared = defaultdict(list)
    for each in comparisons:
        if each.remark and each.reference is not each.row:
            uncompared[each.remark].append(f"{each.row.title} {each.row.group.setting}".strip())
    return remarks + [f"Not compared, as {why}: {'; '.join(names)}." for why, names in uncompared.items()]


def _unlike(rows: Sequence[Row]) -> str:
    """Keys of data, noise, network and trainer in which the rows differ without a setting that shows it."""
    configurations = [flat_identity(row.group.first.identity) for row in rows]
    keys = set().union(*(differing_keys(configurations[0], other) for other in configurations[1:]))
    keys = {key for key in keys if key.startswith(("data.", "noise.", "model.", "trainer."))}
    return ", ".join(sorted(keys.difference(*(row.group.settings for row in rows))))


def _columns(rows: Sequence[Row], costs: Mapping[str, float]) -> dict[str, list[str]]:
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
        if any(map(_imbalanced, rows)):
            columns["balanced"] = show("balanced_accuracy", 2, 100, std=True)
        columns["last 10"] = show("test_mean_last_10", 2, 100)
        if any(row.statistics["test_best_noisy_val"] for row in rows):
            columns["best val"] = show("test_best_noisy_val", 2, 100, std=True)
        if any(row.statistics["test_best_clean_val"] for row in rows):
            columns["best clean val"] = show("test_best_clean_val", 2, 100, std=True)
        if any(row.statistics["test_label_wave"] for row in rows):
            columns["label wave"] = show("test_label_wave", 2, 100, std=True)
        columns["oracle*"] = show("test_oracle", 2, 100)
    elif any(row.statistics["noisy_val_last"] for row in rows):  # runs of a study do not read the test set
        columns["noisy val"] = show("noisy_val_last", 2, 100, std=True)
    columns["memorised"] = show("memorised", 1, 100)
    columns["recovered"] = show("recovered", 1, 100)
    columns["AUROC"] = show("auroc", 3)
    columns["s/epoch"] = show("seconds_per_epoch", 2)
    if costs:
        epochs = epochs_of_cross_entropy(row.group.first for row in rows)
        found = {id(row): cost_of(row.group.first, costs, epochs) for row in rows}
        columns["cost"] = lambda row: "–" if (cost := found[id(row)]) is None else f"{cost:.2f}"
    return {name: [cell(row) for row in rows] for name, cell in columns.items()}


def _imbalanced(row: Row) -> bool:
    """True if classes had different numbers of samples: in training by `data.imbalance`, or visibly in the test set."""
    last, balanced = row.statistics["test_last"], row.statistics["balanced_accuracy"]
    if not (last and balanced):
        return False
    return bool(row.group.first.identity["data"].get("imbalance")) or abs(last.mean - balanced.mean) >= UNBALANCED


def _comparison_columns(comparisons: Sequence[Comparison], title: str) -> dict[str, list[str]]:
    def difference(each: Comparison) -> str:
        if each.mean is None:
            return each.remark if each.reference is each.row else "–"
        between = f" [{each.interval.low:.2f}, {each.interval.high:.2f}]" if each.interval else ""
        return f"{each.mean:+.2f}{between}"

    def p_value(each: Comparison) -> str:
        return "–" if each.p is None else "<0.001" if each.p < 0.001 else f"{each.p:.3f}"

    def pairs(each: Comparison) -> str:
        if each.mean is None:
            return "–"
        return f"{each.pairs} ({each.units} draws)" if each.unit == "noise draw" else str(each.pairs)

    shown = {f"vs {title}": difference, "p": p_value, "pairs": pairs}
    return {name: [cell(each) for each in comparisons] for name, cell in shown.items()}


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
