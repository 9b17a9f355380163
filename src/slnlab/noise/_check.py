"""Checks of arguments that all noise functions share, so that their messages agree."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

import torch
from torch import Tensor

from slnlab.errors import ConfigError

__all__ = [
    "check_class_noise",
    "check_generator",
    "check_index",
    "check_integer",
    "check_labels",
    "check_num_classes",
    "check_rate",
    "exact_count",
]


def check_integer(value: Any, name: str, minimum: int | None = None) -> int:
    """Return ``value`` as an ``int``. NumPy integers are accepted, booleans and floats are not.

    Raises:
        ConfigError: ``value`` is no integer, or is below ``minimum``.
    """
    allowed = "an integer" if minimum is None else f"an integer of at least {minimum}"
    # A 0-dimensional tensor would pass operator.index and hide a device synchronisation.
    if isinstance(value, (bool, Tensor)):
        raise ConfigError(f"{name}={value!r}: must be {allowed}")
    try:
        number = operator.index(value)
    except TypeError:
        raise ConfigError(f"{name}={value!r}: must be {allowed}") from None
    if minimum is not None and number < minimum:
        raise ConfigError(f"{name}={value!r}: must be {allowed}")
    return number


def check_rate(rate: Any, name: str = "noise.rate") -> float:
    """Return ``rate`` as a float in [0, 1), or raise ``ConfigError``."""
    is_number = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
    if not is_number or not math.isfinite(rate) or not 0 <= rate < 1:
        raise ConfigError(f"{name}={rate!r}: must be a finite number in [0, 1)")
    return float(rate)


def check_num_classes(num_classes: Any) -> int:
    """Return ``num_classes`` as an ``int`` of at least 2, or raise ``ConfigError``."""
    return check_integer(num_classes, "num_classes", minimum=2)


def check_class_noise(labels: Any, rate: Any, num_classes: Any, generator: Any) -> tuple[float, int]:
    """Check the arguments of noise over all classes; return ``rate`` and ``num_classes`` as numbers.

    Raises:
        ConfigError: see the checks of the single arguments.
    """
    rate, num_classes = check_rate(rate), check_num_classes(num_classes)
    check_labels(labels, num_classes)
    check_generator(generator)
    return rate, num_classes


def check_index(values: Any, name: str) -> Tensor:
    """Return ``values`` if it is an int64 tensor (N,) on the CPU, or raise ``ConfigError``."""
    if not isinstance(values, Tensor):
        raise ConfigError(f"{name}: must be an int64 tensor, not {type(values).__name__}")
    if values.dtype != torch.int64 or values.ndim != 1 or values.device.type != "cpu":
        raise ConfigError(
            f"{name}: must be an int64 tensor of shape (N,) on the CPU, not {values.dtype} of shape "
            f"{tuple(values.shape)} on {values.device}"
        )
    return values


def check_labels(labels: Any, num_classes: int | None = None, name: str = "labels") -> Tensor:
    """Return ``labels`` if they are int64 (N,), N ≥ 1, on the CPU and in [0, num_classes).

    Without ``num_classes`` only negative labels are refused; -1 usually means "unlabelled".

    Raises:
        ConfigError: labels of another type, shape or range. The message names the first such sample.
    """
    check_index(labels, name)
    if labels.numel() == 0:
        raise ConfigError(f"{name}: holds no sample")
    outside = labels < 0
    if num_classes is not None:
        outside |= labels >= num_classes
    if outside.any():
        sample = int(outside.nonzero()[0])
        allowed = "not negative" if num_classes is None else f"in [0, {num_classes})"
        raise ConfigError(f"{name}: sample {sample} has label {int(labels[sample])}; labels must be {allowed}")
    return labels


def check_generator(generator: Any) -> torch.Generator:
    """Return ``generator`` if it is a CPU ``torch.Generator``, or raise ``ConfigError``.

    ``None`` (torch's global stream) is refused: label noise would then depend on every earlier draw.
    """
    if not isinstance(generator, torch.Generator):
        raise ConfigError(f"generator: must be a torch.Generator, not {type(generator).__name__}")
    if generator.device.type != "cpu":
        raise ConfigError(f"generator: must live on the CPU, not on {generator.device}")
    return generator


def exact_count(rate: float, num_samples: int) -> int:
    """Return int(rate · N) as on paper: ``int(rate * num_samples + 1e-9)``.

    Without the epsilon a product may round to just below its integer: ``int(0.29 * 100) == 28``. The epsilon is far
    above the rounding error for a data set of any size, and far below one sample.
    """
    return int(rate * num_samples + 1e-9)
