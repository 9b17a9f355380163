"""Cross entropy of the ε-softmax with the mean absolute error, by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from slnlab.errors import ConfigError
from slnlab.losses import eps_softmax_ce_mae


def test_eps_softmax_ce_mae_by_hand() -> None:
    """S = (1/4, 3/4) and m = 3: q = (1/16, 15/16); the mean absolute error is (3/2, 1/2)."""
    logits = torch.tensor([[1.0, 3.0]], dtype=torch.float64).log()
    expected = torch.tensor([[2 * log(16) + 4.5, 2 * log(16 / 15) + 1.5]], dtype=torch.float64)
    torch.testing.assert_close(eps_softmax_ce_mae(logits, 2.0, 3.0, 3.0), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("key", "value"), [("alpha", -0.1), ("beta", float("inf")), ("m", -1.0)])
def test_values_outside_their_ranges_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{key} = "):
        eps_softmax_ce_mae(torch.zeros(1, 2), **{key: value})
