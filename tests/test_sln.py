"""Stochastic label noise: Propositions 1–3 of the paper, exactly and by chance, and the module's contract.

The noise that SLN induces on a gradient is linear in z, so its covariance is Σ_c n(e_c) n(e_c)ᵀ with n(e_c)
the noise induced by the c-th unit vector: no sampling, and equality to rounding.
"""

from __future__ import annotations

import copy
import doctest
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call, jacfwd
from torch.nn.functional import one_hot

import slnlab
import slnlab.sln
from slnlab import StochasticLabelNoise
from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy, expected_loss

C = 4
SIGMA = 0.7
EXACT = {"rtol": 1e-12, "atol": 1e-12}


class Sample:
    """A tiny MLP, one image and its target, all in float64, with the derivatives the propositions need."""

    def __init__(self, seed: int, sharpness: float) -> None:
        torch.manual_seed(seed)
        self.network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, C)).double()
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.normal_().mul_(sharpness)
        self.image = torch.randn(1, 3, dtype=torch.float64)
        self.target = one_hot(torch.tensor([seed % C]), C).double()
        self.parameters = list(self.network.parameters())
        self.logits = self.network(self.image).detach()
        self.softmax = self.logits.softmax(1)[0]

    def jacobian(self, softmax: bool) -> Tensor:
        """∇_θ of the logits or of the softmax, (C, p), by forward mode (the noise takes reverse mode)."""
        named = {name: p.detach() for name, p in self.network.named_parameters()}

        def output(weights: dict[str, Tensor]) -> Tensor:
            logits = functional_call(self.network, weights, (self.image,))[0]
            return logits.softmax(0) if softmax else logits

        return torch.cat([block.reshape(C, -1) for block in jacfwd(output)(named).values()], dim=1)

    def gradient_on_parameters(self, targets: Tensor) -> Tensor:
        loss = expected_loss(targets, cross_entropy(self.network(self.image))).sum()
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, self.parameters)])

    def gradient_on_logits(self, targets: Tensor) -> Tensor:
        """∂ℓ/∂f of this sample under each of the targets (B, C) → (B, C)."""
        logits = self.logits.repeat(len(targets), 1).requires_grad_()
        return torch.autograd.grad(expected_loss(targets, cross_entropy(logits)).sum(), logits)[0]


SAMPLES = [
    pytest.param(Sample(seed, sharpness), id=f"{seed}-{sharpness}")
    for seed, sharpness in [(0, 0.3), (1, 1.0), (2, 2.0)]
]


def covariance_on_logits(softmax: Tensor) -> Tensor:
    """Proposition 2, entry by entry as it stands in the paper."""
    matrix = torch.empty(C, C, dtype=torch.float64)
    for i in range(C):
        for j in range(C):
            s_i, s_j = softmax[i], softmax[j]
            matrix[i, j] = C * (s_i - 1 / C) ** 2 + (C - 1) / C if i == j else C * s_i * s_j - s_i - s_j
    return SIGMA**2 * matrix


@pytest.mark.parametrize("sample", SAMPLES)
def test_proposition_1_holds_exactly(sample: Sample) -> None:
    """Noise σ_f z on ∂ℓ/∂f (Eq. 2) has covariance σ_f² (∇θi f)ᵀ ∇θj f on θ."""
    logits = sample.network(sample.image)
    clean = sample.gradient_on_logits(sample.target)

    def on_parameters(gradient_on_logits: Tensor) -> Tensor:
        gradients = torch.autograd.grad(logits, sample.parameters, gradient_on_logits, retain_graph=True)
        return torch.cat([g.flatten() for g in gradients])

    base = on_parameters(clean)
    induced = torch.stack([on_parameters(clean + SIGMA * unit) - base for unit in torch.eye(C, dtype=torch.float64)])
    jacobian = sample.jacobian(softmax=False)
    torch.testing.assert_close(induced.T @ induced, SIGMA**2 * jacobian.T @ jacobian, **EXACT)
    torch.testing.assert_close(induced.norm(dim=0), SIGMA * jacobian.norm(dim=0), **EXACT)


@pytest.mark.parametrize("sample", SAMPLES)
def test_proposition_2_holds_exactly(sample: Sample) -> None:
    noise = StochasticLabelNoise(SIGMA)
    units = torch.eye(C, dtype=torch.float64)
    targets = sample.target.repeat(C, 1)
    clean = sample.gradient_on_logits(targets)
    induced = sample.gradient_on_logits(noise(targets, noise=units)) - clean
    torch.testing.assert_close(induced.T @ induced, covariance_on_logits(sample.softmax), **EXACT)
    # That the unit vectors tell all: the induced noise is linear in z.
    z = torch.randn(C, C, dtype=torch.float64)
    mixed = sample.gradient_on_logits(noise(targets, noise=z)) - clean
    torch.testing.assert_close(mixed, z @ induced, **EXACT)


@pytest.mark.parametrize("sample", SAMPLES)
def test_proposition_3_holds_exactly(sample: Sample) -> None:
    """Label noise has covariance σ² (∇θi S / S)ᵀ (∇θj S / S) on θ, the division by entries."""
    noise = StochasticLabelNoise(SIGMA)
    base = sample.gradient_on_parameters(sample.target)
    induced = torch.stack(
        [
            sample.gradient_on_parameters(noise(sample.target, noise=unit[None])) - base
            for unit in torch.eye(C, dtype=torch.float64)
        ]
    )
    relative = sample.jacobian(softmax=True) / sample.softmax[:, None]
    torch.testing.assert_close(induced.T @ induced, SIGMA**2 * relative.T @ relative, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("sample", SAMPLES)
def test_propositions_agree_with_one_another(sample: Sample) -> None:
    """The covariance on θ is that on f carried through ∇_θ f."""
    through = sample.jacobian(softmax=False)
    relative = sample.jacobian(softmax=True) / sample.softmax[:, None]
    carried = through.T @ covariance_on_logits(sample.softmax) @ through
    torch.testing.assert_close(carried, SIGMA**2 * relative.T @ relative, rtol=1e-10, atol=1e-11)


def assert_moments(draws: Tensor, covariance: Tensor, mean: Tensor) -> None:
    """Mean and covariance of Gaussian draws (n, d), each entry within five of its standard errors."""
    count = len(draws)
    variance = covariance.diagonal()
    assert bool(((draws.mean(0) - mean).abs() < 5 * (variance / count).sqrt()).all())
    error = ((torch.outer(variance, variance) + covariance**2) / count).sqrt()
    assert bool(((draws.T.cov() - covariance).abs() < 5 * error).all())


@pytest.mark.parametrize("sample", SAMPLES)
def test_propositions_2_and_3_hold_for_sampled_noise(sample: Sample) -> None:
    """The drawn noise on the gradient has mean zero and the paper's covariances, at f and at θ."""
    targets = sample.target.repeat(100_000, 1)
    noise = StochasticLabelNoise(SIGMA)
    perturbed = noise(targets, torch.Generator().manual_seed(5))
    on_logits = sample.gradient_on_logits(perturbed)
    clean = sample.gradient_on_logits(sample.target)
    assert_moments(on_logits, covariance_on_logits(sample.softmax), clean[0])
    # On three parameters of different layers (each has its own row of ∇_θ f).
    through = sample.jacobian(softmax=False)[:, [0, 17, -1]]
    relative = sample.jacobian(softmax=True)[:, [0, 17, -1]] / sample.softmax[:, None]
    assert_moments(on_logits @ through, SIGMA**2 * relative.T @ relative, (clean @ through)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_gaussian_with_deviation_sigma(dtype: torch.dtype) -> None:
    targets = one_hot(torch.arange(5000) % 10, 10).to(dtype)
    z = (StochasticLabelNoise(0.3)(targets, torch.Generator().manual_seed(0)) - targets) / 0.3
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 0.001
    # Nothing is clipped or renormalised.
    assert float(z.min()) < -3.5
    assert float(z.sum(1).std()) == pytest.approx(10**0.5, rel=0.05)


def test_noise_is_independent_over_samples_classes_and_steps() -> None:
    noise, generator = StochasticLabelNoise(1.0), torch.Generator().manual_seed(1)
    steps = torch.stack([noise(torch.zeros(3, 2), generator).flatten() for _ in range(4000)])
    correlation = torch.cat([steps[:-1], steps[1:]], dim=1).T.corrcoef()
    off_diagonal = correlation[~torch.eye(12, dtype=torch.bool)]
    assert float(off_diagonal.abs().max()) < 5 / 4000**0.5


def test_the_generator_determines_the_noise() -> None:
    noise, targets = StochasticLabelNoise(0.5), torch.zeros(8, 3)
    first = noise(targets, torch.Generator().manual_seed(3))
    again = noise(targets, torch.Generator().manual_seed(3))
    other = noise(targets, torch.Generator().manual_seed(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # A generator of one's own leaves the global one alone; without one the global one is used.
    torch.manual_seed(3)
    before = torch.get_rng_state()
    noise(targets, torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(noise(targets), first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sigma_0_changes_no_bit_and_draws_nothing(dtype: torch.dtype) -> None:
    targets = torch.tensor([[0.1, -0.0, 1.0], [0.3, float("inf"), 1e-42]], dtype=torch.float64).to(dtype)
    generator = torch.Generator().manual_seed(0)
    before, before_global = generator.get_state(), torch.get_rng_state()
    out = StochasticLabelNoise(0.0)(targets, generator)
    assert out.numpy().tobytes() == targets.to(out.dtype).numpy().tobytes()
    StochasticLabelNoise(0)(targets)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), before_global)


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.int64, torch.float32),
    ],
)
@pytest.mark.parametrize("sigma", [0.0, 0.2])
def test_sln_keeps_dtypes(given: torch.dtype, returned: torch.dtype, sigma: float) -> None:
    targets = torch.eye(300, 2).to(given)
    kept = targets.clone()
    plain = StochasticLabelNoise(sigma)(targets, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = StochasticLabelNoise(sigma)(targets, torch.Generator().manual_seed(0))
    assert plain.dtype == autocast.dtype == returned
    assert torch.equal(plain, autocast)
    assert torch.equal(targets, kept)
    if sigma:  # not drawn in half precision and widened: as many values as draws
        assert len(plain[2:].unique()) > 590


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_casting_the_module_does_not_round_sigma(cast: str) -> None:
    noise = StochasticLabelNoise(0.1)
    targets, z = torch.zeros(2, 2, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
    getattr(nn.Sequential(noise), cast)()
    assert float(noise(targets, noise=z)[0, 0]) == 0.1


def test_sigma_is_equal_on_host_and_device() -> None:
    noise = StochasticLabelNoise(0.3)
    for sigma in (0.3, 0.1, 2, np.float32(0.25), 0.0):
        noise.sigma = sigma
        assert noise.sigma == float(sigma)
        assert isinstance(noise.sigma, float)
        assert [float(buffer) for buffer in noise.buffers()] == [float(sigma)]
    assert noise.state_dict() == {}
    assert "sigma=0.0" in repr(noise)
    twin = copy.deepcopy(noise)
    twin.sigma = 1.0
    assert noise.sigma == float(next(noise.buffers())) == 0.0


@pytest.mark.parametrize(
    "sigma",
    [
        -0.1,
        float("nan"),
        float("inf"),
        -float("inf"),
        "0.5",
        None,
        True,
        [1],
        pytest.param(10**400, id="huge"),
    ],
)
def test_an_impossible_sigma_is_named(sigma: object) -> None:
    with pytest.raises(ConfigError, match=r"sln\.sigma"):
        StochasticLabelNoise(sigma)
    noise = StochasticLabelNoise(0.5)
    with pytest.raises(ConfigError, match=r"sln\.sigma"):
        noise.sigma = sigma
    assert noise.sigma == float(next(noise.buffers())) == 0.5


@pytest.mark.parametrize("module_device", ["cpu", "meta"])
@pytest.mark.parametrize("targets_device", ["cpu", "meta"])
def test_the_result_is_on_the_targets_device(module_device: str, targets_device: str) -> None:
    """On the meta device anything that would wait for a value raises."""
    noise = StochasticLabelNoise(0.5).to(module_device)
    targets = torch.zeros(4, 3, device=targets_device)
    out = noise(targets, noise=torch.ones(4, 3, device=targets_device))
    assert out.device.type == targets_device
    if targets_device == "cpu":
        assert torch.equal(out, torch.full((4, 3), 0.5))


def test_sigma_survives_the_meta_device() -> None:
    with torch.device("meta"):
        noise = StochasticLabelNoise(0.5)
    noise.sigma = 0.25
    noise.to_empty(device="cpu")
    assert float(next(noise.buffers())) == 0.25


def test_a_compiled_step_sees_a_new_sigma_without_compiling_again() -> None:
    graphs = []

    def counting(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    noise = StochasticLabelNoise(0.5)
    step = torch.compile(lambda targets, z: noise(targets, noise=z) + 1, backend=counting, fullgraph=True)
    got = []
    for sigma in (0.5, 0.25, 2.0, 0.75):
        noise.sigma = sigma
        got.append(float(step(torch.zeros(2, 3), torch.ones(2, 3))[0, 0]) - 1)
    assert got == [0.5, 0.25, 2.0, 0.75]
    assert len(graphs) == 1
    noise.sigma = 0.0
    assert torch.equal(step(torch.zeros(2, 3), torch.ones(2, 3)), torch.ones(2, 3))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), ()])
def test_targets_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one_hot"):
        StochasticLabelNoise(0.5)(torch.zeros(shape))


def test_noise_of_another_shape_is_refused() -> None:
    noise, targets = StochasticLabelNoise(0.5), torch.zeros(4, 3)
    for shape in [(1, 3), (4, 1), (3,), (3, 4)]:
        with pytest.raises(ValueError, match="shape"):
            noise(targets, noise=torch.zeros(shape))
    with pytest.raises(ValueError, match="not both"):
        noise(targets, torch.Generator(), torch.zeros(4, 3))


def test_the_docstring_example_runs() -> None:
    result = doctest.testmod(slnlab.sln)
    assert result.attempted > 5
    assert result.failed == 0


def test_importing_slnlab_does_not_import_torch() -> None:
    script = (
        "import sys, slnlab; version = slnlab.__version__; names = dir(slnlab);"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules;"
        "assert 'StochasticLabelNoise' in names and 'StochasticLabelNoise' in slnlab.__all__;"
        "from slnlab import StochasticLabelNoise; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("name", slnlab.__all__)
def test_every_exported_name_exists(name: str) -> None:
    assert getattr(slnlab, name) is vars(slnlab)[name]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="sgima"):
        _ = slnlab.sgima
