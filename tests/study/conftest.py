"""Shared by the tests of studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slnlab.study import runs
from slnlab.study.plan import StudyRun


@pytest.fixture(autouse=True)
def in_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fake_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs that take no time: their held-out accuracy is what `sln.sigma` says, and `done` lists them."""
    done: list[str] = []

    def train_run(run: StudyRun, wait: bool = False, watch: Any = None) -> None:
        done.append(str(run))
        run.directory.mkdir(parents=True, exist_ok=True)
        accuracy = {"0.1": 0.5, "0.2": 0.625, "0.5": 0.625, "1": 0.25}[run.values["sln.sigma"]]
        rows = "\n".join(f"{epoch},{accuracy if epoch == 2 else 0}" for epoch in (1, 2))
        (run.directory / "metrics.csv").write_text(f"epoch,val/network/accuracy\n{rows}\n")

    monkeypatch.setattr(runs, "train_run", train_run)
    return done
