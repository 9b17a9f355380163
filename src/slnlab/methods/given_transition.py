"""The base of methods that are given a transition matrix: known, estimated by another run, or from a file."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from slnlab.analysis.transition import estimate_transition, transition_used
from slnlab.data.probabilities import read_probabilities
from slnlab.errors import ConfigError
from slnlab.methods.single_network import SingleNetwork
from slnlab.noise import read_transition
from slnlab.record.result import TransitionUsed
from slnlab.schema.kinds import FilledIn, Quantile, Transition


class GivenTransition(SingleNetwork):
    """A single network with a matrix T, T[i, j] = P(given j | true i), which `take_transition` gets before training.

    Args:
        network: see `SingleNetwork`.
        transition: "known" (T of these training labels), "estimated" (from the predictions in `estimate_from`), or a
            file with T.
        drop_above: samples above this quantile are left out of the estimate, see
            `slnlab.analysis.transition.estimate_transition`.
        criterion: chooses the epoch of the run that estimates T, see `slnlab.callbacks.best_epoch.BestEpoch`. "loss" is
            as in the authors' code: T̂ is made of probabilities, and a network may become overconfident while its
            accuracy still rises.
        estimate_from: an `.npz` with `probabilities` (M, C), the softmax outputs on training samples of a network
            that learned from the given labels. `slnlab.train` makes a missing file.
        options: see `SingleNetwork`; the loss is cross entropy by definition, `class_losses` is not used.

    Raises:
        ConfigError: in `setup`: predictions are missing, or T is invalid or has another number of classes.
        DataError: in `setup`: a file cannot be read.
    """

    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}

    def __init__(
        self,
        network: nn.Module,
        *,
        transition: Transition,
        drop_above: Quantile | None = 0.97,
        criterion: Literal["loss", "accuracy"] = "loss",
        estimate_from: FilledIn = None,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.transition, self.drop_above, self.estimate_from = transition, drop_above, estimate_from
        self.criterion = criterion
        self._used: TransitionUsed | None = None

    @property
    def transition_used(self) -> TransitionUsed | None:
        return self._used

    @property
    def known_transition(self) -> Tensor | None:
        """T of these training labels (C, C) float64, if their noise is known."""
        record = self.data.noise_record
        return record.transition_matrix if record else None

    @abstractmethod
    def take_transition(self, matrix: Tensor) -> None:
        """Use this T (C, C) float64 in training."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        known = self.known_transition
        if known is None and self.transition == "known":
            raise ConfigError(
                "method.transition: known, but the noise of these labels is unknown; choose estimated, or give a file"
            )
        matrix = known if known is not None and self.transition == "known" else self._matrix()
        if len(matrix) != self.table.num_classes:
            raise ConfigError(f"method.transition: has {len(matrix)} classes, the data have {self.table.num_classes}")
        self.take_transition(matrix)
        source: Any = self.transition if self.transition in ("known", "estimated") else "file"
        self._used = transition_used(source, matrix, known)

    def _matrix(self) -> Tensor:
        if self.transition != "estimated":
            return read_transition(Path(self.transition), "method.transition")
        if self.estimate_from is None:
            raise ConfigError(
                "method.transition: estimated, but there are no predictions to estimate from; slnlab.train makes them, "
                "a method outside of it takes them from estimate_from"
            )
        return estimate_transition(read_probabilities(self.estimate_from), self.drop_above)
