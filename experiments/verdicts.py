"""Does the paper hold? The verdict page and the paper's tables, from the committed result files.

`make experiments` writes `experiments/README.md`, a `table.md` for each of the paper's tables, and the generated parts
of `experiments/methods/README.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import leaders
import paper_tables
from claims import CLAIMS, Claim
from evidence import EXPERIMENTS, table
from judging import Finding, corrected

NOT_RUN = "not run"

INTRODUCTION = """\
# Does the paper hold?

`make experiments` writes this page and the four tables from the committed result files. A test fails when they no
longer follow. The rules are in [`claims.py`](claims.py).

A claim is judged in every experiment that has its rows, on pairs of runs with the same seed and noisy labels.
**holds**: the mean difference is on the claim's side, and p < 0.05; **fails**: on the other side; **undecided**:
neither; **one run**: a single pair has no interval. p is that of the paired t-test, corrected by Holm's method over
the comparisons of an experiment, its parts (subfolders) apart; the interval is that of 95 % before the correction.
With several draws of noisy labels the draws are the independent units, and the seeds of a draw are averaged;
otherwise the seeds are, and the interval holds for these labels only.

Accuracies are test accuracies in percent, peak → last epoch. The peak is chosen on the test set, as in the paper's
figures. The experiments here are small; the paper's own (CIFAR with WRN-28-2 for 300 epochs, Clothing1M) are the four
tables.
"""


def page(folders: Sequence[Path]) -> str:
    """The text of `README.md`.

    Args:
        folders: of the experiments.
    """
    judged = [
        (claim, [finding for folder in folders for finding in corrected([*claim.judge(folder)])]) for claim in CLAIMS
    ]
    summary = [
        [f"[{claim.text}](#{number})", claim.source, _counts([finding.verdict for finding in found])]
        for number, (claim, found) in enumerate(judged, 1)
    ]
    parts = [
        INTRODUCTION,
        "## The paper's tables\n",
        table(["table", "cells", "sweep"], [_table_line(name) for name in paper_tables.MEASURES]) + "\n",
        "## The claims\n",
        table(["claim", "paper", "here"], summary) + "\n",
        *(_section(number, claim, found) for number, (claim, found) in enumerate(judged, 1)),
    ]
    return "\n".join(parts)


def _table_line(name: str) -> list[str]:
    found, _ = paper_tables.cells(EXPERIMENTS / name, paper_tables.MEASURES[name])
    return [f"[{name}]({name}/table.md)", _counts([cell.verdict for cell in found]), f"[command]({name}/README.md)"]


def _counts(verdicts: Sequence[str]) -> str:
    """The verdicts with their numbers, as `holds 3 · fails 1`."""
    order = ("holds", "agrees", "undecided", "above", "below", "fails", "one run", "single values", NOT_RUN)
    return " · ".join(f"{name} {verdicts.count(name)}" for name in order if name in verdicts) or NOT_RUN


def _section(number: int, claim: Claim, found: Sequence[Finding]) -> str:
    head = f'### <a id="{number}"></a>{claim.text} ({claim.source})\n\nHolds if {claim.rule}.\n'
    if not found:
        return f"{head}\n*{NOT_RUN}*: {claim.command}\n"
    return f"{head}\n{table(['experiment', 'numbers', 'verdict'], [list(each[:3]) for each in found])}\n"


def folders() -> list[Path]:
    """The folders of all experiments, by name."""
    return sorted(path for path in EXPERIMENTS.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))


def pages() -> dict[Path, str]:
    """File → text of every generated page."""
    return {EXPERIMENTS / "README.md": page(folders()), leaders.PAGE: leaders.page(), **paper_tables.pages()}


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(EXPERIMENTS.parent))


if __name__ == "__main__":
    main()
