"""The values of each method for each data set and noise: those of its paper, or of the SLN paper's tables.

A method with a test of its own says its values there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf.errors import ConfigAttributeError
from tier import changed, composed

from slnlab.config import CONF_DIR, check, compose, explain
from slnlab.config.container import container_of, flat
from slnlab.errors import ConfigError
from slnlab.training.settling import settle

PRESETS: list[tuple[str, str, str, dict[str, Any]]] = [
    # SLN paper, appendix B.1
    ("gce", "cifar10", "sym", {"loss.name": "gce", "loss.q": 0.7}),
    ("truncated_gce", "cifar10", "sym", {"loss.q": 0.7, "method.first_pruning": 50, "method.pruning_every": 10}),
    ("truncated_gce", "cifar100", "asym", {"loss.q": 0.7, "method.first_pruning": 150, "method.pruning_every": 10}),
    ("phuber_ce", "cifar10", "sym", {"loss.name": "phuber_ce", "loss.tau": 2}),
    ("phuber_ce", "cifar10", "dependent", {"loss.tau": 2}),
    ("phuber_ce", "cifar10", "asym", {"loss.tau": 10}),
    ("phuber_ce", "cifar100", "asym", {"loss.tau": 30}),
    ("label_smoothing", "cifar10", "sym", {"method.alpha": 0.8}),
    ("label_smoothing", "cifar10", "asym", {"method.alpha": 0.5}),
    ("label_smoothing", "cifar100", "asym", {"method.alpha": 0.8}),
    # the papers of the methods, or their public code
    ("elr", "cifar10", "sym", {"method.strength": 3, "method.decay": 0.7}),
    ("elr", "cifar10", "asym", {"method.strength": 1, "method.decay": 0.9}),
    ("elr", "cifar100", "sym", {"method.strength": 7, "method.decay": 0.9}),
    ("sop", "cifar10", "sym", {"method.lr_u": 10, "method.lr_v": 10}),
    ("sop", "cifar100", "sym", {"method.lr_u": 1, "method.lr_v": 10}),
    ("sop", "cifar100", "asym", {"method.lr_u": 0.1, "method.lr_v": 100}),
    ("sop_plus", "cifar10", "sym", {"method.consistency": 0.9, "method.balance": 0.1, "method.cutout": 16}),
    ("sop_plus", "cifar100", "asym", {"method.lr_u": 0.1, "method.lr_v": 100, "method.view2_norm": "cifar10"}),
    ("bootstrapping_soft", "cifar10", "sym", {"method.prediction": "soft", "method.label_weight": 0.95}),
    ("bootstrapping_hard", "cifar10", "sym", {"method.prediction": "hard", "method.label_weight": 0.8}),
    ("confidence_penalty", "cifar10", "sym", {"method.strength": 0.1}),
    ("cores2", "cifar10", "sym", {"method.strength": 2, "method.ramp": [11, 40], "method.sieve_from": 32}),
    ("anl_ce", "cifar10", "sym", {"loss.alpha": 5, "loss.beta": 5, "method.l1": 5e-5, "clip_norm": 5}),
    ("anl_ce", "cifar100", "sym", {"loss.alpha": 10, "loss.beta": 1, "method.l1": 5e-7, "clip_norm": 5}),
    ("forward", "cifar10", "sym", {"method.transition": "estimated", "method.drop_above": 0.97}),
    ("backward", "cifar100", "sym", {"method.transition": "estimated", "method.drop_above": None}),
    ("nce_rce", "cifar10", "sym", {"loss.alpha": 1, "loss.beta": 1, "clip_norm": 5}),
    ("nce_rce", "cifar100", "sym", {"loss.alpha": 10, "loss.beta": 0.1}),
    ("sce", "cifar10", "sym", {"loss.alpha": 0.1, "loss.beta": 1, "loss.log_zero": -9.210340371976182}),
    ("sce", "cifar100", "sym", {"loss.alpha": 6, "loss.beta": 0.1}),
    ("pes", "cifar10", "sym", {"method.early_epochs": 25, "method.stage_epochs": 7, "method.classifier_epochs": 5}),
    (
        "pes",
        "cifar100",
        "sym",
        {"method.early_epochs": 30, "method.refining_lr": 1e-4},
    ),
    ("pes_semi", "cifar10", "part_dependent", {"method.early_epochs": 20, "method.lambda_u": 15, "method.steps": 390}),
    ("pes_semi", "cifar100", "asym", {"method.early_epochs": 35, "method.lambda_u": 50, "method.refining_lr": 1e-4}),
    ("disc", "cifar10", "sym", {"method.warm_up_epochs": 20, "method.decay": 0.99, "method.hard_weight": 1}),
    ("disc", "cifar10", "asym", {"method.warm_up_epochs": 20, "method.decay": 0.95, "method.cutout": 4}),
    ("disc", "cifar100", "dependent", {"method.warm_up_epochs": 15, "method.decay": 0.99, "method.magnitude": 10}),
    ("jump_teaching", "cifar100", "sym", {"method.warm_up_epochs": 30, "method.bits": 64}),
    ("ssr", "cifar10", "sym", {"method.relabel_above": 0.9, "method.neighbours": 200}),
    ("ssr_plus", "cifar100", "sym", {"method.relabel_above": 0.8, "method.neighbours": 200}),
    ("mixup", "cifar10", "sym", {"mixup.alpha": 8}),
    ("mixup", "cifar10", "none", {"mixup.alpha": 1}),
    ("sam", "cifar10", "sym", {"sam.rho": 0.1}),
    ("sam", "cifar10", "none", {"sam.rho": 0.05}),
]


@pytest.mark.parametrize(("method", "data", "noise", "expected"), PRESETS)
def test_presets_are_the_published_values(method: str, data: str, noise: str, expected: dict[str, Any]) -> None:
    config = composed(f"data={data}", f"noise={noise}", f"method={method}")
    check(config)
    found = flat(container_of(config))
    assert {key: found[key] for key in expected} == expected
    assert found["trainer.max_epochs"] == 300, "the budget is the data set's, whatever the method"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (["data=cifar10", "method=disc", "noise.rate=0.6"], {"method.decay": 0.95, "method.hard_weight": 0.2}),
        (["data=cifar100", "method=ssr", "noise.rate=0.2"], {"method.relabel_above": 0.9}),
        (["data=animal10n", "method=disc"], {"method.warm_up_epochs": 10, "method.cutout": 8}),
        (["data=animal10n", "method=ssr"], {"method.relabel_above": 0.95}),
        (["data=animal10n", "method=jump_teaching"], {"method.warm_up_epochs": 15}),
        (["data=animal10n", "method=sgn"], {"method.trust": 0.95}),
        (["data=noisy_imagewoof", "method=sgn"], {"method.trust": 0.95}),
        (["data=clothing1m", "method=sop_plus"], {"method.cutout": 112, "method.view2_norm": "own"}),
        (["data=fashion_mnist", "method=sop_plus"], {"method.cutout": 14}),
        (["data=tiny_imagenet", "method=sop_plus"], {"method.cutout": 32, "method.view2_norm": "own"}),
        (["data=tiny_imagenet", "method=ssr"], {"method.neighbours": 200, "method.references": 50000}),
        (["data=clothing1m", "method=ssr_plus"], {"method.neighbours": 200, "method.alpha": 0.5}),
        (["data=mini_webvision", "method=ssr"], {"method.relabel_above": 0.95, "method.alpha": 0.5}),
        (["data=cifar10", "method=ssr"], {"method.alpha": 4}),
        (["data=clothing1m", "method=jal_ce"], {"clip_norm": None}),
        (["data=clothing1m", "method=eps_softmax"], {"clip_norm": None}),
        (["data=digits", "method=disc"], {"method.cutout": 2}),
    ],
)
def test_presets_follow_the_data_set_the_rate_and_the_length(choice: list[str], expected: dict[str, Any]) -> None:
    """What is counted in CIFAR's epochs or pixels, or of 50,000 images, is no value for other data."""
    found = flat(container_of(compose(choice)))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("data", sorted(path.stem for path in (CONF_DIR / "data").glob("*.yaml")))
@pytest.mark.parametrize(("method", "key"), [("truncated_gce", "first_pruning"), ("cores2", "sieve_from")])
def test_later_phases_begin_within_the_run(
    method: str, key: str, data: str, data_set: Callable[[str], list[str]]
) -> None:
    """Otherwise the run would be plain GCE, or CORES² without its sieve, under the method's name."""
    config = composed(*data_set(data), f"method={method}")
    check(config)
    assert config.method[key] < config.trainer.max_epochs


@pytest.mark.parametrize(("method", "key"), [("truncated_gce", "first_pruning"), ("cores2", "sieve_from")])
def test_a_later_phase_after_the_run_is_refused(method: str, key: str) -> None:
    config = composed(f"method={method}")
    epochs = config.trainer.max_epochs
    for allowed in (epochs, None):
        check(changed(config, {f"method.{key}": allowed}))
    with pytest.raises(ConfigError, match=rf"method\.{key}: {epochs + 1}, but .*max_epochs={epochs}.* or null to "):
        check(changed(config, {f"method.{key}": epochs + 1}))


@pytest.mark.parametrize(
    ("method", "chosen", "key", "steps"),
    [
        ("pes_semi", ["data=fashion_mnist"], "steps", 60000 // 128),
        ("pes_semi", ["data=fashion_mnist", "data.train_size=6000", "data.noisy_val=600"], "steps", 5400 // 128),
        ("pes_semi", ["data=clothing1m"], "steps", 14 * 18976 // 32),
        ("elr_plus", ["data=fashion_mnist"], "ramp_steps", int(0.57 * 60 * 469)),
        ("elr_plus", ["data=cifar10"], "ramp_steps", 40000),
        ("elr_plus", ["data=cifar10", "trainer.max_epochs=100"], "ramp_steps", int(0.57 * 100 * 391)),
        ("elr_plus", ["data=noisy_imagenette"], "ramp_steps", int(0.57 * 80 * 148)),
        ("pes_semi", ["data=mini_webvision"], "steps", 65944 // 32),
        ("truncated_gce", ["data=animal10n"], "first_pruning", 100 * 50 // 300),
        ("truncated_gce", ["data=mini_webvision"], "first_pruning", 50),  # CIFAR-100's half of the run
        ("cores2", ["data=noisy_imagenette"], "ramp", [8, 32]),
        ("cores2", ["data=red_mini_imagenet"], "ramp", [11, 40]),
        ("cores2", ["trainer.max_epochs=5"], "ramp", [0, 2]),
        ("cores2", ["trainer.max_epochs=1"], "ramp", [0, 1]),
    ],
)
def test_values_counted_in_steps_and_epochs_follow_the_run_length(
    method: str, chosen: list[str], key: str, steps: int
) -> None:
    """Of data sets with CIFAR's values too."""
    assert container_of(compose([*chosen, f"method={method}"]))["method"][key] == steps


@pytest.mark.parametrize(
    ("chosen", "rate"),
    [
        (["data=cifar10", "trainer.max_epochs=400"], 4e-7),  # .035 / 78,200
        (["data=cifar10", "trainer.max_epochs=300"], 5e-7),  # .035 / 58,650, rounded down
        (["data=digits"], 5e-5),  # .035 / 630
        (["data=fashion_mnist", "data.train_size=6000"], 2e-5),  # .035 / 1,410
        (["data=clothing1m"], 5e-7),  # their number depends on the labels
    ],
)
def test_a_transition_matrix_can_be_revised_as_far_in_a_run_of_any_length(chosen: list[str], rate: float) -> None:
    assert container_of(compose([*chosen, "method=t_revision"]))["method"]["revision_lr"] == rate


@pytest.mark.parametrize(
    ("data", "method", "kind"),
    [
        ("cifar10", "sln", "asym"),
        ("cifar100", "sln", "sym"),
        ("cifar10", "elr", "asym"),
        ("cifar100", "phuber_ce", "asym"),
    ],
)
def test_labels_from_a_file_take_the_presets_of_their_noise_like(
    data: str, method: str, kind: str, tmp_path: Path
) -> None:
    """The authors' published noise is files; with `noise.like` all but the noise is as with `noise=asym`."""
    (tmp_path / "labels.csv").touch()
    of_file = ["noise=csv", f"noise.path={tmp_path}/labels.csv"]
    like, same = (
        container_of(compose([f"data={data}", f"method={method}", *noise]))
        for noise in ([*of_file, f"noise.like={kind}"], [f"noise={kind}"])
    )
    assert like.pop("noise") != same.pop("noise")
    assert like == same


@pytest.mark.parametrize("path", sorted((CONF_DIR / "method").glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_follow_the_like_of_data_and_noise(path: Path) -> None:
    """By `slnlab.preset`, `slnlab.data_kind` or `slnlab.noise_kind`, and never by a name alone."""
    assert not re.search(r"\$\{(data|noise)\.name\}", path.read_text())


def test_typing_the_preset_values_does_not_change_the_identity(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").touch()
    of_file = ["data=cifar10", "method=phuber_ce", "noise=csv", f"noise.path={tmp_path}/labels.csv"]
    assert settle(compose([*of_file, "loss.tau=10"])).subdir == settle(compose([*of_file, "noise.like=asym"])).subdir


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        (["method=gce", "loss=mae"], "loss.name", "method=gce is defined with gce"),
        (["method=truncated_gce", "loss=cross_entropy"], "loss.name", "is defined with gce"),
        (["method=sop", "loss=gce"], "loss.name", "is defined with cross_entropy"),
        (["method=bootstrapping_soft", "method.prediction=hard"], "method.prediction", "is defined with soft"),
        (["method=mixup", "mixup.alpha=0"], "mixup.alpha", "use method=ce"),
        (["method=sam", "sam.rho=0"], "sam.rho", "use method=ce"),
        (["method=truncated_gce", "method.truncation=1"], "method.truncation", "less than 1"),
        (["method=elr", "method.decay=1"], "method.decay", "less than 1"),
        (["method=elr", "method.strenght=1"], "method.strenght", "strength"),
        (["method=cores2", "method.ramp=[5,5]"], "method.ramp", "after the first"),
        (["method=forward", "method.transition=guessed"], "method.transition", "neither `estimated` nor `known`"),
        (["method=forward", "method.corrects=backward"], "method.corrects", "is defined with forward"),
        (["method=forward", "method.estimate_from=x.npz"], "method.estimate_from", "goes into method.transition"),
        (["mixup.alpha=-1"], "mixup.alpha", "greater than or equal to 0"),
        (["sam.rho=-1"], "sam.rho", "greater than or equal to 0"),
    ],
)
def test_a_wrong_preset_is_named(overrides: list[str], key: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(compose(overrides))
    assert key in str(error.value)
    assert said in str(error.value)


def test_a_key_of_another_swept_option_is_one_message() -> None:
    """Hydra composes a sweep with the default option first."""
    error = ConfigAttributeError("Could not override 'method.strength'.")
    assert "there is no such key" in explain(error, ["method=elr,sop", "method.strength=1"])
    assert "decay" in explain(error, ["method=elr", "method.strength=1"])
