"""The options of `loss=` build their functions and refuse wrong keys."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest
import torch
from hydra.utils import get_method
from omegaconf import OmegaConf

from slnlab.config import CONF_DIR, check, compose
from slnlab.errors import ConfigError

OPTIONS = sorted(path.stem for path in (CONF_DIR / "loss").glob("*.yaml"))


@pytest.mark.parametrize("name", OPTIONS)
def test_the_yaml_holds_the_functions_own_defaults(name: str) -> None:
    """`from slnlab.losses import sce` and `loss=sce` are then the same loss."""
    config = compose([f"loss={name}"])
    check(config)
    options = OmegaConf.to_container(config.loss)
    assert isinstance(options, dict)
    function = get_method(options.pop("_target_"))
    assert options.pop("name") == name == function.__name__
    parameters = inspect.signature(function).parameters.values()
    assert options == {p.name: p.default for p in parameters if p.name != "logits"}
    assert function(torch.zeros(2, 3), **options).shape == (2, 3)


@pytest.mark.parametrize(
    ("overrides", "key", "allowed"),
    [
        (["loss=phuber_ce", "loss.tau=0.5"], "loss.tau", "greater than or equal to 1"),
        (["loss=phuber_ce", "loss.tau=inf"], "loss.tau", "finite"),
        (["loss=phuber_ce", "+loss.q=0.7"], "loss.q", "tau"),
        (["loss=reverse_ce", "loss.log_zero=4"], "loss.log_zero", "less than 0"),
        (["loss=sce", "loss.alpha=-1"], "loss.alpha", "greater than or equal to 0"),
        (["loss=sce", "loss.log_zero=0"], "loss.log_zero", "less than 0"),
        (["loss=nce_rce", "loss.beta=-1"], "loss.beta", "greater than or equal to 0"),
        (["loss=nce_rce", "loss.beta=nan"], "loss.beta", "finite"),
        (["loss=nce", "+loss.alpha=1"], "loss.alpha", "name"),
    ],
)
def test_a_wrong_loss_option_names_what_is_allowed(overrides: list[str], key: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(compose(overrides))
    assert key in str(error.value)
    assert allowed in str(error.value)


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_the_documented_examples_hold(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"slnlab.losses._{name}"))
    assert found.attempted
    assert not found.failed
