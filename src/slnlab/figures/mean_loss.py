"""The training loss of a trained network as a function of its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from slnlab.inference.images import run_images
from slnlab.inference.trained_run import TrainedRun

Vector = Sequence[Tensor]
"""A vector of the parameter space: a tensor with the shape of each parameter."""


class MeanLoss:
    """L(w): the mean cross entropy (nats) of a network on labelled images, in eval mode.

    Batch norms keep the stored statistics wherever w moves, as in evaluation. The network is not changed.

    Args:
        network: images (B, …) → logits (B, C), in eval mode.
        images: inputs (M, …) of the network, on its device; M ≥ 1.
        labels: (M,) int64 labels.
        batch_size: images per pass, ≥ 1.
    """

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> None:
        self.network, self.images, self.labels = network, images, labels
        self.batch_size = batch_size
        self.names, self.parameters = map(list, zip(*network.named_parameters(), strict=True))

    @torch.no_grad()
    def at(self, shift: Vector | None = None) -> float:
        """Return L(w + shift); None: L(w)."""
        moved = self.parameters if shift is None else torch._foreach_add(self.parameters, list(shift))
        values = dict(zip(self.names, moved, strict=True))
        parts = [
            cross_entropy(functional_call(self.network, values, (image,)).float(), label, reduction="sum").double()
            for image, label in self._batches()
        ]
        return math.fsum(torch.stack(parts).tolist()) / len(self.labels)

    def gradient(self) -> list[Tensor]:
        """Return ∇L(w)."""
        return self._sum(lambda loss: torch.autograd.grad(loss, self.parameters, materialize_grads=True))

    def hessian_times(self, vector: Vector) -> list[Tensor]:
        """Return ∇²L(w)·v by differentiating ⟨∇L, v⟩."""

        def product(loss: Tensor) -> Sequence[Tensor]:
            gradient = torch.autograd.grad(loss, self.parameters, create_graph=True, materialize_grads=True)
            along = torch.stack([(g * v).sum() for g, v in zip(gradient, vector, strict=True)]).sum()
            return torch.autograd.grad(along, self.parameters, materialize_grads=True)

        return self._sum(product)

    def _sum(self, derivative: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
        total = [torch.zeros_like(parameter) for parameter in self.parameters]
        for image, label in self._batches():
            loss = cross_entropy(self.network(image).float(), label, reduction="sum") / len(self.labels)
            torch._foreach_add_(total, [part.detach() for part in derivative(loss)])
        return total

    def _batches(self) -> zip[tuple[Tensor, Tensor]]:
        return zip(self.images.split(self.batch_size), self.labels.split(self.batch_size), strict=True)


def training_loss(run: TrainedRun, samples: int | None, seed: int) -> MeanLoss:
    """Return the loss on training images of a run, against the given labels; see `run_images`."""
    images = run_images(run, "train", samples, seed)
    device = next(run.model.parameters()).device
    return MeanLoss(run.model, images.image.to(device), images.given.to(device), run.batch_size)


def norm(vector: Vector) -> float:
    """Return the Euclidean norm of a vector of the parameter space."""
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(vector)))))
