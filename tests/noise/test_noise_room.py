"""Rules for every noise function: ranges of its arguments, and imports of the package."""

from __future__ import annotations

import ast
import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import slnlab.noise
from slnlab.errors import ConfigError
from slnlab.noise import (
    asymmetric,
    clean,
    from_csv,
    instance_dependent,
    next_class,
    open_set,
    part_dependent,
    symmetric,
)

OUTSIDE = (
    "slnlab.errors",
    "slnlab.losses._check",
    "slnlab.storage.tables",
    "slnlab.storage.writing",
    "slnlab.text.messages",
)
"""Modules of ours that the room may import: they need nothing."""

LABELS = torch.tensor([0, 1, 2, 1])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def call_symmetric(labels: Any, rate: Any) -> Tensor:
    return symmetric(labels, rate, 3, generator())


def call_asymmetric(labels: Any, rate: Any) -> Tensor:
    return asymmetric(labels, rate, {0: 1}, generator())


def call_instance_dependent(labels: Any, rate: Any) -> Tensor:
    return instance_dependent(labels, rate, torch.full((4, 3), 1 / 3))


def call_part_dependent(labels: Any, rate: Any) -> Tensor:
    return part_dependent(labels, torch.zeros(4, 2), rate, 3, generator())


def call_open_set(labels: Any, rate: Any) -> Tensor:
    return open_set(labels, rate, 5, generator()).index


Call = Callable[[Any, Any], Tensor]
CALLS = [call_symmetric, call_asymmetric, call_instance_dependent, call_part_dependent, call_open_set]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("rate", [-0.1, 1, 1.0, 1.5, 40, float("nan"), float("inf"), "0.4", None, True])
def test_a_rate_outside_its_range_is_refused(call: Call, rate: Any) -> None:
    with pytest.raises(ConfigError, match=r"noise\.rate=.*\[0, 1\)"):
        call(LABELS, rate)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("rate", [0, 0.0, 0.5, 0.999])
def test_a_rate_within_its_range_is_taken(call: Call, rate: float) -> None:
    call(LABELS, rate)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "labels",
    [
        LABELS.int(),
        LABELS.float(),
        LABELS[:, None],
        LABELS.tolist(),
        LABELS.numpy(),
        torch.empty(0, dtype=torch.int64),
        torch.tensor([0, 1, -1, 1]),
        LABELS.to("meta"),
    ],
    ids=["int32", "float", "two-dimensional", "list", "numpy", "empty", "negative", "meta"],
)
def test_labels_of_other_types_are_refused(call: Call, labels: Any) -> None:
    with pytest.raises(ConfigError, match="labels"):
        call(labels, 0.4)


@pytest.mark.parametrize("call", [call_symmetric, call_instance_dependent, call_part_dependent])
def test_a_label_outside_the_classes_is_named(call: Call) -> None:
    with pytest.raises(ConfigError, match=r"labels: sample 2 has label 3; .*\[0, 3\)"):
        call(torch.tensor([0, 1, 3, 1]), 0.4)


@pytest.mark.parametrize("call", CALLS)
def test_arguments_are_not_modified(call: Call) -> None:
    labels = LABELS.clone()
    out = call(labels, 0.0)
    assert out.data_ptr() != labels.data_ptr()
    call(labels, 0.9)
    assert labels.equal(LABELS)


@pytest.mark.parametrize("call", [call_symmetric, call_asymmetric, call_instance_dependent, call_part_dependent])
def test_rate_0_flips_nothing(call: Call) -> None:
    assert call(LABELS, 0).equal(LABELS)


@pytest.mark.parametrize("bad", [None, 0, torch.Generator])
def test_other_values_than_generators_are_refused(bad: Any) -> None:
    with pytest.raises(ConfigError, match="generator"):
        symmetric(LABELS, 0.4, 3, bad)
    with pytest.raises(ConfigError, match="generator"):
        asymmetric(LABELS, 0.4, {0: 1}, bad)
    with pytest.raises(ConfigError, match="generator"):
        part_dependent(LABELS, torch.zeros(4, 2), 0.4, 3, bad)
    with pytest.raises(ConfigError, match="generator"):
        open_set(LABELS, 0.4, 5, bad)


@pytest.mark.parametrize("bad", [1, 0, -3, 2.0, "10", None, True])
def test_num_classes_is_an_integer_of_at_least_2(bad: Any) -> None:
    for call in (
        lambda: symmetric(LABELS, 0.4, bad, generator()),
        lambda: part_dependent(LABELS, torch.zeros(4, 2), 0.4, bad, generator()),
        lambda: from_csv(LABELS, "missing.csv", bad),
        lambda: next_class(bad),
    ):
        with pytest.raises(ConfigError, match="num_classes"):
            call()


def test_only_the_given_generator_is_used() -> None:
    state = torch.get_rng_state()
    for call in CALLS:
        assert call(LABELS.repeat(1), 0.5).equal(call(LABELS.repeat(1), 0.5))
    assert torch.get_rng_state().equal(state)


def test_clean_noise_returns_a_copy() -> None:
    given = clean(LABELS)
    assert given.equal(LABELS)
    assert given.data_ptr() != LABELS.data_ptr()


def test_noise_imports_only_errors_writing_and_messages() -> None:
    assert slnlab.noise.__file__ is not None
    files = sorted(Path(slnlab.noise.__file__).parent.glob("*.py"))
    assert len(files) > 8
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, file
                names = [node.module or ""]
            for name in names:
                ours = name.split(".")[0] == "slnlab"
                allowed = name in OUTSIDE or name.startswith("slnlab.noise.")
                assert not ours or allowed, (file, name)


def test_the_docstring_example_runs() -> None:
    result = doctest.testmod(slnlab.noise)
    assert result.attempted > 0
    assert result.failed == 0
