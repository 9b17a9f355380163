"""Bootstrapping (Reed et al., 2015): the network's prediction is a part of its target."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor
from torch.nn.functional import one_hot

from slnlab.errors import check_choice
from slnlab.losses import cross_entropy

Prediction = Literal["soft", "hard"]

SMALLEST = math.log(1e-7)
"""Lower bound of log S."""


def bootstrapping(logits: Tensor, targets: Tensor, label_weight: float, prediction: Prediction = "hard") -> Tensor:
    """Loss of each sample, −Σ_c (β·t_c + (1 − β)·p_c)·log S_c, with the network's prediction p; S is clipped at 1e-7.

    Args:
        logits: (B, C).
        targets: t (B, C).
        label_weight: β in [0, 1].
        prediction: "soft": p = S *with* its gradient, so the loss contains (1 − β) times the entropy (equation 6 of
            the paper). "hard": p = onehot(argmax S) (equation 7).

    Returns:
        (B,).

    Raises:
        ConfigError: `prediction` has another value.
    """
    check_choice("bootstrapping: prediction", prediction, Prediction)
    log_softmax = (-cross_entropy(logits)).clamp(min=SMALLEST)
    predicted = log_softmax.exp() if prediction == "soft" else one_hot(logits.argmax(1), logits.shape[1])
    return -((label_weight * targets + (1 - label_weight) * predicted) * log_softmax).sum(1)
