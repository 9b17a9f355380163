"""Tables as LaTeX with booktabs: the best accuracy and its ties in bold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from slnlab.tables.comparison import best_and_ties
from slnlab.tables.layout import TEXT_COLUMNS, Table, note

ESCAPES = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "–": "--", "−": "$-$", "×": r"$\times$",
    "σ": r"$\sigma$", "²": r"\textsuperscript{2}", "…": r"\dots{}",
}  # fmt: skip
"""Characters with a meaning in LaTeX, and those that a font of an old engine may lack."""

BOLD = ("last", "noisy val")
"""Columns of the accuracy that decides which row is best."""

CAPTION = (
    "Test accuracy in percent at the last epoch, mean ± sample standard deviation over runs. Bold: the best row, and "
    "every row whose 95 % interval of the difference from it contains zero (paired on seed and noisy labels where at "
    "least two pairs exist, else Welch)."
)
STUDY_CAPTION = CAPTION.replace("Test accuracy", "Accuracy on held-out noisy labels")


def latex(tables: Sequence[Table]) -> str:
    """A `table` environment per table, for `\\input` into a document that loads booktabs.

    Below each table stand its remarks and the meaning of its columns.
    """
    return "\n".join(["% Needs \\usepackage{booktabs}.", *map(_environment, tables)])


def _environment(table: Table) -> str:
    bold = best_and_ties(table.rows)
    names = list(table.columns)
    lines = []
    for place in range(len(table.rows)):
        cells = {name: escaped(cells[place]) for name, cells in table.columns.items()}
        for name in BOLD:
            if name in cells and place in bold:
                cells[name] = rf"\textbf{{{cells[name]}}}"
        line = " & ".join(cells.values()) + r" \\"
        lines.append("{}" + line if line.startswith(("[", "*")) else line)  # else an option of the row before
    caption = f"{table.title}. " + (CAPTION if "last" in table.columns else STUDY_CAPTION)
    return "\n".join(
        [
            "",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escaped(caption)}}}",
            rf"  \begin{{tabular}}{{{''.join('l' if name in TEXT_COLUMNS else 'r' for name in names)}}}",
            r"    \toprule",
            "    " + " & ".join(map(escaped, names)) + r" \\",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"  \par\medskip\raggedright\footnotesize",
            *(f"  {escaped(line)}" for line in "\n".join([*table.remarks, note([table])]).splitlines()),
            r"\end{table}",
        ]
    )


def escaped(text: str) -> str:
    """The text as LaTeX typesets it. Other characters stay as they are: modern engines read UTF-8.

    >>> escaped("train_size=100 & 40 %")
    'train\\\\_size=100 \\\\& 40 \\\\%'
    """
    text = "".join(ESCAPES.get(character, character) for character in text)
    return re.sub(r"(?<![\w{-])-(?=\d)", "$-$", text)  # a minus is no hyphen
