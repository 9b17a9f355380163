"""The sections of a run's configuration: the keys of the top level, and the common keys of each group's options.

`slnlab.schema.options` adds the other keys of an option from its constructor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, create_model

from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.kinds import Classes, Component, Count, CountOrZero, Positive, Rate, Section


class Data(Component):
    source: dict[str, Any]
    channels: Count
    num_train: Count
    unreadable: Literal["refuse", "skip"] = "refuse"
    labels: str | None = None


class Source(Section):
    """The reader of a data set's files: `data.source`, `noise.donor`."""

    target: str = Field(alias="_target_")
    files: Any = None
    """Its paths below `root`."""
    published: str | None = None
    """The digest of the published files."""


SOURCES = ("data.source", "noise.donor")
"""Dotted keys of the data sources."""


def node_at(container: Mapping[str, Any], dotted: str) -> Any:
    """The value at a dotted key; None if there is none."""
    node: Any = container
    for part in dotted.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


NoiseKind = Literal["sym", "asym", "dependent", "part_dependent", "open_set"]
"""Values of `noise.like`, for labels of unknown origin."""


class Noise(Component):
    rate: Rate
    seed: CountOrZero
    like: NoiseKind | None = None
    donor: dict[str, Any] | None = None


class Method(Component):
    title: str
    """The row of a table that is the method's."""
    rows: dict[str, str] | None = None
    """Titles of rows by their names, `{}` being the title; null: those of the class."""
    refuses: dict[str, str] = Field(default_factory=dict)
    """Keys that must be off (0, false, null), each with the reason, beside those of the class."""
    needs: dict[str, str] = Field(default_factory=dict)
    """Keys that must be on, each with the reason, beside those of the class."""
    fixed: dict[str, Any] = Field(default_factory=dict)
    """Keys with the one value of the method's definition, beside those of the class."""


class Model(Component):
    in_channels: Count
    num_classes: Classes


class Loss(Component):
    pass


class Optimizer(Component):
    lr: Positive
    reset_each_epoch: bool = False
    """True resets the optimiser's state, such as its momentum, at the start of every epoch."""


class Scheduler(Component):
    pass


class Logger(Section):
    target: str | None = Field(alias="_target_", default=None)
    name: str


class Trainer(Section):
    max_epochs: Count
    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Count
    num_nodes: Count
    sync_batchnorm: bool
    evaluate_every: Count
    checkpoint_every_steps: Count | None
    precision: Literal["32-true", "bf16-mixed"]
    deterministic: bool
    threads: Count | None
    compile: bool
    profile: bool
    progress: bool


class Init(Section):
    source: str | list[str] | None = Field(alias="from")
    overrides: list[str]
    weights: Literal["raw", "momentum"]


class SoftmaxAverage(Section):
    enabled: bool


GROUPS: dict[str, type[Section]] = {
    "data": Data,
    "noise": Noise,
    "method": Method,
    "model": Model,
    "loss": Loss,
    "optimizer": Optimizer,
    "scheduler": Scheduler,
    "logger": Logger,
}
"""Group → schema of the keys that all its options share."""


class _Always(Section):
    """The keys of the top level except the groups, which are checked one by one, and the features of a method."""

    seed: CountOrZero
    force: bool
    runs_dir: str
    contents: dict[str, str] | None
    clip_norm: Positive | None
    preset: dict[str, Any]
    trainer: Trainer
    init: Init
    softmax_average: SoftmaxAverage


Root = create_model("Root", __base__=_Always, **{each.section: (each.schema, ...) for each in COMPOSABLE})  # type: ignore[call-overload]
"""The keys of the top level except the groups."""
