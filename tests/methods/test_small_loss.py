"""The estimated noise rate of small-loss selection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from saying import OppositeInTraining, logits_of, with_table
from torch.optim import SGD

from slnlab.data.batches import Labels, Samples
from slnlab.errors import ConfigError, DataError
from slnlab.losses import cross_entropy
from slnlab.methods.co_teaching import CoTeaching
from slnlab.record.result import NoiseRateUsed


def test_the_noise_rate_comes_from_anchor_points(tmp_path: Path) -> None:
    """T = (.8 .2; .3 .7) and as many labels 0 as 1: π = (.4, .6), so .4·.2 + .6·.3 are wrong, in every epoch."""
    file = tmp_path / "probabilities.npz"
    np.savez(file, probabilities=np.array([[0.8, 0.2]] * 4 + [[0.3, 0.7]] * 6, dtype=np.float32))

    def made(estimate_from: str | None) -> CoTeaching:
        options = {"class_losses": cross_entropy, "ramp_epochs": 0, "optimizer": SGD}
        method = CoTeaching(
            *(OppositeInTraining(), OppositeInTraining()),
            forget_rate="anchor_points",
            estimate_from=estimate_from,
            **options,
        )
        labels = Labels(torch.tensor([0, 1] * 5))
        method._trainer = SimpleNamespace(  # type: ignore[assignment]
            datamodule=SimpleNamespace(labels=labels, num_classes=2, oversampling=False), current_epoch=3
        )
        method.setup("fit")
        return method

    method = made(str(file))
    assert method.forget_rate == pytest.approx(0.26)
    assert method.noise_rate_used == NoiseRateUsed(value=method.noise_rate, source="anchor points")
    with pytest.raises(ConfigError, match=r"anchor_points, but there are no predictions.*slnlab\.train makes them"):
        made(None)
    file.write_bytes(b"torn")
    with pytest.raises(DataError, match="cannot be read as class probabilities"):
        made(str(file))


def test_the_noise_rate_is_estimated_in_eval_mode() -> None:
    """Then .9 is said of 7 of 10 given labels and .1 of 3, by both networks: three tenths are wrong."""
    method = CoTeaching(
        OppositeInTraining(),
        OppositeInTraining(),
        class_losses=cross_entropy,
        forget_rate="estimated",
        ramp_epochs=2,
        optimizer=SGD,
    )
    with_table(method, [0] * 10)

    def passes(views: str, purpose: str, epoch: int) -> Iterator[Samples]:
        assert views == "clean"
        yield Samples(torch.arange(10), logits_of([0.9] * 7 + [0.1] * 3))

    method._trainer = SimpleNamespace(datamodule=SimpleNamespace(passes=passes), current_epoch=1)  # type: ignore[assignment]
    assert method.noise_rate_used is None, "0 would be no estimate"
    assert method._estimate() == pytest.approx(0.3, abs=0.01)
    assert all(network.training for network in method.networks.values()), "they are back in their mode"
