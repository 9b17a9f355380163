"""Normalised cross entropy, alone and with the reverse one, from their definitions."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses import nce, nce_rce

# Softmax (1/8, 3/8, 1/2): log S sums to −log(8 · 8/3 · 2).
LOGITS = torch.tensor([[1.0, 3.0, 4.0]], dtype=torch.float64).log()
NCE = torch.tensor([[log(8), log(8 / 3), log(2)]], dtype=torch.float64) / log(128 / 3)


def test_nce_by_hand() -> None:
    torch.testing.assert_close(nce(LOGITS), NCE, rtol=1e-14, atol=0)
    rce = torch.tensor([[7 / 8, 5 / 8, 1 / 2]], dtype=torch.float64)
    torch.testing.assert_close(nce_rce(LOGITS), NCE + 9.210340371976182 * rce, rtol=1e-12, atol=0)
    torch.testing.assert_close(nce_rce(LOGITS, 10.0, 0.1, -4.0), 10 * NCE + 0.4 * rce, rtol=1e-14, atol=0)


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_gradient_is_the_closed_form(beta: float) -> None:
    """∂/∂f_k (ℓ_c/D) = (S_k − δ_ck)/D − ℓ_c(C·S_k − 1)/D² with D = Σℓ, and RCE's is A·S_c(δ_ck − S_k)."""
    logits = 3 * torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    eye = torch.eye(5, dtype=torch.float64)
    for row in logits:
        s = row.exp() / row.exp().sum()
        ce, total = -s.log(), -s.log().sum()
        expected = 10 * ((s - eye) / total - ce[:, None] * (5 * s - 1) / total**2)
        expected += beta * -4 * s[:, None] * (eye - s)
        got = torch.autograd.functional.jacobian(lambda f: nce_rce(f[None], 10.0, beta, -4.0)[0], row)
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_sum_to_one_for_any_logits(dtype: torch.dtype) -> None:
    """Robustness to symmetric noise rests on this sum."""
    logits = torch.randn(6, 5, dtype=dtype, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 1e4):
        torch.testing.assert_close(nce(scale * logits).sum(1), torch.ones(6, dtype=dtype))


def test_values_at_the_extremes() -> None:
    def of(*logits: float) -> Tensor:
        return nce(torch.tensor([logits]))

    torch.testing.assert_close(of(1e4, -1e4), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(of(1e4, 1e4, -1e4), torch.tensor([[0.0, 0.0, 1.0]]), rtol=0, atol=1e-4)
    torch.testing.assert_close(of(7.0, 7.0, 7.0, 7.0), torch.full((1, 4), 0.25))


@pytest.mark.parametrize("key", ["alpha", "beta"])
def test_a_weight_outside_its_range_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"nce_rce: {key} = -1"):
        nce_rce(LOGITS, **{key: -1.0})
    with pytest.raises(ConfigError, match="log_zero"):
        nce_rce(LOGITS, log_zero=1.0)
