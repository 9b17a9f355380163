"""The memorisation monitor on six samples by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import SGD

from slnlab import SampleTable
from slnlab.callbacks.memorisation import MemorisationMonitor
from slnlab.errors import SlnlabError
from slnlab.losses import cross_entropy
from slnlab.methods import SingleNetwork
from slnlab.models import SmallCNN

GIVEN = [0, 1, 2, 0, 1, 2]
TRUE = [0, 1, 2, 1, 1, 2]
WRONG = [False, False, False, True, True, False]  # the fourth is flipped; of the fifth the image was replaced
PREDICTED = [0, 1, 0, 1, 1, 2]
LOSS = [0.1, 0.2, 0.9, 2.0, 3.0, 100.0]
EPOCH = [0, 1, 2, 3, 4]
"""The sixth is none of the epoch's samples."""


def logged(columns: dict[str, list[bool]], observed: bool = True) -> dict[str, float]:
    table = SampleTable(torch.tensor(GIVEN), 3, true=torch.tensor(TRUE), wrong=torch.tensor(WRONG))
    network = SmallCNN(in_channels=1, num_classes=3, widths=(2, 2, 2, 2))
    method = SingleNetwork(network, class_losses=cross_entropy, sigma=0.0, optimizer=SGD)
    method.table = table
    table.add("loss")[:] = torch.tensor(LOSS)
    table.add("prediction", dtype=torch.int64)[:] = torch.tensor(PREDICTED)
    table.add("observed", dtype=torch.bool)[:] = observed
    for name, values in columns.items():
        table.add(name, dtype=torch.bool)[:] = torch.tensor(values)
    found: dict[str, float] = {}
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    data = SimpleNamespace(drawn_index=torch.tensor(EPOCH))
    trainer: Any = SimpleNamespace(optimizers=[optimizer], datamodule=data, current_epoch=0, callback_metrics=found)
    method._trainer = trainer
    monitor = MemorisationMonitor()
    monitor.on_train_epoch_start(trainer, method)
    monitor.on_train_epoch_end(trainer, method)
    return found


def test_the_monitor_logs_memorised_and_recovered_labels() -> None:
    assert logged({}) == pytest.approx(
        {
            "train/loss": 6.2 / 5,
            "train/accuracy": 3 / 5,  # samples 1, 2 and 5
            "train/true_accuracy": 3 / 4,  # 1, 2 and 4; a replaced image has no true label
            "train/loss_correct": 1.2 / 3,
            "train/loss_wrong": 5.0 / 2,
            "train/memorised": 1 / 2,
            "train/recovered": 1.0,
        }
    )


def test_the_monitor_logs_the_selection_and_its_precision() -> None:
    """Network 1 selects the first four, of which one is wrong; network 2 the fourth and the fifth; both the sixth."""
    selected = {
        "selected": [True, True, True, True, False, True],
        "selected_2": [False, False, False, True, True, True],
    }
    found = logged(selected)
    assert found["train/selected"] == pytest.approx(4 / 5)
    assert found["train/selected_correct"] == pytest.approx(3 / 4)
    assert found["train/selected_2"] == pytest.approx(2 / 5)
    assert found["train/selected_2_correct"] == 0


def test_a_method_that_records_nothing_is_named() -> None:
    """Its zeros would look like labels learned by heart."""
    with pytest.raises(SlnlabError, match=r"SingleNetwork.loss records no sample: it must call self\.observe"):
        logged({}, observed=False)
