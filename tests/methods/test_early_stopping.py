"""Early stopping: `best` holds the weights of the best epoch on held-out noisy labels."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from slnlab.config import check, compose
from slnlab.errors import ConfigError
from slnlab.record.metrics import read_metrics, summarise_test
from slnlab.record.run_directory import RunDirectory
from slnlab.train import train
from slnlab.training import assemble
from slnlab.training.settling import settle


class Weights(pl.Callback):
    """The network after every epoch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.seen.append(copy.deepcopy(pl_module.network.state_dict()))


@pytest.mark.parametrize("criterion", ["accuracy", "loss"])
def test_best_is_the_first_epoch_with_the_best_noisy_validation(tmp_path: Path, criterion: str) -> None:
    """After five epochs the learning rate is a hundred times too large."""
    config = compose(
        [
            "method=early_stopping",
            f"method.criterion={criterion}",
            "data.train_size=200",
            "data.noisy_val=60",
            "trainer.max_epochs=8",
            "model.widths=[8,8,16,16]",
            "trainer.accelerator=cpu",
            "trainer.progress=false",
            "scheduler=multistep",
            "scheduler.milestones=[5]",
            "scheduler.gamma=100",
        ]
    )
    method, data, run, weights = assemble.method(config), assemble.datamodule(config), RunDirectory(tmp_path), Weights()
    trainer = assemble.trainer(settle(config), run, [])[0]
    trainer.callbacks.append(weights)
    trainer.fit(method, data)
    rows = read_metrics(run.metrics)
    sign = 1 if criterion == "accuracy" else -1
    scores = [sign * row[f"val/network/{criterion}"] for row in rows]
    best = scores.index(max(scores))
    assert best < 6, "or this test shows nothing"
    for name, tensor in method.judged["best"].state_dict().items():
        assert torch.equal(tensor, weights.seen[best][name]), name
    for epoch, row in enumerate(rows):
        at = scores.index(max(scores[: epoch + 1]))
        assert row["test/best/accuracy"] == pytest.approx(rows[at]["test/network/accuracy"])
        assert row["val/best/loss"] == pytest.approx(rows[at]["val/network/loss"], rel=1e-5)
    if criterion == "loss":
        return
    stopped, whole = summarise_test(rows, "best"), summarise_test(rows, "network")
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


def test_early_stopping_needs_held_out_labels_and_takes_a_tenth() -> None:
    assert compose(["method=early_stopping"]).data.noisy_val == 129
    assert compose(["method=early_stopping", "data=cifar10"]).data.noisy_val == 5000
    assert compose(["method=early_stopping", "data=fashion_mnist", "data.train_size=6000"]).data.noisy_val == 600
    with pytest.raises(ConfigError, match=r"data\.noisy_val: early stopping"):
        check(compose(["method=early_stopping", "data.noisy_val=0"]))
