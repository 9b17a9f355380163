"""Folds of the training samples: each sample lies in one, and a run trains on the others."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def rows_of_fold(given: Tensor, fold: Sequence[int], seed: int) -> Tensor:
    """The rows of one fold, ascending; each fold has about the same share of every given label.

    Args:
        given: given labels (N,) int64.
        fold: [number, k]: the number from 0, and the number k of folds, 2 ≤ k ≤ N.
        seed: seed of the division.

    Returns:
        (M,) int64; M is the same as of `slnlab.processes.batching.fold_size`.
    """
    from sklearn.model_selection import StratifiedKFold

    number, folds = fold
    labels = given.cpu().numpy()
    if np.bincount(labels).max() < folds:  # scikit-learn refuses it; no label is common enough to be spread
        shuffled = np.random.default_rng(seed).permutation(len(labels))
        return torch.from_numpy(np.sort(shuffled[number::folds]))
    division = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label with fewer samples than folds
        parts = [part for _, part in division.split(labels, labels)]
    return torch.from_numpy(parts[number])
