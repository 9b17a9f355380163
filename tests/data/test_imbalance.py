"""Imbalanced training sets: the sizes of the classes by hand, before the noise, in a run."""

from __future__ import annotations

import pytest
import torch
from omegaconf import DictConfig

from slnlab.config import check, compose
from slnlab.data.imbalance import imbalanced_rows
from slnlab.errors import ConfigError
from slnlab.schema.sample_counts import epoch_size
from slnlab.training import assemble
from slnlab.training.probability_run import needed
from slnlab.training.settling import settle


def sizes(ratio: float, kind: str, *, per_class: int = 100, classes: int = 5) -> list[int]:
    labels = torch.arange(classes).repeat(per_class)
    rows = imbalanced_rows(labels, classes, ratio, kind, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert rows.tolist() == sorted(set(rows.tolist()))
    return labels[rows].bincount(minlength=classes).tolist()


def test_sizes_of_the_classes_by_hand() -> None:
    assert sizes(16, "exponential") == [100, 50, 25, 12, 6], "100 / 2, 4, 8 and 16, rounded down"
    assert sizes(10, "step") == [100, 100, 100, 10, 10]
    assert sizes(1, "exponential") == [100] * 5
    assert sizes(1000, "step") == [100, 100, 100, 1, 1], "one sample at least"


def test_cifar10s_long_tail_has_its_published_sizes() -> None:
    """The 12,406 images of CIFAR-10-LT with ratio 100 (Cao et al. 2019)."""
    found = sizes(100, "exponential", per_class=5000, classes=10)
    assert found == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert sum(found) == 12406


def test_the_samples_are_drawn_by_the_seed() -> None:
    labels = torch.arange(3).repeat(50)
    first, again, other = (
        imbalanced_rows(labels, 3, 10, "exponential", torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_noise_is_added_to_the_imbalanced_set() -> None:
    config = compose(["data.imbalance=20", "data.noisy_val=30", "noise.rate=0.4"])
    data = assemble.datamodule(config)
    data.setup()
    record = data.noise_record
    assert record is not None
    counts = record.true.bincount(minlength=10)
    assert counts[0] > 15 * counts[9]
    assert len(record.true) == len(data.train_index) + 30 == len(data.labels.given)
    assert record.realised_rate == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("kind", ["exponential", "step"])
def test_values_that_follow_from_the_steps_of_a_run_count_the_kept_samples(kind: str) -> None:
    """The decay of the momentum model, say: digits have nearly equal classes."""
    config = compose(["data.imbalance=20", f"data.imbalance_kind={kind}", "data.noisy_val=30"])
    data = assemble.datamodule(config)
    data.setup()
    assert epoch_size(config.data) == pytest.approx(len(data.train_index), rel=0.03)


def test_what_imbalance_cannot_do_is_refused() -> None:
    for wrong in ("0.5", "many"):
        with pytest.raises(ConfigError, match=rf"data\.imbalance: '?{wrong}'? is not allowed"):
            check(compose([f"data.imbalance={wrong}"]))
    with pytest.raises(ConfigError, match=r"data\.imbalance: noise=csv has a label for each image"):
        check(compose(["noise=csv", f"noise.path={__file__}", "data.imbalance=10"]))


def test_no_imbalance_keeps_the_identity() -> None:
    plain = settle(compose([])).identity
    assert "imbalance" not in plain["data"]
    assert settle(compose(["data.imbalance_kind=step"])).identity == plain
    assert settle(compose(["data.imbalance=10"])).identity["data"]["imbalance_kind"] == "exponential"


def test_the_clean_run_of_dependent_noise_has_the_same_samples() -> None:
    def clean(*overrides: str) -> DictConfig:
        (run,) = needed(settle(compose(["noise=dependent", "data.split_seed=3", *overrides])))
        return run.spec.config

    assert (clean("data.imbalance=20").data.imbalance, clean("data.imbalance=20").data.split_seed) == (20, 3)
    assert clean().data.split_seed == 0, "one run for all"
