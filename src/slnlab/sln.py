"""Stochastic label noise (Chen et al., ICLR 2021): new Gaussian noise on the targets at every step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from slnlab.errors import ConfigError


class StochasticLabelNoise(nn.Module):
    """Module that adds σ·z to the targets, with z ~ N(0, I_C) independent for every sample and every call.

    Equation 3 of the paper (section 3.1). Targets are not clipped or renormalised, so a perturbed row may be negative
    and need not sum to one. With cross entropy ∂ℓ/∂f = S·Σ_c t_c − t, so σ·z adds mean-zero noise to the gradient at
    the logits f, with Cov_ii = σ²[C(S_i − 1/C)² + (C − 1)/C] and Cov_ij = σ²(C S_i S_j − S_i − S_j) (Proposition 2).
    The noise is largest where the network is confident.

    Use perturbed targets for the training loss alone. Accuracies, selection and diagnostics use unperturbed targets.

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

    The module has no parameters and adds nothing to a ``state_dict``. σ belongs to the configuration and the schedule;
    set a changed σ again after loading a checkpoint. ``train()`` and ``eval()`` have no effect.

    Args:
        sigma: standard deviation σ of the noise on every entry of a target, finite and ≥ 0. The paper uses 1.0 for
            CIFAR-10 with symmetric noise and 0.5 with other noise; 0.1 for CIFAR-100 with instance-dependent noise and
            0.2 with other noise; 0.2 for Clothing1M.

    Raises:
        ConfigError: sigma is not a finite number ≥ 0.
    """

    _sigma_tensor: Tensor

    def __init__(self, sigma: float) -> None:
        super().__init__()
        # σ is stored twice. A compiled or captured step reads the tensor, and the setter fills it in place, so a new σ
        # takes effect without another compilation. The host reads the float without waiting for the device.
        self._sigma = _checked(sigma)
        # The step branches on this flag. A comparison with σ would compile the step again at every change of σ.
        self._silent = self._sigma == 0.0
        self.register_buffer("_sigma_tensor", self._as_tensor(torch.get_default_device()), persistent=False)

    @property
    def sigma(self) -> float:
        """The standard deviation σ. A new value takes effect at the next call, also in a compiled step.

        A step captured by hand in a CUDA graph follows every change of a positive σ, and multiplies the noise by 0 at
        σ = 0. A step captured at σ = 0 contains no noise and must be captured again.
        """
        return self._sigma

    @sigma.setter
    def sigma(self, value: float) -> None:
        self._sigma = _checked(value)
        self._silent = self._sigma == 0.0
        self._sigma_tensor.fill_(self._sigma)

    def forward(self, targets: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """Return targets with new noise, ``targets + σ·z``.

        Args:
            targets: (B, C) rows over the classes, one-hot or soft. They are not changed in place.
            generator: generator of z on the device of ``targets``; None: PyTorch's global one. Give every rank its
                own, because equally seeded ranks draw the same noise.
            noise: (B, C) standard normal z on the device of ``targets``, used instead of a draw: for a captured step
                with outside noise, the ``meta`` device, or a test.

        Returns:
            (B, C) on the device of ``targets``; float64 for float64 targets, else float32, also under autocast (noise
            in half precision has only a few hundred values). At σ = 0 the generator does not advance, and the values
            equal ``targets`` bit for bit (it is the same tensor, unless its dtype had to change).

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
            # Broadcasting could give every sample the same noise.
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
        # A module on another device than the targets uses the host's σ.
        same_device = self._sigma_tensor.device == targets.device
        return targets + (self._sigma_tensor if same_device else self._sigma) * noise.to(dtype)

    def extra_repr(self) -> str:
        return f"sigma={self._sigma}"

    def _as_tensor(self, device: torch.device) -> Tensor:
        # σ in float64 times noise of either precision equals the product with the host's float, because a 0-d tensor
        # does not widen the result. Apple's GPUs have no float64.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        return torch.tensor(self._sigma, dtype=dtype, device=device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> StochasticLabelNoise:
        # σ follows moves but not casts: .half() would round it, and .to_empty() would lose it.
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
