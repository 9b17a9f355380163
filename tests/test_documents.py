"""Documents that describe the code say what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from slnlab.config import CONF_DIR, compose
from slnlab.result import Result

ROOT = Path(__file__).resolve().parents[1]


def test_the_published_schema_is_the_one_in_force() -> None:
    """Written by: python -m slnlab.result > docs/result.schema.json"""
    assert json.loads((ROOT / "docs" / "result.schema.json").read_text()) == Result.model_json_schema()


def test_the_readme_lists_every_choice() -> None:
    readme = (ROOT / "README.md").read_text()
    for group in ("data", "noise", "method", "model", "loss", "logger"):
        (row,) = re.findall(rf"^\| `{group}` \|.*$", readme, re.MULTILINE)
        for option in (CONF_DIR / group).glob("*.yaml"):
            assert f"`{option.stem}`" in row, f"{group}={option.stem}"


def test_the_readme_names_the_methods_that_mixup_and_sam_do_not_go_with() -> None:
    (row,) = re.findall(r"^\| `mixup.alpha`, `sam.rho` \|.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    of_mixup, of_sam = row.split("except mixup beside ")[1].split(", and SAM beside ")
    methods = [compose([f"method={path.stem}"]).method for path in (CONF_DIR / "method").glob("*.yaml")]
    for key, said in (("mixup.alpha", of_mixup), ("sam.rho", of_sam)):
        single = {method.name for method in methods if method.get("networks", 1) == 1 and key in method.refuses}
        assert set(re.findall(r"`(\w+)`", said)) == single


def test_every_file_the_readme_points_to_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", readme) if not target.startswith("http")]
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


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
            if path.suffix in {".py", ".yaml", ".md", ".csv", ".json", ".sh"}:
                text = path.read_text()
                assert not any(name in text for name in names), path


def test_the_tables_on_the_pages_are_the_committed_results() -> None:
    table = [line for line in (ROOT / "experiments/demo/table.md").read_text().splitlines() if line.startswith("|")]
    assert len(table) >= 6
    for page in ("README.md", "experiments/demo/README.md"):
        assert "\n".join(table) in (ROOT / page).read_text(), f"{page}: made anew by make experiments/demo?"
