"""Joint asymmetric loss, by hand."""

from __future__ import annotations

import pytest
import torch

from slnlab.errors import ConfigError
from slnlab.losses import jal_ce


def test_jal_ce_by_hand() -> None:
    """S = (½, ¼, ¼): NCE = (.2, .4, .4). With a = 2, AMSE = (9/4 + 1/8, 49/16 + 5/16, 49/16 + 5/16)/3."""
    logits = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
    expected = torch.tensor([[0.4 + 19 / 8, 0.8 + 27 / 8, 0.8 + 27 / 8]], dtype=torch.float64)
    torch.testing.assert_close(jal_ce(logits, alpha=2.0, beta=3.0, a=2.0), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("key", "value"), [("alpha", -1.0), ("beta", float("nan")), ("a", 0.5)])
def test_values_outside_their_ranges_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{key} = "):
        jal_ce(torch.zeros(1, 2), **{key: value})
