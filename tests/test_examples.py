"""The examples for foreign code run, and their parts work."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from slnlab import SampleTable, StochasticLabelNoise
from slnlab.data.indexed import IndexedDataset

EXAMPLES = Path(__file__).parents[1] / "examples"

SHORT = {"epochs": 6, "correction_epochs": 2}

Import = Callable[[str], ModuleType]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Import:
    """An example by its name; it finds its neighbours as it does when it is run."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


def assert_the_pieces_did_their_work(
    network: nn.Module, momentum: nn.Module, table: SampleTable, label_noise: StochasticLabelNoise, true: Tensor
) -> None:
    for its, averaged in zip(network.parameters(), momentum.parameters(), strict=True):
        assert not torch.equal(its, averaged)
    assert label_noise.sigma == 0.0
    assert (table["weight"].min(), table["weight"].max()) == (0, 1)
    right_before = (table["given"] == true).float().mean()
    right_after = (table.targets(torch.arange(len(table))).argmax(1) == true).float().mean()
    assert right_before == pytest.approx(0.6, abs=0.05)
    assert right_after > 0.75, "label correction has undone much of the noise"


def test_the_plain_pytorch_example_runs(example: Import, capsys: pytest.CaptureFixture[str]) -> None:
    plain = example("plain_pytorch")
    network, momentum, table, label_noise = plain.main(**SHORT)
    _, true, test_images, test_labels = plain.digits()
    assert_the_pieces_did_their_work(network, momentum, table, label_noise, true)
    printed = capsys.readouterr().out.splitlines()
    for line, name, model in zip(printed, ("network", "momentum model"), (network, momentum), strict=True):
        accuracy = (model.eval()(test_images).argmax(1) == test_labels).float().mean().item()
        assert accuracy > 0.5
        assert line == f"test accuracy of the {name}: {accuracy:.1%}"


def test_the_lightning_module_example_runs(example: Import, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "default_root_dir": tmp_path,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "logger": False,
    }
    module, momentum = example("your_lightning_module").main(**SHORT, **quiet)
    _, true, test_images, test_labels = example("plain_pytorch").digits()
    assert_the_pieces_did_their_work(module.network, momentum, module.table, module.label_noise, true)
    assert module.judged == {"network": module.network, "momentum": momentum}
    for name, model in module.judged.items():
        accuracy = (model.eval()(test_images).argmax(1) == test_labels).float().mean().item()
        assert accuracy > 0.5
        assert module.trainer.callback_metrics[f"test/{name}/accuracy"] == pytest.approx(accuracy)
    assert "test/momentum/accuracy" in capsys.readouterr().out

    # What Lightning's own ModelCheckpoint saved by the way holds the corrected targets and the momentum model.
    (path,) = tmp_path.rglob("*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    table = SampleTable(module.table["given"], num_classes=10)
    table.load_state_dict(checkpoint["sample_table"])
    assert torch.equal(table["weight"], module.table["weight"])
    for name, tensor in momentum.state_dict().items():
        assert torch.equal(checkpoint["callbacks"]["MomentumModel"]["network"][name], tensor)


def test_the_loop_in_how_it_works_runs() -> None:
    """The loop trains, and each sample's running target is (1 − β) times its softmax."""
    page = (EXAMPLES.parent / "docs" / "how-it-works.md").read_text()
    (loop,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    torch.manual_seed(0)
    images, given, network = torch.randn(40, 5), torch.arange(40) % 10, nn.Linear(5, 10)
    before = network.weight.detach().clone()
    known: dict[str, Any] = {
        "given": given,
        "loader": DataLoader(IndexedDataset(TensorDataset(images, given)), batch_size=20, shuffle=True),
        "network": network,
        "optimizer": torch.optim.SGD(network.parameters(), lr=0.1),
    }
    exec(loop, known)
    assert torch.isfinite(known["loss"])
    assert not torch.equal(network.weight, before)
    torch.testing.assert_close(known["table"]["elr"].sum(1), torch.full((40,), 0.3))


@pytest.mark.parametrize("name", ["plain_pytorch", "your_lightning_module"])
def test_examples_are_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 80
