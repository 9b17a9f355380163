"""The loss mixture against scikit-learn's, and on losses of known origin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from slnlab.analysis.mixture import fit_loss_mixture
from slnlab.errors import SlnlabError


def losses(small: int, large: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    parts = (0.3 + 0.1 * torch.randn(small, generator=draw), 3 + 0.5 * torch.randn(large, generator=draw))
    return torch.cat(parts)


def test_the_fit_recovers_the_components_that_were_drawn() -> None:
    mixture = fit_loss_mixture(losses(60, 40))
    assert mixture.clean.shape == (100,)
    assert (mixture.clean[:60] > 0.99).all()
    assert (mixture.clean[60:] < 0.01).all()
    assert mixture.noise_rate == pytest.approx(0.4, abs=0.005)


def test_the_posterior_equals_scikit_learns() -> None:
    """Overlapping components, so that the posterior is no step."""
    values = torch.cat([losses(50, 0), losses(30, 0) + 0.15])
    scaled = ((values - values.min()) / (values.max() - values.min())).double().numpy()[:, None]
    fitted = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0).fit(np.sort(scaled, axis=0))
    # Bayes' rule by hand from the fitted parameters.
    density = fitted.weights_ * np.exp(-((scaled - fitted.means_[:, 0]) ** 2) / (2 * fitted.covariances_[:, 0, 0]))
    density /= np.sqrt(fitted.covariances_[:, 0, 0])
    posterior = density[:, fitted.means_[:, 0].argmin()] / density.sum(1)
    assert ((posterior > 0.2) & (posterior < 0.8)).any()
    np.testing.assert_allclose(fit_loss_mixture(values).clean, posterior, rtol=1e-5, atol=1e-6)
    # What is scaled already can be taken as it is, which matters where it does not reach from 0 to 1.
    done = torch.from_numpy(scaled[:, 0])
    np.testing.assert_allclose(fit_loss_mixture(done, scale=False).clean, posterior, rtol=1e-5, atol=1e-6)
    as_it_is, again = fit_loss_mixture(0.1 * done, scale=False).clean, fit_loss_mixture(0.1 * done).clean
    assert not torch.allclose(as_it_is, again, atol=0.01)


def test_the_order_of_losses_does_not_change_the_fit() -> None:
    """Several processes gather the losses in another order, and must come to the same to the last bit."""
    values = torch.cat([losses(50, 0), losses(30, 0) + 0.15])
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    assert torch.equal(fit_loss_mixture(values[order]).clean, fit_loss_mixture(values).clean[order])


def test_scale_and_shift_do_not_change_the_fit() -> None:
    torch.testing.assert_close(fit_loss_mixture(losses(60, 40)).clean, fit_loss_mixture(7 * losses(60, 40) + 5).clean)


def test_equal_losses_are_all_clean() -> None:
    mixture = fit_loss_mixture(torch.full((5,), 2.0))
    assert mixture.clean.tolist() == [1] * 5
    assert mixture.noise_rate == 0


@pytest.mark.parametrize("values", [[1.0], [], [1.0, float("nan")], [1.0, float("inf")]])
def test_losses_without_a_fit_are_refused(values: list[float]) -> None:
    with pytest.raises(SlnlabError):
        fit_loss_mixture(torch.tensor(values))
