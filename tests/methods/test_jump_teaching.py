"""Jump-teaching: code words, the flags and the loss, by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from by_hand import Bare
from tier import composed
from torch import Tensor, nn

from slnlab.config import check, compose
from slnlab.errors import ConfigError
from slnlab.objectives import bit_losses, label_codes
from slnlab.training import assemble


def test_code_words_are_rows_of_the_hadamard_matrix_and_its_negative() -> None:
    assert label_codes(6, 4).tolist() == [
        [1, 1, 1, 1],
        [1, -1, 1, -1],
        [1, 1, -1, -1],
        [1, -1, -1, 1],
        [-1, -1, -1, -1],
        [-1, 1, -1, 1],
    ]
    codes = label_codes(100, 64)
    differing = (codes.unsqueeze(0) != codes.unsqueeze(1)).sum(2)
    assert differing.fill_diagonal_(64).min() == 32
    with pytest.raises(ConfigError, match=r"method\.bits: 4 bits have 8 code words, but there are 9 classes"):
        label_codes(9, 4)
    with pytest.raises(ConfigError, match=r"method\.bits: must be a power of two, not 6"):
        label_codes(5, 6)


def test_bit_losses_by_hand() -> None:
    """Bits (.5, −.5) against (1, 1): −log ¾ and −log ¼; a certain wrong bit is clipped."""
    losses = bit_losses(torch.tensor([[0.5, -0.5, -1.0]]), torch.ones(1, 3))
    assert losses[0].tolist() == pytest.approx([-log(0.75), -log(0.25), -log(0.5e-4)], rel=1e-3)


def test_certain_bits_in_half_precision_have_finite_losses() -> None:
    losses = bit_losses(torch.tensor([[1.0, -1.0]], dtype=torch.bfloat16), torch.ones(1, 2))
    assert losses.dtype == torch.float32
    assert losses[0].tolist() == pytest.approx([0.5e-4, -log(0.5e-4)], rel=1e-2)


def test_wrong_bits_keep_their_gradient_in_mixed_precision() -> None:
    """tanh 4 = .9993 is 1 in bfloat16, which has no slope. That of −log((1 − tanh g)/2) is 2."""
    method = assemble.method(composed("method=jump_teaching"))
    head: nn.Linear = method.heads["bits"]  # type: ignore[assignment]
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, 4.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bits = method.outputs(torch.zeros(2, 1, 8, 8))[:, 10:]  # type: ignore[operator]
        bit_losses(bits, -torch.ones_like(bits)).sum().backward()
    assert head.bias.grad is not None
    torch.testing.assert_close(head.bias.grad, torch.full_like(head.bias, 2 * 2.0), rtol=1e-2, atol=0)


def jumping(bare: Callable[..., Bare]) -> tuple[Bare, Tensor]:
    """Four samples of class 1 with code (1, −1); T = 2.

    The first is predicted as its label. The second has equal bit losses, the third and fourth unequal ones.
    """
    made = bare(
        *("method=jump_teaching", "method.bits=2", "method.warm_up_epochs=1", "method.variance=0.01"),
        given=[1, 1, 1, 1],
        num_classes=2,
    )
    logits = torch.tensor([[0.0, 2.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    bits = torch.tensor([[0.5, 0.5], [0.5, -0.5], [0.5, 0.5], [0.5, 0.0]])
    return made, torch.cat([logits, bits], 1)


def test_flags_decide_in_the_next_epoch(bare: Callable[..., Bare]) -> None:
    """Variances with M − 1: log(¾)/log(¼) apart by log 3, so (log 3)²/2; and by log(3/2)."""
    made, outputs = jumping(bare)
    batch = made.batch(outputs)
    made.method.remember(batch, outputs)
    assert made.table["flagged"].tolist() == [True, True, False, False]
    assert made.table["selected"].tolist() == [True] * 4
    made.method.variance = 0.09  # type: ignore[assignment]  # (log 1.5)²/2 = .082
    made.method.remember(batch, outputs)
    assert made.table["flagged"].tolist() == [True, True, False, True]


def test_the_loss_by_hand(bare: Callable[..., Bare]) -> None:
    """z/2 = (0, 1) gives log(1 + 1/e) for the label, (1, 0) gives log(1 + e). Bit losses in units of log: see above."""
    made, outputs = jumping(bare)
    e = torch.e
    expected = [
        log(1 + 1 / e) - (log(0.75) + log(0.25)) / 2,
        log(1 + e) - log(0.75),
        log(1 + e) - (log(0.75) + log(0.25)) / 2,
        log(1 + e) - (log(0.75) + log(0.5)) / 2,
    ]
    batch, targets = made.batch(outputs), made.table.targets(torch.arange(4))
    assert made.method.objective(batch, outputs, targets).tolist() == pytest.approx(expected)
    made.table["selected"][2:] = False
    loss = made.method.batch_loss(batch, outputs, targets)
    assert loss.item() == pytest.approx(sum(expected[:2]) / 4), "the sum of the selected, divided by the batch size"


def test_views_are_mixed_after_the_warm_up_only(bare: Callable[..., Bare]) -> None:
    made, _ = jumping(bare)
    batch = made.batch(torch.zeros(4, 2))
    made.method.second_view = lambda batch: torch.ones(4, 2)  # type: ignore[assignment]
    assert (made.method.lesson(batch).images == 0).all()
    made.trainer.current_epoch = 1
    share = made.method.lesson(batch).images
    assert (share == share[0, 0]).all()
    assert 0 < share[0, 0] < 0.5, "the weak view has the larger share"


def test_the_number_of_bits_is_checked_before_training() -> None:
    with pytest.raises(ConfigError, match=r"method\.bits: 12.*power of two"):
        check(compose(["method=jump_teaching", "method.bits=12"]))
