"""The floors of a comparison: classifiers that are fitted to all training samples at once, without gradient descent."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.methods.base import Method
from slnlab.models.fitted import Fitted, LogisticRegression, NearestNeighbours
from slnlab.schema.kinds import Count, Positive


class FittedMethod(Method):
    """Fits a classifier to the given labels at the start of the first epoch. Later epochs only evaluate it.

    Feature vectors are standardised, images normalised and flattened, without augmentation. The configuration's network
    is not used. A momentum model of weights that do not change equals them.

    Args:
        network: ignored.
        classifier: is fitted in place of it.
        options: see `Method`.
    """

    fits_at_once: ClassVar[bool] = True
    weighs_samples: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = {
        "sln.sigma": "the classifier is fitted at once, and no step could draw noise; use method=sln",
        "correction.enabled": "the classifier is fitted once, to the given labels; use method=sln_mo_lc",
        "init.from": "the fit has no first weights",
    }
    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}

    def __init__(self, network: nn.Module, classifier: Fitted, **options: Any) -> None:
        super().__init__(classifier, **options)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch == 0:
            self._fit()

    def _fit(self) -> None:
        rows = self.data.rows(0)
        batches = rows.split(self.data.eval_batch_size)
        read = self.data.reading(batches, whole=True)
        vectors = torch.cat([read(number).view().flatten(1) for number in range(len(batches))])
        weights = self.table["sample_weight"][rows] if "sample_weight" in self.table else None
        for network in self.judged.values():
            assert isinstance(network, Fitted)
            network.fit(vectors, self.table["given"][rows], self.table.num_classes, weights)

    def step(self, batch: Batch) -> None:
        """Record the predictions for a batch."""
        assert batch.pixels is not None
        with torch.no_grad():
            self.observe(batch.index, self.network(self.data.normalise(batch.pixels())))

    def loss(self, batch: Batch) -> Tensor:
        """Nothing descends a loss."""
        raise NotImplementedError


class Logistic(FittedMethod):
    """scikit-learn's logistic regression; of several values the best in cross validation on the given labels.

    Args:
        network: ignored.
        inverse_penalty: weight of the summed losses against ½‖W‖², scikit-learn's C; or a list of them.
        iterations: largest number of iterations; or a list of them.
        options: see `Method`.
    """

    in_three_epochs: ClassVar[dict[str, Any]] = {"inverse_penalty": [0.1, 1.0]}

    def __init__(
        self,
        network: nn.Module,
        *,
        inverse_penalty: Positive | Annotated[list[Positive], Field(min_length=1)] = 1.0,
        iterations: Count | Annotated[list[Count], Field(min_length=1)] = 1000,
        **options: Any,
    ) -> None:
        super().__init__(network, LogisticRegression(inverse_penalty, iterations), **options)


class Neighbours(FittedMethod):
    """Votes of the nearest training samples.

    Args:
        network: ignored.
        neighbours: number k of samples that vote.
        options: see `Method`.
    """

    def __init__(self, network: nn.Module, *, neighbours: Count = 10, **options: Any) -> None:
        super().__init__(network, NearestNeighbours(neighbours), **options)
