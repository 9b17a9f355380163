"""The comparison of all methods: equal budgets, and the runs that follow from a choice."""

from __future__ import annotations

from math import prod

import pytest
import yaml
from comparison import VALUES, on_draw, questions

from slnlab.config import CONF_DIR
from slnlab.config.composition import compose_with_hydra


@pytest.mark.parametrize("experiment", ["methods", "methods_memorising"])
def test_every_method_of_the_sweep_has_four_trials(experiment: str) -> None:
    spaces = yaml.safe_load(VALUES.read_text("utf-8"))
    listed = compose_with_hydra([f"experiment={experiment}"]).hydra.sweeper.params.method.split(",")
    assert sorted(spaces) == sorted(listed)
    assert set(listed) <= {path.stem for path in (CONF_DIR / "method").glob("*.yaml")}
    assert {prod(map(len, space.values())) for space in spaces.values()} == {4}
    for space in spaces.values():
        assert len(space) <= 2


def test_a_study_chooses_on_the_first_draw_and_typed_lists_count() -> None:
    asked = [*questions("methods", ["noise=sym", "method=gce,ce", "seed=3,4", "runs_dir=here"])]
    assert [(method, draws) for method, _, draws in asked] == [("gce", ["0", "1"]), ("ce", ["0", "1"])]
    overrides = asked[0][1]
    assert {"noise=sym", "method=gce", "noise.seed=0", "seed=3,4", "runs_dir=here", "loss.q=0.3,0.5,0.7,0.9"} < {
        *overrides
    }
    assert on_draw(overrides, "1")[3] == "noise.seed=1"
    assert len([*questions("methods_memorising", [])]) == 3 * len([*questions("methods_memorising", ["noise=sym"])])
