"""Forward and backward correction of cross entropy by a transition matrix (Patrini et al., 2017)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from slnlab.losses import Backward, Forward
from slnlab.methods.given_transition import GivenTransition
from slnlab.schema.kinds import BelowHalf


class LossCorrection(GivenTransition):
    """Cross entropy corrected by T, T[i, j] = P(given j | true i): `slnlab.losses.Forward` or `Backward`.

    Args:
        network: see `SingleNetwork`.
        corrects: "forward" or "backward".
        clip: the softmax is clipped to [clip, 1 - clip], see `slnlab.losses.Forward`, `slnlab.losses.Backward`.
        options: see `GivenTransition`.

    Raises:
        ConfigError: in `setup`: see `GivenTransition`; or T is singular (backward).
    """

    refuses: ClassVar[dict[str, str]] = {
        "correction.enabled": "the corrected loss assumes labels with noise T, and corrected labels lose this noise",
    }
    in_three_epochs: ClassVar[dict[str, Any]] = {"transition": "known"}

    def __init__(
        self,
        network: nn.Module,
        *,
        corrects: Literal["forward", "backward"],
        clip: BelowHalf | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.corrects, self.clip_outputs = corrects, clip

    def take_transition(self, matrix: Tensor) -> None:
        corrected = Forward if self.corrects == "forward" else Backward
        self.class_losses = corrected(matrix, self.clip_outputs)
