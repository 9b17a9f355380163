"""Named random streams, the source of all randomness in a run.

A stream is a generator seeded from `(seed, purpose, position…)`; the position is an epoch or a step. Each draw starts
its stream anew, so a resumed run draws the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, purpose: str, *position: int) -> int:
    """Return a 63-bit seed for a purpose and position. PyTorch's CPU generator uses 32 of its bits.

    Args:
        seed: seed of the run, a non-negative integer.
        purpose: name of the draws, e.g. `"augmentation"`.
        position: position in the run, e.g. epoch and step.
    """
    text = ":".join([str(seed), purpose, *map(str, position)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def beta(alpha: float, seed: int, purpose: str, *position: int) -> float:
    """Draw λ ~ Beta(α, α) on the host, because a number from the device would make the host wait."""
    return float(np.random.default_rng(derive(seed, purpose, *position)).beta(alpha, alpha))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw the weights of layers made within from this seed, on the CPU. PyTorch's generator is as before after it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


class Streams:
    """Random generators of one seed on one device.

    >>> a, b = Streams(0), Streams(0)
    >>> bool((torch.rand(2, generator=a("noise", 3)) == torch.rand(2, generator=b("noise", 3))).all())
    True
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.device = torch.device(device)
        self._generators: dict[str, torch.Generator] = {}

    def __call__(self, purpose: str, *position: int) -> torch.Generator:
        """Return the generator of a purpose, at the start of the stream of `position`."""
        if purpose not in self._generators:
            self._generators[purpose] = torch.Generator(self.device)
        return self._generators[purpose].manual_seed(derive(self.seed, purpose, *position))
