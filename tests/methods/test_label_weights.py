"""Weights of labels: `data.labels` with the column `weight` says how much each image counts in the loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from by_hand import Bare, probabilities
from folders import SMALL, composed
from omegaconf import OmegaConf
from PIL import Image
from tier import own_classes
from torch import Tensor

from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.data.batches import Batch
from slnlab.errors import ConfigError
from slnlab.methods import Method, SingleNetwork
from slnlab.methods.fitted import FittedMethod
from slnlab.schema.law import law
from slnlab.train import train
from slnlab.training import assemble

SHORT = ("trainer.max_epochs=2", "data.batch_size=6", "model.widths=[4,4,4,4]", "noise=real")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of two classes."""
    top, pixels = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(12):
        path = top / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    return top


def weighted(file: Path, *rows: str) -> str:
    file.write_text("\n".join(["path,label,weight", *rows]) + "\n")
    return f"data.labels={file}"


def settled(folder: Path, *overrides: str) -> Any:
    return OmegaConf.create(container_of(compose(composed(folder, *SMALL, *overrides))))


@pytest.mark.parametrize("method", ["ce", "sln"])
def test_an_image_of_no_weight_teaches_nothing(folder: Path, tmp_path: Path, method: str) -> None:
    """Two runs end with the same bits, although their labels of two such images differ."""
    networks = []
    for label in ("cat", "dog"):
        rows = [f"cat/0.png,{label},0", f"dog/3.png,{label},0", "dog/1.png,dog,0.25"]
        run = tmp_path / label
        choices = [*SMALL, *SHORT, f"method={method}", weighted(tmp_path / f"{label}.csv", *rows)]
        train(compose(composed(folder, *choices)), run)
        networks.append(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert all(torch.equal(one, other) for one, other in zip(*(each.values() for each in networks), strict=True))


def test_the_loss_by_hand(bare: Callable[..., Bare]) -> None:
    """Two samples at S = (.8, .2), (.4, .6) with labels 0, 1 and weights ½, 1; the mean is over both."""
    made = bare("method=ce", given=[0, 1], num_classes=2)
    made.table.columns["sample_weight"] = torch.tensor([0.5, 1.0])
    loss = made.loss(probabilities([[0.8, 0.2], [0.4, 0.6]]))
    assert loss.item() == pytest.approx((-0.5 * log(0.8) - log(0.6)) / 2)


def test_weights_follow_their_images(folder: Path, tmp_path: Path) -> None:
    labels = weighted(tmp_path / "labels.csv", "cat/0.png,cat,0.25", "dog/3.png,dog,", "dog/5.png,dog,1")
    data = assemble.datamodule(settled(folder, *SHORT, "method=ce", labels))
    data.prepare_data()
    data.setup()
    paths = data.paths(torch.arange(12))
    assert paths is not None
    assert data.labels.weight is not None
    assert data.labels.weight.tolist() == [0.25 if path == "cat/0.png" else 1 for path in paths]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["method=co_teaching", "method.forget_rate=0.2"],
            "data.labels: has a column weight, which method=co_teaching",
        ),
        (["method=sop_plus"], "has a column weight, which method=sop_plus does not use"),
        (["method=ce", "mixup.alpha=1"], "mixup.alpha: data.labels gives each sample a weight"),
    ],
)
def test_other_losses_refuse_weights(folder: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    labels = weighted(tmp_path / "labels.csv", "cat/0.png,cat,0.5")
    with pytest.raises(ConfigError, match=message):
        check(settled(folder, *SHORT, *overrides, labels))
    ones = weighted(tmp_path / "ones.csv", "cat/0.png,dog,1")
    check(settled(folder, *SHORT, *overrides, ones))  # without weights there is nothing to refuse


@pytest.mark.parametrize("kind", sorted({*own_classes().values()}, key=lambda kind: kind.__name__))
def test_methods_that_weigh_have_the_loss_that_weighs(kind: type[Method]) -> None:
    fitted = issubclass(kind, FittedMethod)  # scikit-learn weighs, see tests/methods/test_fitted.py
    node = {"_target_": f"{kind.__module__}.{kind.__name__}", "name": "", "title": ""}
    if law(node).weighs_samples and not fitted:
        assert kind.loss is SingleNetwork.loss
        own = kind.batch_loss is not SingleNetwork.batch_loss
        assert not own or "super().batch_loss(" in inspect.getsource(kind.batch_loss)


class OwnLoss(SingleNetwork):
    """A user's method with another loss than the mean of its parts."""

    def batch_loss(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        return self.objective(batch, logits, targets).amax()


class Stated(OwnLoss):
    weighs_samples: ClassVar[bool] = True


def test_a_loss_of_ones_own_is_not_taken_to_weigh() -> None:
    node = {"name": "own", "title": "Own"}
    weighs = [law({**node, "_target_": f"test_label_weights.{each}"}).weighs_samples for each in ("OwnLoss", "Stated")]
    assert weighs == [False, True]
