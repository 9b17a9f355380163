"""The comparison of all methods: every method, equal budgets, a draw of noisy labels per seed."""

from __future__ import annotations

from math import prod

import pytest
import yaml
from comparison import VALUES, studies

from slnlab.config import CONF_DIR, compose
from slnlab.config.composition import compose_with_hydra


@pytest.mark.parametrize("experiment", ["methods", "methods_memorising", "methods_human"])
def test_every_method_has_three_trials_of_one_key(experiment: str) -> None:
    spaces = yaml.safe_load(VALUES.read_text("utf-8"))
    listed = compose_with_hydra([f"experiment={experiment}"]).hydra.sweeper.params.method.split(",")
    methods = {path.stem for path in (CONF_DIR / "method").glob("*.yaml")} - {
        "ni_erm"
    }  # `logistic`, which chooses itself
    assert sorted(spaces) == sorted(listed) == sorted(methods)
    assert {prod(map(len, space.values())) for space in spaces.values()} == {3}
    assert {sum(len(values) > 1 for values in space.values()) for space in spaces.values()} == {1}


def test_typed_lists_replace_those_of_the_sweep() -> None:
    first, second, *others = studies("methods", ["method=gce,ce", "seed=3,4", "runs_dir=here"])
    assert {"noise=sym", "method=gce", "seed=3,4", "runs_dir=here", "loss.q=0.5,0.7,0.9"} < {*first}
    assert {"noise=asym", "method=gce"} < {*second}  # a method is done on all noises, then the next one
    assert len(others) == 2
    assert len([*studies("methods_memorising", [])]) == 3 * len([*studies("methods_memorising", ["noise=sym"])])


def test_each_seed_has_its_own_draw_of_noisy_labels() -> None:
    for experiment in ("methods", "methods_memorising"):
        assert compose([f"experiment={experiment}", "seed=7"]).noise.seed == 7
