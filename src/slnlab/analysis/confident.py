"""Confident learning (Northcutt et al. 2021) by cleanlab's own functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slnlab.errors import SlnlabError


def confident_margin(given: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """cleanlab's label quality (N,) in [0, 1], the normalised margin after its adjustment for class confidence.

    Confident learning asks for out-of-sample probabilities. Those of a network that has memorised labels hide them.

    Args:
        given: (N,) given labels in [0, C).
        probabilities: (N, C), rows sum to 1.

    Raises:
        SlnlabError: cleanlab is not installed.
    """
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise _missing(error) from None
    # Classes without a given label have no mean confidence to adjust by, and cleanlab refuses them.
    adjust = len(np.unique(given)) == probabilities.shape[1]
    scores: npt.NDArray[Any] = get_label_quality_scores(
        given, probabilities, method="normalized_margin", adjust_pred_probs=adjust
    )
    return scores


def confident_count(given: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> int:
    """cleanlab's number of wrong labels: the samples off the diagonal of the confident joint.

    Args:
        given, probabilities: see `confident_margin`, out of sample.

    Raises:
        SlnlabError: cleanlab is not installed, or cannot count, as for a class without a given label.
    """
    try:
        from cleanlab.count import num_label_issues
    except ImportError as error:
        raise _missing(error) from None
    try:
        return int(num_label_issues(given, probabilities))
    except ValueError as error:
        raise SlnlabError(f"cleanlab cannot count: {error}") from error


def _missing(error: ImportError) -> SlnlabError:
    return SlnlabError(f"confident learning needs the extra: pip install 'slnlab[diagnose]' ({error.name} is missing)")
