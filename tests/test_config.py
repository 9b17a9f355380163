"""The configuration: conf/ composes and builds, mistakes are named, and identity follows from content."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import hydra
import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from slnlab import config
from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.config.launching import check_options
from slnlab.config.loading import load
from slnlab.errors import ConfigError
from slnlab.record.run_directory import RunDirectory
from slnlab.schema.kinds import Count, Positive, Rate, allowed_by
from slnlab.schema.sections import GROUPS
from slnlab.training import assemble
from slnlab.training.settling import settle

OPTIONS = sorted(
    (path.parent.name, path.stem)
    for path in config.CONF_DIR.glob("*/*.yaml")
    if path.parent.name not in ("experiment", "launcher", "cluster")
)
LAUNCHERS = sorted(path.stem for path in (config.CONF_DIR / "launcher").glob("*.yaml"))
CLUSTERS = sorted(path.stem for path in (config.CONF_DIR / "cluster").glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (config.CONF_DIR / "experiment").glob("*.yaml"))
NEEDED = {
    ("model", "timm"): ["model.architecture=test_resnet"],
    ("noise", "csv"): ["noise.path=README.md"],
    ("noise", "human"): ["noise.path=README.md", "noise.annotation=worse"],
    ("noise", "real"): ["data=clothing1m"],
    ("noise", "run"): ["noise.path=README.md"],
    ("noise", "transition"): ["noise.path=README.md"],
    ("scheduler", "linear"): ["scheduler.constant_epochs=24"],  # the published 80 are of 200 epochs
}
"""Overrides that an option requires."""


def test_every_folder_of_conf_is_tested() -> None:
    found = {group for group, _ in OPTIONS}
    assert found == {*GROUPS, "trainer"}
    assert len(OPTIONS) >= 20
    assert EXPERIMENTS


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes_passes_its_schema_and_builds(
    group: str, name: str, tmp_path: Path, data_set: Callable[[str], list[str]]
) -> None:
    chosen = data_set(name) if group == "data" else [f"{group}={name}"]
    if chosen in (["model=linear"], ["model=mlp"]):  # for vectors only
        chosen = [*data_set("features"), *chosen]
    if name == "timm":
        pytest.importorskip("timm")
    composed = compose([*chosen, *NEEDED.get((group, name), [])])
    check(composed)
    if group != "trainer":
        assert composed[group].name == name, "run directories and schemas are found by this name"
    assemble.method(composed)
    assemble.datamodule(composed)
    assemble.trainer(settle(composed), RunDirectory(tmp_path), [])
    if group == "logger" and name != "none":
        assert callable(get_object(composed.logger._target_))


def test_every_launcher_has_a_configuration() -> None:
    assert {"basic", "local", "slurm"} <= set(LAUNCHERS)
    assert CLUSTERS
    assert len(list((config.CONF_DIR / "hydra" / "launcher").iterdir())) == len(LAUNCHERS) - 1, "basic is Hydra's own"


@pytest.mark.parametrize("cluster", [None, *CLUSTERS])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_composes_and_builds(launcher: str, cluster: str | None) -> None:
    if launcher != "slurm" and cluster:
        pytest.skip("a cluster's profile says what SLURM is asked for")
    with initialize_config_dir(str(config.CONF_DIR), version_base="1.3"):
        overrides = [f"launcher={launcher}", *([f"cluster={cluster}"] if cluster else [])]
        composed = hydra_compose("train", overrides=overrides, return_hydra_config=True)
    assert settle(composed).subdir == settle(compose()).subdir, "where it is done does not make it another run"
    if launcher == "basic":  # Hydra's own
        assert composed.hydra.launcher._target_.endswith("BasicLauncher")
        return
    built = instantiate(composed.hydra.launcher)
    assert type(built).__name__ == "SlnlabLauncher"
    engine = importlib.import_module(f"slnlab.launchers.{built.engine}")
    inspect.signature(engine.launch).bind([], folder=Path(), **built.options)
    check_options(composed.hydra.launcher)
    if launcher == "slurm":
        pytest.importorskip("submitit")
        ours = inspect.signature(engine.launch).parameters
        engine._checked({key: value for key, value in built.options.items() if key not in ours})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes(name: str) -> None:
    experiment = compose([f"experiment={name}"])
    check(experiment)
    raw = yaml.safe_load((config.CONF_DIR / "experiment" / f"{name}.yaml").read_text())
    params = raw["hydra"]["sweeper"]["params"]
    axes = [[f"{key}={value}" for value in str(values).split(",")] for key, values in params.items()]
    options = {tuple(choice.split("=")) for axis in axes for choice in axis if choice.split("=")[0] in GROUPS}
    assert options <= set(OPTIONS)
    # Hundreds of runs: of all of them only those that differ from the first in one axis, and ten of fifty methods.
    first = [axis[0] for axis in axes]
    axes = [axis[:: -(-len(axis) // 10)] for axis in axes]
    some = {(*first[:number], choice, *first[number + 1 :]) for number, axis in enumerate(axes) for choice in axis}
    needed = [word for choice in first for word in NEEDED.get((*choice.split("="),), [])]
    runs = {settle(compose([f"experiment={name}", *run, *needed])).subdir for run in some}
    assert len(runs) == len(some), "no two runs of a sweep share a directory"


@pytest.mark.parametrize(
    ("data", "noise", "sigma"),
    [
        ("cifar10", "sym", 1.0),
        ("cifar10", "asym", 0.5),
        ("cifar10", "dependent", 0.5),
        ("cifar10", "open_set", 0.5),
        ("cifar100", "sym", 0.2),
        ("cifar100", "asym", 0.2),
        ("cifar100", "dependent", 0.1),
    ],
)
def test_cifar_presets_are_the_papers_values(data: str, noise: str, sigma: float) -> None:
    """Section 4.3 and appendix B.1."""
    composed = container_of(compose([f"data={data}", f"noise={noise}", "method=sln_mo_lc"]))
    assert composed["sln"] == {"sigma": sigma}
    assert composed["trainer"]["max_epochs"] == 300
    assert composed["optimizer"] == {
        "_target_": "torch.optim.SGD",
        "name": "sgd",
        "lr": 0.001,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "reset_each_epoch": False,
    }
    assert composed["scheduler"]["name"] == "constant"
    assert (composed["data"]["batch_size"], composed["data"]["padding"], composed["data"]["flip"]) == (128, 4, True)
    assert composed["momentum"] == {"enabled": True, "decay": 0.999}
    assert composed["correction"] == {
        "enabled": True,
        "last_epochs": 50,
        "views": "augmented",
        "loss_against": "current",
        "prediction": "hard",
        "weighting": "loss",
    }
    assert composed["model"]["name"] == "wrn28_2"


def test_the_clothing1m_preset_has_the_papers_values() -> None:
    """Section 4.3 and appendix B.1: label correction from the second of ten epochs."""
    composed = container_of(compose(["data=clothing1m", "method=sln_mo_lc"]))
    assert composed["sln"] == {"sigma": 0.2}
    assert composed["trainer"]["max_epochs"] == 10
    optimizer, scheduler = composed["optimizer"], composed["scheduler"]
    assert (optimizer["lr"], optimizer["momentum"], optimizer["weight_decay"]) == (0.001, 0.9, 0.001)
    assert (scheduler["name"], scheduler["milestones"], scheduler["gamma"]) == ("multistep", [5], 0.1)
    data, model, correction = composed["data"], composed["model"], composed["correction"]
    assert (data["batch_size"], data["sampling"], data["per_class"]) == (32, "balanced", None)
    assert (data["image_size"], data["image_size"] + 2 * data["padding"], data["flip"]) == (224, 256, True)
    assert (model["name"], model["pretrained"]) == ("resnet50", True)
    assert (correction["last_epochs"], correction["loss_against"], correction["prediction"]) == (9, "given", "soft")
    assert composed["noise"]["name"] == "real"


def test_milestones_follow_from_the_length_of_the_run() -> None:
    for data, expected in (("cifar10", [150, 225]), ("digits", [30, 45])):
        assert compose([f"data={data}", "scheduler=multistep"]).scheduler.milestones == expected


def test_method_values_for_clothing1m_are_published() -> None:
    """SLN paper, appendix B.2: co-teaching's rate; DivideMix as its authors' code has it, with its budget."""
    for method in ("co_teaching", "sigua"):
        composed = compose(["data=clothing1m", f"method={method}"])
        check(composed)
        assert (composed.method.forget_rate, composed.method.ramp_epochs) == (0.4, 10)
        assert (composed.trainer.max_epochs, composed.data.per_class, composed.optimizer.lr) == (10, None, 0.001)
    composed = compose(["data=clothing1m", "method=dividemix"])
    check(composed)
    method, data, scheduler = composed.method, composed.data, composed.scheduler
    assert (method.warm_up_epochs, method.warm_up_penalty, method.alpha, method.lambda_u) == (1, 1, 0.5, None)
    assert (method.temperature, method.threshold) == (0.5, 0.5)
    assert (composed.trainer.max_epochs, composed.optimizer.lr, composed.optimizer.weight_decay) == (80, 0.002, 0.001)
    assert (scheduler.name, scheduler.milestones, scheduler.gamma) == ("multistep", [40], 0.1)
    assert composed.model.name == "resnet50"
    # A thousand batches of 32 labelled samples, were all labelled, of 14 classes alike.
    assert data.sampling == "balanced"
    assert data.batch_size // 2 == 32
    assert -(-data.per_class * data.num_classes // 32) == 1000


def test_a_methods_budget_applies_unless_typed() -> None:
    typed = ["trainer.max_epochs=3", "data.per_class=5", "optimizer.lr=0.1", "method.lambda_u=25.0"]
    composed = compose(["data=clothing1m", "method=dividemix", *typed])
    assert (composed.trainer.max_epochs, composed.data.per_class, composed.optimizer.lr) == (3, 5, 0.1)
    assert composed.method.lambda_u == 25
    of_cifar = compose(["data=cifar10", "method=dividemix"])
    assert (of_cifar.trainer.max_epochs, of_cifar.data.batch_size, of_cifar.optimizer.lr) == (300, 128, 0.001)
    rate = compose(["method=co_teaching", "noise.rate=0.3"]).method.forget_rate
    assert rate == 0.3, "elsewhere the nominal rate"
    assert compose(["data=clothing1m", "method=co_teaching", "method.forget_rate=estimated"]).method.forget_rate == (
        "estimated"
    )


def test_the_first_documented_command_composes() -> None:
    composed = compose(["noise=asym", "sln.sigma=0.5"])
    check(composed)
    assert (composed.data.name, composed.noise.name, composed.method.name) == ("digits", "asym", "sln")
    assert (composed.sln.sigma, composed.noise.rate, composed.momentum.enabled) == (0.5, 0.4, True)


def test_a_typed_model_wins_over_the_data_sets() -> None:
    assert compose(["data=cifar10"]).model.name == "wrn28_2"
    assert compose(["data=cifar10", "model=cnn"]).model.name == "cnn"


HUMAN = ["noise=human", "noise.path=README.md"]
MISTAKES = [
    (["sln.sgima=1"], "sln.sgima", "sigma"),
    (["+sln.sgima=1"], "sln.sgima", "sigma"),
    (["+nonsense=1"], "nonsense", "noise"),
    (["noise.sede=1"], "noise.sede", "seed"),
    (["data.batchsize=1"], "data.batchsize", "batch_size"),
    (["sln.sigma=-1"], "sln.sigma", "greater than or equal to 0"),
    (["sln.sigma=nan"], "sln.sigma", "finite"),
    (["sln.sigma=inf"], "sln.sigma", "finite"),
    (["sln.sigma=high"], "sln.sigma", "number"),
    (["noise.rate=1"], "noise.rate", "less than 1"),
    (["noise.rate=-0.1"], "noise.rate", "greater than or equal to 0"),
    (["noise=none", "noise.rate=0.4"], "noise.rate", "leave it at 0"),
    (["noise=dependent", "noise.seed=1"], "noise.seed", "draws nothing"),
    (["momentum.decay=1"], "momentum.decay", "less than 1"),
    (["momentum.decay=-0.1"], "momentum.decay", "greater than or equal to 0"),
    (["trainer.max_epochs=0"], "trainer.max_epochs", "greater than or equal to 1"),
    (["data.batch_size=0"], "data.batch_size", "greater than or equal to 1"),
    (["optimizer.lr=0"], "optimizer.lr", "greater than 0"),
    (["optimizer.momentum=1"], "optimizer.momentum", "less than 1"),
    (["seed=-1"], "seed", "greater than or equal to 0"),
    (["seed=1.5"], "seed", "integer"),
    (["seed=true"], "seed", "integer"),
    (["data.train_size=1298"], "data.train_size", "1297"),
    (["data.noisy_val=1297"], "data.noisy_val", "leave none"),
    (["method=sln_mo_lc", "trainer.max_epochs=9"], "correction.last_epochs", "trainer.max_epochs=9"),
    (["correction.enabled=true", "momentum.enabled=false"], "correction.enabled", "momentum.enabled=true"),
    (["correction.views=both"], "correction.views", "'augmented' or 'clean'"),
    (["method=ce", "sln.sigma=0.5"], "sln.sigma", "method=sln"),
    (["method=ce", "momentum.enabled=true", "correction.enabled=true"], "correction.enabled", "method=sln_mo_lc"),
    (["noise=asym", "noise.class_map={11: 3}"], "noise.class_map", "no class 11"),
    (["noise=asym", "noise.class_map={3: 3}"], "noise.class_map", "itself"),
    (["data=fashion_mnist", "noise=asym", "noise.class_map={hat: coat}"], "noise.class_map", "'hat'"),
    (["noise=asym", "noise.class_map=previous"], "noise.class_map", "next"),
    (["noise=csv"], "noise.path", "must be given"),
    (["noise=csv", "noise.path=nowhere.csv"], "noise.path", "no such file"),
    (["noise=run", "noise.path=docs"], "noise.path", "this folder has no noise.npz"),
    (HUMAN, "noise.annotation", "must be given"),
    ([*HUMAN, "noise.annotation=worst"], "noise.annotation", "'worse'"),
    ([*HUMAN, "noise.annotation=worse", "noise.rate=0.4"], "noise.rate", "leave it at 0"),
    ([*HUMAN, "noise.annotation=worse", "method=sigua"], "method.forget_rate", "estimated"),
    (["noise=real"], "noise", "the labels of digits have no real noise"),
    (["data=clothing1m", "noise=sym"], "noise", "noise=real"),
    (["data=clothing1m", "noise.rate=0.4"], "noise.rate", "leave it at 0"),
    (["data=clothing1m", "softmax_average.enabled=true"], "softmax_average.enabled", "unknown"),
    (["data=clothing1m", "data.sampling=random"], "data.sampling", "'standard' or 'balanced'"),
    (["data=clothing1m", "data.per_class=1", "trainer.devices=8"], "data.train_size", "leaves 14 sample(s)"),
    (["data.augment=[]"], "data.augment", "an empty list; none leaves the images as they are"),
    (["+scheduler.last_epoch=5"], "scheduler.last_epoch", "leave it out"),
    (["method=pes", "trainer.max_epochs=8"], "method.early_epochs", "trainer.max_epochs=8"),
    (["data=cifar100", "method=dividemix", "trainer.max_epochs=20"], "method.warm_up_epochs", "ends before"),
    (["method=cores2", "method.sieve_from=null", "method.ramp=[60,90]"], "method.ramp", "before the ramp begins"),
    (["method=truncated_gce", "method.first_pruning=61"], "method.first_pruning", "or null to leave it out"),
    (["method=co_teaching_plus", "method.init_epochs=60"], "method.init_epochs", "trainer.max_epochs=60"),
    (["data=clothing1m", "method=dividemix", "method.average_losses=5"], "method.average_losses", "balanced"),
    (["noise=csv", "noise.path=README.md", "noise.like=asymmetric"], "noise.like", "'asym'"),
    (["noise=bogus"], "noise=bogus", "dependent"),
    (["data=cifar100", "noise=open_set"], "noise.donor", "names none"),
    (["noise=asym", "noise.class_map={}"], "noise.class_map", "noise=none"),
    (["noise=asym", "noise.class_map=[1, 2]"], "noise.class_map", "{from: to}"),
    (["~noise.seed"], "noise.seed", "is missing"),
    (["experiment=nope"], "experiment=nope", "demo"),
    (["model.num_classes=3"], "model.num_classes", "data.num_classes=10"),
    (["model.in_channels=3"], "model.in_channels", "data.channels=1"),
    (["softmax_average.enabled=true", "data.noisy_val=20"], "softmax_average.enabled", "data.noisy_val must be 0"),
    (["softmax_average.enabled=true", "data.fold=[0,4]"], "softmax_average.enabled", "leave some out"),
    (["softmax_average.enabled=true", "data.oversampling=true"], "softmax_average.enabled", "leave some out"),
    (["model=wrn28_2", "model.depth=0"], "model.depth", "greater than or equal to 1"),
    (["loss=gce", "loss.q=0"], "loss.q", "greater than 0"),
    (["logger=wandb", "logger.mode=maybe"], "logger.mode", "'online', 'offline' or 'disabled'"),
    (["data.batch_size=1"], "data.batch_size", "1 process(es) need at least 2 in a batch"),
    (["trainer.devices=100"], "data.batch_size", "100 process(es) need at least 200 in a batch"),
    (["data.eval_batch_size=3", "trainer.devices=2"], "data.eval_batch_size", "at least 4 in a batch"),
    (["data.train_size=10", "data.noisy_val=9"], "data.train_size", "leaves 1 sample(s) to train on"),
    (["method=co_teaching_plus", "scheduler=linear"], "scheduler.constant_epochs", "less than 60"),
    (["scheduler=linear", "scheduler.constant_epochs=60"], "scheduler.constant_epochs", "the run has 60 epochs"),
    (["scheduler=linear", "scheduler.constant_epochs=9", "scheduler.beta1=0.1"], "scheduler.beta1", "optimizer=adam"),
    (["method=sop_plus", "method.view2_norm=cifar10"], "method.view2_norm", "1 channel(s); choose own"),
    (["trainer.gradient_clip_val=1"], "trainer.gradient_clip_val", "max_epochs"),
]


@pytest.mark.parametrize(("overrides", "key", "allowed"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES])
def test_a_wrong_value_names_what_is_allowed(overrides: list[str], key: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(compose(overrides))
    assert key in str(error.value)
    assert allowed in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["method=co_teaching", "method.forget_rate=estimate"],
            "method.forget_rate: 'estimate' is not allowed: a number in [0, 1), or 'estimated' or 'anchor_points'",
        ),
        (
            ["method=sigua", "method.forget_rate=1.5"],
            "method.forget_rate: 1.5 is not allowed: a number in [0, 1), or 'estimated' or 'anchor_points'",
        ),
        (["init.from=3"], "init.from: 3 is not allowed: a string, a list of strings, or null"),
        (["init.from=[sln,3]"], "init.from: ['sln', 3] is not allowed: a string, a list of strings, or null"),
    ],
)
def test_a_message_names_all_types_of_a_key_once(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(compose(overrides))
    assert str(error.value) == said


def test_messages_describe_allowed_types_in_words() -> None:
    assert allowed_by(Count | Literal["all", "none"] | None) == "an integer in [1, inf), 'all' or 'none', or null"
    assert allowed_by(Positive | list[Rate]) == "a number in (0, inf), or a list of numbers in [0, 1)"
    assert allowed_by(dict[str, Any] | bool) == "a mapping, or true or false"


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        check(compose(["sln.sigma=-1", "noise.rate=2", "seed=-3"]))
    assert all(key in str(error.value) for key in ("sln.sigma", "noise.rate", "seed"))


def test_a_component_with_unreadable_parameters_accepts_any_key() -> None:
    composed = compose(["optimizer=sgd"])
    OmegaConf.set_struct(composed, False)
    composed.optimizer = {"_target_": "math.sqrt", "name": "mine", "lr": 0.1, "flavour": "sweet"}
    check(composed)
    composed.optimizer.lr = -1
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        check(composed)


def test_keys_without_effect_on_results_do_not_change_the_identity() -> None:
    directory = settle(compose()).subdir
    same = [
        "logger=wandb",
        "trainer.accelerator=cpu",
        "force=true",
        "runs_dir=elsewhere",
        "trainer.progress=false",
        "preset.epochs=60",
    ]
    assert settle(compose(same)).subdir == directory
    for other in ("seed=1", "sln.sigma=0.3", "noise.seed=1", "trainer.max_epochs=59", "data.noisy_val=10"):
        assert settle(compose([other])).subdir != directory
    # the same value, whether it is the preset's or typed
    assert settle(compose(["sln.sigma=1.0", "trainer.max_epochs=60"])).subdir == directory
    assert (
        settle(compose(["data=fashion_mnist", "data.source.root=a"])).subdir
        == settle(compose(["data=fashion_mnist", "data.source.root=b"])).subdir
    )


@pytest.mark.parametrize(
    ("overrides", "subdir"),
    [
        ("method=ce", "digits/sym-0.4/ce/d4e74e4457"),
        ("noise=asym method=sln_mo_lc", "digits/asym-0.4/sln_mo_lc/2825a94c0a"),
        ("data=fashion_mnist data.source.root=a method=elr", "fashion_mnist/sym-0.4/elr/bdf2a2c32a"),
        ("data=cifar10 data.source.root=a method=dividemix", "cifar10/sym-0.4/dividemix/2c6a77e082"),
        ("data=clothing1m data.source.root=/a noise=real method=sln_mo_lc", "clothing1m/real/sln_mo_lc/d57dcffcbf"),
    ],
)
def test_a_new_key_leaves_finished_runs_their_identity(overrides: str, subdir: str) -> None:
    """Otherwise a sweep trains them again. Add the key to OFF; a changed default changes these digests."""
    assert settle(compose(overrides.split())).subdir == f"{subdir}/seed0"


def test_options_of_a_disabled_feature_do_not_change_the_identity() -> None:
    assert settle(compose(["correction.last_epochs=3"])).subdir == settle(compose()).subdir
    assert settle(compose(["method=ce", "momentum.decay=0.5"])).subdir == settle(compose(["method=ce"])).subdir
    assert (
        settle(compose(["method=sln_mo_lc", "correction.last_epochs=3"])).subdir
        != settle(compose(["method=sln_mo_lc"])).subdir
    )


def test_a_noise_file_enters_the_identity_by_content(tmp_path: Path) -> None:
    def subdir(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        return settle(compose(["noise=csv", f"noise.path={tmp_path / name}"])).subdir

    assert subdir("a.csv", "label,label_noisy\n0,1\n") == subdir("b.csv", "label,label_noisy\n0,1\n")
    assert subdir("a.csv", "label,label_noisy\n0,2\n") != subdir("b.csv", "label,label_noisy\n0,1\n")


def test_averaged_runs_share_their_group() -> None:
    assert settle(compose(["seed=1"])).group == settle(compose(["seed=2"])).group
    assert settle(compose(["noise.seed=1"])).group != settle(compose(["noise.seed=2"])).group
    assert settle(compose(["seed=1"])).subdir.rsplit("/", 1)[0] == settle(compose(["seed=2"])).subdir.rsplit("/", 1)[0]


def test_an_integer_and_an_equal_float_have_one_identity() -> None:
    assert settle(compose(["sln.sigma=1"])).subdir == settle(compose(["sln.sigma=1.0"])).subdir


def test_compose_in_another_hydra_application_reads_slnlabs_configuration(tmp_path: Path) -> None:
    """Whose own state, its version_base included, stays as it was."""
    (tmp_path / "train.yaml").write_text("x: 1\n")
    expected = compose(["method=ce"])
    with initialize_config_dir(str(tmp_path), version_base="1.2"):
        theirs = GlobalHydra.instance().hydra
        assert compose(["method=ce"]) == expected
        with pytest.raises(ConfigError, match=r"^x: there is no such key"):
            compose(["x=2"])
        for typed, meant in (("lr=0.1", r"optimizer\.lr"), ("epochs=3", r"trainer\.max_epochs"), ("seeds=1", "seed")):
            with pytest.raises(ConfigError, match=rf"there is no such key .did you mean {meant}\?"):
                compose([typed])
        with pytest.raises(ConfigError, match=r"momentum: True is not allowed: it has the keys momentum\.enabled, mom"):
            check(compose(["momentum=true"]))
        with pytest.raises(ConfigError, match=r"trainer.max_epoch: there is no such key .did you mean max_epochs"):
            compose(["trainer.max_epoch=2"])
        assert GlobalHydra.instance().hydra is theirs
        assert str(hydra.version.getbase()) == "1.2"
        assert hydra.compose("train") == {"x": 1}
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("typed", "close", "known"),
    [
        ("method=sln_mo_l", " (did you mean sln_mo_lc?)", ""),
        ("noise=symm", " (did you mean sym?)", ", sym"),
        ("model=cnnn", " (did you mean cnn?)", ""),
        ("model=vgg", "; ", "resnet18"),
    ],
)
def test_an_option_that_does_not_exist_is_one_message_with_a_close_one(typed: str, close: str, known: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose([typed])
    assert str(error.value).startswith(f"{typed}: there is no such option{close}")
    assert "\n" not in str(error.value)
    assert known in str(error.value)


def test_folders_named_by_the_command_are_searched(tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "mine.yaml").write_text("_target_: mine.noise\nname: mine\nrate: 0.1\nseed: 0\n")
    config.extra_config_dirs[:] = [str(tmp_path)]
    assert compose(["noise=mine"]).noise.name == "mine"
    assert compose().noise.name == "sym"


NAMED = {
    "data": "# @package _global_\ndefaults: [/data/digits, _self_]\ndata: {name: NAME}\n",
    "method": "# @package _global_\ndefaults: [/method/ce, _self_]\nmethod: {name: NAME}\n",
    "noise": "_target_: mine.noise\nname: NAME\nrate: 0.1\nseed: 0\n",
    "loss": "_target_: slnlab.losses.GCE\nname: NAME\nq: 0.5\n",
    "logger": "name: NAME\n",
}


@pytest.mark.parametrize("group", NAMED)
@pytest.mark.parametrize("option", ["mine", "of/mine"])
def test_the_name_of_an_option_is_that_of_its_file(group: str, option: str, tmp_path: Path) -> None:
    """Or a run that this run needs would be composed of another option, or of none."""
    file = tmp_path / group / f"{option}.yaml"
    file.parent.mkdir(parents=True)
    config.extra_config_dirs[:] = [str(tmp_path)]
    file.write_text(NAMED[group].replace("NAME", option))
    assert compose([f"{group}={option}"])[group].name == option
    file.write_text(NAMED[group].replace("NAME", "digits"))
    said = f"{group}.name: 'digits', but the chosen option is {group}={option}, and"
    with pytest.raises(ConfigError, match=f"^{said}"):
        compose([f"{group}={option}"])
    with pytest.raises(ConfigError, match=f"^{said}"):  # Hydra composes a single run, and `settle` is first to see it
        settle(load([f"{group}={option}"]))


def test_threads_can_compose_concurrently() -> None:
    rates = [number / 10 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda rate: compose([f"noise.rate={rate}"]).noise.rate, rates))
    assert made == rates


def test_a_users_option_can_build_a_library_class(tmp_path: Path) -> None:
    """With keys that only the library knows, though the class has the name of an option of ours."""
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "nesterov.yaml").write_text(
        "_target_: torch.optim.SGD\nname: nesterov\nlr: 0.1\nmomentum: 0.9\nnesterov: true\n"
    )
    check(compose([f"hydra.searchpath=[{tmp_path}]", "optimizer=nesterov"]))
