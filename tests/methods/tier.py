"""The methods that the tests of the tier are done for, and what each of them is tried with.

The tier is test_every_method.py and test_every_method_in_two_processes.py. It finds the methods in `conf/method/`, or
below the folder of `--config-dir`; what it has to know of a method it asks its class and its YAML.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from slnlab.callbacks.best_epoch import BestEpoch
from slnlab.callbacks.dynamics import COLUMNS as DYNAMICS
from slnlab.config import CONF_DIR, compose
from slnlab.config.container import container_of, flat
from slnlab.methods import Method, SingleNetwork
from slnlab.models.parts import Parts
from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.law import law

BESIDE = {each.switch: each.some for each in COMPOSABLE}
"""A value of each key that a method may refuse."""

OBSERVED = {"loss", "prediction", "margin", "observed", *DYNAMICS}
COLUMNS = {"given", "true", "wrong", "predicted", "weight", "soft", *OBSERVED}
"""Columns of the sample table of every method."""

STATEFUL = ("on_", "state_dict", "load_state_dict", "get_extra_state", "configure_optimizers")
"""Beginnings of the names of methods through which a class keeps state of its own."""


class Shallow(nn.Module):
    """As little as a method may ask of a network: stages, batch norm, features and a classifier."""

    parts = Parts(last_stage=("normalised",), classifier=("classifier",))

    def __init__(self, in_channels: int, num_classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, widths[0], 3, stride=2, bias=False)
        self.normalised = nn.BatchNorm2d(widths[0])
        self.classifier = nn.Linear(widths[0], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.normalised(self.convolution(images)).relu().mean((2, 3))
        logits: Tensor = self.classifier(features)
        return logits


def names(config_dir: str | None) -> list[str]:
    """The options of `method`."""
    return sorted(path.stem for path in (Path(config_dir or CONF_DIR) / "method").glob("*.yaml"))


@cache
def own_classes() -> dict[str, type[Method]]:
    """Option of `method` → its class, not composed: each of pytest's processes asks for it when it collects."""
    files = {path.stem: OmegaConf.load(path) for path in (CONF_DIR / "method").glob("*.yaml")}

    def target(name: str) -> str:
        return files[name].method.get("_target_") or target(files[name].defaults[0])  # sln_mo_lc is sln with more

    return {name: get_class(target(name)) for name in sorted(files)}


ONLY_LOSS = re.compile(r"(loss|preset)\..*|clip_norm|method\.(name|title|(fixed|refuses)\..*)")
"""Keys in which a method differs from cross entropy if it is another loss of single samples, and nothing else."""


LOSSES = ("ce", "gce", "nce_rce")
"""Methods that stand for those which differ by their loss alone; the last one clips gradients."""

ALIKE = ("ael", "agce", "aul", "eps_softmax", "nce_ael", "nce_agce", "nce_aul", "phuber_ce", "sce")
"""The others. Their losses have tests of their own; `make test-methods` trains them."""


def by_loss_alone(name: str) -> bool:
    """True for a method that differs from cross entropy by its class-wise loss alone."""
    mine, theirs = (flat(container_of(composed(f"method={each}"))) for each in (name, "ce"))
    return all(ONLY_LOSS.fullmatch(key) for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))


@cache
def composed(*overrides: str) -> DictConfig:
    """A configuration that several tests look at; `changed` leaves it as it is."""
    return compose(overrides)


def changed(base: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """A copy with other values, by dotted keys."""
    made = copy.deepcopy(base)
    for key, value in values.items():
        OmegaConf.update(made, key, value)
    return made


def class_of(chosen: DictConfig) -> type[Method]:
    kind: type[Method] = get_class(chosen.method._target_)
    return kind


def refused_by(chosen: DictConfig) -> dict[str, str]:
    """Keys that have no meaning beside the method, and why."""
    return law(container_of(chosen)["method"]).refuses


def has_state(method: Method) -> bool:
    """True if a method takes more from epoch to epoch than one network: columns, networks, tensors, hooks or phases."""
    kind = type(method)
    own = [
        name
        for name in dir(kind)
        if name.startswith(STATEFUL)
        and getattr(kind, name) not in (getattr(base, name, None) for base in (Method, SingleNetwork))
    ]
    tensors = [key for key in method.state_dict() if not key.startswith("networks.network.")]
    kept = any(isinstance(callback, BestEpoch) for callback in method.trainer.callbacks)  # type: ignore[attr-defined]
    return bool(own or tensors or kept or method.table.columns.keys() - COLUMNS or kind.in_three_epochs)


def in_three_epochs(*overrides: str) -> DictConfig:
    """A run of three epochs in which a method does all that it does."""
    base = composed("trainer.max_epochs=3", "correction.last_epochs=1", *overrides)
    return changed(base, {f"method.{key}": value for key, value in class_of(base).in_three_epochs.items()})
