"""GPU features as far as a CPU can test them: compiled networks, profiles, memory formats, autocast."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kill_matrix import differences
from pytorch_lightning.plugins.precision.amp import MixedPrecision
from speaking import speak
from torch import nn
from torch._dynamo.utils import counters

from slnlab.config import compose
from slnlab.embedding.backbones import backbone
from slnlab.errors import ConfigError
from slnlab.launchers.local import devices_here
from slnlab.methods.pes import initialise_anew
from slnlab.processes.float32 import float32_convolutions, without_autocast
from slnlab.processes.forkserver import Surroundings, context
from slnlab.record.result import Result
from slnlab.record.run_directory import RunDirectory
from slnlab.training import assemble, devices
from slnlab.training.settling import settle

TinyRun = Callable[..., tuple[Result, Path]]
CORRECTED = ("method=sln_mo_lc", "correction.last_epochs=2", "trainer.max_epochs=4", "scheduler=cosine")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's front end without its code generation, which takes a minute."""
    real = nn.Module.compile

    def compile_(self: nn.Module, **options: Any) -> None:
        assert options == {"mode": "default", "dynamic": False}
        real(self, backend="aot_eager", dynamic=False)

    monkeypatch.setattr(nn.Module, "compile", compile_)
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.usefixtures("traced")
def test_a_compiled_run_equals_an_eager_one_without_recompiling(tmp_path: Path, tiny_run: TinyRun) -> None:
    """σ = 0, corrected labels or a new learning rate cause no recompilation."""
    run = ("data.batch_size=32", "data.eval_batch_size=250", *CORRECTED)  # last batch of 4, two evaluation batches
    _, eager = tiny_run(*run, directory=tmp_path / "eager")
    assert counters["stats"]["unique_graphs"] == 0
    _, compiled = tiny_run(*run, "trainer.compile=true", directory=tmp_path / "compiled")
    # Training: a whole batch and the last one. Evaluation: a batch of test images. (The momentum model is a copy
    # that is not compiled.) Findings at the end: the training images in one batch.
    assert counters["stats"]["unique_graphs"] == 4
    assert differences(eager, compiled, epochs=4) == []


@pytest.mark.usefixtures("traced")
def test_a_network_is_compiled_for_the_batch_sizes_of_many_epochs() -> None:
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    with torch._dynamo.config.patch(**{limit: 1}):  # PyTorch's own is 8
        network = assemble.method(compose(["trainer.compile=true", "trainer.accelerator=cpu"])).network
        with torch.no_grad():
            for size in range(2, 5):
                network(torch.zeros(size, 1, 8, 8))
    assert counters["stats"]["unique_graphs"] == 3


def test_new_layers_leave_the_generators_of_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch would warn of two GPUs, and read the state of each."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    before = torch.get_rng_state()
    method = assemble.method(compose(["method=pes", "trainer.accelerator=cpu"]))
    initialise_anew([method], 0)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("seeds the GPUs"))
    assemble.method(compose(["method=ssr_plus", "trainer.accelerator=cpu"]))
    with pytest.raises(ConfigError, match=r"SqueezeNet has no torch\.nn\.Linear"):  # once it is made
        backbone("torchvision:squeezenet1_0", None)
    assert torch.equal(before, torch.get_rng_state())


def test_compiling_does_not_change_the_identity() -> None:
    paths = {settle(compose([f"trainer.{key}=true"])).subdir for key in ("compile", "profile")}
    assert paths == {settle(compose()).subdir}


def test_a_profile_shows_the_parts_of_a_step(tmp_path: Path, tiny_run: TinyRun) -> None:
    _, plain = tiny_run(*CORRECTED, directory=tmp_path / "plain")
    _, profiled = tiny_run(*CORRECTED, "trainer.profile=true", directory=tmp_path / "profiled")
    assert differences(plain, profiled, epochs=4) == []
    (table,), (trace,) = (list((profiled / "profile").glob(f"*.{kind}")) for kind in ("txt", "json"))
    parts = ("forward and loss", "backward", "optimiser and momentum model")
    assert all(part in table.read_text() for part in parts)
    assert set(parts) <= {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}


def test_networks_are_in_channels_last_format() -> None:
    weight = next(parameter for parameter in assemble.method(compose()).parameters() if parameter.ndim == 4)
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_autocast_leaves_noise_loss_and_average_in_float32(tiny_run: TinyRun) -> None:
    """bf16 has so few values that the momentum average would never move."""
    _, directory = tiny_run(*CORRECTED, "trainer.precision=bf16-mixed")
    checkpoint = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    averages = checkpoint["callbacks"]["MomentumModel"]["network"]
    floating = [t for t in [*averages.values(), *checkpoint["state_dict"].values()] if t.is_floating_point()]
    assert {tensor.dtype for tensor in floating} == {torch.float32}
    assert checkpoint["sample_table"]["loss"].dtype == torch.float32
    with (directory / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file)]
    # Eight bits of mantissa would show: a loss near 2 in bf16 is a multiple of 1/128.
    assert any((loss * 128) % 1 > 1e-3 for loss in losses)


@pytest.fixture
def rounding() -> Iterator[None]:
    """PyTorch's own setting; the benchmarks, which other tests import, turn it off."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, True
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.usefixtures("rounding")
def test_float32_convolutions_are_not_rounded_to_tf32() -> None:
    with devices.threads(compose()):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32, "PyTorch's own setting is back"


@pytest.mark.usefixtures("rounding")
def test_overlapping_blocks_of_float32_convolutions_end_with_the_last() -> None:
    """Two threads of a web service predict at once."""
    first, second = float32_convolutions(), float32_convolutions()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.backends.cudnn.allow_tf32, "the second still computes"
    second.__exit__(None, None, None)
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.usefixtures("rounding")
@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="PyTorch has this setting from 2.9 on")
def test_a_callers_own_setting_of_float32_convolutions_stays() -> None:
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    conv.fp32_precision = "ieee"
    try:
        with devices.threads(compose()):
            assert conv.fp32_precision == "ieee"
    finally:
        conv.fp32_precision = before
    assert torch.backends.cudnn.allow_tf32


def test_several_processes_on_a_mac_use_its_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Mac has one GPU, and Lightning's `auto` would give it to every process."""
    given: list[str] = []

    class Trainer:
        def __init__(self, accelerator: str, **_: Any) -> None:
            given.append(accelerator)

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(assemble.pl, "Trainer", Trainer)
    config = compose(["trainer.devices=2"])
    for processes in (1, 2):
        for module in (assemble, devices):
            monkeypatch.setattr(module, "world_size", lambda processes=processes: processes)
        assemble.trainer(settle(config), RunDirectory(tmp_path), [])
    assert given == ["auto", "cpu"]


# Processes of GPUs, which are new interpreters


def test_a_new_interpreter_keeps_its_outputs(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """spawn hands them over in their places; the server's forks get them elsewhere."""
    monkeypatch.setenv("SPOKEN", "aloud")
    around = Surroundings()
    child = context(False, []).Process(target=speak, args=(around,))  # type: ignore[attr-defined]
    child.start()
    child.join()
    assert child.exitcode == 0
    said = capfd.readouterr()
    assert "heard aloud" in said.out
    assert "still open" in said.err


@pytest.mark.parametrize(
    ("visible", "there", "expected"),
    [("0,7", 1, ["0"]), ("3", 1, ["3"]), (None, 2, ["0", "1"]), ("MIG-a,MIG-b", 1, ["MIG-a", "MIG-b"])],
)
def test_slots_are_gpus_that_exist(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, there: int, expected: list[str]
) -> None:
    """A process with a GPU that does not exist would train on the CPU in silence."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    plan: Any = [SimpleNamespace(config=SimpleNamespace(trainer=SimpleNamespace(accelerator="auto")))]
    assert devices_here(None, plan) == expected


@pytest.mark.parametrize(
    ("typed", "fused"), [([], True), (["+optimizer.foreach=true"], None), (["+optimizer.fused=false"], False)]
)
def test_optimisers_are_fused_unless_another_way_is_typed(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], fused: bool | None
) -> None:
    """PyTorch refuses two ways at once."""
    monkeypatch.setattr(assemble, "on_gpus", lambda _: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    made = assemble._optimizer(compose(["method=ce", *typed]))([nn.Parameter(torch.zeros(1))])
    assert made.defaults["fused"] is fused


def test_the_backward_pass_is_outside_of_autocast() -> None:
    """Lightning's autocast is around the whole of a step; products would lose two digits."""
    device = torch.device("cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with without_autocast(device):
            assert (torch.eye(2) @ torch.eye(2)).dtype == torch.float32
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.bfloat16
    with without_autocast(device):
        assert not torch.is_autocast_enabled("cpu")


def test_a_run_differentiates_outside_of_autocast(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def expected(targets: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        losses.register_hook(lambda _: seen.append(torch.is_autocast_enabled("cpu")))
        return (targets * losses).sum(1)

    monkeypatch.setattr("slnlab.methods.single_network.expected_loss", expected)
    tiny_run("method=ce", "trainer.precision=bf16-mixed")
    assert seen == [False] * 4


@pytest.mark.parametrize("sam", [0, 0.05])
def test_a_forward_pass_sees_the_weights_of_the_last_step(
    sam: float, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the autocast around all steps of a call keeps copies of the weights in half precision."""
    found = []
    for cached in (False, True):
        around = partial(torch.autocast, "cpu", dtype=torch.bfloat16, cache_enabled=cached)
        monkeypatch.setattr(MixedPrecision, "autocast_context_manager", lambda _, around=around: around())
        keys = ("method=ce", f"sam.rho={sam}", "trainer.precision=bf16-mixed")
        result, _ = tiny_run(*keys, directory=tmp_path / f"{cached}")
        found.append(result.rows)
    assert found[0] == found[1]
