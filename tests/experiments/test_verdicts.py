"""The verdict page, the paper's tables and the committed tables of experiments follow from their result files."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import paper_tables
import pytest
import verdicts
from claims import CLAIMS
from evidence import EXPERIMENTS, percent, read, results
from judging import Finding, compared, corrected, ends_higher

from slnlab.errors import DataError

TABLES = sorted(EXPERIMENTS.rglob("table.csv"))
NAMES = ("data", "noise", "noise_rate", "label", "setting")
PAPER = sorted(EXPERIMENTS.glob("*/paper.csv"))


def write(path: Path, *lines: dict[str, object]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for line in lines for key in line)))
        writer.writeheader()
        writer.writerows(lines)


def line(label: str, last: float, *, seed: int = 0, **more: object) -> dict[str, object]:
    """A line of results.csv; `last` in percent."""
    names = {"data": "cifar10", "noise": "sym", "noise_rate": 0.4, "label": label, "setting": "", "group": label}
    measured = {"test_last": last / 100, "test_oracle": last / 100, "epochs": 300, "noise_hash": "a"}
    return {**names, "seed": seed, **measured, **more}


# Committed files


def test_the_committed_pages_follow_from_the_result_files() -> None:
    for path, text in verdicts.pages().items():
        assert path.read_text("utf-8") == text, f"{path.relative_to(EXPERIMENTS)}: make experiments"


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_a_committed_table_names_the_seeds_of_its_runs(path: Path) -> None:
    """`test_committed_tables.py` recomputes its numbers."""
    seeds: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for run in read(path.with_name("results.csv")):
        seeds[tuple(run[name] for name in NAMES)].add(run["seed"])
    assert {tuple(row[name] for name in NAMES): {*row["seeds"].split()} for row in read(path)} == seeds


def test_the_numbers_of_the_sigma_figure_follow_from_its_runs() -> None:
    runs: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for run in results(EXPERIMENTS / "digits_sigma"):
        sigma = re.fullmatch(r"sln\.sigma=(.*)", run["setting"])
        runs[run["noise"], run["label"], f"{float(sigma[1]) if sigma else 0:g}"].append(percent(run, "test_last"))
    points = read(EXPERIMENTS / "digits_sigma" / "sigma.csv")
    assert len(points) == 48
    for point in points:
        values = runs[point["noise"], point["label"], f"{float(point['sigma']):g}"]
        assert float(point["test_last_percent_mean"]) == pytest.approx(fmean(values))
        assert float(point["test_last_percent_std"]) == pytest.approx(stdev(values))


def test_the_costs_of_the_table_are_the_measured_ones() -> None:
    folder = EXPERIMENTS / "methods_digits"
    costs = json.loads((folder / "costs.json").read_text("utf-8"))["cost"]
    method_of = {line["label"]: line["method"] for line in read(folder / "results.csv")}
    first = {line["label"] for line in read(folder / "results.csv") if line["transition_source"] == "estimated"}
    header: list[str] = []
    shown = {}
    for text in (folder / "table.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in text.strip("|").split("|")] if text.startswith("|") else []
        if "cost" in cells:
            header = cells
        elif cells and cells[0] in method_of:
            shown[cells[0]] = cells[header.index("cost")]
    assert len(shown) >= 32
    assert sum(" → " in label for label in shown) == 10
    for label, cost in shown.items():  # a run that starts from others costs theirs, too
        assert cost == ("–" if " → " in label else f"{costs[method_of[label]] + (label in first):.2f}"), label
    assert {label for label in first if label in shown} == {"Forward", "Backward"}


# The paper's numbers


def test_the_papers_tables_are_whole() -> None:
    assert {path.parent.name for path in PAPER} == set(paper_tables.MEASURES)
    counts = {path.parent.name: len(read(path)) for path in PAPER}
    assert counts == {"table1_cifar10": 32, "table2_cifar100": 24, "table3_clothing1m": 15, "table4_sln_first": 24}


def test_the_improvements_that_table_4_prints_follow_from_its_cells() -> None:
    printed = {
        "Co-Teaching": (1.85, 8.18, 3.68, 5.16),
        "SIGUA": (0.51, 9.41, 3.42, 3.68),
        "DivideMix": (0.49, 1.43, 0.65, 1.16),
    }
    cells = read(EXPERIMENTS / "table4_sln_first" / "paper.csv")
    for method, improvements in printed.items():
        alone, after = (
            [float(cell["mean"]) for cell in cells if cell["method"] == name] for name in (method, f"SLN-{method}")
        )
        assert [b - a for a, b in zip(alone, after, strict=True)] == pytest.approx(improvements)


def test_co_teaching_has_the_same_numbers_in_tables_1_and_4() -> None:
    one, four = (
        [(cell["noise"], cell["mean"], cell["std"]) for cell in read(path) if cell["method"] == "Co-Teaching"]
        for path in (PAPER[0], PAPER[3])
    )
    assert one == four


@pytest.mark.parametrize("folder", paper_tables.MEASURES)
def test_the_page_of_a_table_names_its_command_and_state(folder: str) -> None:
    text = (EXPERIMENTS / folder / "README.md").read_text("utf-8")
    assert f"experiment={folder}" in text
    assert ("**State: not run.**" in text) == (not results(EXPERIMENTS / folder))


@pytest.mark.parametrize(
    ("folder", "column", "sweeps"),
    [
        ("table1_cifar10", None, 4 * 5),
        ("table2_cifar100", None, 3 * 5),
        ("table3_clothing1m", "Noisy-class-balanced", 3),
        ("table3_clothing1m", "Standard", 3),
    ],
)
def test_the_estimated_hours_are_the_papers_times(folder: str, column: str | None, sweeps: int) -> None:
    times = read(EXPERIMENTS / folder / "hours.csv")
    mine = [line for line in times if line.get("column") == column and line["method"] != "SLN"]  # in SLN-MO's run
    hours = sweeps * sum(float(line["mean"]) for line in mine)
    assert re.search(rf"\b{hours:.0f}\b", (EXPERIMENTS / folder / "README.md").read_text("utf-8"))


# The paper's cells and our runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paper = {"method": "CE", "column": "Symmetric", "mean": 53.0, "std": 1.0, "n": 5, "rerun": 54.15}
    write(tmp_path / "paper.csv", {**paper, "label": "CE", "noise": "sym", "part": "", "epochs": 300})
    return tmp_path


def verdict(folder: Path) -> str:
    (cell,), _ = paper_tables.cells(folder)
    return cell.verdict


def test_a_cell_without_runs_is_not_run(folder: Path) -> None:
    assert verdict(folder) == "not run"
    assert "| CE | Symmetric | 53.00 ± 1.00 (5) | 54.15 | – | – | *not run* |" in paper_tables.page(folder)


@pytest.mark.parametrize(("means", "expected"), [((52, 54), "agrees"), ((57, 57.5, 58), "above"), ((40,), "below")])
def test_a_cell_is_judged_by_welchs_test(folder: Path, means: tuple[float, ...], expected: str) -> None:
    write(folder / "results.csv", *(line("CE", mean, seed=seed) for seed, mean in enumerate(means)))
    assert verdict(folder) == expected


def test_a_shorter_run_or_another_row_is_no_cell(folder: Path) -> None:
    write(folder / "results.csv", line("CE", 53, epochs=10), line("ELR", 53), line("CE", 53, noise="asym"))
    assert verdict(folder) == "not run"
    text = paper_tables.page(folder)
    assert "No cell of this table: CE (sym, 10 epochs), ELR (sym, 300 epochs), CE (asym, 300 epochs)." in text


def test_the_results_of_a_subfolder_belong_to_its_part(folder: Path) -> None:
    (folder / "standard").mkdir()
    write(folder / "standard" / "results.csv", line("CE", 53))
    assert verdict(folder) == "not run"
    (paper,) = read(folder / "paper.csv")
    write(folder / "paper.csv", {**paper, "part": "standard"})
    assert verdict(folder) == "agrees"


def test_two_configurations_of_a_cell_are_refused(folder: Path) -> None:
    write(folder / "results.csv", line("CE", 53), line("CE", 50, group="other", setting="optimizer.lr=1"))
    with pytest.raises(DataError, match=r"CE, Symmetric has runs of 2 configurations \(the default; optimizer\.lr=1\)"):
        paper_tables.cells(folder)


def test_several_noise_draws_belong_to_one_cell(folder: Path) -> None:
    """The draw is a part of a run's group."""
    write(folder / "results.csv", line("CE", 52), line("CE", 54, group="another draw"))
    (cell,), others = paper_tables.cells(folder)
    assert cell.ours is not None
    assert (cell.ours.mean, cell.ours.n, others) == (53, 2, [])


def test_runs_on_the_authors_label_file_belong_to_the_noise_of_the_file(folder: Path) -> None:
    (published,) = (
        each["hash"]
        for each in read(EXPERIMENTS / "published_noise.csv")
        if (each["data"], each["noise"]) == ("cifar10", "sym")
    )
    mine = line("CE", 53, noise="csv", noise_hash=published)
    write(folder / "results.csv", mine, line("CE", 9, noise="csv", group="other"))
    (cell,), rest = paper_tables.cells(folder)
    assert cell.values == pytest.approx((53,))
    assert [each["noise"] for each in rest] == ["csv"]


# Claims


def found(folder: Path) -> list[tuple[str, str]]:
    judge = compared(results, [("SLN", "CE")], ends_higher)
    return [(finding.verdict, finding.numbers) for finding in judge(folder)]


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((5, 6, 7), ("holds", "+6.00 [+3.52, +8.48] points; 3 of 3 pairs")),  # t(2) = 4.303, times 1 / sqrt 3
        ((-5, -6, -7), ("fails", "-6.00 [-8.48, -3.52] points; 0 of 3 pairs")),
        ((-1, 0, 4), ("undecided", "+1.00 [-5.57, +7.57] points; 1 of 3 pairs")),
        ((3,), ("one run", "+3.00 points; 1 of 1 pairs")),
    ],
)
def test_a_claim_is_judged_on_pairs(tmp_path: Path, differences: tuple[float, ...], expected: tuple[str, str]) -> None:
    ce = [line("CE", 50 + seed, seed=seed) for seed in range(len(differences))]
    sln = [line("SLN", 50 + seed + value, seed=seed) for seed, value in enumerate(differences)]
    write(tmp_path / "results.csv", *ce, *reversed(sln))
    ((verdict, numbers),) = found(tmp_path)
    assert verdict == expected[0]
    assert numbers.endswith(f": {expected[1]}")


def test_draws_of_noisy_labels_are_the_units_where_there_are_several(tmp_path: Path) -> None:
    """Means of the draws: 2, 6, 7; three seeds each, whose spread does not count."""
    pairs = [
        (draw, seed, mean + spread)
        for draw, mean in (("a", 2), ("b", 6), ("c", 7))
        for seed, spread in enumerate((-9, 0, 9))
    ]
    ce = [line("CE", 50, seed=seed, noise_hash=draw) for draw, seed, _ in pairs]
    sln = [line("SLN", 50 + value, seed=seed, noise_hash=draw) for draw, seed, value in pairs]
    write(tmp_path / "results.csv", *ce, *sln)
    ((verdict, numbers),) = found(tmp_path)
    half = 4.302653 * stdev((2, 6, 7)) / 3**0.5
    assert numbers.endswith(f": +5.00 [{5 - half:+.2f}, {5 + half:+.2f}] points; 6 of 9 pairs on 3 draws")
    assert verdict == "undecided"


def test_many_comparisons_of_an_experiment_are_corrected_by_holm() -> None:
    """0.01 · 3, then 0.03 · 2 and 0.04 · 1, which may not fall below it."""
    before = [Finding("", "", "holds", p) for p in (0.03, 0.01, 0.04)] + [Finding("", "", "one run")]
    after = corrected(before)
    assert [each.p for each in after] == [pytest.approx(0.06), pytest.approx(0.03), pytest.approx(0.06), None]
    assert [each.verdict for each in after] == ["undecided", "holds", "undecided", "one run"]
    assert corrected([Finding("", "+1", "fails", 0.01)]) == [Finding("", "+1; p = 0.01", "fails", 0.01)]


def test_runs_with_other_seeds_labels_or_settings_are_no_pair(tmp_path: Path) -> None:
    others = [line("SLN", 60, seed=1), line("SLN", 60, noise_hash="b"), line("SLN", 60, setting="data.flip=true")]
    write(tmp_path / "results.csv", line("CE", 50), *others)
    assert found(tmp_path) == []


def judged(folder: Path, word: str) -> list[str]:
    (claim,) = (claim for claim in CLAIMS if word in claim.text)
    return [finding.verdict for finding in claim.judge(folder)]


def test_no_committed_file_means_not_run(tmp_path: Path) -> None:
    assert [finding for claim in CLAIMS for finding in claim.judge(tmp_path)] == []
    assert verdicts.page([tmp_path]).count("*not run*: ") == len(CLAIMS)


def test_the_drop_is_the_peak_minus_the_last_epoch(tmp_path: Path) -> None:
    runs = [(0, 80, 60, 78, 77), (1, 82, 61, 79, 75), (2, 81, 63, 77, 76)]  # seed, CE's peak and last, SLN's
    lines = [line("CE", last, seed=seed, test_oracle=peak / 100) for seed, peak, last, _, _ in runs]
    lines += [line("SLN", last, seed=seed, test_oracle=peak / 100) for seed, _, _, peak, last in runs]
    write(tmp_path / "results.csv", *lines)
    assert judged(tmp_path, "avoids the drop") == ["holds"]  # 19, 17, 17
    assert judged(tmp_path, "SLN's last epoch is above CE's peak") == ["fails"]  # -3, -7, -5


def test_the_parts_of_an_experiment_are_corrected_apart(tmp_path: Path) -> None:
    runs = [(0, 80, 78.0), (1, 82, 80.6), (2, 81, 78.4)]  # 2 ± .6: p = .029, twice that .057
    lines = [line("SLN", low, seed=seed) for seed, _, low in runs] + [
        line("SLN-MO", high, seed=seed) for seed, high, _ in runs
    ]
    write(tmp_path / "results.csv", *lines)
    (tmp_path / "retired").mkdir()
    more = [{**each, "noise": noise} for each in lines for noise in ("asym", "dependent")]
    write(tmp_path / "retired" / "results.csv", *more)
    (claim,) = (claim for claim in CLAIMS if "momentum model adds" in claim.text)
    assert [each.verdict for each in corrected([*claim.judge(tmp_path)])] == ["holds", "undecided", "undecided"]
    write(tmp_path / "results.csv", *lines, *more)
    assert corrected([*claim.judge(tmp_path)])[0].verdict == "undecided"


def panel(label: str, seed: int = 0) -> dict[str, object]:
    names = {"data": "digits", "noise": "sym", "noise_rate": 0.4, "label": label, "setting": ""}
    return {**names, "seed": seed, "noise_seed": 0}


def test_files_of_analyze_become_verdicts(tmp_path: Path) -> None:
    eigenvalues: list[tuple[str, Any]] = [
        ("CE", 100),
        ("SLN", 1),
        ("CE", 110),
        ("SLN", 1),
        ("CE", ""),
        ("SLN", 1),
        ("CE", -0.3),
        ("SLN", 1),
    ]
    flat = [
        {
            **panel(label, n // 2),
            "largest_hessian_eigenvalue": x,
            "sam_rise_0.1": 1,
            "sam_rise_0.05": 1 / (x if x and x > 0 else 100),
        }
        for n, (label, x) in enumerate(eigenvalues)
    ]
    write(tmp_path / "flatness.csv", *flat)
    write(
        tmp_path / "density.csv",
        *(
            {**panel(label), "given_labels": kind, "mean_probability": value, "from": bin_}
            for label, kind, value in (
                ("CE", "correct", 0.9),
                ("CE", "wrong", 0.8),
                ("SLN", "correct", 0.7),
                ("SLN", "wrong", 0.1),
            )
            for bin_ in (0, 0.5)
        ),
    )
    purity = [("CE", 0.7), ("SLN", 0.95)]
    halves = [{**panel(label), "interval": n, "small_loss_half_purity": x} for label, x in purity for n in (1, 2)]
    write(tmp_path / "dissection.csv", *halves)
    three = [{**panel("SLN"), "proposition": n, "r_squared_of_all": r} for n, r in ((1, 0.999), (2, 1.0), (3, 0.5))]
    write(tmp_path / "propositions.csv", *three)
    assert judged(tmp_path, "Hessian") == ["holds"]
    assert judged(tmp_path, "SAM") == ["fails"]
    assert judged(tmp_path, "less confident in wrong") == ["one run"]
    assert judged(tmp_path, "mostly on wrong") == ["one run"]
    assert judged(tmp_path, "Selection by small loss") == ["one run"]
    assert judged(tmp_path, "predicted standard deviation") == ["one run", "one run", "fails"]
    write(tmp_path / "propositions.csv", *three, *({**each, "seed": 1} for each in three))
    assert judged(tmp_path, "predicted standard deviation") == ["holds", "holds", "fails"]


def test_the_weightings_are_paired_and_the_seeds_of_a_draw_averaged(tmp_path: Path) -> None:
    """Draw means +1 and +2: 1.5 ± 12.706·.5, one degree of freedom, although three seeds of each agree."""

    def runs(differences: dict[str, float]) -> list[dict[str, object]]:
        return [
            line(
                "SLN-MO-LC",
                80 + (way == "loss") * more,
                seed=seed,
                noise_hash=draw,
                setting=f"correction.weighting={way}",
            )
            for draw, more in differences.items()
            for seed in range(3)
            for way in ("loss", "inverse")
        ]

    (claim,) = (claim for claim in CLAIMS if "grow with its loss" in claim.text)
    write(tmp_path / "results.csv", *runs({"a": 1, "b": 2}))
    (finding,) = claim.judge(tmp_path)
    assert finding.verdict == "undecided"
    assert "inverse 80.00 · loss 81.50: +1.50 [-4.85, +7.85] points; 6 of 6 pairs on 2 draws" in finding.numbers
    write(tmp_path / "results.csv", *runs({"a": 1.0, "b": 1.1, "c": 1.2}))
    assert judged(tmp_path, "grow with its loss") == ["holds"]


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ((60, 90, 55), ["holds"]),
        ((60, 60.5, 55), ["undecided"]),
        ((60, 59.5, 55), ["undecided"]),  # the best is an end, yet not significantly
        ((60, 50, 55), ["fails"]),
        ((60, 90), []),  # no σ within
    ],
)
def test_the_best_sigma_lies_within_the_grid(tmp_path: Path, means: tuple[float, ...], expected: list[str]) -> None:
    names = {"data": "digits", "noise": "sym", "noise_rate": 0.4, "label": "SLN", "num_seeds": 3}
    points = [
        {**names, "sigma": sigma, "test_last_percent_mean": mean, "test_last_percent_std": 1}
        for sigma, mean in zip((0, 0.5, 2), means, strict=False)
    ]
    write(tmp_path / "sigma.csv", *reversed(points))
    assert judged(tmp_path, "small σ overfits") == expected
