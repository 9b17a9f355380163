"""The noise that SLN and noise on the logits put on the gradient of one sample: the paper's Propositions 1–3."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from slnlab.losses import cross_entropy, expected_loss
from slnlab.sln import StochasticLabelNoise

MEMORY = 2**25
"""Largest number of gradient entries held at once."""


class NoiseStd(NamedTuple):
    """Standard deviations of the noise on a sample's gradient for σ = 1; the noise is proportional to σ.

    Args:
        by_output_noise: (p,) on ∇_θ ℓ, by noise on the gradient at the logits (eq. 2; Proposition 1).
        on_logits: (C,) on ∇_f ℓ, by SLN (eq. 3; Proposition 2).
        by_label_noise: (p,) on ∇_θ ℓ, by SLN (eq. 3; Proposition 3).
    """

    by_output_noise: Tensor
    on_logits: Tensor
    by_label_noise: Tensor


def predicted(network: nn.Module, image: Tensor) -> NoiseStd:
    """Return the standard deviations of Propositions 1–3 (section 3.1; equations 6, 9 and 13 of appendix A).

    - Proposition 1: ‖∇_{θi} f‖₂.
    - Proposition 2: √(C(S_i − 1/C)² + (C − 1)/C).
    - Proposition 3: ‖∇_{θi} S / S‖₂, computed as ‖∇_{θi} log S‖₂, which is exact for small S too.

    Args:
        network: images → logits, in eval mode.
        image: (1, channels, H, W).
    """
    parameters = list(network.parameters())
    logits = network(image)[0]
    classes = len(logits)
    basis = torch.eye(classes, device=logits.device, dtype=logits.dtype)
    softmax = logits.detach().double().softmax(0)

    def norms(outputs: Tensor) -> Tensor:
        squares = sum(rows.square().sum(0) for rows in _gradients(lambda part: (outputs, part), basis, parameters))
        return torch.as_tensor(squares).sqrt()

    return NoiseStd(
        norms(logits),
        (classes * (softmax - 1 / classes).square() + (classes - 1) / classes).sqrt(),
        norms(logits.log_softmax(0)),
    )


def measured(network: nn.Module, image: Tensor, label: Tensor, draws: int, generator: torch.Generator) -> NoiseStd:
    """Return sample standard deviations over draws of z, by differentiating the noisy losses of training.

    Every draw makes one loss: ℓ(f, y) + ⟨z, f⟩ for equation 2, and ℓ(f, y + z) for equation 3. Nothing of the
    propositions is used.

    Args:
        network: images → logits, in eval mode.
        image: (1, channels, H, W).
        label: (1,) given label.
        draws: number of draws, ≥ 2; the relative standard error of a result is about 1/√(2·draws).
        generator: on the CPU.
    """
    parameters = list(network.parameters())
    logits = network(image)
    classes = logits.shape[1]
    target = torch.nn.functional.one_hot(label, classes).to(logits.dtype)
    noise = torch.randn(draws, classes, generator=generator).to(logits)
    sln = StochasticLabelNoise(1.0)

    def with_output_noise(z: Tensor) -> tuple[Tensor, Tensor]:
        losses = expected_loss(target, cross_entropy(logits)) + (z * logits).sum(1)
        return losses, torch.eye(len(z), device=z.device, dtype=z.dtype)

    def with_label_noise(z: Tensor) -> tuple[Tensor, Tensor]:
        losses = expected_loss(sln(target.expand_as(z), noise=z), cross_entropy(logits).expand_as(z))
        return losses, torch.eye(len(z), device=z.device, dtype=z.dtype)

    return NoiseStd(
        _std(with_output_noise, noise, parameters),
        _std(with_label_noise, noise, [logits]),
        _std(with_label_noise, noise, parameters),
    )


Losses = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A part of the rows → outputs (K,), and a row of weights of the outputs for each gradient (R, K)."""


def _gradients(outputs: Losses, rows: Tensor, inputs: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the gradients (R, p) of Σ_k weight_k · output_k at all inputs, for parts of the rows; float64."""
    chunk = max(1, min(256, MEMORY // sum(tensor.numel() for tensor in inputs)))
    for part in rows.split(chunk):
        values, weights = outputs(part)
        found = torch.autograd.grad(
            values, inputs, weights, retain_graph=True, is_grads_batched=True, materialize_grads=True
        )
        yield torch.cat([gradient.flatten(1) for gradient in found], 1).double()


def _std(losses: Losses, noise: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """Return the sample standard deviation over draws of the gradient at the inputs."""
    ((origin,),) = _gradients(losses, torch.zeros_like(noise[:1]), inputs)  # near the mean: no cancellation
    total, squares = torch.zeros_like(origin), torch.zeros_like(origin)
    for gradients in _gradients(losses, noise, inputs):
        deviations = gradients - origin
        total += deviations.sum(0)
        squares += deviations.square().sum(0)
    variance = (squares - total.square() / len(noise)) / (len(noise) - 1)
    return variance.clamp(min=0).sqrt()


def standard_error(draws: int) -> float:
    """Return the relative standard error of a standard deviation that is measured over so many normal draws."""
    return 1 / math.sqrt(2 * (draws - 1))
