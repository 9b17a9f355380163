"""What a method states about itself, for the configuration, the record and the estimates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from slnlab.record.result import NoiseRateUsed, TransitionUsed


class Stated:
    """The statements of a method. Class variables are literals: slnlab reads them from the source without torch."""

    network_names: ClassVar[tuple[str, ...]] = ("network",)
    """Names of the networks, in the order of the constructor's arguments."""

    # Literals, read from the source; an option's YAML may add to the last three. See `slnlab.schema.law.Law`.
    rows: ClassVar[dict[str, str]] = {"network": "{}", "momentum": "{}-MO"}
    refuses: ClassVar[dict[str, str]] = {}
    needs: ClassVar[dict[str, str]] = {}
    fixed: ClassVar[dict[str, Any]] = {}

    learns_from_strong_views: ClassVar[bool] = False
    """True if the method makes strong views of the samples (`IndexedDataModule.strong_view`)."""

    weighs_samples: ClassVar[bool] = False
    """True if the loss multiplies each sample's part by the column `sample_weight`, if there is one. Other methods
    refuse labels with weights. A class that defines `step`, `loss` or `batch_loss` states it anew."""

    trusts_itself: ClassVar[bool] = False
    """True if the loss makes the network sure of its own predictions. Then the training dynamics leave too few labels
    undecided, and the interval of the noise rate is too narrow (experiments/diagnosis)."""

    trains_in_turn: ClassVar[bool] = False
    """True if a step may leave networks, or parts of one, without a gradient; several processes need to know."""

    in_three_epochs: ClassVar[dict[str, Any]] = {}
    """Values of keys below `method` for which three epochs cover every phase, for a first look and for the tests.
    The third epoch is like every later one."""

    @classmethod
    def batches_kept(cls, options: Mapping[str, Any]) -> int:
        """Number of batches whose activations a step keeps until it differentiates, for the estimate of memory.

        Args:
            options: the node `method` of the configuration.
        """
        return len(cls.network_names)

    @property
    def saved_within_epoch(self) -> bool:
        """True if the standard checkpoint covers the state that changes within this epoch."""
        return True

    @property
    def noise_rate_used(self) -> NoiseRateUsed | None:
        """Noise rate for the result; None: the method needs none."""
        return None

    @property
    def transition_used(self) -> TransitionUsed | None:
        """Transition matrix for the result; None: the method needs none."""
        return None
