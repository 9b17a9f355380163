"""PES with MixMatch: a step by hand, batch sizes, and the epochs of its splits."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from by_hand import Bare
from resuming import trained
from saying import OppositeInTraining, logits_of
from torch import Tensor

from slnlab.methods.pes import PES, Refining
from slnlab.methods.pes_semi import Mixing, PESSemi, sizes

SHORT = ("method=pes_semi", "method.early_epochs=1", "method.classifier_epochs=2", "method.steps=5")


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "expected"),
    [(30, 70, (64, 64)), (50, 50, (64, 64)), (70, 30, (90, 38)), (100, 0, (128, 0)), (0, 100, (64, 64))],
)
def test_sizes_by_hand(labelled: int, unlabelled: int, expected: tuple[int, int]) -> None:
    """int(128 · 30/100) = 38."""
    assert sizes(labelled, unlabelled, 128) == expected


def squared(p: float) -> float:
    return p**2 / (p**2 + (1 - p) ** 2)


@pytest.mark.parametrize("share", [1.0, 0.75])
def test_a_step_by_hand(share: float, bare: Callable[..., Bare], monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples 0 and 1 are labelled 0 and 1, sample 2 is not. Weights 2 and ½; half an epoch after T1 of a ramp of 2.

    The network says p of class 0 whatever the mixture, because the images here are logits and all mixed with
    themselves; the *targets* of row j are mixed with those of row j + 1, of rows 0 1 0 1 2 2.
    """
    made = bare(
        "method=pes_semi",
        "method.lambda_u=8",
        "method.lambda_u_ramp=2",
        "method.steps=2",
        given=[0, 1, 1],
        num_classes=2,
    )
    method = made.method
    assert isinstance(method, PESSemi)
    p = torch.tensor([0.8, 0.3, 0.6])
    logits = torch.stack([p, 1 - p], 1).log()
    made.trainer.current_epoch = method.early_epochs
    method.labelled, method.unlabelled = torch.tensor([[0, 1]] * 2), torch.tensor([[2]] * 2)
    stored = [SimpleNamespace(view=lambda generator, rows=rows: logits[rows]) for rows in ([0, 1], [2])]
    method.read = lambda number: stored[number % 2]  # type: ignore[assignment,return-value]
    method.weights = torch.tensor([2.0, 0.5])
    taken: list[float] = []

    def mixing(alpha: float, streams: Any, step: int, rows: int, device: Any) -> tuple[float, Tensor]:
        taken.append(alpha)
        return share, torch.arange(1, rows + 1) % rows

    monkeypatch.setattr("slnlab.methods.pes_semi.mixing", mixing)
    images = torch.cat([logits[[0, 1, 0, 1]], logits[[2, 2]]])
    method.networks["network"].forward = lambda mixed: images if len(mixed) == 6 else mixed  # type: ignore[method-assign]
    of_row = [1.0, 0.0, 1.0, 0.0, squared(0.6), squared(0.6)]  # the targets' class 0
    mixed = [share * of_row[j] + (1 - share) * of_row[(j + 1) % 6] for j in range(6)]
    said = [0.8, 0.3, 0.8, 0.3, 0.6, 0.6]
    labelled = (
        sum(-2 * t * math.log(s) - 0.5 * (1 - t) * math.log(1 - s) for t, s in zip(mixed[:4], said, strict=False)) / 4
    )
    error = sum((s - t) ** 2 for s, t in zip(said[4:], mixed[4:], strict=True)) / 2  # both classes alike
    assert method.mixmatch(1).item() == pytest.approx(labelled + 8 * 0.25 * error, rel=1e-5)
    made.trainer.current_epoch = 50  # of 100
    method.mixmatch(0)
    assert taken == [4.0, 0.75]


def test_images_and_targets_are_mixed_alike(bare: Callable[..., Bare], monkeypatch: pytest.MonkeyPatch) -> None:
    """¾ of a row is its own, ¼ that of the next of 0 1 0 1, all labelled.

    Logits of class 0 are 4·log 3 and 0, of class 1 they are 0: mixed, 3·log 3 and log 3, of which the network, in
    train mode, says 1/28 and 1/4.
    """
    made = bare("method=pes_semi", "method.steps=1", given=[0, 1], num_classes=2)
    method = made.method
    assert isinstance(method, PESSemi)
    method.networks["network"] = OppositeInTraining()
    images = torch.tensor([[4 * math.log(3), 0.0], [0.0, 0.0]])
    method.labelled, method.weights = torch.tensor([[0, 1]]), torch.ones(2)
    stored = [SimpleNamespace(view=lambda generator, part=part: part) for part in (images, images[:0])]
    method.read = lambda number: stored[number]  # type: ignore[assignment,return-value]

    def mixing(alpha: float, streams: Any, step: int, rows: int, device: Any) -> tuple[float, Tensor]:
        return 0.75, torch.arange(1, rows + 1) % rows

    monkeypatch.setattr("slnlab.methods.pes_semi.mixing", mixing)
    first = -0.75 * math.log(1 / 28) - 0.25 * math.log(27 / 28)
    second = -0.25 * math.log(1 / 4) - 0.75 * math.log(3 / 4)
    assert method.mixmatch(0).item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_targets_are_guessed_in_train_mode_and_without_gradient(bare: Callable[..., Bare]) -> None:
    """Views of .9 and .7 for class 0, of which the network says .1 and .3: their mean .2 sharpened, 1/17."""
    method = bare("method=pes_semi", given=[0], num_classes=2).method
    assert isinstance(method, PESSemi)
    method.networks["network"] = OppositeInTraining()
    guess = method._guess([logits_of([0.9]), logits_of([0.7])])
    torch.testing.assert_close(guess, torch.tensor([[1 / 17, 16 / 17]]))
    assert not guess.requires_grad


def test_each_epoch_splits_and_trains_its_own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epoch 1: two passes with the classifier alone, then in the same epoch the split and 5 steps without it."""
    steps: list[tuple[int, Any, float, float]] = []
    splits: list[tuple[int, int]] = []
    step, select = PESSemi.step, PESSemi.select

    def watched(method: PESSemi, batch: Any) -> None:
        def now() -> tuple[Tensor, Tensor]:
            return tuple(method.network.state_dict()[f"{name}.weight"].clone() for name in ("features.0", "classifier"))  # type: ignore[return-value]

        before = now()
        step(method, batch)
        changes = [float((a - b).abs().max()) for a, b in zip(now(), before, strict=True)]
        steps.append((method.current_epoch, batch, changes[0], changes[1]))

    def selecting(method: PESSemi) -> None:
        select(method)
        splits.append((method.current_epoch, len(steps)))
        rows = method.trainer.datamodule.train_index
        confident = rows[method.table["selected"][rows]]
        assert torch.isin(method.labelled, confident).all()
        assert not torch.isin(method.unlabelled, confident).any()
        assert (method.labelled.shape[1], method.unlabelled.shape[1]) == sizes(len(confident), 110 - len(confident), 12)
        assert method.weights is not None
        assert method.weights.max() <= 3

    monkeypatch.setattr(PESSemi, "step", watched)
    monkeypatch.setattr(PESSemi, "select", selecting)
    _, _, record = trained(tmp_path / "run", *SHORT, "method.refining_lr=1e-3", "trainer.max_epochs=3")
    assert splits == [(1, 30), (2, 35)]  # after 10 + 20 steps, and at the beginning of the next epoch
    assert [type(batch) for _, batch, *_ in steps[10:]] == [Refining] * 20 + [Mixing] * 10
    assert all(stem == 0 and classifier > 0 for _, _, stem, classifier in steps[10:30])
    assert all(stem > 0 and classifier == 0 for _, _, stem, classifier in steps[30:])
    assert 0 < record.epochs[-1]["train/selected"] < 1


@pytest.mark.parametrize("everybody", [True, False])
def test_a_run_survives_an_empty_part(everybody: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    select = PES.select

    def selected(method: PES) -> None:
        select(method)
        method.table["selected"][:] = everybody

    monkeypatch.setattr(PES, "select", selected)
    _, _, record = trained(tmp_path / "run", *SHORT, "trainer.max_epochs=3")
    assert math.isfinite(record.epochs[-1]["test/network/loss"])
