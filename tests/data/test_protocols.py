"""CIFAR by the two protocols of the literature, in which most numbers are published."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from slnlab.config import check, compose, resolvers
from slnlab.config.container import container_of, flat
from slnlab.training.settling import settle

COMMON = {"optimizer.name": "sgd", "optimizer.momentum": 0.9, "data.padding": 4, "data.flip": True}
APL = {"scheduler.name": "cosine", "scheduler.eta_min": 0, "clip_norm": 5, "data.batch_size": 128}
APL_10 = {"model.name": "cnn8", "trainer.max_epochs": 120, "optimizer.lr": 0.01, "optimizer.weight_decay": 1e-4}
APL_100 = {
    "model.name": "resnet34",
    "trainer.max_epochs": 200,
    "optimizer.lr": 0.1,
    "optimizer.weight_decay": 1e-5,
    "data.rotation": 20,
}
DIVIDEMIX = {
    "model.name": "preact_resnet18",
    "trainer.max_epochs": 300,
    "optimizer.lr": 0.02,
    "data.batch_size": 128,
    "scheduler.name": "multistep",
    "scheduler.milestones": [150],
    "scheduler.gamma": 0.1,
    "clip_norm": None,
    "optimizer.weight_decay": 5e-4,
    "noise.name": "sym_inclusive",
}


def values(*overrides: str) -> dict[str, Any]:
    config = compose(overrides)
    check(config)
    return flat(container_of(config))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("cifar10_apl", {**APL, **APL_10, "noise.name": "sym_exact"}),
        ("cifar100_apl", {**APL, **APL_100, "noise.name": "sym_exact"}),
        ("cifar10_dividemix", DIVIDEMIX),
        ("cifar100_dividemix", DIVIDEMIX),
    ],
)
def test_a_protocol_has_the_published_values(data: str, expected: dict[str, Any]) -> None:
    found = values(f"data={data}", "method=ce")
    assert {key: found[key] for key in (*COMMON, *expected)} == {**COMMON, **expected}


@pytest.mark.parametrize(("data", "like"), [("cifar10_apl", "cifar10"), ("cifar100_dividemix", "cifar100")])
def test_methods_take_the_values_of_the_data_set(data: str, like: str) -> None:
    found, expected = (values(f"data={name}", "method=nce_agce") for name in (data, like))
    for key in ("loss.alpha", "loss.beta", "loss.a", "loss.q"):
        assert found[key] == expected[key]


def test_a_method_without_weight_decay_has_none_in_a_protocol() -> None:
    found = values("data=cifar10_apl", "method=jal_ce")
    assert (found["optimizer.weight_decay"], found["method.l1"]) == (0, 5e-5)


@pytest.mark.parametrize(
    ("data", "noise", "lambda_u"),
    [
        ("cifar10_dividemix", "noise.rate=0.2", 0),
        ("cifar10_dividemix", "noise.rate=0.5", 25),
        ("cifar10_dividemix", "noise.rate=0.8", 25),
        ("cifar10_dividemix", "noise.rate=0.9", 50),
        ("cifar10_dividemix", "noise=asym", 0),
        ("cifar100_dividemix", "noise.rate=0.2", 25),
        ("cifar100_dividemix", "noise.rate=0.8", 150),
        ("cifar10", "noise=sym", 0),  # the SLN paper's runs
    ],
)
def test_dividemix_has_its_own_weight_by_noise_rate(data: str, noise: str, lambda_u: float) -> None:
    assert values(f"data={data}", noise, "method=dividemix")["method.lambda_u"] == lambda_u


def test_asymmetric_noise_on_cifar100_goes_round_in_fives() -> None:
    class_map = container_of(compose(["data=cifar100_apl", "noise=asym"]))["noise"]["class_map"]
    assert len(class_map) == 100
    assert [class_map[c] for c in ("0", "4", "5", "98", "99")] == ["1", "0", "6", "99", "95"]


def test_the_documented_examples_hold() -> None:
    found = doctest.testmod(resolvers)
    assert found.attempted
    assert not found.failed


def test_dividemix_learns_from_as_many_labelled_samples_as_its_authors() -> None:
    """64 labelled and as many unlabelled ones on CIFAR, 32 and 32 on photographs: here a batch has both."""
    for data, size in (("cifar10", 128), ("cifar10_dividemix", 128), ("clothing1m", 64), ("mini_webvision", 64)):
        found = values(f"data={data}", "method=dividemix")
        assert found["data.batch_size"] == size, data
        assert (found["method.lambda_u"] is None) == (size == 64), data
    assert values("data=mini_webvision", "method=ce")["data.batch_size"] == 32


@pytest.mark.parametrize("classes", ["10", "100"])
def test_instance_dependent_noise_does_not_depend_on_the_protocol(classes: str) -> None:
    """The run on correct labels that rates the flips; `apl` alone normalises its images otherwise."""
    from slnlab.training.probability_run import needed

    settings = []
    for name in ("", "_apl", "_dividemix"):
        spec = settle(compose([f"data=cifar{classes}{name}", "noise=dependent", "method=ce"]))
        (clean,) = (found.spec for found in needed(spec))
        found = flat(container_of(clean.config))
        groups = ("model.", "optimizer.", "scheduler.", "trainer.", "clip_norm", "loss.", "data.")
        kept = {key: value for key, value in found.items() if key.startswith(groups)}
        settings.append({k: v for k, v in kept.items() if k.split(".")[1:2] not in (["name"], ["mean"], ["std"])})
    assert settings[0] == settings[1] == settings[2]
    assert (settings[0]["optimizer.weight_decay"], settings[0]["data.batch_size"]) == (5e-4, 128)
