"""`init.from`: a method starts from the weights of finished runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.errors import ConfigError, SlnlabError
from slnlab.models import SmallCNN
from slnlab.record.result import Result
from slnlab.record.run_directory import RunDirectory
from slnlab.train import train
from slnlab.training import assemble
from slnlab.training.first_runs import with_first_runs
from slnlab.training.settling import settle
from slnlab.training.source_runs import remarks, start_from

TINY = (
    "data.train_size=60",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "model.widths=[4,4,8,8]",
)


class Unknown(SmallCNN):
    """A network that does not say which of its modules are its parts."""

    parts = None  # type: ignore[assignment]


Runs = tuple[Path, DictConfig, Result]


def tiny(runs: Path, *overrides: str) -> DictConfig:
    return compose([*TINY, f"runs_dir={runs}", *overrides])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Both stages by one command, from Python: where, the configuration, the result."""
    folder = tmp_path_factory.mktemp("runs")
    config = tiny(folder, "method=co_teaching", "init.from=sln", "seed=4")
    return folder, config, train(config)


def sources(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("sln/*/*/result.json"))


def weights(path: Path, key: str) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)
    if key == "momentum":
        return checkpoint["callbacks"]["MomentumModel"]["network"]
    return {k.removeprefix("networks.network."): v for k, v in checkpoint["state_dict"].items()}


def test_one_command_runs_both_stages(done: Runs) -> None:
    folder, _, result = done
    assert [path.name for path in sources(folder)] == ["seed1004", "seed4"]
    first = Result.load(sources(folder)[1] / "result.json")
    assert first.method == "sln"
    assert first.identity["sln"] == {"sigma": 1.0}
    assert first.identity["momentum"]["enabled"] is True
    for section in ("data", "noise", "model", "optimizer", "trainer"):
        assert first.identity[section] == result.identity[section]
    assert result.identity["sln"] == {"sigma": 0.0}
    assert result.identity["method"]["ramp_epochs"] == 0, "no warm-up"
    assert result.rows["mean"].title == "SLN → Co-teaching"


def test_each_network_starts_from_the_weights_of_its_run(done: Runs) -> None:
    folder, config, _ = done
    for key in ("raw", "momentum"):
        method = assemble.method(config)
        start_from(method, settle(config).sources, key)
        expected = [weights(folder.joinpath(*path.parts[-5:]), key) for path in reversed(sources(folder))]
        for network, state in zip(method.networks.values(), expected, strict=True):
            assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
        assert not torch.equal(expected[0]["classifier.weight"], expected[1]["classifier.weight"])


def test_training_starts_from_those_weights(done: Runs, tmp_path: Path) -> None:
    """With a learning rate of almost nothing the weights are those of the run."""
    folder, _, _ = done
    source = sources(folder)[1]
    config = tiny(tmp_path, "method=sigua", f"init.from={source}", "optimizer.lr=1e-30", "optimizer.weight_decay=0")
    train(config, tmp_path / "run")
    trained = weights(tmp_path / "run", "raw")
    assert torch.equal(trained["classifier.weight"], weights(source, "raw")["classifier.weight"])


def test_naming_method_or_directories_gives_one_identity(done: Runs, tmp_path: Path) -> None:
    folder, config, result = done
    two, one = sources(folder)
    for paths in ((one, two), (shutil.copytree(one, tmp_path / "a"), shutil.copytree(two, tmp_path / "b"))):
        other = tiny(folder, "method=co_teaching", f"init.from=[{paths[0]},{paths[1]}]", "seed=4")
        assert settle(other).identity == settle(config).identity
        assert settle(other).subdir == settle(config).subdir
    assert result.identity["init"]["from"] == [f"sln/{one.parent.name}/seed4", f"sln/{one.parent.name}/seed1004"]
    exchanged = tiny(folder, "method=co_teaching", f"init.from=[{two},{one}]", "seed=4")
    assert settle(exchanged).subdir != settle(config).subdir


def test_finished_source_runs_are_reused_for_each_seed(done: Runs) -> None:
    folder, config, result = done
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    assert train(config) == result
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")} == before
    assert (
        settle(tiny(folder, "method=co_teaching", "init.from=sln", "seed=5")).group
        == settle(config).group
        == result.group
    )
    for other in (["init.weights=momentum"], ["init.from=ce"], ['init.overrides=["sln.sigma=0.5"]']):
        changed = tiny(folder, "method=co_teaching", "init.from=sln", "seed=4", *other)
        assert settle(changed).group != result.group


def test_init_options_change_the_first_stage(tmp_path: Path) -> None:
    config = tiny(
        tmp_path,
        "method=sigua",
        "init.from=sln",
        'init.overrides=["sln.sigma=0.5","trainer.max_epochs=3","optimizer=adam","optimizer.lr=0.01"]',
        "noise=asym",
        "clip_norm=1",
        "seed=2",
    )
    (run,) = settle(config).sources
    assert run.spec is not None
    made = container_of(run.spec.config)
    assert (made["sln"]["sigma"], made["trainer"]["max_epochs"], made["seed"]) == (0.5, 3, 2)
    assert made["optimizer"]["name"] == "adam"
    assert made["optimizer"]["lr"] == 0.01
    assert made["data"]["train_size"] == 60, "what is not said otherwise is shared"
    assert made["noise"]["name"] == "asym"
    assert made["clip_norm"] == 1


@pytest.mark.parametrize("typed", [[], ["data.noisy_val=8", "data.split_seed=3"]])
def test_held_out_samples_were_not_trained_on_in_the_first_stage(typed: list[str], tmp_path: Path) -> None:
    """method=early_stopping holds out a tenth of 60 by itself, the SLN before it nothing."""
    config = tiny(tmp_path, "method=early_stopping", "init.from=sln", *typed)
    check(config)
    (run,) = settle(config).sources
    assert run.spec is not None
    made = container_of(run.spec.config)["data"]
    assert made == container_of(config)["data"]
    assert (made["train_size"], made["noisy_val"], made["split_seed"]) == ((60, 8, 3) if typed else (60, 6, 0))


def test_a_first_stage_keeps_its_own_held_out_samples(tmp_path: Path) -> None:
    (run,) = settle(tiny(tmp_path, "method=sigua", "init.from=early_stopping")).sources
    assert run.spec is not None
    check(run.spec.config)
    assert run.spec.config.data.noisy_val == 6


def test_possibly_seen_held_out_samples_are_reported(done: Runs, tmp_path: Path) -> None:
    folder, _, _ = done
    source = sources(folder)[1]  # trained on 60 of digits, nothing held out
    held = tmp_path / "held"
    train(tiny(tmp_path, "method=sln", "data.noisy_val=8", "data.split_seed=3"), held)

    def said(path: Path, *overrides: str) -> list[str]:
        spec = settle(tiny(tmp_path, "method=sigua", f"init.from={path}", *overrides))
        return [remark for remark in remarks(spec) if "holds out" in remark]

    assert said(source) == [], "nothing is held out"
    (message,) = said(source, "data.noisy_val=6")
    assert f"init.from: {source}" in message
    assert "data.noisy_val=0 there, 6 here" in message
    for safe in ("data.noisy_val=8", "data.noisy_val=5"):
        assert said(held, safe, "data.split_seed=3") == [], "the 5 are among the 8"
    assert "data.noisy_val=8 there, 9 here" in said(held, "data.noisy_val=9", "data.split_seed=3")[0]
    assert "data.split_seed=3 there, 0 here" in said(held, "data.noisy_val=8")[0]
    assert (
        "data.train_size=60 there, 59 here"
        in said(held, "data.noisy_val=8", "data.split_seed=3", "data.train_size=59")[0]
    )
    config = tiny(tmp_path, "method=sigua", f"init.from={held}", "data.noisy_val=8", "data.split_seed=3")
    config.data.name = "mine"
    assert any("data.name=digits there, mine here" in remark for remark in remarks(settle(config)))


def test_runs_without_init_keep_their_identity() -> None:
    assert "init" not in settle(compose()).identity
    assert settle(compose(["init.weights=momentum"])).subdir == settle(compose()).subdir


def test_warm_up_is_skipped_only_with_trained_weights() -> None:
    keys = {
        "co_teaching": ["ramp_epochs"],
        "sigua": ["ramp_epochs"],
        "co_teaching_plus": ["ramp_epochs", "init_epochs"],
    }
    for name, warm in keys.items():
        for key in warm:
            assert compose([f"method={name}"]).method[key] == 10
            assert compose([f"method={name}", "init.from=sln"]).method[key] == 0
            assert compose([f"method={name}", "init.from=sln", f"method.{key}=3"]).method[key] == 3


def test_impossible_source_runs_are_refused_before_training(done: Runs, tmp_path: Path) -> None:
    folder, _, _ = done
    two, one = sources(folder)
    same = shutil.copytree(one, tmp_path / "same")
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(one / "config.yaml", begun)
    light = shutil.copytree(one, tmp_path / "light")
    (light / "checkpoints" / "last.ckpt").unlink()
    ce = tmp_path / "ce"
    train(tiny(tmp_path, "method=ce"), ce)
    cases = [
        (["method=co_teaching", f"init.from=[{one}]"], "names 1 runs.*2 network"),
        (["method=co_teaching", f"init.from={one}"], "names 1 runs.*2 network"),
        (["method=sigua", f"init.from=[{one},{two}]"], "names 2 runs.*1 network"),
        (["method=co_teaching", f"init.from=[{one},{same}]"], "two seeds"),
        (["method=sigua", f"init.from=[{begun}]"], "is not finished"),
        (["method=sigua", f"init.from=[{tmp_path / 'nowhere'}]"], "holds no run"),
        (["method=sigua", f"init.from=[{light}]"], "has lost its weights"),
        (["method=sigua", f"init.from=[{one}]", "model.widths=[4,4,8,16]"], r"another network.*widths"),
        (["method=sigua", f"init.from=[{ce}]", "init.weights=momentum"], "no momentum model"),
        (["method=sigua", "init.from=slm"], "slm is neither a directory nor a method"),
        (["method=sigua", "init.from=sln", 'init.overrides=["sln.sigma=-1"]'], r"init\.overrides.*sln\.sigma"),
        (["method=sigua", "init.from=sln", "init.weights=best"], r"init\.weights"),
    ]
    for overrides, message in cases:
        with pytest.raises(ConfigError, match=message):
            settle(tiny(folder, *overrides))


def test_a_methods_own_refusal_precedes_its_first_stage(tmp_path: Path) -> None:
    config = tiny(tmp_path, "method=pes", "init.from=sln", "model._target_=test_source_runs.Unknown")
    check(config)
    with pytest.raises(ConfigError, match=r"method\.last_stage: Unknown does not name"):
        train(config)
    assert not [*tmp_path.rglob("config.yaml"), *tmp_path.rglob("sln")]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (("data", "name"), "cifar10", "trained on cifar10, not on digits"),
        (("noise", "rate"), 0.1, "trained on other noise than this run"),
    ],
)
def test_weights_of_another_configuration_are_reported(
    done: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture, key: tuple[str, str], value: Any, message: str
) -> None:
    folder, _, _ = done
    copy = shutil.copytree(sources(folder)[1], tmp_path / "copy")

    def warnings() -> list[str]:
        caplog.clear()
        with_first_runs(settle(tiny(folder, "method=sigua", f"init.from=[{copy}]")), train)
        return [record.getMessage() for record in caplog.records]

    assert warnings() == []
    result = json.loads((copy / "result.json").read_text())
    result["identity"][key[0]][key[1]] = value
    (copy / "result.json").write_text(json.dumps(result))
    assert warnings() == [f"init.from: {copy} {message}"]


def test_damaged_weights_are_named(done: Runs, tmp_path: Path) -> None:
    folder, _, _ = done
    copy = shutil.copytree(sources(folder)[1], tmp_path / "copy")
    RunDirectory(copy).checkpoint.write_bytes(b"no checkpoint")
    with pytest.raises(SlnlabError, match=r"init\.from.*damaged"):
        train(tiny(folder, "method=sigua", f"init.from=[{copy}]"), tmp_path / "run")


def test_removed_weights_are_made_again(done: Runs, tmp_path: Path) -> None:
    folder, _, _ = done
    copy = shutil.copytree(folder, tmp_path / "runs")
    (one,) = [path for path in sources(copy) if path.name == "seed4"]
    before = weights(one, "raw")
    shutil.rmtree(one / "checkpoints")
    train(tiny(copy, "method=sigua", "init.from=sln", "seed=4"), tmp_path / "run")
    assert all(torch.equal(value, before[name]) for name, value in weights(one, "raw").items())


def test_the_first_stage_takes_the_values_of_an_experiment(tmp_path: Path) -> None:
    """An experiment gives its data set a σ of its own, which is that of the SLN run in the same sweep."""
    own = ("preset.sigma.sym=0.7", "preset.correction_epochs=1")
    (first, _) = settle(tiny(tmp_path, "method=co_teaching", "init.from=sln", *own)).sources
    assert first.spec is not None
    assert first.spec.config.sln.sigma == 0.7
    assert first.spec.identity | {"seed": 0} == settle(tiny(tmp_path, "method=sln", *own)).identity | {"seed": 0}
    (first, _) = settle(
        tiny(tmp_path, "method=co_teaching", "init.from=sln", 'init.overrides=["sln.sigma=0.1"]', *own)
    ).sources
    assert first.spec is not None
    assert first.spec.config.sln.sigma == 0.1


def test_the_first_stage_uses_its_own_methods_values(tmp_path: Path) -> None:
    """The second method's loss and budget do not apply; only keys chosen by the user do."""
    (first, _) = settle(
        compose(["data=clothing1m", "method=dividemix", "init.from=sln", "trainer.max_epochs=7"])
    ).sources
    usual = compose(["data=clothing1m", "method=sln"])
    assert first.spec is not None
    for key in ("batch_size", "per_class"):
        assert first.spec.config.data[key] == usual.data[key]
    assert first.spec.config.optimizer.lr == usual.optimizer.lr == 0.001
    assert first.spec.config.scheduler.milestones == [5]
    assert first.spec.config.trainer.max_epochs == 7
    (first,) = settle(tiny(tmp_path, "method=anl_ce", "init.from=sln", "optimizer.lr=0.5")).sources
    assert first.spec is not None
    assert first.spec.config.loss.name == "cross_entropy"
    assert first.spec.config.optimizer.weight_decay == compose().optimizer.weight_decay > 0
    assert first.spec.config.optimizer.lr == 0.5
