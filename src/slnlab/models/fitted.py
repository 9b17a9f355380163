"""Classifiers that are fitted to all training samples at once: logistic regression and nearest neighbours."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, one_hot

from slnlab.errors import DataError

ABSENT = -50.0
"""Logit of a class without a training sample."""

FOLDS = 5
"""Parts of the cross validation that chooses a penalty."""


class Fitted(nn.Module, ABC):
    """A classifier whose tensors are the result of a fit. They are buffers, empty before `fit` or `load_state_dict`.

    Shape:
        float (B, …), flattened to (B, D) → logits (B, C).
    """

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))  # Lightning, DDP and the momentum model want a parameter

    def keep(self, **tensors: Tensor) -> None:
        """Hold these tensors, in place of those of an earlier fit."""
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    @abstractmethod
    def fit(self, vectors: Tensor, labels: Tensor, num_classes: int, weights: Tensor | None) -> None:
        """Fit to all training samples.

        Args:
            vectors: (N, D) float32.
            labels: (N,) int64 in [0, C), on the same device.
            num_classes: C.
            weights: (N,) in [0, 1], how much each sample counts, on the same device; None: all alike. A sample of
                weight 0 is left out.

        Raises:
            DataError: all weights are 0.
        """

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        fitted = {name: value for name, value in own.items() if name not in self._parameters}
        self.keep(**{name: torch.empty_like(value, device=self.unused.device) for name, value in fitted.items()})
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _counting(vectors: Tensor, labels: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The samples whose weight is not 0."""
    if weights is None:
        return vectors, labels, None
    kept = weights > 0
    if not kept.any():
        raise DataError("the weights of all training samples are 0, so there is nothing to fit")
    return vectors[kept], labels[kept], weights[kept]


class LogisticRegression(Fitted):
    """scikit-learn's multinomial logistic regression.

    Of several penalties or numbers of iterations those are taken whose cross validation on the given labels, in five
    parts, has the best accuracy (NI-ERM: Zhu, Zhang, Gangrade & Scott, 2024).

    Args:
        inverse_penalty: scikit-learn's C, the weight of the summed losses against ½‖W‖²; or several.
        iterations: largest number of L-BFGS's iterations; or several.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, inverse_penalty: float | Sequence[float], iterations: int | Sequence[int] = 1000) -> None:
        super().__init__()
        self.penalties, self.iterations = _several(inverse_penalty), _several(iterations)

    def fit(self, vectors: Tensor, labels: Tensor, num_classes: int, weights: Tensor | None) -> None:
        """See `Fitted.fit`. A class without a sample gets the logit `ABSENT`."""
        vectors, labels, weights = _counting(vectors, labels, weights)
        counted = None if weights is None else weights.cpu().double().numpy()
        present = labels.unique().cpu()
        weight = vectors.new_zeros(num_classes, vectors.shape[1])
        bias = vectors.new_full((num_classes,), ABSENT)
        if len(present) == 1:  # nothing to separate
            bias[present[0]] = 0
        else:
            found = self._fitted(vectors.cpu().double().numpy(), labels.cpu().numpy(), counted)
            rows, offsets = torch.from_numpy(found.coef_), torch.from_numpy(found.intercept_)
            if len(present) == 2:  # one row: log-odds of the second class
                rows, offsets = (torch.cat([torch.zeros_like(each), each]) for each in (rows, offsets))
            weight[present] = rows.to(weight)
            bias[present] = offsets.to(bias)
        self.keep(weight=weight, bias=bias)

    def _fitted(self, vectors: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> Any:
        """scikit-learn's classifier with the best of the grid."""
        from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
        from sklearn.linear_model import LogisticRegression as Regression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold

        if len(self.penalties) == len(self.iterations) == 1:
            return Regression(C=self.penalties[0], max_iter=self.iterations[0]).fit(vectors, labels, weights)
        folds = min(FOLDS, int(np.bincount(labels).max()))
        if folds < 2:
            raise DataError("method.inverse_penalty: no label has two samples to compare penalties on; give one value")
        # Shuffled: vectors often come class by class. A part without the second class cannot be fitted by any penalty.
        parts = StratifiedKFold(folds, shuffle=True, random_state=0)
        grid = {"C": self.penalties, "max_iter": self.iterations}
        search = GridSearchCV(Regression(), grid, cv=parts, error_score=0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # few iterations are a choice
            warnings.simplefilter("ignore", FitFailedWarning)
            warnings.filterwarnings("ignore", message="The least populated class")
            return search.fit(vectors, labels, sample_weight=weights).best_estimator_

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C)."""
        return linear(images.flatten(1), self.weight.to(images.dtype), self.bias.to(images.dtype))


T = TypeVar("T", int, float)


def _several(values: T | Sequence[T]) -> list[T]:
    return [values] if isinstance(values, int | float) else list(values)


class NearestNeighbours(Fitted):
    """Votes of the k nearest training samples by Euclidean distance; a sample does not vote for itself.

    The probability of a class is (v + 1/C)/(k + 1) for v votes: one more vote, shared by all classes, keeps it above 0.

    Args:
        neighbours: k ≥ 1; if there are fewer samples, all vote.
    """

    vectors: Tensor
    votes: Tensor

    def __init__(self, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours

    def fit(self, vectors: Tensor, labels: Tensor, num_classes: int, weights: Tensor | None) -> None:
        """See `Fitted.fit`."""
        vectors, labels, weights = _counting(vectors, labels, weights)
        votes = one_hot(labels, num_classes).to(vectors)
        self.keep(vectors=vectors, votes=votes if weights is None else votes * weights.to(votes)[:, None])

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C): logarithms of the probabilities."""
        queries, known = images.flatten(1).to(self.vectors.dtype), self.vectors
        nearest = torch.cdist(queries, known).topk(min(self.neighbours + 1, len(known)), largest=False).indices
        itself = (known[nearest] == queries[:, None]).all(2)
        itself &= itself.cumsum(1) == 1  # a copy of the sample does vote
        # Without itself, the last of k + 1 is one of the k nearest.
        itself[:, self.neighbours :] |= ~itself.any(1, keepdim=True)
        found = (self.votes[nearest] * ~itself[:, :, None]).sum(1)
        total, classes = found.sum(1, keepdim=True), found.shape[1]
        return ((found + 1 / classes) / (total + 1)).log().to(images.dtype)
