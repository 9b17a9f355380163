"""Documents agree with the code."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from slnlab.config import CONF_DIR
from slnlab.record.result import Result

ROOT = Path(__file__).resolve().parents[1]


def test_the_published_schema_is_current() -> None:
    """Written by: python -m slnlab.record.result > docs/result.schema.json"""
    assert json.loads((ROOT / "docs" / "result.schema.json").read_text()) == Result.model_json_schema()


def test_no_make_target_uses_an_undefined_variable() -> None:
    """Such a line runs an empty command and makes nothing."""
    (listed,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    given = [f"{name}=given" for name in ("CIFAR", "CLOTHING", "HUMAN", "LABELS")]  # the user's files
    command = ["make", "--dry-run", "--warn-undefined-variables", *given, *listed.split()]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert planned.stdout.count("slnlab.train") > 10
    assert "undefined variable" not in planned.stderr


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_readme_names_the_defaults() -> None:
    readme = (ROOT / "README.md").read_text()
    lines = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (`\w+`(?:, `\w+`)*) \|", readme, re.MULTILINE)
    rows = [pair for line in lines for pair in zip(*(re.findall(r"\w+", cell) for cell in line), strict=True)]
    assert len(rows) == 8
    defaults = {
        key: value for entry in train_yaml()["defaults"] if isinstance(entry, dict) for key, value in entry.items()
    }
    assert all(default == defaults[group] for group, default in rows)


def train_yaml() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CONF_DIR / "train.yaml").read_text())
    return loaded


def test_the_pages_list_every_choice() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text().partition("## Groups")[2].partition("\n## ")[0]
    for group in ("data", "noise", "method", "model", "loss", "logger", "launcher", "optimizer", "scheduler"):
        (row,) = re.findall(rf"^\| `{group}` \| `.*$", page, re.MULTILINE)
        options = {option.stem for option in (CONF_DIR / group).glob("*.yaml")}
        assert options <= set(re.findall(r"`(\w+)`", row)), group
    for name, group in (("data", "data"), ("noise", "noise"), ("methods/index", "method")):
        page = (ROOT / "docs" / f"{name}.md").read_text()
        for option in (CONF_DIR / group).glob("*.yaml"):
            assert re.search(rf"^\|.*`{option.stem}`", page, re.MULTILINE), f"{name}.md: {group}={option.stem}"


PAGES = ["README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_linked_file_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    for target, anchor in re.findall(r"\]\(([^)#]+)(?:#([^)]*))?\)", text):
        path = (ROOT / page).parent / target
        assert target.startswith("http") or path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in headings}, anchor


def test_the_walk_of_a_label_names_files_that_exist() -> None:
    page = (ROOT / "docs" / "how-it-works.md").read_text()
    places = re.findall(r"^\| `([\w/.]+)` \|", page, re.MULTILINE)
    assert len(places) >= 8
    for place in places:
        assert (ROOT / "src" / "slnlab" / place).exists(), place


def test_every_page_is_linked_from_the_index() -> None:
    index = set(re.findall(r"^[\w/-]+$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE))
    assert index >= {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}


def test_the_citation_file_is_valid_yaml_with_paper_and_software() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["type"] == "software"
    (paper,) = citation["references"]
    assert paper["title"].startswith("Noise against noise")
    assert len(paper["authors"]) == 5


def test_no_path_of_a_private_machine_is_in_the_project() -> None:
    names = ("/" + "root/", "/" + "work/", "/" + "home/")
    for folder in ("src", "conf", "tests", "examples", "experiments", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if "_build" not in path.parts and path.suffix in {".py", ".yaml", ".md", ".csv", ".json", ".sh"}:
                text = path.read_text()
                assert not any(name in text for name in names), path


def test_the_tables_on_the_pages_are_the_committed_results() -> None:
    for page, study, noise in (("README.md", "fashion_mnist", "sym"), ("experiments/demo/README.md", "demo", "sym")):
        tables = (ROOT / "experiments" / study / "table.md").read_text().split("### ")
        (chosen,) = (each for each in tables if f", {noise} 0.4" in each.partition("\n")[0])
        table = [line for line in chosen.splitlines() if line.startswith("|")]
        assert len(table) >= 6
        assert "\n".join(table) in (ROOT / page).read_text(), f"{page}: made anew by make experiments/{study}?"


def last(study: str, noise: str) -> dict[str, str]:
    """Test accuracy at the last epoch, by row title, in a committed table."""
    tables = (ROOT / "experiments" / study / "table.md").read_text().split("### ")
    (table,) = (each for each in tables if f", {noise} 0.4" in each.partition("\n")[0])
    return dict(re.findall(r"^\| (\S.*?) +\| +\d+ \([^|]*\| +([\d.]+) ±", table, re.MULTILINE))


def test_the_readme_says_what_a_tuned_rival_reaches() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    with (ROOT / "experiments" / "methods" / "methods_memorising" / "pareto.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if (line["label"], line["noise"]) == ("ELR", "sym")]
    (tuned,) = (float(line["test_last_percent_mean"]) for line in lines)
    assert f"ELR with a λ chosen on noisy labels](experiments/methods/README.md) ends at {tuned:.1f})" in text


def test_the_evidence_shows_committed_results() -> None:
    evidence = (ROOT / "README.md").read_text().partition("## Evidence")[2]
    demo = last("demo", "sym")
    assert f"SLN-MO-LC ends at {demo['SLN-MO-LC']} %, CE at {demo['CE']} %" in evidence
    rows = last("methods_digits", "sym")
    best = max(rows, key=lambda row: float(rows[row]))
    assert f"{best} leads under symmetric noise at {rows[best]} %" in evidence
    with (ROOT / "experiments" / "methods" / "methods" / "rank.csv").open(newline="") as file:
        first, second, *_ = ranks = list(csv.DictReader(file))
    assert (
        f"{first['label']} has the best average rank, {float(first['average_rank']):.1f} of {len(ranks)} rows"
        in evidence
    )
    assert f"{second['label']} {float(second['average_rank']):.1f} at seven times the cost" in evidence
    recipe = last("recipe", "asym")
    said = f"{recipe['slnlab']} % under asymmetric noise, DivideMix {recipe['DivideMix (ensemble)']} % at six times"
    assert f"{said} the cost, SLN-MO-LC {recipe['SLN-MO-LC']} %" in evidence
    reliability = (ROOT / "docs" / "reliability.md").read_text()
    for study in ("kill_matrix", "requeue_matrix"):
        with (ROOT / "experiments" / study / "results.csv").open(newline="") as file:
            differences = [row["differences"] for row in csv.DictReader(file)]
        said = f"{differences.count('')} of {len(differences)} "
        assert f"({'experiments/' + study}/README.md) | {said}" in evidence
        assert re.search(rf"{study}/README\.md\).*\| {said}\|$", reliability, re.MULTILINE)


def test_the_table_of_found_labels_has_the_committed_numbers() -> None:
    """Means over the seeds that have folds of cleanlab."""
    with (ROOT / "experiments" / "diagnosis" / "scores.csv").open(newline="") as file:
        scores = [row for row in csv.DictReader(file) if row["data"].startswith("fashion_mnist")]
    cleanlab = "cleanlab: self-confidence"
    readme = (ROOT / "README.md").read_text()
    for title, row, score in (
        ("CE, mean probability", "CE", "mean_probability"),
        ("slnlab, mean probability", "slnlab", "mean_probability"),
        ("cleanlab, five folds of CE", "CE", cleanlab),
    ):
        cells = []
        for noise in ("sym", "asym", "dependent", "open_set"):
            here = [each for each in scores if each["noise"] == f"{noise} 0.4"]
            folded = {(each["seed"], each["noise_hash"]) for each in here if each["score"] == cleanlab}
            same = [each for each in here if (each["seed"], each["noise_hash"]) in folded]
            found = [float(each["auroc"]) for each in same if (each["row"], each["score"]) == (row, score)]
            assert len(found) == len(folded) >= 1
            cells.append(f"{fmean(found):.3f}".removeprefix("0"))
        line = re.escape(" | ".join(cells))
        assert re.search(rf"^\| {title} \| [\d.]+ \| {line} \|$", readme, re.MULTILINE), title
