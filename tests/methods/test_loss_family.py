"""The losses of Zhou et al. (2021) and Wang et al. (2024, 2025) as methods: published values, and their penalty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tier import composed

from slnlab.config import check
from slnlab.config.container import container_of, flat

PRESETS: list[tuple[str, str, str, dict[str, float]]] = [
    ("agce", "cifar10", "sym", {"loss.a": 0.6, "loss.q": 0.6}),
    ("aul", "cifar10", "sym", {"loss.a": 5.5, "loss.q": 3}),
    ("ael", "cifar10", "sym", {"loss.a": 2.5}),
    ("nce_agce", "cifar10", "sym", {"loss.alpha": 1, "loss.beta": 4, "loss.a": 6, "loss.q": 1.5}),
    ("nce_agce", "cifar100", "asym", {"loss.alpha": 10, "loss.beta": 0.1, "loss.a": 1.8, "loss.q": 3}),
    ("nce_aul", "cifar10", "sym", {"loss.alpha": 1, "loss.beta": 4, "loss.a": 6.3, "loss.q": 1.5}),
    ("nce_aul", "cifar100", "sym", {"loss.alpha": 10, "loss.beta": 0.015, "loss.a": 6, "loss.q": 3}),
    ("nce_ael", "cifar10", "sym", {"loss.alpha": 1, "loss.beta": 4, "loss.a": 5}),
    ("nce_ael", "cifar100", "sym", {"loss.alpha": 10, "loss.beta": 0.1, "loss.a": 1.5}),
    (
        "jal_ce",
        "cifar10",
        "sym",
        {"loss.alpha": 1, "loss.beta": 1, "loss.a": 30, "method.l1": 5e-5, "optimizer.weight_decay": 0},
    ),
    (
        "jal_ce",
        "cifar100",
        "sym",
        {"loss.alpha": 5, "loss.beta": 1, "loss.a": 20, "method.l1": 5e-6, "optimizer.weight_decay": 0},
    ),
    ("eps_softmax", "cifar10", "sym", {"loss.alpha": 0.01, "loss.beta": 5, "loss.m": 1e5}),
    ("eps_softmax", "cifar10", "asym", {"loss.alpha": 0.02, "loss.beta": 5, "loss.m": 1e3}),
    ("eps_softmax", "cifar10", "part_dependent", {"loss.alpha": 0.045, "loss.beta": 10, "loss.m": 1e5}),
    ("eps_softmax", "cifar100", "none", {"loss.alpha": 0.1, "loss.beta": 1, "loss.m": 1e4}),
]


def values(method: str, *overrides: str) -> dict[str, Any]:
    config = composed(*overrides, f"method={method}")
    check(config)
    return flat(container_of(config))


@pytest.mark.parametrize(("method", "data", "noise", "expected"), PRESETS)
def test_presets_are_the_published_values(method: str, data: str, noise: str, expected: dict[str, float]) -> None:
    found = values(method, f"data={data}", f"noise={noise}")
    assert {key: found[key] for key in expected} == expected
    assert found["clip_norm"] == 5


@pytest.mark.parametrize("method", ["eps_softmax", "jal_ce"])
def test_clothing1m_has_values_of_its_own(method: str) -> None:
    expected = {
        "eps_softmax": {"loss.alpha": 0.012, "loss.beta": 0.1, "loss.m": 1e3},
        "jal_ce": {"loss.alpha": 5, "loss.beta": 0.1, "loss.a": 5, "method.l1": 0, "optimizer.weight_decay": 1e-3},
    }[method]
    found = flat(container_of(composed("data=clothing1m", f"method={method}")))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("noise", "rate", "alpha"),
    [
        ("sym", 0.2, 0.05),
        ("sym", 0.39, 0.05),
        ("sym", 0.4, 0.03),
        ("sym", 0.8, 0.0075),
        ("asym", 0.1, 0.015),
        ("asym", 0.2, 0.007),
        ("asym", 0.3, 0.005),
        ("asym", 0.4, 0.004),
        ("sym", 0.1, 0.03),  # below the published rates: the table's default
    ],
)
def test_a_value_may_follow_the_noise_rate(noise: str, rate: float, alpha: float) -> None:
    found = values("eps_softmax", "data=cifar100", f"noise={noise}", f"noise.rate={rate}")
    assert found["loss.alpha"] == alpha


@pytest.mark.parametrize(
    ("method", "rate", "key", "value"),
    [
        ("dividemix", 0.8, "method.average_losses", 1),
        ("dividemix", 0.9, "method.average_losses", 5),
        ("jocor", 0.5, "method.co_lambda", 0.9),
        ("jocor", 0.8, "method.co_lambda", 0.65),
        ("sam", 0.6, "sam.rho", 0.1),
        ("sam", 0.8, "sam.rho", 0.05),
    ],
)
def test_older_methods_have_values_by_rate_too(method: str, rate: float, key: str, value: float) -> None:
    assert values(method, "data=cifar10", "noise=sym", f"noise.rate={rate}")[key] == value


def test_labels_of_an_unknown_rate_take_the_default(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").touch()
    chosen = ("noise=csv", f"noise.path={tmp_path / 'labels.csv'}", "noise.like=asym")
    assert values("eps_softmax", "data=cifar100", *chosen)["loss.alpha"] == 0.004
