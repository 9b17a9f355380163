"""The features that a method composes with, in one table: for checks, identity, arguments of methods, help and tests.

A new feature is a row here and a section of conf/train.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from slnlab.schema.kinds import Count, NonNegative, Section


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


class LogitClip(Section):
    tau: NonNegative


class ClassBalance(Section):
    strength: NonNegative


class BestEpoch(Section):
    enabled: bool
    weights: Literal["network", "momentum", "ensemble"] | None
    criterion: Literal["accuracy", "loss", "label_wave"]


class Composable(NamedTuple):
    """A feature beside a method.

    Args:
        switch: dotted key that switches it on; 0 or false: off.
        schema: of its section. The other keys do not count while it is off.
        title: its name in a sentence.
        some: a value that switches it on.
        parameter: of a method's class, for the value of the switch. A class without it refuses the feature. None: a
            callback does the work, for every method.
        needs: keys that must be on beside it, each with the reason.
        in_every_identity: False if the identities of runs without the feature lack its section.
    """

    switch: str
    schema: type[Section]
    title: str
    some: Any
    parameter: str | None = None
    needs: Mapping[str, str] = {}
    in_every_identity: bool = True

    @property
    def section(self) -> str:
        """Name of its section."""
        return self.switch.partition(".")[0]

    @property
    def parameters(self) -> dict[str, str]:
        """Parameter of a method's class → key of the section: `sam` → rho, `sam_decay_in_step` → decay_in_step."""
        if self.parameter is None:
            return {}
        first = self.switch.partition(".")[2]
        others = [key for key in self.schema.model_fields if key != first]
        return {self.parameter: first, **{f"{self.parameter}_{key}": key for key in others}}


PREDICTS = {"momentum.enabled": "label correction predicts with the momentum model; add momentum.enabled=true"}

COMPOSABLE = (
    Composable("sln.sigma", StochasticLabelNoise, "stochastic label noise", 0.5, "sigma"),
    Composable("momentum.enabled", Momentum, "the momentum model", True),
    Composable("correction.enabled", Correction, "label correction", True, needs=PREDICTS),
    Composable("mixup.alpha", Mixup, "mixup", 1.0, "mixup"),
    Composable("sam.rho", SharpnessAware, "SAM", 0.05, "sam"),
    Composable("logit_clip.tau", LogitClip, "LogitClip", 1.0, "logit_clip", in_every_identity=False),
    Composable("class_balance.strength", ClassBalance, "class balance", 1.0, "class_balance", in_every_identity=False),
    Composable("best_epoch.enabled", BestEpoch, "the best epoch's weights", True, in_every_identity=False),
)
"""All features."""
