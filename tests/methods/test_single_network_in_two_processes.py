"""Every single-network method in two processes is the method in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_every_method import SINGLE
from together import COMMON, assert_same_bits, come_to, fit_each

from slnlab.processes.starting import in_processes

IN_THREE_EPOCHS = {
    "cores2": ["method.ramp=[0,2]", "method.sieve_from=2"],
    "forward": ["method.transition=known"],
    "backward": ["method.transition=known"],
    "pes": [
        "method.early_epochs=1",
        "method.stage_epochs=2",
        "method.classifier_epochs=1",
        "method.refining_lr=0.01",
        "method.last_stage=[layers.2]",
        "method.classifier=[layers.4]",
        "momentum.enabled=true",
    ],
    "pes_semi": [
        "method.early_epochs=1",
        "method.classifier_epochs=2",
        "method.refining_lr=0.01",
        "method.classifier=[layers.4]",
        "method.steps=3",
        "method.lambda_u_ramp=1",
        "momentum.enabled=true",
    ],
    "sln_mo_lc": ["correction.last_epochs=1"],
    "sop": ["method.lr_u=100000", "method.lr_v=100000"],  # so that u and v leave their beginning
    "sop_plus": ["method.lr_u=100000", "method.lr_v=100000"],
    "truncated_gce": ["method.first_pruning=2", "method.pruning_every=1", "method.truncation=0.11"],
}

RUNS = {
    **{name: [*COMMON, f"method={name}", *IN_THREE_EPOCHS.get(name, [])] for name in SINGLE},
    "everything": [*COMMON, "method=elr", "sln.sigma=0.5", "sam.rho=0.1", "momentum.enabled=true"],
    "mixed": [*COMMON, "method=anl_ce", "sln.sigma=0.5", "sam.rho=0.1", "mixup.alpha=1"],
}


REMEMBERING = ("cores2", "early_stopping", "everything", "pes", "sln_mo_lc", "sop_plus")
"""What is more than weights, optimiser and given labels must come back too, in every process."""


@pytest.fixture(scope="module")
def came_to(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    fit_each(RUNS, alone)
    in_two = {name: [*overrides, "trainer.devices=2"] for name, overrides in RUNS.items()}
    in_processes(2, False, ["slnlab.training.assemble"], fit_each, in_two, together, REMEMBERING)
    return alone, together


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_are_one(name: str, came_to: tuple[Path, Path]) -> None:
    alone, together = came_to
    wanted = come_to(alone, name)
    for rank in (0, 1):
        found = come_to(together, name, rank)
        assert found.keys() == wanted.keys()
        for key, tensor in wanted.items():
            # Columns are float32, and logarithms of what is left of 1 lose digits.
            exact = tensor.dtype == torch.float64
            torch.testing.assert_close(
                found[key], tensor, rtol=1e-6 if exact else 1e-4, atol=1e-8 if exact else 1e-6, msg=f"{key} of {rank}"
            )
    if name in ("cores2", "pes", "pes_semi", "truncated_gce"):
        assert 0 < wanted["table.selected"].sum() < 47, "or this shows nothing"
    if name in ("sop", "sop_plus"):
        assert wanted["table.sop_u"].abs().max() > 1e-6


@pytest.mark.parametrize("name", REMEMBERING)
def test_two_processes_that_are_stopped_go_on_bit_for_bit(name: str, came_to: tuple[Path, Path]) -> None:
    assert_same_bits(came_to[1], name)
