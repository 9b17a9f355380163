"""Part-dependent label noise of Xia et al. (2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.noise._check import check_class_noise

__all__ = ["part_dependent"]

_STD = 0.1
_ROWS = 2048


def part_dependent(labels: Tensor, images: Tensor, rate: float, num_classes: int, generator: torch.Generator) -> Tensor:
    """Flip each sample with its own probability, to a class that depends on its image.

    For sample i with flattened image x_i (D,) and true label y:

        q_i ~ TruncNorm(rate, 0.1²; [0, 1]),    W ∈ R^{C×D×C} ~ N(0, 1),
        a = x_i · W[y],  a_y = -∞,    P(given = y) = 1 - q_i,    P(given = j) = q_i · softmax(a)_j

    (Xia et al., "Part-dependent label noise", NeurIPS 2020, algorithm 2.) ``instance_dependent`` (Chen et al.) is
    another benchmark with a similar name.

    Published numbers compare under three conditions:

    - The expected noise rate is the mean of the *truncated* normal, above ``rate`` for small rates:
      rate + 0.1 · (φ(α) - φ(β)) / (Φ(β) - Φ(α)) with α = -rate / 0.1, β = (1 - rate) / 0.1. It is .129 for .1, and
      .206, .300, .400, .500 for .2 to .5. A rate of exactly 0 flips nothing, so that a sweep over rates can start at
      clean labels; the formula would flip 8 %.
    - The benchmark's softmax has no temperature. For thousands of pixels the spread of a (the norm of x_i) is far
      above 1, so softmax(a) is close to one-hot: chance decides whether a sample flips, but image and label nearly
      decide the class. Most public implementations take raw pixels in [0, 255], some take [0, 1] or standardised
      ones; the first two have the same arg max.
    - Draws come from torch's generator, in the public code from NumPy's: the distribution agrees, the labels never
      do. Everything is computed in float64, so that the order of a CPU's sums hardly matters. The record's hash
      tells whether two machines got the same labels.

    For the same generator state a higher rate flips a superset of the samples, to the same classes.

    W is drawn class by class, so the memory is 8·D·C bytes and a block of 2048 images.

    Args:
        labels: true labels, (N,) int64 on the CPU, in [0, num_classes).
        images: (N, ...) on the CPU, at least one value per image; uint8 is scaled to [0, 1], floating types are not
            scaled and must be finite.
        rate: the location of the truncated normal, in [0, 1); 0 flips nothing.
        num_classes: C, at least 2.
        generator: CPU generator, advanced by the call.

    Returns:
        Given labels, (N,) int64; a new tensor.

    Raises:
        ConfigError: an argument of another type, shape or range.
    """
    rate, num_classes = check_class_noise(labels, rate, num_classes, generator)
    _check_images(images, len(labels))
    if rate == 0:
        return labels.clone()

    def uniform() -> Tensor:
        return torch.rand(len(labels), generator=generator, dtype=torch.float64)

    # All draws per sample come before W, so that none depends on the flipped samples.
    flip_probability = _truncated_normal(rate, _STD, uniform())
    flips = uniform() < flip_probability
    target_draw = uniform()
    given = labels.clone()
    flat = images.reshape(len(images), -1)
    for true_class in range(num_classes):
        # float64, because torch's float32 normals differ between instruction sets.
        weight = torch.randn(flat.shape[1], num_classes, generator=generator, dtype=torch.float64)
        # Without the column of the class itself no rounding error can pick it; a_y = -∞ means the same.
        others = torch.cat([torch.arange(true_class), torch.arange(true_class + 1, num_classes)])
        weight = weight[:, others]
        for rows in (flips & (labels == true_class)).nonzero().squeeze(1).split(_ROWS):
            block = flat[rows].double()
            if images.dtype == torch.uint8:
                block /= 255
            cumulative = (block @ weight).softmax(dim=1).cumsum(dim=1)
            draw = target_draw[rows, None] * cumulative[:, -1:]
            choice = torch.searchsorted(cumulative, draw, right=True).squeeze(1)
            # A draw near 1 may round up to the total, past the last class.
            given[rows] = others[choice.clamp(max=num_classes - 2)]
    return given


def _truncated_normal(mean: float, std: float, uniform: Tensor) -> Tensor:
    """Return quantiles of the normal (mean, std²) truncated to [0, 1], at ``uniform`` in [0, 1), float64."""
    bounds = torch.tensor([-mean / std, (1 - mean) / std], dtype=torch.float64)
    low, high = torch.special.ndtr(bounds)
    quantile = torch.special.ndtri(low + uniform * (high - low))
    return (mean + std * quantile).clamp(0, 1)


def _check_images(images: Tensor, num_samples: int) -> None:
    if not isinstance(images, Tensor):
        raise ConfigError(f"images: must be a tensor, not {type(images).__name__}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ConfigError(f"images: must be uint8 or of a floating type, not {images.dtype}")
    if images.device.type != "cpu":
        raise ConfigError(f"images: must be on the CPU, not on {images.device}")
    if images.ndim < 2 or len(images) != num_samples or images.numel() == 0:
        raise ConfigError(
            f"images: must have shape (N, ...) with N={num_samples} (one image per label) and at least one "
            f"value per image, not {tuple(images.shape)}"
        )
    # A sum finds every nan and infinity without a mask as large as the images.
    if images.is_floating_point() and not torch.isfinite(images.sum(dtype=torch.float64)):
        raise ConfigError("images: hold values that are not finite")
