from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.stats import binomtest, chi2, chisquare, truncnorm
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.noise import part_dependent
from slnlab.noise._part_dependent import _truncated_normal


def spoil(labels: Tensor, images: Tensor, rate: float, num_classes: int, seed: int = 0) -> Tensor:
    return part_dependent(labels, images, rate, num_classes, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.4, 0.95])
def test_flip_probabilities_are_truncated_normal(rate: float) -> None:
    uniform = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1]
    expected = truncnorm.ppf(uniform.numpy(), -rate / 0.1, (1 - rate) / 0.1, loc=rate, scale=0.1)
    torch.testing.assert_close(_truncated_normal(rate, 0.1, uniform), torch.from_numpy(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.4, 0.95])
def test_the_mean_rate_equals_the_truncated_normals(rate: float) -> None:
    # At .05 that mean is .1009: neither the rate itself nor a clipped normal (.0698) would pass.
    mean = truncnorm.mean(-rate / 0.1, (1 - rate) / 0.1, loc=rate, scale=0.1)
    labels = torch.arange(4).repeat(25_000)
    images = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(1))
    given = spoil(labels, images, rate, 4)
    assert given.dtype == torch.int64
    assert binomtest(int((given != labels).sum()), len(labels), float(mean)).pvalue > 1e-3


def test_an_image_of_zeros_flips_uniformly_and_never_to_its_own_class() -> None:
    # softmax(0 · W) is uniform over the other classes, whatever W is.
    labels = torch.arange(5).repeat(20_000)
    given = spoil(labels, torch.zeros(100_000, 1, 2, 2), 0.5, 5)
    for true_class in range(5):
        counts = torch.bincount(given[labels == true_class], minlength=5)
        assert len(counts) == 5
        others = torch.cat([counts[:true_class], counts[true_class + 1 :]])
        assert chisquare(others.numpy()).pvalue > 1e-3
        assert binomtest(int(others.sum()), 20_000, 0.5).pvalue > 1e-3


def test_log_odds_between_classes_are_linear_in_the_image() -> None:
    # a = x · W[y]: doubling a one-pixel image doubles log P(1)/P(2); an arg max or another scale would not.
    count = 200_000
    labels = torch.zeros(2 * count, dtype=torch.int64)
    images = torch.tensor([0.5, 1.0], dtype=torch.float64).repeat_interleave(count)[:, None]
    given = spoil(labels, images, 0.9, 3)
    odds, errors = [], []
    for part in given.split(count):
        ones, twos = int((part == 1).sum()), int((part == 2).sum())
        odds.append(math.log(ones / twos))
        errors.append(1 / ones + 1 / twos)
    assert abs(odds[0]) > 0.1
    assert abs(odds[1] - 2 * odds[0]) < 4 * math.sqrt(errors[1] + 4 * errors[0])


def test_log_odds_have_the_spread_of_a_standard_normal_projection() -> None:
    # With one pixel x, log P(1)/P(2) = x (W_1 - W_2) is normal with variance 2x²: 3 classes, 60 draws of W.
    pixel, copies = 0.7, 2000
    labels = torch.arange(3).repeat_interleave(copies)
    images = torch.full((len(labels), 1), pixel, dtype=torch.float64)
    squares = []
    for seed in range(60):
        for true_class, part in enumerate(spoil(labels, images, 0.9, 3, seed).split(copies)):
            counts = torch.bincount(part, minlength=3).tolist()
            del counts[true_class]
            squares.append(math.log(counts[0] / counts[1]) ** 2 / (2 * pixel**2))
    statistic = sum(squares)
    assert chi2.ppf(1e-3, len(squares)) < statistic < chi2.ppf(1 - 1e-3, len(squares))


def test_rate_0_flips_nothing() -> None:
    labels = torch.arange(4).repeat(500)
    images = torch.rand(2000, 2)
    assert spoil(labels, images, 0.0, 4).equal(labels)
    assert not spoil(labels, images, 0.001, 4).equal(labels)


def test_large_images_make_the_flipped_class_deterministic() -> None:
    # With thousands of pixels the softmax is all but one-hot: copies of an image flip, if at all, together.
    num_classes, copies, kinds = 10, 50, 12
    pixels = torch.randint(0, 256, (kinds, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    images = pixels.repeat_interleave(copies, dim=0)
    targets: set[int] = set()
    labels = torch.full((kinds * copies,), 4)
    given = spoil(labels, images, 0.4, num_classes)
    agreeing = 0
    for part in given.split(copies):
        flipped = part[part != 4]
        assert 5 <= len(flipped) <= 40
        agreeing += int((flipped == flipped.mode().values).sum() >= len(flipped) - 1)
        targets.add(int(flipped.mode().values))
    assert agreeing >= kinds - 3
    assert len(targets) >= 3


def test_each_class_has_its_own_projection() -> None:
    # A projection shared by all classes (the CORES variant) would send one image to at most two classes.
    num_classes, copies = 10, 40
    image = torch.rand(1, 2000, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(num_classes).repeat_interleave(copies)
    given = spoil(labels, image.expand(len(labels), -1), 0.5, num_classes)
    targets = {int(given[(labels == c) & (given != labels)].mode().values) for c in range(num_classes)}
    assert len(targets) >= 4


def test_uint8_images_are_scaled_to_the_unit_interval() -> None:
    labels = torch.arange(3).repeat(1000)
    pixels = torch.randint(0, 256, (3000, 1, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    given = spoil(labels, pixels, 0.6, 3)
    assert given.equal(spoil(labels, pixels.double() / 255, 0.6, 3))
    assert not given.equal(spoil(labels, pixels.double(), 0.6, 3))


def test_rows_match_their_samples_across_blocks() -> None:
    # Every image pushes its own way as strongly as it can; a shuffled or dropped block would mix them.
    labels = torch.zeros(10_000, dtype=torch.int64)
    images = torch.where(torch.arange(10_000)[:, None] < 5000, 1e4, -1e4).double()
    given = spoil(labels, images, 0.9, 3)
    first, second = (set(part[part != 0].tolist()) for part in given.split(5000))
    assert len(first) == len(second) == 1
    assert first != second


def test_the_generator_determines_flips_and_rates_are_nested() -> None:
    labels = torch.arange(10).repeat(200)
    images = torch.rand(2000, 5, generator=torch.Generator().manual_seed(5))
    low, high = spoil(labels, images, 0.2, 10), spoil(labels, images, 0.6, 10)
    assert low.equal(spoil(labels, images, 0.2, 10))
    assert not low.equal(spoil(labels, images, 0.2, 10, seed=1))
    flipped = low != labels
    assert flipped.any()
    assert low[flipped].equal(high[flipped])


def test_two_classes_flip_to_each_other() -> None:
    labels = torch.arange(2).repeat(500)
    given = spoil(labels, torch.rand(1000, 4), 0.9, 2)
    assert set((given - labels).abs().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 2), "N=4"),
        (torch.zeros(4), "N=4"),
        (torch.zeros(4, 0), "at least one"),
        (torch.zeros(4, 2, dtype=torch.int64), "int64"),
        (torch.tensor([[0.0], [1.0], [torch.nan], [0.0]]), "not finite"),
        (torch.tensor([[0.0], [torch.inf], [-torch.inf], [0.0]]), "not finite"),
        ([[0.0]] * 4, "list"),
        (torch.zeros(4, 2, device="meta"), "CPU"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"images.*{message}"):
        spoil(torch.tensor([0, 1, 2, 1]), images, 0.4, 3)
