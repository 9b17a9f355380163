"""The questions of a study, and its refusals before any run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slnlab.config import check, compose
from slnlab.errors import ConfigError
from slnlab.schema.sample_counts import training_samples
from slnlab.study.page import page
from slnlab.study.plan import Plan, titles
from slnlab.study.record import Final, Study


@pytest.mark.parametrize(
    ("overrides", "options", "says"),
    [
        (["sln.sgima=1,2"], {}, "sln.sgima"),
        (["sln.sigma=0.1,-1"], {}, "sln.sigma=-1"),
        (["sln.sigma=0.5"], {}, "nothing to choose from"),
        (["sln.sigma=interval(0.1,1)"], {}, "sln.sigma: a grid has no end in an interval; give --trials"),
        (["sln.sigma=tag(log,interval(0,1))"], {"trials": 3}, "a logarithmic interval begins above 0"),
        (["sln.sigma=0.1,1", "data.noisy_val=0"], {}, "data.noisy_val: 0"),
        (["sln.sigma=0.1,1", "data.noisy_val=10,20"], {}, "data.noisy_val: accuracies on different"),
        (["sln.sigma=0.1,1", "data.test=true"], {}, "data.test: leave it out"),
        (["sln.sigma=0.1,1", "force=true"], {}, "force: leave it out"),
        (["sln.sigma=0.1,1", "noise=sym,asym"], {}, "noise: accuracies on different held-out labels"),
        (["sln.sigma=0.1,1", "noise.seed=0,1"], {}, "noise.seed: accuracies on different held-out labels"),
        (["trainer.threads=1,2"], {}, "are the same run"),
        (["sln.sigma=0.1,1"], {"last": 61}, r"--last: must lie in \[1, 60\]"),
        (["sln.sigma=0.1,1"], {"weights": "momentun"}, r"they have network \(SLN\), momentum \(SLN-MO\)"),
        (["sln.sigma=0.1,1"], {"trials": 3}, "--trials 3: there are only 2 combinations"),
        (["sln.sigma=0.1,1", "hydra/launcher=basic"], {"trials": 2}, "leave the launcher out"),
        (["sln.sigma=0.1,1", "seed=a,b"], {}, "seeds are whole numbers"),
        (["sln.sigma=interval(1,0)"], {"trials": 3}, r"sln.sigma: an interval begins below its end, and 1.0 is not"),
        (["sln.sigma=0.1,1", "data.noisy_val=0.1"], {}, "data.noisy_val: 0.1 is not allowed"),
        (["sln.sigma=0.1,1", "data.noisy_val=many"], {}, "data.noisy_val: 'many' is not allowed"),
        (["sln.sigma=0.1,1", "data.train_size=all"], {}, "data.train_size: 'all' is not allowed"),
        (
            ["sln.sigma=0.1,1", "noise=dependent", "noise.seed=${seed}", "seed=0,1"],
            {},
            "in the run sln.sigma=0.1 seed=1: noise.seed: 1 is not allowed",
        ),
        (["sln.sigma=0.1,1", "experiment=digits_sigma"], {}, "noise: accuracies on different held-out labels"),
    ],
)
def test_impossible_studies_are_refused_before_any_run(overrides: list[str], options: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Plan(overrides, **options)
    assert not Path("runs").exists()


def test_the_choosing_row_defaults_to_the_methods_main_row() -> None:
    assert Plan(["sln.sigma=0.1,1"]).title == "SLN"
    assert Plan(["method=sln_mo_lc", "sln.sigma=0.1,1"]).weights == "momentum"


def test_a_row_that_the_runs_do_not_have_cannot_choose() -> None:
    kept = ["best_epoch.enabled=true", "data.noisy_val=100"]
    assert Plan(["sln.sigma=0.1,1", *kept], weights="best").title == "SLN (best epoch)"
    with pytest.raises(ConfigError, match=r"no 'best'; they have network \(SLN\), momentum \(SLN-MO\)$"):
        Plan(["sln.sigma=0.1,1"], weights="best")


def test_methods_and_losses_can_be_searched() -> None:
    plan = Plan(["loss=gce,mae", "sln.sigma=0,0.5"])
    assert list(plan.grid())[1] == {"loss": "gce", "sln.sigma": "0.5"}
    assert plan.trial({"loss": "mae", "sln.sigma": "0.5"}, 0).config.loss.name == "mae"


def test_each_method_is_judged_by_its_main_row() -> None:
    plan = Plan(["method=ce,sln_mo_lc", "seed=0,0,1"])
    assert [plan.row_of(run) for run in plan.trial_runs] == ["network", "momentum"]
    assert plan.directory.name.startswith("digits-sym-methods-")
    assert plan.final_seeds == [0, 1]
    study = Study.begin(plan)
    assert (study.method, study.title) == ("ce, sln_mo_lc", "each method's main weights")
    assert titles(plan.final({"method": "sln_mo_lc"}, 0).spec)["momentum"] == "SLN-MO-LC"
    assert Plan(["method=ce,sln_mo_lc"], weights="network").row_of(plan.trial_runs[1]) == "network"


def test_the_chosen_method_decides_on_the_held_out_samples_of_the_final_runs() -> None:
    plan = Plan(["method=ce,early_stopping"])
    assert [plan.final_noisy_val({"method": name}) for name in ("ce", "early_stopping")] == [0, 129]
    assert plan.final_sweep({"method": "early_stopping"})[-3] == "data.noisy_val=129"
    assert Plan(["best_epoch.enabled=true", "sln.sigma=0.1,0.2"]).final_noisy_val({"sln.sigma": "0.1"}) == 129


def test_balanced_epochs_do_not_change_the_held_out_share(tmp_path: Path) -> None:
    keys = ["data=clothing1m", f"data.source.root={tmp_path}", "data.per_class=1000"]
    assert training_samples(compose(keys).data) == 1_000_000
    with pytest.raises(ConfigError, match="2000000 of 1000000 training samples held out leave none"):
        check(compose([*keys, "data.noisy_val=2000000"]))


def test_a_shuffled_list_keeps_its_order() -> None:
    plan = Plan(["sln.sigma=shuffle(0.1,0.2,0.3,0.4,0.5,0.6)"])
    assert plan.choices("sln.sigma") == plan.choices("sln.sigma")
    assert [run.values["sln.sigma"] for run in plan.trial_runs] == plan.choices("sln.sigma")


def test_a_tenth_of_the_samples_that_an_imbalance_leaves_is_held_out() -> None:
    plan = Plan(["sln.sigma=0.1,1", "data.imbalance=100"])
    assert (plan.noisy_val, Study.begin(plan).training_samples) == (32, 321)


def test_augmentation_can_be_searched() -> None:
    """It changes neither the held-out samples nor their labels."""
    assert (
        len(Plan(["data.rotation=0,10", "data.augment=crop_flip,none", "data.oversampling=true,false"]).trial_runs) == 8
    )


def test_an_experiments_sweep_is_searched_and_typed_values_win() -> None:
    plan = Plan(["experiment=digits_tune", "noise=asym"])
    assert plan.noisy_val == 260
    assert plan.final_overrides({"sln.sigma": "1"}) == ("data.noisy_val=0", "data.test=true")
    assert [values["sln.sigma"] for values in plan.grid()] == ["0.1", "0.2", "0.5", "1", "2"]
    assert plan.final_seeds == [0, 1]


def test_final_runs_hold_out_what_their_method_chooses_by(tmp_path: Path) -> None:
    plan = Plan(["method=early_stopping", "optimizer.lr=0.01,0.02", "data.noisy_val=100", f"runs_dir={tmp_path}"])
    values = plan.trial_runs[0].values
    assert plan.final_overrides(values) == ("data.noisy_val=100", "data.test=true")
    study = Study.begin(plan)
    study.final_noisy_val = plan.final_noisy_val(values)
    study.finals = [Final(seed=1, directory="run", test_accuracy={"network": 0.5})]
    assert "\n\nRetrained on 1197 of the 1297 training samples, seed 1:\n" in page(study)
    assert plan.final(plan.trial_runs[0].values, 1).config.data.noisy_val == 100
    on_all = Plan(["sln.sigma=0.1,1"])
    assert on_all.final_overrides({"sln.sigma": "1"}) == ("data.noisy_val=0", "data.test=true")
    by_label_wave = Plan(["sln.sigma=0.1,1", "best_epoch.enabled=true", "best_epoch.criterion=label_wave"])
    assert by_label_wave.final_noisy_val({"sln.sigma": "1"}) == 0
    older = Study.begin(on_all).model_dump(exclude={"final_noisy_val"})
    assert "\n\nRetrained on all 1297 training samples, seed 1:\n" in page(
        Study.model_validate({**older, "finals": study.finals})
    )


def test_each_trial_seed_may_have_its_own_noisy_labels() -> None:
    """All trials share them seed by seed, so their means compare."""
    own = ["sln.sigma=0.1,1", "noise.seed=${seed}"]
    assert len(Plan(own, trial_seeds=[0, 1]).trial_runs) == 4
    with pytest.raises(ConfigError, match=r"noise\.rate: accuracies on different held-out labels"):
        Plan([*own, "noise.rate=0.2,0.4"], trial_seeds=[0, 1])


def test_keys_that_the_configuration_lacks_are_searched_with_a_plus() -> None:
    plan = Plan(["+optimizer.nesterov=true,false", "++sln.sigma=0.1,1", "++seed=3,4"])
    assert list(plan.grid())[1] == {"+optimizer.nesterov": "True", "++sln.sigma": "1"}
    assert [run.config.optimizer.nesterov for run in plan.trial_runs] == [True, True, False, False]
    assert plan.final_seeds == [3, 4]
    assert "+optimizer.nesterov=True,False" in plan.trial_sweep()
    with pytest.raises(ConfigError, match="force: leave it out"):
        Plan(["sln.sigma=0.1,1", "++force=true"])
    with pytest.raises(ConfigError, match=r"\+\+noise\.seed: accuracies on different held-out labels"):
        Plan(["sln.sigma=0.1,1", "++noise.seed=0,1"])
