"""The examples for other people's code run, and the pieces in them do their work."""

from __future__ import annotations

import copy
import importlib
import runpy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from slnlab import LabelCorrection, SampleTable, StochasticLabelNoise
from slnlab.callbacks import MomentumModel

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import an example by its name, as it would import its neighbours."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


def the_pieces_did_their_work(
    network: nn.Module, momentum: nn.Module, table: SampleTable, label_noise: StochasticLabelNoise
) -> None:
    pairs = list(zip(network.parameters(), momentum.parameters(), strict=True))
    assert all(not torch.equal(*pair) for pair in pairs), "the momentum model lags behind"
    assert label_noise.sigma == 0.0
    corrected = table["predicted"] != table["given"]
    assert 0.1 < corrected.float().mean() < 0.9, "some labels were disagreed with"
    assert table["weight"].min() == 0
    assert table["weight"].max() == 1
    clean = table.targets(torch.arange(len(table))).argmax(1) == table["true"] if "true" in table else None
    assert clean is None


OPTIONS = {"epochs": 4, "correction_epochs": 2}


def test_plain_pytorch(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pieces = example("plain_pytorch").main(**OPTIONS)
    the_pieces_did_their_work(*pieces)
    printed = capsys.readouterr().out
    assert "test accuracy of the network:" in printed
    assert "test accuracy of the momentum model:" in printed
