"""Average ranks of methods over blocks of runs, and the difference that chance explains (Demšar, 2006)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import NamedTuple

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from slnlab.errors import ConfigError
from slnlab.tables.comparison import values_by_run
from slnlab.tables.statistics import LEVEL
from slnlab.tables.table import Row


class Ranks(NamedTuple):
    """Average ranks of k methods over N blocks; rank 1 is the most accurate."""

    average: dict[str, float]
    """Method → average rank in [1, k], the best first."""
    blocks: int
    """N."""
    difference: float | None
    """Critical difference of Nemenyi's test: smaller differences of average ranks are chance. None: one block."""
    p: float | None
    """p-value of Friedman's test that all methods are alike; None: one block, or two methods."""

    def groups(self) -> list[list[str]]:
        """The longest runs of methods, best first, whose average ranks differ by less than the critical difference."""
        names = list(self.average)
        found: list[list[str]] = []
        for first, name in enumerate(names):
            alike = [other for other in names[first:] if self._alike(name, other)]
            if len(alike) > 1 and not (found and alike[-1] == found[-1][-1]):
                found.append(alike)
        return found

    def _alike(self, one: str, other: str) -> bool:
        return self.difference is not None and abs(self.average[one] - self.average[other]) < self.difference


def average_ranks(accuracies: Mapping[str, Sequence[float]]) -> Ranks:
    """Rank the methods in each block, equal accuracies with their mean rank, and average.

    The critical difference is q·√(k(k + 1)/(6N)), with the quantile q of the studentised range over √2.

    Args:
        accuracies: method → its accuracy in each block, of equal order and number.

    Raises:
        ConfigError: there are fewer than two methods, or they have different numbers of blocks, or none.
    """
    values = [list(row) for row in accuracies.values()]
    if len(values) < 2 or len({len(row) for row in values}) > 1 or not values[0]:
        raise ConfigError("ranks need at least two methods with an accuracy in each of the same blocks")
    table = np.array(values)  # (k, N)
    (k, blocks), ranks = table.shape, rankdata(-table, axis=0)
    means = dict(zip(accuracies, ranks.mean(1).tolist(), strict=True))
    average = dict(sorted(means.items(), key=lambda item: item[1]))
    if blocks == 1:
        return Ranks(average, blocks, None, None)
    quantile = float(studentized_range.ppf(LEVEL, k, np.inf)) / np.sqrt(2)
    p = None
    if k > 2:  # with equal methods the statistic is 0/0
        p = 1.0 if (table == table[0]).all() else float(friedmanchisquare(*table).pvalue)
    return Ranks(average, blocks, float(quantile * np.sqrt(k * (k + 1) / (6 * blocks))), p)


def accuracies_by_block(rows: Sequence[Row]) -> tuple[dict[str, list[float]], list[str]]:
    """The test accuracies in percent of methods in blocks that are independent draws, and remarks on missing ones.

    Each data set and noise has a block per draw of noisy labels, with the mean over the seeds that all methods have
    there, or over each one's own if they share none; or a block per seed if all its runs share their labels. A method
    counts by its title, and by title and setting where several settings share it.

    Args:
        rows: from `make_rows`, to be ranked; rows without a test accuracy are left out.

    Returns:
        (title → accuracy in each block, for titles with all blocks; remarks).
    """
    blocks: dict[str, dict[Hashable, dict[int, float]]] = defaultdict(dict)  # title → block → seed → accuracy
    tested = [row for row in rows if row.statistics["test_last"]]
    for section, same in groupby(tested, key=lambda row: row.section):
        of_section = [(row, values_by_run(row, "test_last")) for row in same]
        titles = Counter(row.title for row, _ in of_section)
        several = len({labels for _, values in of_section for _, labels in values}) > 1
        for row, values in of_section:
            title = row.title if titles[row.title] == 1 else f"{row.title} {row.group.setting}"
            for (seed, labels), value in values.items():
                blocks[title].setdefault((section, labels if several else seed), {})[seed] = value
    every = sorted({block for found in blocks.values() for block in found}, key=str)
    lacking = {title: len(every) - len(found) for title, found in blocks.items() if len(found) < len(every)}
    remarks = [f"not ranked: {title} lacks {count} of {len(every)} blocks" for title, count in lacking.items()]
    whole = {title: [found[block] for block in every] for title, found in blocks.items() if title not in lacking}
    seeds = [[{*found} for found in same] for same in zip(*whole.values(), strict=True)]
    common = [set.intersection(*same) for same in seeds]
    if uneven := sum(any(each != shared for each in same) for same, shared in zip(seeds, common, strict=True)):
        remarks.append(
            f"in {uneven} of {len(every)} blocks methods have runs of other seeds: those that all have count, or each "
            "method's own where they share none"
        )
    means = {
        title: [fmean(found[seed] for seed in shared or found) for found, shared in zip(row, common, strict=True)]
        for title, row in whole.items()
    }
    return means, remarks
