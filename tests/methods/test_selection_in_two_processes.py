"""Methods that select, or have two networks, in two real processes and in one: the same choices and networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from together import COMMON, assert_same_bits, come_to, fit_each

from slnlab.processes.starting import in_processes

CASES: dict[str, tuple[str, ...]] = {
    "co_teaching": ("method=co_teaching", "method.ramp_epochs=2", "method.forget_rate=estimated", "sln.sigma=0.3"),
    "sigua_momentum": ("method=sigua", "method.ramp_epochs=2", "momentum.enabled=true"),
    "co_teaching_momentum": ("method=co_teaching", "method.ramp_epochs=2", "momentum.enabled=true"),
    "sigua": ("method=sigua", "method.ramp_epochs=2", "method.gamma=0.1", "method.bad_fraction=0.5"),
    "jocor": ("method=jocor", "method.ramp_epochs=2"),
    "co_teaching_plus": ("method=co_teaching_plus", "method.ramp_epochs=2", "method.init_epochs=1"),
    "elr_plus": ("method=elr_plus",),
    "dividemix": ("method=dividemix", "method.warm_up_epochs=1", "method.lambda_u=25.0", "method.average_losses=2"),
    "dividemix_labelled_rows": ("method=dividemix", "method.warm_up_epochs=1", "method.lambda_u=null"),
}


RUNS = {name: [*COMMON, "data.eval_batch_size=6", "data.test=false", *overrides] for name, overrides in CASES.items()}


ONE_PIXEL = {
    name: (*RUNS[name], "model._target_=two_processes.OnePixel", "data.noisy_val=14", "trainer.devices=2")
    for name in ("co_teaching", "dividemix")
}
"""33 samples to train on, batches of 16 and 17, and a network whose batch norm needs two."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """All cases in one pair of processes, since starting them takes longer than training."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    fit_each(RUNS, alone)
    in_two = {name: [*overrides, "trainer.devices=2"] for name, overrides in RUNS.items()}
    in_two |= {f"{name}_one_pixel": overrides for name, overrides in ONE_PIXEL.items()}
    in_processes(2, False, ["slnlab.training.assemble"], fit_each, in_two, together, list(RUNS))
    return alone, together


@pytest.mark.parametrize("name", CASES)
def test_two_processes_select_and_learn_as_one(name: str, folders: tuple[Path, Path]) -> None:
    alone, together = folders
    wanted = come_to(alone, name)
    if "table.selected" in wanted:
        assert 0 < wanted["table.selected"].float().mean() < 1, "there was something to choose"
    for process in (0, 1):
        found = come_to(together, name, process)
        assert found.keys() == wanted.keys()
        for key, tensor in wanted.items():
            exact = tensor.dtype == torch.float64
            rtol, atol = (1e-5, 1e-6) if exact else (1e-4, 1e-5)
            torch.testing.assert_close(found[key], tensor, rtol=rtol, atol=atol, msg=key)
    one, two = (torch.load(folder / f"{name}.rank0.pt", weights_only=True) for folder in (alone, together))
    assert two["steps"] == one["steps"]
    for row, expected in zip(two["rows"], one["rows"], strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_that_are_stopped_go_on_bit_for_bit(name: str, folders: tuple[Path, Path]) -> None:
    assert_same_bits(folders[1], name)


@pytest.mark.parametrize("name", ONE_PIXEL)
def test_no_process_is_given_a_single_sample(name: str, folders: tuple[Path, Path]) -> None:
    """Batch norm would raise."""
    one, two = (come_to(folders[1], f"{name}_one_pixel", process) for process in (0, 1))
    for key, tensor in one.items():
        assert torch.isfinite(tensor).all(), key
        assert torch.equal(tensor, two[key]), key
