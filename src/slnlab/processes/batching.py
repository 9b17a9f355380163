"""How samples are cut into batches. Nothing here imports torch, so that a configuration can count its steps."""

from __future__ import annotations

FEWEST = 2
"""Samples that a network needs in a pass in training mode: batch norm over a single pixel has no variance of one."""


def batch_sizes(samples: int, batch_size: int) -> list[int]:
    """The sizes of the batches of one pass over so many samples. No batch has a single sample.

    The last partial batch is kept. A last batch of a single sample joins the batch before it; where there is none,
    no batch is left. The rule does not know how many processes share a batch, so their number changes no run.

    >>> batch_sizes(66, 64), batch_sizes(65, 64), batch_sizes(1, 64)
    ([64, 2], [65], [])

    Args:
        samples: ≥ 0.
        batch_size: ≥ 2.
    """
    whole, rest = divmod(samples, batch_size)
    sizes = [batch_size] * whole
    if rest >= FEWEST:
        sizes.append(rest)
    elif rest and sizes:
        sizes[-1] += rest
    return sizes
