"""The lines of a results.csv with runs kept beside it (runs.tar.xz) have their runs there, or in another experiment.

Kept runs name no folder of a machine.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from evidence import EXPERIMENTS, read

ARCHIVES = sorted(EXPERIMENTS.rglob("runs.tar.xz"))


@cache
def results(archive: Path) -> list[dict[str, Any]]:
    with tarfile.open(archive) as file:
        texts = [file.extractfile(each) for each in file.getmembers() if each.name.endswith("/result.json")]
        return [json.load(text) for text in texts if text is not None]


@cache
def kept() -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Group and seed → the kept results. Other versions of slnlab may have repeated a run, with the same numbers."""
    found = defaultdict[tuple[str, int], list[dict[str, Any]]](list)
    for result in (result for archive in ARCHIVES for result in results(archive)):
        found[result["group"], result["seed"]].append(result)
    return found


def test_there_are_kept_runs() -> None:
    assert ARCHIVES


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: str(path.parent.relative_to(EXPERIMENTS)))
def test_each_line_of_the_results_has_its_run(archive: Path) -> None:
    lines = read(archive.parent / "results.csv")
    assert {result["group"] for result in results(archive)} & {line["group"] for line in lines}
    for line in lines:
        runs = kept()[line["group"], int(line["seed"])]
        assert runs
        for run in runs:
            row = run["rows"][line["evaluator"]]
            assert line["test_last"] == (str(row["test_accuracy"]["last"]) if row["test_accuracy"] else "")
            assert line["auroc"] == ("" if row["findings"]["auroc"] is None else str(row["findings"]["auroc"]))


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: str(path.parent.relative_to(EXPERIMENTS)))
def test_kept_runs_name_relative_paths_only(archive: Path) -> None:
    with tarfile.open(archive) as file:
        for member in (each for each in file.getmembers() if each.name.endswith((".yaml", ".json"))):
            assert (text := file.extractfile(member)) is not None
            assert re.findall(rb"[\s\"'=](/\w.*)", text.read()) == [], member.name
