"""Stochastic label noise (Chen et al., ICLR 2021): fresh Gaussian noise on the targets at every step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from slnlab.errors import ConfigError


class StochasticLabelNoise(nn.Module):
    """Adds σ·z to the targets, z ~ N(0, I_C) independent for every sample and every call.

    Equation 3 of the paper (section 3.1). Nothing is clipped or renormalised, so a perturbed row may be
    negative and need not sum to one. With cross entropy ∂ℓ/∂f = S·Σ_c t_c − t, so σ·z puts mean-zero noise on
    the gradient at the logits, with Cov_ii = σ²[C(S_i − 1/C)² + (C − 1)/C] and
    Cov_ij = σ²(C S_i S_j − S_i − S_j) (Proposition 2): most where the network is confident.

    Only the training loss should see the result. Accuracies, selection and diagnostics belong to the
    unperturbed targets.

    In a plain PyTorch loop:

    >>> import torch
    >>> from torch.nn.functional import one_hot
    >>> from slnlab import StochasticLabelNoise
    >>> from slnlab.losses import cross_entropy, expected_loss
    >>> network = torch.nn.Linear(4, 3)
    >>> images, labels = torch.randn(2, 4), torch.tensor([2, 0])
    >>> label_noise = StochasticLabelNoise(sigma=0.5)
    >>> targets = one_hot(labels, num_classes=3).float()
    >>> loss = expected_loss(label_noise(targets), cross_entropy(network(images))).mean()
    >>> loss.backward()
    >>> label_noise.sigma = 0.0  # from here on the targets pass unchanged
    >>> label_noise(targets)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])

    The module has no parameters and adds nothing to a ``state_dict``: σ belongs to the configuration and the
    schedule, so whoever changed it sets it again after loading a checkpoint. ``train()`` and ``eval()`` make
    no difference.

    Args:
        sigma: standard deviation σ of the noise on every entry of a target, finite and ≥ 0. The paper's
            values: CIFAR-10 1.0 for symmetric noise and 0.5 otherwise; CIFAR-100 0.1 for instance-dependent
            noise and 0.2 otherwise; Clothing1M 0.2.

    Raises:
        ConfigError: sigma is not a finite number ≥ 0.
    """

    _sigma_tensor: Tensor

    def __init__(self, sigma: float) -> None:
        super().__init__()
        # σ lives twice. A compiled or captured step reads the tensor, which the setter fills in place, so a
        # new σ neither recompiles it nor goes unnoticed; the host reads the float without waiting for it.
        self._sigma = _checked(sigma)
        # The step branches on this alone. Were it to compare σ itself, a compiled step would be bound to
        # the value of σ and every change would compile it again.
        self._silent = self._sigma == 0.0
        self.register_buffer("_sigma_tensor", self._as_tensor(torch.get_default_device()), persistent=False)

    @property
    def sigma(self) -> float:
        """The standard deviation σ. Setting it takes effect at the next call, also in a compiled step.

        A step captured by hand in a CUDA graph sees every change between positive values, and a change to 0
        as a multiplication by 0; one captured at σ = 0 contains no noise and must be captured again.
        """
        return self._sigma

    @sigma.setter
    def sigma(self, value: float) -> None:
        self._sigma = _checked(value)
        self._silent = self._sigma == 0.0
        self._sigma_tensor.fill_(self._sigma)

    def forward(self, targets: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """Targets with fresh noise, ``targets + σ·z``.

        Args:
            targets: (B, C) rows over the classes, one-hot or soft. Never changed in place.
            generator: where z is drawn from, on the device of ``targets``; PyTorch's global generator of that
                device if None. Give every rank its own: equally seeded ranks draw the same noise.
            noise: (B, C) standard normal z to use instead of drawing, on the device of ``targets``: for a
                captured step fed from outside, the ``meta`` device, or a test.

        Returns:
            (B, C) on the device of ``targets``; float64 if they are, else float32, also under autocast
            (half-precision noise takes only a few hundred values). At σ = 0 nothing is drawn, the
            generator does not advance, and the values are those given, bit for bit (the same tensor, unless
            its dtype had to change).

        Raises:
            ValueError: ``targets`` is not (B, C), ``noise`` has another shape, or both ``generator`` and
                ``noise`` are given.
        """
        if targets.ndim != 2:
            raise ValueError(
                f"StochasticLabelNoise: targets {tuple(targets.shape)} must be (B, C) rows over the classes, "
                "not class indices (see torch.nn.functional.one_hot)"
            )
        if noise is not None and noise.shape != targets.shape:
            # Broadcasting would give every sample the same noise.
            raise ValueError(
                f"StochasticLabelNoise: noise {tuple(noise.shape)} must have the shape of the targets "
                f"{tuple(targets.shape)}"
            )
        if noise is not None and generator is not None:
            raise ValueError("StochasticLabelNoise: give a generator to draw from or the noise itself, not both")
        dtype = torch.float64 if targets.dtype == torch.float64 else torch.float32
        targets = targets.to(dtype)
        if self._silent:
            return targets
        if noise is None:
            noise = torch.randn(targets.shape, generator=generator, device=targets.device, dtype=dtype)
        # A module that was never moved to the targets' device still works, from the host's σ.
        here = self._sigma_tensor.device == targets.device
        return targets + (self._sigma_tensor if here else self._sigma) * noise.to(dtype)

    def extra_repr(self) -> str:
        return f"sigma={self._sigma}"

    def _as_tensor(self, device: torch.device) -> Tensor:
        # float64, so that σ times noise of either precision is the same as with the host's float (a 0-d
        # tensor does not widen the result). Apple's GPUs have no float64.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        return torch.tensor(self._sigma, dtype=dtype, device=device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> StochasticLabelNoise:
        # Moves follow fn, casts do not: .half() would round σ, .to_empty() would forget it.
        device = fn(torch.zeros((), device=self._sigma_tensor.device)).device
        if device != self._sigma_tensor.device:
            self._sigma_tensor = self._as_tensor(device)
        return self


def _checked(sigma: float) -> float:
    message = f"sln.sigma = {sigma!r}, but it must be a finite number ≥ 0"
    try:
        value = float(sigma)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(message) from None
    if isinstance(sigma, (bool, str)) or not math.isfinite(value) or value < 0:
        raise ConfigError(message)
    return value
