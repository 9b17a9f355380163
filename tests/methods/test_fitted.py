"""The floors logistic and kNN: scikit-learn's numbers, and a run like any other's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from slnlab.config import compose
from slnlab.errors import DataError
from slnlab.models.fitted import Fitted, LogisticRegression, NearestNeighbours
from slnlab.train import train


def clusters(count: int, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping clusters in four dimensions; the classes have the numbers 1, 2, … of C + 2."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    vectors = rng.normal(size=(count, 4)) + labels[:, None] * np.array([1.5, 0, -1, 0])
    return torch.from_numpy(vectors).float(), torch.from_numpy(labels + 1)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_logistic_has_scikit_learns_probabilities(classes: int, weighted: bool) -> None:
    from sklearn.linear_model import LogisticRegression as Reference

    (vectors, labels), (new, _) = clusters(80, classes), clusters(20, classes, seed=1)
    weights = torch.linspace(0, 1, 80) if weighted else None
    fitted = LogisticRegression(0.5)
    fitted.fit(vectors, labels, classes + 2, weights)
    expected = Reference(C=0.5, max_iter=1000).fit(vectors, labels, weights).predict_proba(new)
    found = fitted(new).softmax(1)
    np.testing.assert_allclose(found[:, 1 : classes + 1], expected, atol=2e-4)
    assert found[:, [0, classes + 1]].max() < 1e-12, "classes without a sample"


def test_the_penalty_of_the_best_cross_validation_is_taken() -> None:
    """Vectors come class by class. scikit-learn's own search has the same winner, and it matters which."""
    from sklearn.linear_model import LogisticRegression as Reference
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    (vectors, labels), (new, _) = clusters(120), clusters(20, seed=1)
    order = labels.argsort()
    vectors, labels = vectors[order], labels[order]
    labels[::3] = 1  # noise
    penalties, parts = [1e-4, 1e-2, 1.0], StratifiedKFold(5, shuffle=True, random_state=0)
    scores = [cross_val_score(Reference(C=c, max_iter=100), vectors, labels, cv=parts).mean() for c in penalties]
    best = penalties[int(np.argmax(scores))]
    assert len(set(scores)) > 1
    chosen, alone = LogisticRegression(penalties, [100]), LogisticRegression(best, 100)
    for fitted in (chosen, alone):
        fitted.fit(vectors, labels, 5, None)
    assert torch.equal(chosen(new), alone(new))


def test_penalties_are_compared_on_few_samples_too() -> None:
    """A part without one of two classes fails alike for all; samples that count nothing do not choose."""
    vectors, labels = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0] * 8 + [1])
    vectors[8] += 5
    fitted = LogisticRegression([1e-4, 1.0], [50, 100])
    fitted.fit(vectors, labels, 2, None)
    assert torch.isfinite(fitted(vectors)).all()
    with pytest.raises(DataError, match="no label has two samples to compare penalties on; give one value"):
        fitted.fit(vectors[:3], torch.arange(3), 3, None)
    weights = torch.tensor([1.0] * 6 + [0.0] * 3)
    noisy = torch.tensor([0, 1, 0, 1, 0, 1, 1, 1, 1])
    weighted, fewer = LogisticRegression([1e-4, 1.0], [50, 100]), LogisticRegression([1e-4, 1.0], [50, 100])
    weighted.fit(vectors, noisy, 2, weights)
    fewer.fit(vectors[:6], noisy[:6], 2, None)
    torch.testing.assert_close(weighted(vectors), fewer(vectors))


@pytest.mark.parametrize("classifier", [LogisticRegression([0.1, 1.0]), LogisticRegression(1.0), NearestNeighbours(3)])
def test_a_sample_of_weight_0_changes_nothing(classifier: Fitted) -> None:
    """Here all labels of the last class have the weight 0. Of a neighbour that counts nothing, the next one votes."""
    (vectors, labels), (new, _) = clusters(60), clusters(20, seed=1)
    kept = labels < 3
    classifier.fit(vectors[kept], labels[kept], 4, None)
    expected = classifier(new)
    classifier.fit(vectors, labels, 4, kept.float())
    torch.testing.assert_close(classifier(new), expected)
    with pytest.raises(DataError, match="weights of all training samples are 0"):
        classifier.fit(vectors, labels, 4, torch.zeros(60))


def test_knn_votes_as_scikit_learn_and_not_for_itself() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    (vectors, labels), (new, _) = clusters(80), clusters(20, seed=1)
    fitted = NearestNeighbours(7)
    fitted.fit(vectors, labels, 5, None)
    shares = KNeighborsClassifier(7).fit(vectors, labels).predict_proba(new)
    expected = (7 * shares + 1 / 5) / 8
    np.testing.assert_allclose(fitted(new).exp()[:, 1:4], expected, rtol=1e-5)
    for row in range(0, 80, 9):
        others = np.arange(80) != row
        shares = KNeighborsClassifier(7).fit(vectors[others], labels[others]).predict_proba(vectors[[row]])
        np.testing.assert_allclose(fitted(vectors[[row]])[0, 1:4].exp(), (7 * shares[0] + 1 / 5) / 8, rtol=1e-5)


def test_a_copy_of_a_sample_votes_and_weights_count() -> None:
    """Two equal samples with other labels, and one far away: each of the two sees the label of the other."""
    vectors, labels = torch.tensor([[0.0], [0.0], [9.0]]), torch.tensor([0, 1, 1])
    fitted = NearestNeighbours(1)
    fitted.fit(vectors, labels, 2, None)
    far = fitted(torch.tensor([[8.0]])).exp()
    torch.testing.assert_close(far, torch.tensor([[0.25, 0.75]]))
    fitted.fit(vectors, labels, 2, torch.tensor([1.0, 1.0, 0.5]))
    torch.testing.assert_close(fitted(torch.tensor([[8.0]])).exp(), torch.tensor([[1 / 3, 2 / 3]]))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("fitted") / "features.npz"
    arrays = {}
    for name, count, seed in (("train", 90, 0), ("test", 60, 1)):
        vectors, labels = clusters(count, seed=seed)
        arrays |= {f"{name}_features": vectors.numpy(), f"{name}_labels": labels.numpy()}
    np.savez(file, **arrays)
    return file


@pytest.mark.parametrize("name", ["logistic", "ni_erm", "knn"])
def test_a_run_has_a_result_weights_and_a_ranking(name: str, features: Path, tmp_path: Path) -> None:
    import slnlab

    words = ["data=features", f"data.source.root={features}", f"method={name}"]
    result = train(compose([*words, "trainer.accelerator=cpu", "trainer.progress=false"]), tmp_path / "run")
    assert result.epochs == 1
    tested = result.rows["network"].test_accuracy
    assert tested is not None
    run, (new, labels) = slnlab.load(tmp_path / "run"), clusters(60, seed=1)
    found, _ = run.predict(new.numpy())
    assert np.mean([int(label) for label in found] == labels.numpy()) == pytest.approx(tested.last)
    assert tested.last > 0.6
    samples: dict[str, Any] = run.samples
    np.testing.assert_allclose(samples["ema_loss"], samples["network_loss"], rtol=1e-5)
    if name == "logistic":
        from sklearn.linear_model import LogisticRegression as Reference
        from sklearn.preprocessing import StandardScaler

        vectors, given = clusters(90)
        scaler = StandardScaler().fit(vectors)
        reference = Reference(max_iter=1000).fit(scaler.transform(vectors), given)
        assert tested.last == reference.score(scaler.transform(new), labels)


@pytest.mark.filterwarnings("ignore:for .*meta parameter")
def test_a_stored_fit_comes_to_the_device_of_the_classifier() -> None:
    """Checkpoints are read on the CPU; a resumed run on a GPU has its classifier there already."""
    fitted = LogisticRegression(1.0)
    fitted.fit(*clusters(20), 5, None)
    stored = fitted.state_dict()
    resumed = LogisticRegression(1.0).to("meta")
    resumed.load_state_dict(stored)
    assert {name: value.device.type for name, value in resumed.state_dict().items()} == dict.fromkeys(stored, "meta")
