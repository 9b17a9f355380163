"""Normalised cross entropy with the asymmetric exponential loss, by hand."""

from __future__ import annotations

from math import exp

import pytest
import torch

from slnlab.errors import ConfigError
from slnlab.losses import nce_ael


def test_nce_ael_by_hand() -> None:
    """S = (½, ¼, ¼): NCE = (.2, .4, .4). With a = ½, AEL = exp(−2·S)."""
    logits = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
    assert nce_ael(logits, alpha=2.0, beta=3.0, a=0.5)[0].tolist() == pytest.approx(
        [0.4 + 3 / exp(1), 0.8 + 3 / exp(0.5), 0.8 + 3 / exp(0.5)], rel=1e-14
    )


@pytest.mark.parametrize(("key", "value"), [("alpha", -1.0), ("beta", float("inf")), ("a", 0.0)])
def test_values_outside_their_ranges_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{key} = "):
        nce_ael(torch.zeros(1, 2), **{key: value})
