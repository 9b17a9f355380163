"""`table.tex`: its structure, its escapes, and which rows are bold."""

from __future__ import annotations

import re

import pytest

from slnlab.report import report
from slnlab.tables.comparison import best_and_ties
from slnlab.tables.latex import escaped
from slnlab.tables.runs import find_runs, group_runs
from slnlab.tables.table import make_rows


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b & 40 % #1 {x} $", r"a\_b \& 40 \% \#1 \{x\} \$"),
        (r"C:\new~1^2", r"C:\textbackslash{}new\textasciitilde{}1\textasciicircum{}2"),
        ("93.00 ± 3.61", r"93.00 $\pm$ 3.61"),
        ("-1.20 [-2.10, 0.30]", r"$-$1.20 [$-$2.10, 0.30]"),
        ("SLN-MO-LC, co-teaching, 1e-05", "SLN-MO-LC, co-teaching, 1e-05"),
        ("σ=1, 0–2, –, <0.001", r"$\sigma$=1, 0--2, --, \textless{}0.001"),
    ],
)
def test_special_characters_are_escaped(text, latex):
    assert escaped(text) == latex


def test_each_environment_is_whole(make_run, tmp_path):
    for seed in (0, 1):
        for noise in ("sym", "asym"):
            make_run(f"runs/{noise}-ce{seed}", [0.5 + seed / 10], seed=seed, noise=noise)
            for size in (100, 200):
                settings = {"data": {"train_size": size}}
                make_run(f"runs/{noise}{size}{seed}", [0.7 + seed / 10], seed=seed, noise=noise, method="sln",
                         settings=settings)  # fmt: skip
    report([tmp_path / "runs"], tmp_path / "out", reference="ce")
    text = (tmp_path / "out/table.tex").read_text(encoding="utf-8")
    assert text.count("{") == text.count("}")
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    opened = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    tables = text.split(r"\begin{table}")[1:]
    assert len(tables) == 2
    for table in tables:
        rules = [re.search(rf"\\{rule}rule", table).start() for rule in ("top", "mid", "bottom")]
        assert rules == sorted(rules)
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", table)[1])
        lines = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert len(lines) == 1 + 1 + 4
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
        assert r"train\_size=100" in table
        assert "contains zero" in table
    assert not re.search(r"(?<!\\)[%#_]", text.split("\n", 1)[1])


def test_remarks_and_the_meaning_of_the_columns_stand_below_the_table(make_run, tmp_path):
    make_run("runs/sln", method="sln")
    make_run("runs/ce", settings={"data": {"train_size": 10}})
    report([tmp_path / "runs"], tmp_path / "out")
    below = (tmp_path / "out/table.tex").read_text(encoding="utf-8").split(r"\end{tabular}")[1]
    assert r"Mind: these rows differ in data.train\_size." in below
    assert "memorised: percent of the wrongly labelled samples" in below
    assert below.endswith("\n\\end{table}")


def ties(path) -> set[str]:
    rows = make_rows(group_runs(find_runs([path]).runs))
    return {rows[place].title for place in best_and_ties(rows)}


def test_ties_by_the_paired_interval(make_run, tmp_path):
    # SLN-MO is the network of SLN plus one point in each run: never a tie, however widely the seeds are spread.
    for seed, accuracy in enumerate((0.5, 0.7, 0.9)):
        make_run(f"sln{seed}", [accuracy], method="sln", seed=seed)
        make_run(f"ce{seed}", [accuracy + (0.03, -0.01, -0.02)[seed]], seed=seed)  # differences −2 ± 1.5 points
    assert ties(tmp_path) == {"SLN-MO", "CE"}


def test_ties_by_welch_without_pairs(make_run, tmp_path):
    for seed, accuracy in enumerate((0.80, 0.84, 0.88)):
        make_run(f"sln{seed}", [accuracy], method="sln", seed=seed)
        make_run(f"ce{seed}", [accuracy - 0.03], seed=seed + 10)
        make_run(f"lc{seed}", [accuracy / 2], method="sln_mo_lc", seed=seed + 20)
    assert ties(tmp_path) == {"SLN-MO", "CE"}


def test_single_runs_have_no_ties_but_equal_ones(make_run, tmp_path):
    make_run("ce", [0.5])
    make_run("sln", [0.49], method="sln")
    assert ties(tmp_path) == {"CE", "SLN-MO"}
    make_run("other", [0.6], method="sln_mo_lc")
    assert ties(tmp_path) == {"SLN-MO-LC"}


def test_the_best_is_bold(make_run, tmp_path):
    make_run("runs/ce", [0.5])
    make_run("runs/sln", [0.7], method="sln")
    report([tmp_path / "runs"], tmp_path / "out")
    text = (tmp_path / "out/table.tex").read_text(encoding="utf-8")
    assert re.findall(r"\\textbf\{(.*?)\}", text) == ["71.00"]
