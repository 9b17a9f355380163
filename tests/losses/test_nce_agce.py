"""Normalised cross entropy with the asymmetric generalised cross entropy, by hand."""

from __future__ import annotations

import pytest
import torch

from slnlab.errors import ConfigError
from slnlab.losses import nce_agce


def test_nce_agce_by_hand() -> None:
    """S = (½, ¼, ¼): NCE = (.2, .4, .4). With a = 1, q = 2, AGCE = (7/8, 39/32, 39/32)."""
    logits = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
    assert nce_agce(logits, alpha=2.0, beta=3.0, a=1.0, q=2.0)[0].tolist() == pytest.approx(
        [0.4 + 21 / 8, 0.8 + 117 / 32, 0.8 + 117 / 32], rel=1e-14
    )


@pytest.mark.parametrize(("key", "value"), [("alpha", -1.0), ("beta", float("inf")), ("a", 0.0), ("q", 0.0)])
def test_values_outside_their_ranges_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{key} = "):
        nce_agce(torch.zeros(1, 2), **{key: value})
