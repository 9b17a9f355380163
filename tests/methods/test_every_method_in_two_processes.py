"""The tier in two processes: every method equals itself in one process, after a stop if it has state of its own.

What all methods share is stopped and gone on with by those. In one process every method is: test_every_method.py. Three
losses of single samples stand for all of them (`LOSSES`). `make test` runs one method of each kind (`STANDING`), `make
test-methods` the others.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tier import ALIKE, LOSSES, changed, in_three_epochs, refused_by
from together import come_to, fit_each

from slnlab.processes.starting import in_processes

COMMON = (
    "data.train_size=47",
    "data.noisy_val=12",  # 35 to train on: batches of 16, 16 and 3, of which the second process has one
    "data.batch_size=16",
    "data.eval_batch_size=6",
    "data.test=false",
    "momentum.enabled=true",
    "momentum.decay=0.5",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    # float64 and no batch norm: what is left to differ is the method.
    "model._target_=two_processes.Float64Network",
    "model.widths=[4,4,4,4]",
)

STANDING = (
    *LOSSES,
    "sln_mo_lc",
    "co_teaching",  # selects
    "dividemix",  # two networks, a mixture, pairs of samples
    "early_stopping",
    "elr",  # a table
    "logistic",
    "pes_semi",  # replaces parts
    "sgn",  # an average of its own
    "sop_plus",  # parameters of samples
    "ssr_plus",  # features and neighbours
    "t_revision",  # stages
)
"""A method of each kind of state, and with it of what processes exchange."""

COMBINED = {
    "everything": ("method=elr", "sln.sigma=0.5", "sam.rho=0.1"),
    "mixed": ("method=anl_ce", "sln.sigma=0.5", "sam.rho=0.1", "mixup.alpha=1"),
    "dividemix_labelled_rows": ("method=dividemix", "method.lambda_u=null"),
}

SINGLE = ("co_teaching", "dividemix")
"""Methods whose own batches could leave a process a single sample."""

ONE_PIXEL = {"model._target_": "two_processes.OnePixel", "data.noisy_val": 14}
"""33 samples to train on, batches of 16 and 17, and a network whose batch norm needs two in each process."""


@pytest.fixture(scope="module")
def folders(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, searched: list[str]
) -> tuple[Path, Path]:
    """All runs that are asked for in one pair of processes, since starting them takes longer than training."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    parameter = ("method_name", "name")[: 1 if request.config.getoption("--config-dir") else 2]
    asked = {
        item.callspec.params[key]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
        for key in item.callspec.params.keys() & parameter
    }
    runs = {}
    for name in sorted(asked - COMBINED.keys() - {*ALIKE}):
        run = in_three_epochs(*COMMON, f"method={name}")
        runs[name] = run if "sln.sigma" in refused_by(run) else changed(run, {"sln.sigma": 0.3})
    runs |= {name: in_three_epochs(*COMMON, *options) for name, options in COMBINED.items() if name in asked}
    fit_each(runs, alone, None, searched)
    in_two = {name: changed(run, {"trainer.devices": 2}) for name, run in runs.items()}
    in_two |= {f"{name} one pixel": changed(in_two[name], ONE_PIXEL) for name in SINGLE if name in asked}
    in_processes(2, False, ["slnlab.training.assemble"], fit_each, in_two, together, 2, searched)
    return alone, together


@pytest.fixture
def ours(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--config-dir"):
        pytest.skip("of methods of slnlab")


def assert_the_same(name: str, folders: tuple[Path, Path]) -> None:
    alone, together = folders
    wanted = come_to(alone, name)
    for process in (0, 1):
        found = come_to(together, name, process)
        assert found.keys() == wanted.keys()
        for key, tensor in wanted.items():
            # Columns are float32, and logarithms of what is left of 1 lose digits.
            rtol, atol = (1e-5, 1e-7) if tensor.dtype == torch.float64 else (1e-4, 1e-5)
            torch.testing.assert_close(found[key], tensor, rtol=rtol, atol=atol, msg=f"{key} of {process}")
    for key, tensor in wanted.items():
        if tensor.dtype == torch.bool:
            assert 0 < tensor.float().mean() < 1, f"{key}: there was something to choose"
    one, two = (torch.load(folder / f"{name}.rank0.pt", weights_only=True) for folder in folders)
    assert two["steps"] == one["steps"]
    for row, expected in zip(two["rows"], one["rows"], strict=True):
        assert row == pytest.approx(expected, rel=1e-4, nan_ok=True)


def test_two_processes_equal_one_uninterrupted_process(method_name: str, folders: tuple[Path, Path]) -> None:
    if method_name in ALIKE:
        pytest.skip(f"differs from cross entropy by its loss alone, as {LOSSES[1]} does")
    assert_the_same(method_name, folders)


@pytest.mark.parametrize("name", COMBINED)
@pytest.mark.usefixtures("ours")
def test_two_processes_equal_one_with_composed_options(name: str, folders: tuple[Path, Path]) -> None:
    assert_the_same(name, folders)


@pytest.mark.parametrize(
    ("name", "stopped"), [("elr", True), ("dividemix", True), ("early_stopping", True), ("gce", False)]
)
@pytest.mark.usefixtures("ours")
def test_methods_with_state_were_stopped(name: str, stopped: bool, folders: tuple[Path, Path]) -> None:
    """A table (ELR), a second network (DivideMix) and a kept model (early stopping) are state; a loss is not."""
    assert torch.load(folders[1] / f"{name}.rank0.pt", weights_only=True)["stopped"] is stopped


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.usefixtures("ours")
def test_no_process_gets_a_single_sample(name: str, folders: tuple[Path, Path]) -> None:
    """Batch norm would raise."""
    one, two = (come_to(folders[1], f"{name} one pixel", process) for process in (0, 1))
    for key, tensor in one.items():
        assert torch.isfinite(tensor).all(), key
        assert torch.equal(tensor, two[key]), key
