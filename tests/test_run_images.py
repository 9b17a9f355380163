"""A finished run gives its images, its labels and its penultimate features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import slnlab
from slnlab.data.digits import Digits
from slnlab.errors import ConfigError, DataError
from slnlab.inference.features import recording
from slnlab.inference.images import run_images
from slnlab.inference.trained_run import TrainedRun
from slnlab.methods.ensemble import Ensemble

OVERRIDES = ("data.train_size=200", "trainer.max_epochs=1", "model.widths=[4,4,8,8]", "noise=open_set", "noise.seed=5")
"""Of a run whose noise replaces images and whose noise seed is not the default."""


def test_training_images_give_the_loss_that_the_run_recorded(run: TrainedRun) -> None:
    images = run_images(run)
    with torch.no_grad():
        losses = cross_entropy(run.model(images.image), images.given, reduction="none")
    assert (images.number.numpy() == run.samples["index"]).all()
    np.testing.assert_allclose(losses, run.samples["network_loss"], rtol=1e-4, atol=1e-6)


def test_images_replaced_by_open_set_noise_have_no_true_label(run: TrainedRun) -> None:
    images = run_images(run)
    assert images.true is not None
    assert ((images.true == -1).numpy() == run.samples["wrong"]).all()
    assert torch.equal(images.true[images.true >= 0], images.given[images.true >= 0])


def test_a_choice_of_images_depends_on_its_seed_only(run: TrainedRun) -> None:
    some, same, others = (run_images(run, count=50, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(some.number, same.number)
    assert not torch.equal(some.number, others.number)
    everything = run_images(run)
    at = torch.searchsorted(everything.number, some.number)
    assert torch.equal(some.image, everything.image[at])
    assert len(some.number.unique()) == 50
    with pytest.raises(ConfigError, match="samples: must be at least 1, not 0"):
        run_images(run, count=0)


def test_test_images_give_the_runs_test_accuracy(run: TrainedRun) -> None:
    images = run_images(run, "test")
    accuracy = run.result.rows["network"].test_accuracy
    assert accuracy is not None
    assert float((run.model(images.image).argmax(1) == images.given).double().mean()) == accuracy.last
    some = run_images(run, "test", 30)
    assert torch.equal(some.image, images.image[some.number])
    assert torch.equal(some.given, images.given[some.number])


def test_other_given_labels_than_the_runs_are_refused(run: TrainedRun) -> None:
    other = slnlab.load(run.directory)
    other.samples["given"] = (run.samples["given"] + 1) % 10
    with pytest.raises(DataError, match="given labels of digits differ"):
        run_images(other)


def test_a_linear_layer_turns_features_into_the_predictions(run: TrainedRun) -> None:
    images = Digits().load("test").images[:7]
    features = run.features(images, batch_size=3)
    assert features.shape == (7, 8)
    classifier = next(module for module in run.model.modules() if isinstance(module, nn.Linear))
    probabilities = classifier(torch.from_numpy(features)).softmax(1).detach().numpy()
    np.testing.assert_allclose(probabilities, run.predict(images).probabilities, rtol=1e-5)
    assert not any(module._forward_pre_hooks for module in run.model.modules()), "the hooks are gone"


class _Reversed(nn.Module):
    """The layer that runs last is defined first."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Linear(3, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(x).relu())
        return out


def test_features_enter_the_layer_that_runs_last() -> None:
    network, x = _Reversed(), torch.randn(5, 4)
    with recording(network) as penultimate:
        network(x)
        assert torch.equal(penultimate.take(5), network.first(x).relu())


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten()), "Sequential has no torch.nn.Linear"),
        (nn.Sequential(nn.Linear(8, 3)), r"has the input \(2, 1, 8, 8\); \(2, D\) is needed"),
    ],
)
def test_a_network_without_features_is_refused(network: nn.Module, message: str) -> None:
    with recording(network) as penultimate:
        network(torch.zeros(2, 1, 8, 8))
        with pytest.raises(ConfigError, match=message):
            penultimate.take(2)


def test_an_ensemble_has_no_features_of_its_own() -> None:
    with pytest.raises(ConfigError, match="choose one"), recording(Ensemble([_Reversed()])):
        pass
