"""The weights of the best epoch on held-out labels."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

import slnlab
from slnlab.config import check, compose
from slnlab.errors import ConfigError
from slnlab.record.label_wave import stopping_epoch
from slnlab.record.metrics import read_metrics, summarise_test
from slnlab.record.result import ChosenEpoch, Result
from slnlab.record.run_directory import RunDirectory
from slnlab.train import train
from slnlab.training import assemble
from slnlab.training.settling import settle


class Weights(pl.Callback):
    """The weights of this name after every epoch."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[dict[str, Tensor]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.seen.append(copy.deepcopy(pl_module.judged[self.name].state_dict()))


KEEP = "best_epoch.enabled=true"
SHORT = [
    "data.train_size=200",
    "trainer.max_epochs=8",
    "model.widths=[8,8,16,16]",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "scheduler=multistep",
    "scheduler.milestones=[5]",
    "scheduler.gamma=100",
]


@pytest.mark.parametrize(
    ("words", "kept", "criterion"),
    [
        (["method=early_stopping"], "network", "accuracy"),
        (["method=early_stopping", "best_epoch.criterion=loss"], "network", "loss"),
        (["method=sln_mo_lc", "correction.last_epochs=2", KEEP], "momentum", "accuracy"),
        (["method=sln", KEEP, "best_epoch.weights=network"], "network", "accuracy"),
        (["method=co_teaching", KEEP], "ensemble", "accuracy"),
    ],
)
def test_best_is_the_first_epoch_with_the_best_noisy_validation(
    tmp_path: Path, words: list[str], kept: str, criterion: str
) -> None:
    """After five epochs the learning rate is a hundred times too large."""
    config = compose([*words, *SHORT, "data.noisy_val=60"])
    method, data, run = assemble.method(config), assemble.datamodule(config), RunDirectory(tmp_path)
    trainer, weights = assemble.trainer(settle(config), run, [])[0], Weights(kept)
    trainer.callbacks.append(weights)
    trainer.fit(method, data)
    rows = read_metrics(run.metrics)
    sign = 1 if criterion == "accuracy" else -1
    scores = [sign * row[f"val/{kept}/{criterion}"] for row in rows]
    best = scores.index(max(scores))
    assert best < 7, "or this test shows nothing"
    for name, tensor in method.judged["best"].state_dict().items():
        assert torch.equal(tensor, weights.seen[best][name]), name
    for epoch, row in enumerate(rows):
        at = scores.index(max(scores[: epoch + 1]))
        assert row["test/best/accuracy"] == pytest.approx(rows[at][f"test/{kept}/accuracy"])
        assert row["val/best/loss"] == pytest.approx(rows[at][f"val/{kept}/loss"], rel=1e-5)
    if criterion == "loss":
        return
    stopped, whole = summarise_test(rows, "best"), summarise_test(rows, kept)
    assert stopped is not None
    assert whole is not None
    assert whole.best_noisy_val is not None
    assert stopped.last == pytest.approx(whole.best_noisy_val.accuracy)


def test_correct_validation_labels_choose_where_there_are_some(tmp_path: Path) -> None:
    """All given labels are wrong, so the two kinds of validation prefer different epochs."""
    generator = np.random.default_rng(1)
    true = {split: generator.integers(2, size=size) for split, size in (("train", 100), ("val", 60))}
    arrays = {
        f"{split}_features": each[:, None] + generator.normal(size=(len(each), 3)) for split, each in true.items()
    }
    labels = {"train_labels": generator.integers(2, size=100), "val_labels": true["val"]}
    np.savez(tmp_path / "data.npz", **arrays, **labels)
    words = ["data=features", f"data.source.root={tmp_path}/data.npz", "method=early_stopping", "data.noisy_val=40"]
    words += [
        "optimizer.lr=0.1",
        "data.batch_size=20",
        "trainer.max_epochs=8",
        "trainer.accelerator=cpu",
        "trainer.progress=false",
    ]
    train(compose(words), tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    clean, noisy = ([row[f"{split}/network/accuracy"] for row in rows] for split in ("val_clean", "val"))
    assert clean.index(max(clean)) != noisy.index(max(noisy)), "or this test shows nothing"
    assert rows[-1]["val_clean/best/accuracy"] == max(clean)
    assert rows[-1]["val/best/accuracy"] == pytest.approx(noisy[clean.index(max(clean))])


def test_label_wave_keeps_the_last_epoch_before_predictions_change_more_often(tmp_path: Path) -> None:
    """No label is held out. The learning rate is ten times too large from the eighth epoch on."""
    words = [
        *SHORT,
        KEEP,
        "best_epoch.criterion=label_wave",
        "scheduler.milestones=[7]",
        "scheduler.gamma=10",
        "method=sln",
        "trainer.max_epochs=14",
    ]
    config = compose(words)
    method, data, run = assemble.method(config), assemble.datamodule(config), RunDirectory(tmp_path)
    trainer, weights = assemble.trainer(settle(config), run, [])[0], Weights("momentum")
    trainer.callbacks.append(weights)
    trainer.fit(method, data)
    rows = read_metrics(run.metrics)
    chosen = stopping_epoch(rows)
    assert chosen is not None
    assert 1 < chosen < 14, "or this test shows nothing"
    for name, tensor in method.judged["best"].state_dict().items():
        assert torch.equal(tensor, weights.seen[chosen - 1][name]), name
    assert rows[-1]["test/best/accuracy"] == rows[chosen - 1]["test/momentum/accuracy"]


def test_your_own_data_keep_the_best_epoch_where_they_have_correct_validation_labels(tmp_path: Path) -> None:
    """As a user expects who puts correct labels into val/: these weights predict and judge the labels."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, size in (("train", 60), ("val", 30)):
        arrays[f"{split}_labels"] = generator.integers(2, size=size)
        arrays[f"{split}_features"] = arrays[f"{split}_labels"][:, None] + generator.normal(size=(size, 3))
    np.savez(tmp_path / "with.npz", **arrays)
    np.savez(tmp_path / "without.npz", **{name: array for name, array in arrays.items() if name.startswith("train")})
    words = ["method=sln_mo_lc", "trainer.max_epochs=3", "trainer.accelerator=cpu", "trainer.progress=false"]
    for name, kept in (("with", True), ("without", False)):
        source = ["data=features", f"data.source.root={tmp_path}/{name}.npz"]
        assert compose([*source, "method=sln_mo_lc"]).best_epoch.enabled is kept
        assert compose([*source, "method=logistic"]).best_epoch.enabled is False, "one fit has one epoch"
        result = train(compose([*source, *words]), tmp_path / name)
        assert ("best" in result.rows) is kept
        run = slnlab.load(tmp_path / name)
        assert run.weights == ("best" if kept else "momentum")
        assert result.label_issues.judge == run.weights
    assert result.rows["momentum"].title == "SLN-MO-LC"
    assert result.rows["momentum"].kept is None
    best = Result.load(tmp_path / "with" / "result.json").rows["best"]
    assert best.title == "SLN-MO-LC (best epoch)"
    assert best.kept is not None
    at = read_metrics(tmp_path / "with" / "metrics.csv")[best.kept.epoch - 1]
    assert best.clean_val_accuracy is not None
    assert best.clean_val_accuracy.best == ChosenEpoch(
        accuracy=at[f"val_clean/{best.kept.row}/accuracy"], epoch=best.kept.epoch
    )
    assert best.clean_val_accuracy.mean_last_10 == best.clean_val_accuracy.last, "of the same weights"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=early_stopping", "data.noisy_val=0"], r"best_epoch\.enabled: no labels are held out"),
        (
            ["method=ce", KEEP, "best_epoch.criterion=label_wave", "trainer.evaluate_every=5"],
            r"label_wave may choose any epoch",
        ),
        (
            ["method=ce", KEEP, "best_epoch.criterion=label_wave", "data.oversampling=true"],
            r"label_wave counts changed predictions, and an epoch of other samples has none to compare",
        ),
        (["method=ce", KEEP], r"best_epoch\.enabled: no labels are held out"),
        (["method=ce", KEEP, "data.noisy_val=9", "best_epoch.weights=momentum"], r"no weights momentum; .* 'network'$"),
        (["method=ce", KEEP, "data.noisy_val=9", "best_epoch.weights=ensemble"], r"no weights ensemble"),
        (["method=ce", KEEP, "data.noisy_val=9", "best_epoch.criterion=ece"], r"best_epoch\.criterion"),
    ],
)
def test_a_best_epoch_that_nothing_chooses_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(compose(words))


def test_early_stopping_holds_out_a_tenth() -> None:
    assert compose(["method=early_stopping"]).data.noisy_val == 129
    assert compose(["method=early_stopping", "data=cifar10"]).data.noisy_val == 5000
    assert compose(["method=early_stopping", "data=fashion_mnist", "data.train_size=6000"]).data.noisy_val == 600
