"""Findings of the final weights about the labels, by hand and against scikit-learn."""

from __future__ import annotations

from math import log

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from slnlab import SampleTable
from slnlab.analysis.labels import findings, judge
from slnlab.errors import SlnlabError

# Eight samples: 3 and 4 are flipped, the images of 5 and 6 were replaced and their labels kept.
GIVEN = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
TRUE = torch.tensor([0, 1, 2, 1, 2, 2, 0, 1])
WRONG = torch.tensor([False, False, False, True, True, True, True, False])
PREDICTION = torch.tensor([0, 1, 0, 1, 0, 2, 1, 1])
LOSS = torch.tensor([0.1, 0.2, 0.9, 0.5, 0.3, 0.8, 0.95, 0.4])


def test_findings_of_flipped_labels_and_replaced_images_by_hand() -> None:
    found = findings(LOSS, PREDICTION, GIVEN, TRUE, WRONG)
    assert found.given_accuracy == 4 / 8, "0, 1, 5, 7"
    assert found.true_accuracy == pytest.approx(4 / 6), "0, 1, 3, 7, of those whose image is their own"
    assert found.memorised == 1 / 4, "of 3, 4, 5, 6 only 5 has its given label"
    assert found.recovered == 1 / 2, "of the flipped ones, 3 but not 4; a replaced image has no true label to recover"
    # A wrong sample has the larger loss in 3 (sample 3) + 2 (4) + 3 (5) + 4 (6) of the 4·4 pairs.
    assert found.auroc == pytest.approx(12 / 16)
    # From the largest loss down, the wrong ones come 1st, 3rd, 4th and 6th.
    assert found.average_precision == pytest.approx((1 / 1 + 2 / 3 + 3 / 4 + 4 / 6) / 4)
    assert found.auroc == pytest.approx(roc_auc_score(WRONG.numpy(), LOSS.numpy()))
    assert found.average_precision == pytest.approx(average_precision_score(WRONG.numpy(), LOSS.numpy()))


def test_an_uninformative_loss_has_auroc_one_half() -> None:
    found = findings(torch.ones(8), PREDICTION, GIVEN, TRUE, WRONG)
    assert found.auroc == 0.5
    assert found.average_precision == WRONG.float().mean()


def test_findings_without_wrong_labels() -> None:
    found = findings(LOSS, PREDICTION, TRUE, TRUE, torch.zeros(8, dtype=torch.bool))
    assert found.given_accuracy == found.true_accuracy == 5 / 8
    assert (found.memorised, found.recovered, found.auroc, found.average_precision) == (None, None, None, None)


def test_findings_with_only_wrong_labels() -> None:
    """There is nothing to tell the wrong ones from, so no ranking; the fractions remain."""
    found = findings(LOSS, PREDICTION, (TRUE + 1) % 3, TRUE, torch.ones(8, dtype=torch.bool))
    assert found.memorised == found.given_accuracy == 3 / 8, "2, 4, 6"
    assert found.recovered == found.true_accuracy == 5 / 8
    assert (found.auroc, found.average_precision) == (None, None)


def test_findings_of_replaced_images_alone() -> None:
    found = findings(LOSS, PREDICTION, TRUE, TRUE, WRONG)
    assert found.memorised == 2 / 4, "3 and 5"
    assert found.recovered is None, "no label was flipped"
    assert found.auroc == pytest.approx(12 / 16)


def test_findings_without_true_labels() -> None:
    found = findings(LOSS, PREDICTION, GIVEN, None, None)
    assert found.given_accuracy == 4 / 8
    rest = found.model_dump(exclude={"given_accuracy"})
    assert set(rest.values()) == {None}, "nothing is made up"


class Lookup(nn.Module):
    """The softmax of 'image' [i] is row i; in training mode it is uniform."""

    def __init__(self) -> None:
        super().__init__()
        softmax = [[1 / 2, 1 / 4, 1 / 4], [1 / 8, 3 / 4, 1 / 8], [1 / 8, 1 / 8, 3 / 4]]
        self.register_buffer("logits", torch.tensor(softmax).log())

    def forward(self, images: Tensor) -> Tensor:
        logits = self.logits[images[:, 0].long()]
        return torch.zeros_like(logits) if self.training else logits


def test_judge_by_hand() -> None:
    """In eval mode, against the given label, whatever label correction has made of the target."""
    table = SampleTable(torch.tensor([1, 1, 0]), 3)
    table.correct(torch.tensor([2]), torch.tensor([0.0]), torch.tensor([2]))
    network = Lookup().train()
    batches = [(torch.tensor([2, 0]), torch.tensor([[2.0], [0.0]])), (torch.tensor([1]), torch.tensor([[1.0]]))]
    other = Lookup()
    other.logits = other.logits.roll(1, 0)
    judgements = judge({"network": network, "other": other}, batches, table)
    rows, losses, predictions, margins, others, probabilities = judgements["network"]
    assert rows.tolist() == [0, 1, 2], "in the order of the table"
    assert losses.tolist() == pytest.approx([log(4), log(4 / 3), log(8)])
    assert predictions.tolist() == [0, 1, 2]
    assert margins.tolist() == pytest.approx([-log(2), log(6), -log(6)]), "to the most probable other class"
    assert others.tolist() == [0, 0, 2], "that class, the first of equals"
    assert probabilities.tolist() == [pytest.approx(row) for row in network.logits.exp().tolist()]
    assert network.training, "put back"
    assert judgements["other"].prediction.tolist() == [2, 0, 1]


def test_a_diverged_network_is_not_judged() -> None:
    network = Lookup()
    network.logits[1] = float("nan")
    batches = [(torch.tensor([0, 1]), torch.tensor([[0.0], [1.0]]))]
    with pytest.raises(SlnlabError, match="not finite"):
        judge({"network": network}, batches, SampleTable(torch.tensor([1, 1]), 3))
