"""Objectives write nothing; a step calls `remember` once, with SAM too."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from by_hand import Bare
from omegaconf import OmegaConf
from tier import own_classes
from torch import Tensor
from torch.optim import SGD

from slnlab.config import CONF_DIR
from slnlab.data.batches import Samples
from slnlab.methods import SingleNetwork
from slnlab.models import SmallCNN
from slnlab.schema.law import law
from slnlab.streams import derive

METHODS = {name: OmegaConf.load(CONF_DIR / "method" / f"{name}.yaml").method for name in own_classes()}

SINGLE = [name for name, kind in own_classes().items() if issubclass(kind, SingleNetwork) and name != "sln_mo_lc"]
"""`sln_mo_lc` adds a callback, and no objective, to `sln`."""

WITH_SAM = [name for name in SINGLE if "sam.rho" not in law(METHODS[name]).refuses]


def ready(name: str, *overrides: str) -> tuple[Bare, Any]:
    """The method on 12 samples with a small network, in its first epoch, and a batch of 6."""
    known = ["method.transition=known"] if "transition" in METHODS[name] else []
    options = (f"method={name}", "model.widths=[2,2,2,2]", *known, *overrides)
    made = Bare(options, [c % 10 for c in range(12)], 10)
    torch.manual_seed(derive(0, "weights"))
    made.method.networks["network"] = SmallCNN(in_channels=1, num_classes=10, widths=(2, 2, 2, 2))
    made.method.judged["momentum"] = copy.deepcopy(made.method.network)
    optimizers = [SGD(made.method.network.parameters(), lr=0.1)]
    made.method.optimizers = lambda use_pl_optimizer: optimizers  # type: ignore[method-assign, assignment]
    if hasattr(made.method, "second_view"):  # augmentation, made of the data set's images
        made.method.second_view = lambda batch, number=1: batch.image.flip(3)  # type: ignore[assignment]
    samples = Samples(torch.arange(12), torch.rand(12, 1, 8, 8))
    made.trainer.datamodule.passes = lambda *_: iter([samples])
    made.method.on_train_epoch_start()
    return made, made.batch(torch.rand(6, 1, 8, 8))


def everything(method: SingleNetwork) -> dict[str, Any]:
    """The columns of the table, and the attributes by identity."""
    columns = {f"column {name}": column.clone() for name, column in method.table.columns.items()}
    return columns | {name: id(value) for name, value in vars(method).items()}


def same(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what differs."""
    assert before.keys() == after.keys()
    return [
        name
        for name, value in before.items()
        if not (torch.equal(value, after[name]) if isinstance(value, Tensor) else value == after[name])
    ]


@pytest.mark.parametrize("name", SINGLE)
def test_objectives_write_nothing(name: str) -> None:
    made, batch = ready(name)
    method = made.method
    lesson = method.lesson(batch)
    outputs = method.outputs(lesson.images)
    method.remember(batch, outputs.detach())
    before = everything(method)
    losses = [method.batch_loss(method.attached(batch), outputs, lesson.targets) for _ in range(2)]
    assert torch.equal(*losses)
    assert same(before, everything(method)) == []


@pytest.mark.parametrize("name", WITH_SAM)
def test_a_step_remembers_once_the_logits_of_the_unperturbed_weights(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAM's perturbed weights give other logits."""
    made, batch = ready(name, "sam.rho=0.5")
    method = made.method
    expected = method.outputs(method.lesson(batch).images)
    told: list[Tensor] = []
    monkeypatch.setattr(method, "remember", lambda batch, logits: told.append(logits))
    seen: list[Tensor] = []
    monkeypatch.setattr(method, "observe", lambda index, logits: seen.append(logits))
    method.step(batch)
    # The record is of unclipped logits.
    for heard, its in ((told, method._clipped(expected)), (seen, expected[:6, :10])):
        (logits,) = heard
        assert torch.equal(logits, its)
        assert not logits.requires_grad
