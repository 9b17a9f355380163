"""All randomness of a run, drawn from named streams.

A stream is a generator that is seeded from `(seed, purpose, position…)`, where the position is the epoch or the
step. Nothing is carried from one draw to the next, so a run that was stopped and resumed draws what an
uninterrupted one would have drawn, whatever else was drawn in between.
"""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, purpose: str, *position: int) -> int:
    """A seed for every purpose and position, 63 bits wide (of which PyTorch's CPU generator uses 32).

    Args:
        seed: the run's seed, any non-negative integer.
        purpose: what is drawn, e.g. `"augmentation"`.
        position: where in the run, e.g. the epoch and the step.
    """
    text = ":".join([str(seed), purpose, *map(str, position)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class Streams:
    """Generators for one seed on one device.

    >>> a, b = Streams(0), Streams(0)
    >>> bool((torch.rand(2, generator=a("noise", 3)) == torch.rand(2, generator=b("noise", 3))).all())
    True
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.device = torch.device(device)
        self._generators: dict[str, torch.Generator] = {}

    def __call__(self, purpose: str, *position: int) -> torch.Generator:
        """The generator for this purpose, set to the beginning of the stream at `position`."""
        if purpose not in self._generators:
            self._generators[purpose] = torch.Generator(self.device)
        return self._generators[purpose].manual_seed(derive(self.seed, purpose, *position))
