"""The sections of a run's configuration: the keys of the top level, and those that every option of a group has.

The other keys of an option are those of the constructor that its `_target_` names: `slnlab.schema.options`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from slnlab.schema.kinds import Classes, Component, Count, CountOrZero, NonNegative, Positive, Rate, Section


class Data(Component):
    source: dict[str, Any]
    channels: Count
    num_train: Count
    unreadable: Literal["refuse", "skip"] = "refuse"


class Source(Section):
    """What reads the files of a data set: `data.source`, `noise.donor`."""

    target: str = Field(alias="_target_")
    files: Any = None
    """What it reads below `root`."""
    published: str | None = None
    """The digest of the published files."""


SOURCES = ("data.source", "noise.donor")
"""Nodes that build a data source."""


NoiseKind = Literal["sym", "asym", "dependent", "part_dependent", "open_set"]
"""What `noise.like` may say of labels whose origin slnlab does not know."""


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
    """Beside those of the class, keys of the configuration that must be off (0, false, null), and why."""
    needs: dict[str, str] = Field(default_factory=dict)
    """Likewise, keys that must be on."""
    fixed: dict[str, Any] = Field(default_factory=dict)
    """Likewise, keys that have one value by the method's definition: with another one it would be another method."""


class Model(Component):
    in_channels: Count
    num_classes: Classes


class Loss(Component):
    pass


class Optimizer(Component):
    lr: Positive
    reset_each_epoch: bool = False
    """Forget momentum and the like at the start of every epoch."""


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
    checkpoint_every_steps: Count | None
    precision: Literal["32-true", "bf16-mixed"]
    deterministic: bool
    threads: Count | None
    compile: bool
    profile: bool
    progress: bool


class StochasticLabelNoise(Section):
    sigma: NonNegative


class Momentum(Section):
    enabled: bool
    decay: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class Correction(Section):
    enabled: bool
    last_epochs: Count
    views: Literal["augmented", "clean"]
    loss_against: Literal["current", "given"]
    prediction: Literal["hard", "soft"]
    weighting: Literal["loss", "inverse"]


class Mixup(Section):
    alpha: NonNegative


class SharpnessAware(Section):
    rho: NonNegative
    decay_in_ascent: bool
    decay_in_step: Literal["perturbed", "own"]


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
"""The groups whose options name what they build; the keys that every option of the group has."""


class Root(Section):
    """The keys of the top level that are not groups; the groups are checked one by one."""

    seed: CountOrZero
    force: bool
    runs_dir: str
    contents: dict[str, str] | None
    clip_norm: Positive | None
    preset: dict[str, Any]
    trainer: Trainer
    sln: StochasticLabelNoise
    momentum: Momentum
    correction: Correction
    mixup: Mixup
    sam: SharpnessAware
    init: Init
    softmax_average: SoftmaxAverage
