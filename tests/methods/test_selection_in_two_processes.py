"""Methods that select, or have two networks, in two real processes and in one: the same choices and networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from selecting import train_all

from slnlab.processes import in_processes

CASES: dict[str, tuple[str, ...]] = {
    "co_teaching": ("method=co_teaching", "method.ramp_epochs=2", "method.forget_rate=estimated", "sln.sigma=0.3"),
    "sigua": ("method=sigua", "method.ramp_epochs=2", "method.gamma=0.1", "method.bad_fraction=0.5"),
    "jocor": ("method=jocor", "method.ramp_epochs=2"),
    "co_teaching_plus": ("method=co_teaching_plus", "method.ramp_epochs=2", "method.init_epochs=1"),
    "elr_plus": ("method=elr_plus",),
    "dividemix": ("method=dividemix", "method.warm_up_epochs=1", "method.lambda_u=25.0", "method.average_losses=2"),
    "dividemix_labelled_rows": ("method=dividemix", "method.warm_up_epochs=1", "method.lambda_u=null"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """All cases in one pair of processes, since starting them takes longer than training."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    train_all(alone, CASES, 1)
    in_processes(2, False, train_all, together, CASES, 2)
    return alone, together


@pytest.mark.parametrize("name", CASES)
def test_two_processes_select_and_learn_as_one(name: str, folders: tuple[Path, Path]) -> None:
    alone, together = folders

    def load(path: Path) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(path, weights_only=True)
        return found

    one, two = load(alone / f"{name}.0.pt"), [load(together / f"{name}.{rank}.pt") for rank in (0, 1)]
    if "selected" in one["table"]:
        assert 0 < one["table"]["selected"].float().mean() < 1, "there was something to choose"
    for process in two:
        assert process["steps"] == one["steps"]
        for column, wanted in one["table"].items():
            torch.testing.assert_close(process["table"][column], wanted, rtol=1e-4, atol=1e-5, msg=column)
        for key, wanted in one["state"].items():
            torch.testing.assert_close(process["state"][key], wanted, rtol=1e-5, atol=1e-6, msg=key)
    for row, wanted in zip(two[0]["rows"], one["rows"], strict=True):
        assert row == pytest.approx(wanted, rel=1e-4)
