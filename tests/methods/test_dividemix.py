"""DivideMix: its pieces on fixed vectors, one step by hand, the split against scikit-learn."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from resuming import trained
from saying import OppositeInTraining, Says, batch_of, logits_of, with_table
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from slnlab import SampleTable
from slnlab.analysis.mixture import LossMixture
from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy as class_losses
from slnlab.methods.dividemix import DivideMix, Turn
from slnlab.objectives import co_guess, co_refine, prior_penalty, sharpen
from slnlab.objectives.mixmatch import linear_ramp
from slnlab.streams import Streams

WARM = ("method=dividemix", "method.warm_up_epochs=2")


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values)


def test_sharpen_by_hand() -> None:
    """T = ½ squares: (.6, .4) becomes (.36, .16)/.52."""
    torch.testing.assert_close(sharpen(rows([0.6, 0.4], [0.5, 0.5]), 0.5), rows([9 / 13, 4 / 13], [0.5, 0.5]))
    torch.testing.assert_close(sharpen(rows([0.6, 0.4]), 1.0), rows([0.6, 0.4]))


def test_co_refinement_by_hand() -> None:
    """w = .25, label 1: .25·(0, 1) + .75·(.7, .3) = (.525, .475), squared and divided by the sum."""
    views = [rows([0.8, 0.2]), rows([0.6, 0.4])]
    refined = co_refine(torch.tensor([1]), torch.tensor([0.25]), views, 0.5)
    total = 0.525**2 + 0.475**2
    torch.testing.assert_close(refined, rows([0.525**2 / total, 0.475**2 / total]))
    trusted = co_refine(torch.tensor([1]), torch.tensor([1.0]), views, 0.5)
    torch.testing.assert_close(trusted, rows([0.0, 1.0]))


def test_co_guess_by_hand() -> None:
    """The mean of four softmaxes, (.6, .4), sharpened."""
    views = [rows([p, 1 - p]) for p in (0.9, 0.7, 0.5, 0.3)]
    torch.testing.assert_close(co_guess(views, 0.5), rows([9 / 13, 4 / 13]))


@pytest.mark.parametrize(
    ("progress", "epochs", "expected"),
    [(0, 16, 0), (4, 16, 0.25), (0.5, 16, 1 / 32), (16, 16, 1), (99, 16, 1), (0, 0, 1)],
)
def test_ramp_up_by_hand(progress: float, epochs: int, expected: float) -> None:
    assert linear_ramp(progress, epochs) == expected


def test_prior_penalty_by_hand() -> None:
    """½ log(½ / .8) + ½ log(½ / .2), and 0 for the uniform mean."""
    expected = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    assert prior_penalty(torch.tensor([0.8, 0.2])).item() == pytest.approx(expected)
    assert prior_penalty(torch.full((10,), 0.1)).item() == pytest.approx(0, abs=1e-6)


# One step


P, P_2 = [0.8, 0.3, 0.9, 0.6], [0.5, 0.7, 0.2, 0.4]
"""Probabilities of class 0 by both networks. The labels are 0, 1, 1, 0."""


def bare(lambda_u: float) -> DivideMix:
    """λ' = 1: every row is itself. The views are alike."""
    method = DivideMix(
        Says(logits_of(P)),
        Says(logits_of(P_2)),
        class_losses=class_losses,
        warm_up_epochs=0,
        warm_up_penalty=0.0,
        threshold=0.5,
        average_losses=1,
        temperature=0.5,
        alpha=4.0,
        lambda_u=lambda_u,
        lambda_u_ramp=16,
        optimizer=SGD,
    )
    with_table(method, [0, 1, 1, 0])
    method.table.add("clean", fill=0.25)
    method.table.add("clean_2", fill=0.75)
    method.streams = Streams(0)
    method._trainer = SimpleNamespace()  # type: ignore[assignment]
    method._mixing = lambda rows, device: (1.0, torch.arange(rows))  # type: ignore[method-assign]
    for network in method.networks.values():
        network.forward = lambda images, network=network: network.logits[images.long()]  # type: ignore[method-assign]
    return method


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_warm_up_adds_the_confidence_penalty(weight: float) -> None:
    """Each network: mean cross entropy + weight · mean Σ S log S, a cost of confidence."""
    method = bare(lambda_u=0.0)
    method.warm_up_penalty = weight
    expected = 0.0
    for of_class_0 in (P, P_2):
        for p, label in zip(of_class_0, (0, 1, 1, 0), strict=True):
            expected -= math.log(p if label == 0 else 1 - p) / 4
            expected += weight * (p * math.log(p) + (1 - p) * math.log(1 - p)) / 4
    assert method.loss(batch_of(4)).item() == pytest.approx(expected, rel=1e-5)


def turn(number: int, labelled: list[int], unlabelled: list[int]) -> Turn:
    """Halfway up the ramp. A sample's number is its image."""
    rows = [torch.tensor(numbers, dtype=torch.int64) for numbers in (labelled, unlabelled)]
    images: list[Any] = [SimpleNamespace(index=index, view=lambda _, index=index: index.float()) for index in rows]
    return Turn(number, *images, progress=8.0)


def squared(p: float) -> float:
    return p**2 / (p**2 + (1 - p) ** 2)


@pytest.mark.parametrize(("number", "w", "own", "other"), [(0, 0.75, P, P_2), (1, 0.25, P_2, P)])
def test_a_step_by_hand(number: int, w: float, own: list[float], other: list[float]) -> None:
    """Samples 0 and 1 are labelled, 2 is not; halfway up the ramp. Each network trusts the *other's* w."""
    method = bare(lambda_u=4.0)
    loss = method.mixmatch(turn(number, [0, 1], [2]))
    target = [squared(w + (1 - w) * own[0]), squared((1 - w) * own[1])]
    of_labelled = [-(t * math.log(p) + (1 - t) * math.log(1 - p)) for t, p in zip(target, own, strict=False)]
    guess = squared((own[2] + other[2]) / 2)
    of_unlabelled = (own[2] - guess) ** 2  # the mean over two classes of two equal squares
    mean = sum(own[:3]) / 3
    penalty = -0.5 * math.log(2 * mean) - 0.5 * math.log(2 * (1 - mean))
    assert loss.item() == pytest.approx(sum(of_labelled) / 2 + 4.0 * 0.5 * of_unlabelled + penalty, rel=1e-4)
    loss.backward()
    gradients = [network.logits.grad for network in method.networks.values()]
    assert gradients[number] is not None
    assert gradients[1 - number] is None, "nothing flows into the network that only guesses"


def test_a_step_with_lambda_u_none_by_hand() -> None:
    """Sample i is the image i; the networks say sigmoid(image) and sigmoid(image/2) for class 0. Rows are 0 1 0 1 2 2.

    With λ' = .75 the labelled four are mixed with 2, 2, 0, 1, so two of them with the unlabelled sample.
    """
    method, seen = bare(lambda_u=0.0), []
    method.lambda_u = None
    method._mixing = lambda rows, device: (0.75, torch.tensor([4, 5, 0, 1, 2, 3][:rows]))  # type: ignore[method-assign]
    for slope, network in zip((1.0, 0.5), method.networks.values(), strict=True):
        network.logits = torch.nn.Parameter(torch.tensor(slope))

        def said(images: Tensor, network: Any = network) -> Tensor:
            if torch.is_grad_enabled():
                seen.append(images.tolist())
            return torch.stack([network.logits * images, torch.zeros_like(images)], 1)

        network.forward = said

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    loss = method.mixmatch(turn(0, [0, 1], [2]))
    assert seen == [[0.5, 1.25, 0.0, 1.0]], "what is learned from: the four labelled rows and no other"
    first, second = squared(0.75 + 0.25 * sigmoid(0)), squared(0.25 * sigmoid(1))  # labels 0 and 1, w = .75
    guess = squared((sigmoid(2) + sigmoid(1)) / 2)
    targets = [0.75 * first + 0.25 * guess, 0.75 * second + 0.25 * guess, first, second]
    own = [sigmoid(x) for x in seen[0]]
    entropies = [-(t * math.log(p) + (1 - t) * math.log(1 - p)) for t, p in zip(targets, own, strict=True)]
    mean = sum(own) / 4
    penalty = -0.5 * math.log(2 * mean) - 0.5 * math.log(2 * (1 - mean))
    assert loss.item() == pytest.approx(sum(entropies) / 4 + penalty, rel=1e-5)
    method.lambda_u = 0.0
    of_all = method.mixmatch(turn(0, [0, 1], [2]))
    assert len(seen[1]) == 6, "with a weight of 0 they count in the penalty"
    assert of_all.item() != pytest.approx(loss.item(), rel=1e-3)


@pytest.mark.parametrize(("number", "w"), [(0, 0.75), (1, 0.25)])
def test_own_network_guesses_in_train_mode_other_in_eval_mode(number: int, w: float) -> None:
    """Sample 0, labelled 0, is .8 of class 0, and the unlabelled sample 1 is .4. The own network, in train mode, says
    .2 and .6 of them. The other's scale is 2: in eval mode it says .16/(.16 + .36) = 4/13 of sample 1.
    """
    method, step = bare(lambda_u=4.0), turn(number, [0], [1])
    for name, scale in zip(method.networks, (1.0, 2.0) if number == 0 else (2.0, 1.0), strict=True):
        method.networks[name] = OppositeInTraining(scale)
    step.labelled.view = lambda _: logits_of([0.8])  # type: ignore[method-assign]
    step.unlabelled.view = lambda _: logits_of([0.4])  # type: ignore[method-assign]
    target, guess = squared(w + (1 - w) * 0.2), squared((0.6 + 4 / 13) / 2)
    of_labelled = -target * math.log(0.2) - (1 - target) * math.log(0.8)
    penalty = -0.5 * math.log(2 * 0.4) - 0.5 * math.log(2 * 0.6)  # (.2 + .6)/2 = .4
    expected = of_labelled + 4.0 * 0.5 * (0.6 - guess) ** 2 + penalty
    assert method.mixmatch(step).item() == pytest.approx(expected, rel=1e-5)
    assert all(network.training for network in method.networks.values()), "they are back in their mode"


def test_a_split_without_unlabelled_samples_trains() -> None:
    method = bare(lambda_u=4.0)
    loss = method.mixmatch(turn(0, [0, 1], []))
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("labelled", "sizes"), [(0, []), (1, []), (2, [2]), (4, [4]), (5, [5]), (6, [4, 2]), (9, [4, 5]), (12, [4, 4, 4])]
)
@pytest.mark.parametrize("unlabelled", [0, 1, 2, 7])
def test_steps_take_half_batches_and_never_a_single_sample(labelled: int, sizes: list[int], unlabelled: int) -> None:
    """An epoch of a network is one pass over its labelled samples, which batches of 8 take four at a time."""
    method, total = bare(0.0), labelled + unlabelled
    method.table = SampleTable(torch.zeros(total, dtype=torch.int64), 2)
    method.table.add("selected_2", dtype=torch.bool)[:labelled] = True
    data = SimpleNamespace(
        train_index=torch.arange(total), batch_size=8, reading=lambda batches, whole: batches.__getitem__
    )
    method._trainer.datamodule = data  # type: ignore[union-attr]
    turns = [make() for make in method._turns(3, 0)]
    assert [len(turn.labelled) for turn in turns] == sizes
    assert sorted(torch.cat([turn.labelled for turn in turns]).tolist() if turns else []) == list(range(sum(sizes)))
    size = {0: 0, 1: 2, 2: 2, 7: 4}[unlabelled]
    assert [len(turn.unlabelled) for turn in turns] == [size] * len(sizes)
    drawn = torch.cat([turn.unlabelled for turn in turns]) if turns else torch.empty(0)
    assert all(labelled <= row < total for row in drawn.tolist())
    assert len(set(drawn.tolist())) == min(unlabelled, len(drawn)), "none comes again before all have"


def test_the_samples_own_share_is_at_least_one_half() -> None:
    """λ' is never below ½, and a step's draw depends on seed and step alone."""
    method = bare(0.0)
    mixing = DivideMix._mixing
    draws = []
    for step in range(200):
        method.steps = step
        share, partner = mixing(method, 6, torch.device("cpu"))
        assert 0.5 <= share <= 1
        assert sorted(partner.tolist()) == list(range(6))
        draws.append(share)
        assert mixing(method, 6, torch.device("cpu"))[0] == share
    # E max(λ, 1 − λ) of Beta(4, 4), whose density is proportional to λ³(1 − λ)³.
    grid = np.linspace(0, 1, 20001)
    density = grid**3 * (1 - grid) ** 3
    expected = (np.maximum(grid, 1 - grid) * density).sum() / density.sum()
    assert np.mean(draws) == pytest.approx(expected, abs=0.03)


# Whole runs


class SplitWitness(pl.Callback):
    """The expected split of the first epoch after the warm-up."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch != 2:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.clean = []
        for network in pl_module.networks.values():
            with torch.no_grad():
                logits = copy.deepcopy(network).eval()(data.reading([data.train_index])(0).view())
            losses = cross_entropy(logits, data.noise_record.given[data.train_index], reduction="none").double()
            scaled = ((losses - losses.min()) / (losses.max() - losses.min())).numpy()[:, None]
            mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
            mixture.fit(np.sort(scaled, axis=0))
            self.clean.append(mixture.predict_proba(scaled)[:, mixture.means_.argmin()])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_split_equals_scikit_learns_and_precedes_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = SplitWitness()
    turns: list[tuple[Turn, list[Tensor]]] = []
    step = DivideMix.step

    def watched(self: DivideMix, batch: Any) -> None:
        before = [next(network.parameters()).detach().clone() for network in self.networks.values()]
        step(self, batch)
        if isinstance(batch, Turn):
            after = [next(network.parameters()).detach() for network in self.networks.values()]
            turns.append((batch, [a - b for a, b in zip(after, before, strict=True)]))

    monkeypatch.setattr(DivideMix, "step", watched)
    _, method, record = trained(
        tmp_path / "run", *WARM, "trainer.max_epochs=3", "data.padding=0", "data.noisy_val=10", extra=(witness,)
    )
    index = torch.arange(110)[torch.isin(torch.arange(110), method.trainer.datamodule.train_index)]
    for name, expected in zip(("clean", "clean_2"), witness.clean, strict=True):
        np.testing.assert_allclose(method.table[name][index], expected, atol=1e-4)
    assert 0 < float((method.table["clean"][index] > 0.5).float().mean()) < 1, "both parts are there"
    # Network 1 completely, then network 2; each goes once through what the other holds for clean.
    numbers = [turn.number for turn, _ in turns]
    assert numbers == sorted(numbers)
    for number, column in ((0, "clean_2"), (1, "clean")):
        mine = [turn for turn, _ in turns if turn.number == number]
        seen = torch.cat([turn.labelled.index for turn in mine]).sort().values
        assert torch.equal(seen, index[method.table[column][index] > 0.5])
        assert all(2 <= len(turn.labelled.index) <= 7 for turn in mine)  # six, and a last one of one sample more
        assert not torch.isin(torch.cat([turn.unlabelled.index for turn in mine]), seen).any()
        assert [turn.progress for turn in mine] == [i / len(mine) for i in range(len(mine))]
    for turn, moved in turns:
        assert moved[turn.number].abs().sum() > 0
        assert moved[1 - turn.number].abs().sum() == 0
    assert method.steps == 2 * 9 + len(turns)
    assert record.epochs[-1]["train/selected"] == pytest.approx(
        float((method.table["clean"][index] > 0.5).float().mean())
    )


@pytest.mark.parametrize("clean", [0.0, 1.0])
def test_a_run_survives_an_empty_part(clean: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing labelled: the networks stay as they are. Everything labelled: MixMatch without an unlabelled part."""

    def mixture(losses: Tensor, scale: bool) -> LossMixture:
        return LossMixture(torch.full((len(losses),), clean), 1 - clean)

    monkeypatch.setattr("slnlab.methods.dividemix.fit_loss_mixture", mixture)
    _, method, record = trained(tmp_path / "run", *WARM, "trainer.max_epochs=3", "method.lambda_u=25.0")
    steps = -(-110 // 6) * 2 if clean else 0
    assert method.steps == 2 * 10 + steps
    assert len(record.epochs) == 3
    assert math.isfinite(record.epochs[-1]["test/ensemble/loss"])


def test_losses_are_averaged_over_the_last_epochs() -> None:
    """Each scaled to [0, 1]; with fewer epochs than are averaged, those that there are."""
    method = bare(0.0)
    method.average_losses = 2
    method.table.add("losses", shape=(2,))
    index = torch.tensor([0, 2, 3])
    means = []
    for epoch, losses in enumerate(([1.0, 2.0, 3.0], [0.0, 4.0, 2.0], [5.0, 5.0, 9.0])):
        method._trainer.current_epoch = epoch  # type: ignore[union-attr]
        means.append(method._averaged("losses", index, torch.tensor(losses)).tolist())
    assert means == [[0, 0.5, 1], [0, 0.75, 0.75], [0, 0.5, 0.75]]


@pytest.mark.parametrize(
    ("data", "noise", "epochs", "penalty"),
    [("cifar10", "sym", 10, 0.0), ("cifar10", "asym", 10, 1.0), ("cifar100", "sym", 30, 0.0)],
)
def test_presets_are_the_papers_values(data: str, noise: str, epochs: int, penalty: float) -> None:
    method = container_of(compose([f"data={data}", f"noise={noise}", "method=dividemix"]))["method"]
    assert (method["warm_up_epochs"], method["warm_up_penalty"]) == (epochs, penalty)
    assert (method["lambda_u"], method["alpha"], method["temperature"], method["threshold"]) == (0.0, 4.0, 0.5, 0.5)


def test_trained_weights_skip_the_warm_up() -> None:
    assert compose(["method=dividemix", "init.from=sln"]).method.warm_up_epochs == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sln.sigma=0.5"], r"sln\.sigma.*init\.from=sln"),
        (["momentum.enabled=true", "correction.enabled=true"], r"correction\.enabled"),
        (["loss=gce"], r"loss\.name"),
        (["method.temperature=0"], r"method\.temperature"),
    ],
)
def test_impossible_settings_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(compose(["method=dividemix", *overrides]))


def test_extreme_logits_give_finite_losses() -> None:
    """Sharpening that underflows every class, and a class that no row gives any probability to."""
    assert sharpen(torch.tensor([[0.02, 0.01, 0.01]]), 0.01)[0].tolist() == pytest.approx([1, 0, 0])
    assert sharpen(torch.tensor([[1e-3] * 1000]), 0.02).sum().item() == pytest.approx(1)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert prior_penalty(torch.tensor([1.0, 0.0], dtype=dtype)).isfinite()
