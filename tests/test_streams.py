"""Named random streams: draws depend on seed, purpose and position alone."""

from __future__ import annotations

import doctest
import hashlib
from itertools import product

import pytest
import torch
from scipy import stats
from torch import Tensor

import slnlab.streams
from slnlab.streams import Streams, derive

PURPOSES = ("order", "augmentation", "SLN", "label noise", "held out")


def draw(streams: Streams, purpose: str, *position: int) -> Tensor:
    return torch.rand(4, generator=streams(purpose, *position))


def test_the_seed_of_a_stream_by_hand() -> None:
    """Pinned, so that no later version silently changes everybody's runs."""
    # Seed, purpose and position joined by colons; 8 bytes of BLAKE2b, little-endian; the lowest bit dropped.
    digest = hashlib.blake2b(b"7:augmentation:3:41", digest_size=8).digest()
    by_hand = sum(byte << (8 * place) for place, byte in enumerate(digest)) // 2
    assert derive(7, "augmentation", 3, 41) == by_hand == 7604797348263635877
    assert torch.equal(
        draw(Streams(7), "augmentation", 3, 41), torch.rand(4, generator=torch.Generator().manual_seed(by_hand))
    )
    # `$ printf 0:order | b2sum -l 64` prints these sixteen hex digits.
    assert derive(0, "order") == int.from_bytes(bytes.fromhex("67effda0d93e6b99"), "little") // 2


def test_other_draws_do_not_change_a_stream() -> None:
    expected = draw(Streams(3), "augmentation", 2, 5)
    disturbed = Streams(3)
    torch.manual_seed(99)
    for purpose, epoch, step in product(PURPOSES, range(3), range(7)):
        torch.randn(epoch + step + 1, generator=disturbed(purpose, epoch, step))
        torch.rand(1)
    assert torch.equal(draw(disturbed, "augmentation", 2, 5), expected)
    # Again from its beginning, however far it was read.
    assert torch.equal(draw(disturbed, "augmentation", 2, 5), expected)


def test_drawing_does_not_change_the_global_generator() -> None:
    before = torch.get_rng_state()
    draw(Streams(0), "order", 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_seed_purpose_and_position_has_its_own_stream() -> None:
    positions: list[tuple[int, ...]] = [
        (), (0,), (1,), (12,), (123,), (0, 0), (1, 2), (2, 1), (1, 23), (12, 3), (1, 2, 3),
    ]  # fmt: skip
    keys = [(seed, *key) for seed in (0, 1, 2, 10, 2**40) for key in product(PURPOSES, positions)]
    seeds = {derive(seed, purpose, *position) for seed, purpose, position in keys}  # type: ignore[misc]
    assert len(seeds) == len(keys)
    draws = {tuple(draw(Streams(s), p, *at).tolist()) for s, p, at in keys}  # type: ignore[arg-type, misc]
    assert len(draws) == len(keys)


def test_digits_of_position_and_purpose_are_separated() -> None:
    for one, other in (((1, 23), (12, 3)), ((1, 2), (12,)), ((1, 0), (10,))):
        assert derive(0, "order", *one) != derive(0, "order", *other)
    assert derive(1, "order", 2) != derive(12, "order")
    assert derive(0, "order1", 2) != derive(0, "order", 12)


def test_a_seed_fits_every_generator() -> None:
    """torch takes signed 64-bit seeds."""
    seeds = [derive(seed, "order", epoch) for seed in range(20) for epoch in range(50)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    # No bit is idle: torch's CPU generator looks at the lowest 32 only.
    for bit in range(63):
        ones = sum(seed >> bit & 1 for seed in seeds)
        assert stats.binomtest(ones, len(seeds)).pvalue > 1e-5


def test_neighbouring_streams_are_unrelated() -> None:
    """Consecutive steps and seeds: uniform at each place, and no correlation from one to the next."""
    by_step = torch.stack([draw(Streams(0), "augmentation", 0, step) for step in range(2000)])
    by_seed = torch.stack([draw(Streams(seed), "augmentation", 0, 0) for seed in range(2000)])
    for draws in (by_step, by_seed):
        for place in range(4):
            assert stats.kstest(draws[:, place].numpy(), "uniform").pvalue > 1e-4
            assert stats.pearsonr(draws[:-1, place].numpy(), draws[1:, place].numpy()).pvalue > 1e-4


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def test_generators_live_on_the_device(device: str) -> None:
    assert Streams(0, device)("order").device.type == device


def test_the_docstring_example_runs() -> None:
    assert doctest.testmod(slnlab.streams).failed == 0
