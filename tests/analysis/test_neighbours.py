"""Votes of neighbours against scikit-learn, and with drawn references."""

from __future__ import annotations

import pytest
import torch

from slnlab.analysis import neighbours
from slnlab.analysis.neighbours import neighbour_votes


def test_votes_equal_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    monkeypatch.setattr(neighbours, "AT_ONCE", 7)
    torch.manual_seed(0)
    features, labels = torch.randn(50, 4, dtype=torch.float64), torch.arange(50) % 3
    unit = features / features.norm(dim=1, keepdim=True)
    expected = KNeighborsClassifier(5, algorithm="brute").fit(unit, labels).predict_proba(unit)
    torch.testing.assert_close(neighbour_votes(features, labels, 3, 5), torch.from_numpy(expected).float())


def test_all_vote_where_there_are_fewer_than_k() -> None:
    votes = neighbour_votes(torch.eye(4), torch.tensor([0, 0, 0, 1]), 2, 9)
    assert votes.tolist() == [[0.75, 0.25]] * 4


def test_drawn_references_alone_vote_beside_the_sample_itself() -> None:
    """Two of four, k = 2: half of the votes is the sample's, the other half that of a drawn one."""
    labels = torch.arange(4)
    votes = neighbour_votes(torch.eye(4), labels, 4, 2, references=2, generator=torch.Generator().manual_seed(0))
    drawn = {*torch.randperm(4, generator=torch.Generator().manual_seed(0))[:2].tolist()}
    for row, of_row in enumerate(votes.tolist()):
        assert of_row[row] == 0.5
        (other,) = (label for label, share in enumerate(of_row) if share and label != row)
        assert other in drawn
