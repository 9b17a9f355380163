"""The comparison of all methods: every method, equal budgets, a draw of noisy labels per seed."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
import yaml
from comparison import LAST, VALUES, studies, with_earlier
from evidence import read

from slnlab.config import CONF_DIR, compose
from slnlab.config.composition import compose_with_hydra
from slnlab.storage.tables import write_csv
from slnlab.study.plan import Plan


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


@pytest.mark.parametrize(
    ("experiment", "typed"),
    [
        ("methods", ["noise=sym,asym,dependent"]),
        ("methods_memorising", []),
        ("methods_human", ["noise.path=human.pt", "noise.annotation=worse"]),
    ],
)
def test_each_noise_of_an_experiment_has_a_study_that_can_train(
    experiment: str, typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan settles the final runs of all seeds, also those without a draw of noisy labels."""
    monkeypatch.chdir(tmp_path)
    Path("human.pt").touch()
    for overrides in studies(experiment, [*typed, "method=ce", "seed=0,1", "runs_dir=runs"]):
        plan = Plan(overrides, last=LAST)
        assert len(plan.trial_runs) == 3


def test_a_later_stage_keeps_the_trials_of_the_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "chosen.csv"
    first = [{"data": "digits", "noise": noise, "method": "ce", "values": "a"} for noise in ("sym", "asym")]
    write_csv(path, with_earlier(first, path))
    again = [{"data": "digits", "noise": "sym", "method": "ce", "values": "b"}]
    write_csv(path, with_earlier(again, path))
    assert [(line["noise"], line["values"]) for line in read(path)] == [("asym", "a"), ("sym", "b")]
