"""An exported model gives the run's own predictions, or is not written."""

from __future__ import annotations

import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import slnlab
from slnlab import export
from slnlab.config import compose
from slnlab.data.digits import Digits
from slnlab.errors import ConfigError, DataError, SlnlabError
from slnlab.inference import exporting
from slnlab.inference.preprocessing import Probabilities
from slnlab.inference.trained_run import TrainedRun
from slnlab.methods.ensemble import Ensemble
from slnlab.models import SmallCNN
from slnlab.train import train

TINY = ("data.train_size=200", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two networks."""
    made = tmp_path_factory.mktemp("two") / "run"
    train(compose([*TINY, "method=co_teaching", "model.widths=[4,4,8,8]"]), made)
    return made


@pytest.fixture
def run(directory: Path) -> TrainedRun:
    return slnlab.load(directory)


def test_exported_weights_load_into_the_networks_class(directory: Path, tmp_path: Path) -> None:
    images = Digits().load("test").images
    for weights, members in (("network_2", 1), ("ensemble", 2)):
        file = tmp_path / "weights.pt"
        export.main([str(directory), "--format", "torch", "-o", str(file), "--weights", weights])
        about = json.loads((tmp_path / "weights.pt.json").read_text())
        assert (about["weights"], about["members"], about["classes"][3]) == (weights, members, "3")
        options = {key: about["network"][key] for key in ("in_channels", "num_classes", "widths")}
        networks = [SmallCNN(**options) for _ in range(members)]
        model = Ensemble(networks) if members > 1 else networks[0]
        model.load_state_dict(torch.load(file, weights_only=True))
        mean, std = (torch.tensor(about["preprocessing"][key]).view(-1, 1, 1) for key in ("mean", "std"))
        found = model.eval()((images / 255 - mean) / std).softmax(1).detach().numpy()
        expected = slnlab.load(directory, weights).predict(images).probabilities
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_exported_program_runs_without_slnlab(run: TrainedRun, tmp_path: Path) -> None:
    """torchscript; docs/use.md's test writes the others, which cost seconds."""
    images, file = Digits().load("test").images, tmp_path / "model.ts"
    difference = exporting.export(run, "torchscript", file)
    assert json.loads((tmp_path / "model.ts.json").read_text())["largest_difference"] == difference
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.load(io.BytesIO(file.read_bytes()))
    for batch in images.split(123):
        np.testing.assert_allclose(model(batch).numpy(), run.predict(batch).probabilities, atol=1e-6)
    for wrong in (images[:2, :, :6], images[:2] / 255):
        with pytest.raises(torch.jit.Error, match=r"images: must be uint8 \(N, 1, 8, 8\)"):
            model(wrong)


@pytest.mark.parametrize("format", ["torch", "torchscript"])
@pytest.mark.parametrize("by", [0.01, float("nan")])
def test_an_export_with_other_predictions_is_not_written(
    format: str, by: float, run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = exporting.FORMATS[format]

    def spoiled(model: Probabilities, example: Tensor) -> bytes:
        with torch.no_grad():
            next(model.network.parameters()).add_(by)
        return kind.write(model, example)

    monkeypatch.setitem(exporting.FORMATS, format, kind._replace(write=spoiled))
    (tmp_path / "model").write_text("the one before")
    with pytest.raises(SlnlabError, match=f"^--format {format}: .* differ from the run's by .*; nothing was written"):
        exporting.export(run, format, tmp_path / "model")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("model", "the one before")]


def test_a_network_unsupported_by_the_format_is_named(run: TrainedRun, tmp_path: Path) -> None:
    class Unscriptable(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("no operation of mine\nand a long story")

    broken = Probabilities(Unscriptable(), run.preprocessing)
    run.probabilities, run.model = broken, broken.network
    with pytest.raises(
        SlnlabError,
        match=r"^--format torchscript: Unscriptable cannot be written in this format \(no operation of mine\)$",
    ):
        exporting.export(run, "torchscript", tmp_path / "model")


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_names_the_extra(
    missing: str, run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SlnlabError, match=r"^--format onnx needs the extra: pip install 'slnlab\[export\]'"):
        exporting.export(run, "onnx", tmp_path / "model.onnx")


def test_an_unwritable_path_is_named(directory: Path, run: TrainedRun, tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "it is a folder"), (tmp_path / "a" / "b", f"there is no folder {tmp_path}/a")):
        with pytest.raises(DataError, match=f"^{path}: cannot be written: {reason}"):
            exporting.export(run, "torch", path)
    with pytest.raises(SystemExit, match=r"^error: .*: is no directory of a run"):
        export.main([str(tmp_path / "gone"), "--format", "torch", "-o", str(tmp_path / "x")])
    with pytest.raises(ConfigError, match="has no 'momentum'"):
        slnlab.load(directory, "momentum")


def test_the_command_offers_every_format() -> None:
    assert export.FORMATS.keys() == exporting.FORMATS.keys()
