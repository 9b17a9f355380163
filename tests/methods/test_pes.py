"""PES: weights, loss and selection by hand, and the trained parts of each phase."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from by_hand import Bare, probabilities
from resuming import SMALL, assert_the_same, in_pieces, made, trained
from saying import OppositeInTraining, logits_of
from torch import Tensor

from slnlab.config import compose
from slnlab.data.datamodule import IndexedDataModule
from slnlab.errors import ConfigError
from slnlab.methods.pes import PES, Refining, class_weights
from slnlab.streams import Streams

SHORT = ("method=pes", "method.early_epochs=1", "method.stage_epochs=2", "method.classifier_epochs=1")
"""Epoch 0: early. Epoch 1: three passes, of 10 steps with `resuming.SMALL`. From epoch 2 on: the confident samples."""


def test_class_weights_by_hand() -> None:
    """Counts 3, 1, 0: the mean of those that are not zero is 2."""
    assert class_weights(torch.tensor([0, 0, 1, 0]), 3).tolist() == pytest.approx([2 / 3, 2, 0])
    assert class_weights(torch.tensor([], dtype=torch.int64), 3).tolist() == [0, 0, 0]


def test_the_weighted_loss_by_hand(bare: Callable[..., Bare]) -> None:
    """Weights 2/3 and 2: (2/3·ℓ_0 + 2·ℓ_1)/(2/3 + 2), ℓ = −log of .5 and .2."""
    made = bare("method=pes", given=[0, 1, 0], num_classes=3)
    rows = [[0.5, 0.3, 0.2], [0.4, 0.2, 0.4]]
    assert made.loss(probabilities(rows)).item() == pytest.approx(-(math.log(0.5) + math.log(0.2)) / 2)
    made.method.weights = torch.tensor([2 / 3, 2, 0])  # type: ignore[assignment]
    expected = -(math.log(0.5) * 2 / 3 + math.log(0.2) * 2) / (2 / 3 + 2)
    assert made.loss(probabilities(rows)).item() == pytest.approx(expected)


def test_the_selection_by_hand(bare: Callable[..., Bare]) -> None:
    """The mean of two views decides: (.9, .2)/2 = .55 is class 0, though the second view alone says 1."""
    made = bare("method=pes", given=[0, 0, 1, 1, 1], num_classes=2)
    views = {"PES view 1": [0.9, 0.6, 0.1, 0.7, 0.3], "PES view 2": [0.2, 0.3, 0.4, 0.5, 0.3]}

    def images(*rows: int) -> SimpleNamespace:
        def view(purpose: str) -> Tensor:
            p = torch.tensor(views[purpose])[[*rows]]
            return torch.stack([p, 1 - p], 1).log()

        return SimpleNamespace(index=torch.tensor(rows), view=view)

    made.trainer.datamodule.in_order = lambda epoch: enumerate([images(4, 2, 0), images(1, 3)])
    method = made.method
    assert isinstance(method, PES)
    method.streams = lambda purpose, *position: purpose  # type: ignore[assignment]
    method.select()
    # Means of class 0: .55, .45, .25, .6, .3.
    assert made.table["prediction"].tolist() == [0, 1, 1, 0, 1]
    assert made.table["selected"].tolist() == [True, False, True, False, True]
    assert made.table["loss"].tolist() == pytest.approx([-math.log(p) for p in (0.55, 0.45, 0.75, 0.4, 0.7)], rel=1e-5)
    assert method.weights is not None
    assert method.weights.tolist() == pytest.approx([1.5, 0.75])  # counts 1 and 2


@pytest.mark.parametrize("name", ["pes", "pes_semi"])
def test_the_selection_is_in_eval_mode(name: str, bare: Callable[..., Bare]) -> None:
    """Of class 0 it says .9, .2 and .7 then, and of samples labelled 0, 0 and 1 the first is confident."""
    made = bare(f"method={name}", given=[0, 0, 1], num_classes=2)
    made.method.networks["network"] = OppositeInTraining()
    images = SimpleNamespace(index=torch.arange(3), view=lambda generator: logits_of([0.9, 0.2, 0.7]))
    data = made.trainer.datamodule
    data.in_order, data.batch_size, data.reading = lambda epoch: [(0, images)], 2, lambda batches, whole: None
    assert isinstance(made.method, PES)
    made.method.select()
    assert made.table["prediction"].tolist() == [0, 1, 0]
    assert made.table["selected"].tolist() == [True, False, False]
    assert made.method.network.training, "it is back in its mode"


@pytest.mark.parametrize(("confident", "sizes"), [(0, []), (1, []), (2, [2]), (9, [4, 5]), (10, [4, 4, 2])])
def test_no_pass_has_a_batch_of_a_single_sample(confident: int, sizes: list[int], bare: Callable[..., Bare]) -> None:
    made = bare("method=pes", given=[0] * 12, num_classes=2)
    data = made.trainer.datamodule
    data.batch_size, data._streams = 4, Streams(0)
    data.reading = lambda batches: lambda step: SimpleNamespace(batch=lambda _: batches[step])
    for name in ("shuffled", "_shuffled", "_training_batch"):
        setattr(data, name, partial(getattr(IndexedDataModule, name), data))
    made.table["selected"][confident:] = False
    batches = [make() for make in made.method.batches(90)]
    assert [len(batch) for batch in batches] == sizes
    assert sorted(torch.cat(batches).tolist() if batches else []) == list(range(sum(sizes)))


class Witness:
    """Largest change of each part at every step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[int, Any, dict[str, float]]] = []
        step = PES.step

        def watched(method: PES, batch: Any) -> None:
            before = copy.deepcopy(method.network.state_dict())
            step(method, batch)
            inner = batch.batch if isinstance(batch, Refining) else batch
            self.steps.append((method.current_epoch, batch, moved(method, before)))
            self.indices.setdefault(method.current_epoch, []).append(inner.index)

        self.indices: dict[int, list[Tensor]] = {}
        monkeypatch.setattr(PES, "step", watched)


def moved(method: PES, before: dict[str, Tensor]) -> dict[str, float]:
    """The largest change of a weight of stem, last stage and classifier, and of a running statistic of the stem."""
    found = dict.fromkeys(("stem", "stage", "classifier", "statistics"), 0.0)
    for name, tensor in method.network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        part = "classifier" if name.startswith("classifier") else "stem"
        if any(name.startswith(f"{module}.") for module in method.parts.last_stage):
            part = "stage"
        if "running" in name:
            if part != "stem":
                continue
            part = "statistics"
        found[part] = max(found[part], float((tensor - before[name]).abs().max()))
    return found


@pytest.mark.parametrize("afterwards", ["frozen", "trained"])
def test_each_phase_trains_its_own_parts(afterwards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Witness(monkeypatch)
    overrides = (*SHORT, f"method.replaced_parts={afterwards}", "method.refining_lr=1e-3", "trainer.max_epochs=4")
    _, method, record = trained(tmp_path / "run", *overrides)
    parts = ("stem", "stage", "classifier")
    of_epoch = [[step for step in seen.steps if step[0] == epoch] for epoch in range(4)]
    assert len(of_epoch[0]) == 10
    assert len(of_epoch[1]) == 30, "T2 + T3 passes are one epoch"
    for number, (epoch, batch, change) in enumerate(seen.steps):
        trains = {part for part in parts if change[part] > 0}
        if epoch == 1:
            assert batch.part == ("last_stage" if number < 30 else "classifier")
            assert batch.begins == (number in (10, 30))
            assert trains == ({"stage", "classifier"} if number < 30 else {"classifier"})
            if not batch.begins:  # Adam's steps are hardly longer than its rate
                assert max(change[part] for part in parts) < 5e-3
        elif epoch == 0 or afterwards == "trained":
            assert trains == set(parts)
        else:
            assert trains == {"stem"}
        assert change["statistics"] > 0, "those of frozen parts move too"
    # An initialisation, and then a first step of Adam from zero moments: by its rate, up to 1e-8 in the denominator.
    assert min(change["classifier"] for _, batch, change in of_epoch[1] if batch.begins) > 0.05
    # Each confident sample once, nobody else.
    for epoch in (2, 3):
        assert of_epoch[epoch]
    rows = method.trainer.datamodule.train_index
    assert torch.equal(torch.cat(seen.indices[3]).sort().values, rows[method.table["selected"][rows]])
    assert torch.equal(method.table["selected"], method.table["prediction"] == method.table["given"])
    assert record.epochs[1]["train/selected"] == 1
    assert record.epochs[3]["train/selected"] == pytest.approx(float(method.table["selected"].float().mean()))
    assert all(parameter.requires_grad for parameter in method.network.parameters())


def test_a_new_part_is_initialised_anew_and_steps_with_adam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The initialisation is within PyTorch's bounds, the same for the same seed; Adam's first step is ±its rate."""
    fresh: list[tuple[Tensor, Tensor]] = []
    replace, take_step = PES.replace, PES.take_step

    def replaced(method: PES, part: Any) -> None:
        old = method.network.classifier.weight.detach().clone()  # type: ignore[union-attr, operator]
        replace(method, part)
        fresh.append((old, method.network.classifier.weight.detach().clone()))  # type: ignore[union-attr, operator]

    first: list[Tensor] = []

    def stepped(method: PES, network: int | None = None) -> None:
        take_step(method, network)
        if len(fresh) > len(first):
            first.append(method.network.classifier.weight.detach() - fresh[-1][1])  # type: ignore[union-attr, operator]

    monkeypatch.setattr(PES, "replace", replaced)
    monkeypatch.setattr(PES, "take_step", stepped)
    for name in ("a", "b"):
        trained(tmp_path / name, *SHORT, "method.refining_lr=1e-3", "trainer.max_epochs=2")
    assert len(fresh) == 4
    bound = 1 / math.sqrt(8)  # PyTorch's, of a linear layer with 8 inputs
    for old, new in fresh:
        assert not torch.equal(old, new)
        assert 0.7 * bound < new.abs().max() <= bound
    assert not torch.equal(fresh[0][1], fresh[1][1]), "the classifier is drawn a second time"
    assert torch.equal(fresh[0][1], fresh[2][1])
    for step in first:
        assert step.abs().max().item() == pytest.approx(1e-3, rel=1e-3)
        assert step.abs().median().item() == pytest.approx(1e-3, rel=1e-2)


def test_the_momentum_model_follows_every_step(tmp_path: Path) -> None:
    """With a decay of 0 it is the network, and only if the last step was followed too: one of Adam."""
    _, method, _ = trained(
        tmp_path / "run", *SHORT, "trainer.max_epochs=2", "momentum.enabled=true", "momentum.decay=0"
    )
    for name, tensor in method.network.state_dict().items():
        assert torch.equal(method.judged["momentum"].state_dict()[name], tensor) or tensor.dtype == torch.int64


def test_trained_replaced_parts_resume_bit_for_bit(tmp_path: Path) -> None:
    """Which parameters are trained, and what the optimiser has forgotten of them. The tier has the frozen ones."""
    config = compose([*SMALL, *SHORT, "method.replaced_parts=trained", "trainer.max_epochs=3"])
    whole = made(config, tmp_path / "whole")
    whole.fit()
    assert_the_same(in_pieces(config, tmp_path / "pieces", (1, None), (2, 1)), whole)


def test_a_fused_optimiser_takes_replaced_parts(tmp_path: Path) -> None:
    """GPUs have fused optimisers, which need a state for all parameters or for none."""
    keys = (*SHORT, "method.replaced_parts=trained", "trainer.max_epochs=4")
    _, plain, _ = trained(tmp_path / "plain", *keys)
    _, fused, _ = trained(tmp_path / "fused", *keys, "+optimizer.fused=true")
    for ours, theirs in zip(plain.network.parameters(), fused.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_an_empty_selection_trains_on_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is nothing to learn from, and the run goes on."""
    select = PES.select

    def nobody(method: PES) -> None:
        select(method)
        method.table["selected"].fill_(False)

    monkeypatch.setattr(PES, "select", nobody)
    _, method, record = trained(tmp_path / "run", *SHORT, "trainer.max_epochs=4")
    assert method.steps == 10 + 30
    assert len(record.epochs) == 4
    assert math.isnan(record.epochs[-1]["train/selected_correct"])


def test_a_network_without_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"method\.last_stage: OnePixel does not name"):
        trained(tmp_path / "run", "method=pes", "model._target_=two_processes.OnePixel")


def test_gradients_are_clipped_for_both_optimisers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: dict[str, list[float]] = {"SGD": [], "Adam": []}

    def watch(kind: type[torch.optim.Optimizer]) -> None:
        step = kind.step

        def watched(optimizer: torch.optim.Optimizer, *arguments: Any) -> Any:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            lengths[kind.__name__].append(float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0)
            return step(optimizer, *arguments)

        monkeypatch.setattr(kind, "step", watched)

    watch(torch.optim.SGD)
    watch(torch.optim.Adam)
    trained(tmp_path / "run", *SHORT, "clip_norm=0.01", "trainer.max_epochs=2")
    for kind, found in lengths.items():
        assert max(found) == pytest.approx(0.01, rel=1e-3), kind
