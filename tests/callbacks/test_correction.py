"""Label correction: the targets by hand, the epochs in which it happens, and what it refuses.

The fixed networks below look their softmax up, so that every loss is a multiple of log 2 or a closed form of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from math import log2
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from slnlab import SampleTable, StochasticLabelNoise
from slnlab.callbacks import LabelCorrection, MomentumModel, correct_labels
from slnlab.callbacks.correction import label_weights
from slnlab.config import compose
from slnlab.data import ImageDataModule
from slnlab.data.indexed import IndexedDataset
from slnlab.errors import ConfigError, SlnlabError
from slnlab.record.run_directory import RunDirectory
from slnlab.training import assemble
from slnlab.training.settling import settle

MakeTrainer = Callable[..., pl.Trainer]


class Lookup(nn.Module):
    """The softmax of 'image' [i] is row i."""

    def __init__(self, softmax: list[list[float]]) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(softmax).log())

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[images[:, 0].long()]


def batches(*groups: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Image i is the number i."""
    return [(torch.tensor(rows), torch.tensor(rows).float().unsqueeze(1)) for rows in groups]


def targets_are(table: SampleTable, expected: list[list[float]]) -> None:
    torch.testing.assert_close(table.targets(torch.arange(len(table))), torch.tensor(expected).float())


GIVEN = torch.tensor([0, 1, 2, 0])
NETWORK = Lookup([[1 / 2, 1 / 4, 1 / 4], [1 / 2, 1 / 4, 1 / 4], [1 / 8, 3 / 4, 1 / 8], [1 / 16, 7 / 16, 1 / 2]])
"""Losses against the given labels: 1, 2, 3, 4 times log 2. Predictions: 0, 0, 1, 2."""
ALL = batches([0, 1], [2, 3])


# By hand, one pass


def test_hard_correction_by_hand() -> None:
    """ω = 0, ⅓, ⅔, 1 on the given label, the rest on the predicted one."""
    table = SampleTable(GIVEN, 3)
    correct_labels(table, NETWORK, ALL)
    targets_are(table, [[1, 0, 0], [2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3], [1, 0, 0]])
    assert torch.equal(table["given"], GIVEN), "the given label is never lost"


def test_soft_correction_by_hand() -> None:
    table = SampleTable(GIVEN, 3)
    correct_labels(table, NETWORK, ALL, prediction="soft")
    targets_are(
        table,
        [
            [1 / 2, 1 / 4, 1 / 4],
            [2 / 3 * 1 / 2, 1 / 3 + 2 / 3 * 1 / 4, 2 / 3 * 1 / 4],
            [1 / 3 * 1 / 8, 1 / 3 * 3 / 4, 2 / 3 + 1 / 3 * 1 / 8],
            [1, 0, 0],
        ],
    )


def test_the_inverse_weighting_by_hand() -> None:
    """The ablation of Fig. 10: the label that fits best is trusted most."""
    table = SampleTable(GIVEN, 3)
    correct_labels(table, NETWORK, ALL, weighting="inverse")
    targets_are(table, [[1, 0, 0], [1 / 3, 2 / 3, 0], [0, 2 / 3, 1 / 3], [0, 0, 1]])


@pytest.mark.parametrize("weighting", ["loss", "inverse"])
def test_equal_losses_leave_the_labels_unchanged(weighting: Any) -> None:
    table = SampleTable(GIVEN, 3)
    correct_labels(table, Lookup([[1 / 3, 1 / 3, 1 / 3]] * 4), ALL, weighting=weighting)
    targets_are(table, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert label_weights(torch.tensor([2.5]), weighting).tolist() == [1.0], "one sample has nothing to compare with"


def test_label_weights_by_hand() -> None:
    losses = torch.tensor([3.0, 1.0, 2.0, 5.0])
    assert label_weights(losses).tolist() == [0.5, 0.0, 0.25, 1.0]
    assert label_weights(losses, "inverse").tolist() == [0.5, 1.0, 0.75, 0.0]
    assert label_weights(torch.tensor([1e30, 2e30, 3e30])).tolist() == pytest.approx([0, 0.5, 1])


# By hand, a second pass


@pytest.fixture
def once_corrected() -> SampleTable:
    """Held are (1, 0, 0), (⅔, ⅓, 0), (0, ⅓, ⅔), (1, 0, 0), as above."""
    table = SampleTable(GIVEN, 3)
    correct_labels(table, NETWORK, ALL)
    return table


def test_loss_against_given_labels_makes_correction_idempotent(once_corrected: SampleTable) -> None:
    correct_labels(once_corrected, NETWORK, ALL, loss_against="given")
    targets_are(once_corrected, [[1, 0, 0], [2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3], [1, 0, 0]])


def test_loss_against_current_targets_moves_the_targets_again(once_corrected: SampleTable) -> None:
    """Losses in bits: 1, ⅔·1 + ⅓·2, ⅓·log₂ 4/3 + ⅔·3 and 4; ω = (ℓ − 1)/3."""
    correct_labels(once_corrected, NETWORK, ALL)
    second, third = (4 / 3 - 1) / 3, (log2(4 / 3) / 3 + 2 - 1) / 3
    targets_are(once_corrected, [[1, 0, 0], [1 - second, second, 0], [0, 1 - third, third], [1, 0, 0]])


CHANGED = Lookup([[1 / 2, 1 / 4, 1 / 4], [1 / 8, 1 / 8, 3 / 4], [1 / 2, 1 / 4, 1 / 4], [3 / 4, 1 / 8, 1 / 8]])
"""A network that has changed its mind. Predictions: 0, 2, 0, 0."""


def test_a_second_correction_by_a_changed_network_by_hand(once_corrected: SampleTable) -> None:
    """Losses in bits: 1, ⅔·3 + ⅓·3 = 3 (the largest), ⅓·2 + ⅔·2 = 2, log₂ 4/3 (the least).

    The given label of sample 1 has all its weight back; what sample 2 lost to class 1 is now with class 0.
    """
    correct_labels(once_corrected, CHANGED, ALL)
    low = log2(4 / 3)
    first, third = (1 - low) / (3 - low), (2 - low) / (3 - low)
    assert once_corrected["weight"].tolist() == pytest.approx([first, 1, third, 0])
    targets_are(once_corrected, [[1, 0, 0], [0, 1, 0], [1 - third, 0, third], [1, 0, 0]])


@pytest.mark.parametrize("prediction", ["hard", "soft"])
def test_correction_always_mixes_with_the_given_label(prediction: Any) -> None:
    """A sample of weight 1 has its given label again, whatever its target was in between."""
    table = SampleTable(GIVEN, 3)
    correct_labels(table, NETWORK, ALL, prediction=prediction)
    assert table.targets(torch.tensor([1]))[0, 0] > 0.3, "sample 1 was moved to class 0"
    confident = [[0.9, 0.05, 0.05], [0.98, 0.01, 0.01], [0.05, 0.05, 0.9], [0.9, 0.05, 0.05]]
    correct_labels(table, Lookup(confident), ALL, prediction=prediction, loss_against="given")
    assert table.targets(torch.tensor([1])).tolist() == [[0, 1, 0]]


# Which samples


def test_losses_are_scaled_over_the_corrected_samples_alone() -> None:
    """Samples 1 and 2 alone: ω = 0 and 1. Nothing is known of the others, and nothing changes for them."""
    table = SampleTable(GIVEN, 3)
    correct_labels(table, NETWORK, batches([2], [1]))
    targets_are(table, [[1, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]])


def test_a_repeated_sample_does_not_change_the_correction() -> None:
    """Samplers pad their last batch with samples that came already."""
    table = SampleTable(GIVEN, 3)
    correct_labels(table, NETWORK, batches([0, 1], [2, 3], [1, 0]))
    targets_are(table, [[1, 0, 0], [2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3], [1, 0, 0]])


def test_the_first_view_of_a_repeated_sample_counts() -> None:
    """The first, in every respect: not the weight of one view with the prediction of another, nor its loss as the
    largest.

    The second view of sample 1 looks like image 4: predicted 2 with a loss of 10 bits.
    """
    network = Lookup(
        [
            [1 / 2, 1 / 4, 1 / 4],
            [1 / 2, 1 / 4, 1 / 4],
            [1 / 8, 3 / 4, 1 / 8],
            [1 / 16, 7 / 16, 1 / 2],
            [1 / 1024, 1 / 1024, 1022 / 1024],
        ]
    )
    views = [*batches([0, 1], [2, 3]), (torch.tensor([1, 1]), torch.tensor([[4.0], [4.0]]))]
    table = SampleTable(GIVEN, 3)
    correct_labels(table, network, views)
    targets_are(table, [[1, 0, 0], [2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3], [1, 0, 0]])


# The network


def test_correction_predicts_in_eval_mode_and_restores_every_mode() -> None:
    """log S − running mean = log (1/8, 1/2, 1/4), the softmax (1/7, 4/7, 2/7) for every sample."""
    norm = nn.BatchNorm1d(3, affine=False, eps=0.0)
    norm.running_mean.copy_(torch.tensor([4.0, 0.5, 1.0]).log())
    frozen = nn.BatchNorm1d(1, affine=False, eps=0.0).eval()
    network = nn.Sequential(frozen, Lookup([[1 / 2, 1 / 4, 1 / 4]] * 4), nn.Dropout(0.9), norm)
    statistics = norm.running_mean.clone()
    table = SampleTable(GIVEN, 3)
    correct_labels(table, network, ALL)
    # −log₂ 1/7, 4/7, 2/7 lie one apart: the labels 0, 1, 2 have the weights 1, 0, ½.
    targets_are(table, [[1, 0, 0], [0, 1, 0], [0, 1 / 2, 1 / 2], [1, 0, 0]])
    assert torch.equal(norm.running_mean, statistics)
    assert norm.num_batches_tracked == 0
    assert [part.training for part in network] == [False, True, True, True]
    assert network.training


def test_a_failed_pass_leaves_network_and_targets_unchanged() -> None:
    def broken() -> Iterator[tuple[Tensor, Tensor]]:
        yield ALL[0]
        raise OSError("disk")

    table, network = SampleTable(GIVEN, 3), copy.deepcopy(NETWORK).train()
    with pytest.raises(OSError, match="disk"):
        correct_labels(table, network, broken())
    assert network.training
    targets_are(table, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_losses_are_refused(value: float) -> None:
    """A NaN would be the least and the largest loss of all samples, so that every label would stay, silently."""
    with pytest.raises(SlnlabError, match="not finite for 1 of 3"):
        label_weights(torch.tensor([1.0, value, 2.0]))
    network = copy.deepcopy(NETWORK)
    network.logits[2] = value
    table = SampleTable(GIVEN, 3)
    with pytest.raises(SlnlabError, match="not finite for 1 of 4"):
        correct_labels(table, network, ALL)
    targets_are(table, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])


def test_an_empty_pass_is_an_error() -> None:
    """Somebody's iterator, used up in the epoch before."""
    used_up = iter(ALL)
    list(used_up)
    with pytest.raises(SlnlabError, match="no batches"):
        correct_labels(SampleTable(GIVEN, 3), NETWORK, used_up)


# The callback, in somebody else's LightningModule


class Somebody(pl.LightningModule):
    """Ordinary DataLoader, automatic optimisation; notes σ and the targets of every epoch."""

    def __init__(self, *, with_table: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Linear(4, 3)
        self.noise_on_labels = StochasticLabelNoise(0.5)
        self.labels = torch.arange(12) % 3
        if with_table:
            self.table = SampleTable(self.labels, 3)
        self.sigmas: list[float] = []
        self.weights: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        index, image = batch
        if batch_idx == 0:
            self.sigmas.append(self.noise_on_labels.sigma)
            self.weights.append(self.table["weight"].clone())
        return cross_entropy(self.network(image), self.noise_on_labels(self.table.targets(index)))

    def configure_optimizers(self) -> torch.optim.SGD:
        return torch.optim.SGD(self.network.parameters(), lr=1.0)

    def loader(self, shuffle: bool = True) -> DataLoader[Any]:
        images = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
        return DataLoader(IndexedDataset(TensorDataset(images, self.labels)), batch_size=4, shuffle=shuffle)


@pytest.mark.parametrize(("last", "corrected"), [(2, [3, 4]), (1, [4]), (5, [0, 1, 2, 3, 4])])
def test_correction_runs_in_the_last_epochs_with_sigma_0(
    last: int, corrected: list[int], quiet_trainer: MakeTrainer
) -> None:
    """The last two of five epochs, counted from 0, are 3 and 4: the first is max_epochs − last_epochs."""
    module, epochs = Somebody(), []

    def passes(epoch: int) -> DataLoader[Any]:
        epochs.append(epoch)
        return module.loader()

    quiet_trainer(MomentumModel(0.9), LabelCorrection(last, batches=passes), max_epochs=5).fit(module, module.loader())
    assert epochs == corrected
    assert module.sigmas == [0.0 if epoch in corrected else 0.5 for epoch in range(5)]
    assert [bool((weight < 1).any()) for weight in module.weights] == [epoch in corrected for epoch in range(5)]


def test_the_momentum_model_predicts_the_labels(quiet_trainer: MakeTrainer) -> None:
    momentum, seen = MomentumModel(0.9), {}

    class Look(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            seen["momentum"], seen["network"] = copy.deepcopy(momentum.module), copy.deepcopy(module.network)

    module = Somebody()
    correction = LabelCorrection(1, batches=lambda epoch: module.loader())
    quiet_trainer(momentum, Look(), correction, max_epochs=3).fit(module, module.loader())
    index, image = next(iter(DataLoader(module.loader(shuffle=False).dataset, batch_size=12)))
    predicted = {name: network(image).argmax(1) for name, network in seen.items()}
    assert torch.equal(module.table["predicted"][index], predicted["momentum"])
    assert not torch.equal(predicted["momentum"], predicted["network"]), "or the test could not tell"


def test_the_callbacks_table_wins_over_the_modules(quiet_trainer: MakeTrainer) -> None:
    module = Somebody()
    other = SampleTable(module.labels, 3)
    correction = LabelCorrection(1, table=other, batches=lambda epoch: module.loader())
    quiet_trainer(MomentumModel(0.9), correction, max_epochs=1).fit(module, module.loader())
    assert (other["weight"] < 1).any()
    assert (module.table["weight"] == 1).all()


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("loss_against", "GIVEN", "'current' or 'given'"),
        ("prediction", "Soft", "'hard' or 'soft'"),
        ("weighting", "Inverse", "'loss' or 'inverse'"),
        ("views", "Clean", "'augmented' or 'clean'"),
    ],
)
def test_a_misspelt_option_is_refused(option: str, value: str, allowed: str) -> None:
    message = rf"label correction: {option}='{value}': must be {allowed}"
    misspelt: dict[str, Any] = {option: value}
    with pytest.raises(ConfigError, match=message):
        LabelCorrection(1, **misspelt)
    if option != "views":
        with pytest.raises(ConfigError, match=message):
            correct_labels(SampleTable(GIVEN, 3), NETWORK, ALL, **misspelt)
    if option == "weighting":
        with pytest.raises(ConfigError, match=message):
            label_weights(torch.ones(2), **misspelt)


@pytest.mark.parametrize("last", [0, -3])
def test_zero_epochs_are_refused(last: int) -> None:
    with pytest.raises(ConfigError, match=rf"correction\.last_epochs={last}"):
        LabelCorrection(last)


@pytest.mark.parametrize(
    ("with_momentum", "with_table", "with_batches", "last", "complaint"),
    [
        (True, True, True, 3, r"correction\.last_epochs=3: the run has only 2 epochs"),
        (False, True, True, 1, "add MomentumModel"),
        (True, False, True, 1, r"LabelCorrection\(table="),
        (True, True, False, 1, r"LabelCorrection\(batches="),
    ],
)
def test_impossible_settings_are_refused_before_training(
    with_momentum: bool, with_table: bool, with_batches: bool, last: int, complaint: str, quiet_trainer: MakeTrainer
) -> None:
    """The refusal comes at the start, not after 250 epochs."""
    module = Somebody(with_table=with_table)
    before = module.network.weight.detach().clone()
    correction = LabelCorrection(last, batches=(lambda epoch: module.loader()) if with_batches else None)
    callbacks = [MomentumModel(0.9), correction] if with_momentum else [correction]
    with pytest.raises(ConfigError, match=complaint):
        quiet_trainer(*callbacks, max_epochs=2).fit(module, module.loader())
    assert torch.equal(module.network.weight, before)


def test_a_run_without_a_number_of_epochs_is_refused(quiet_trainer: MakeTrainer) -> None:
    module = Somebody()
    correction = LabelCorrection(1, batches=lambda epoch: module.loader())
    with pytest.raises(ConfigError, match=r"label correction needs the number of epochs: give the Trainer max_epochs"):
        quiet_trainer(MomentumModel(0.9), correction, max_epochs=-1, max_steps=2).fit(module, module.loader())


# The callback, in one of our runs


@pytest.mark.parametrize("views", ["augmented", "clean"])
def test_correction_predicts_the_configured_views(views: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clean views are the images as they are; augmented ones are crops, other ones in every epoch."""
    config = compose(
        [
            "data.train_size=60",
            "trainer.max_epochs=3",
            "trainer.accelerator=cpu",
            "trainer.progress=false",
            "method=sln_mo_lc",
            "correction.last_epochs=2",
            f"correction.views={views}",
        ]
    )
    seen: list[Tensor] = []
    passes = ImageDataModule.passes

    def spy(self: ImageDataModule, *arguments: Any) -> Iterator[Any]:
        made = list(passes(self, *arguments))
        if "label correction" in arguments:
            seen.append(torch.cat([batch.image for batch in made]))
        return iter(made)

    monkeypatch.setattr(ImageDataModule, "passes", spy)
    data, run = assemble.datamodule(config), RunDirectory(tmp_path)
    method = assemble.method(config)
    assemble.trainer(settle(config), run, [])[0].fit(method, data)
    clean = data.reading([data.train_index])(0).view()
    assert len(seen) == 2
    assert [torch.equal(images, clean) for images in seen] == [views == "clean"] * 2
    if views == "augmented":
        assert not torch.equal(seen[0], seen[1])
    assert method.sln.sigma == 0.0
    assert (method.table["weight"] < 1).any()
