"""Batch sizes of an epoch. This module does not import torch, so a configuration can count its steps."""

from __future__ import annotations

FEWEST = 2
"""Fewest samples of a batch in training mode: batch norm has no variance over one sample of one pixel."""


def batch_sizes(samples: int, batch_size: int) -> list[int]:
    """The batch sizes of one pass over `samples`, each at least 2.

    The last partial batch stays. A single last sample joins the batch before it, or is dropped if there is none. The
    rule ignores the number of processes, so this number changes no run.

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


def fold_size(samples: int, number: int, folds: int) -> int:
    """The size of a fold; the first folds are larger by at most one.

    >>> [fold_size(11, number, 3) for number in range(3)]
    [4, 4, 3]

    Args:
        samples: ≥ folds.
        number: of the fold, from 0.
        folds: number of folds, ≥ 2.
    """
    return (samples - number + folds - 1) // folds
