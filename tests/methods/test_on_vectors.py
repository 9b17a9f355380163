"""Every method with one network trains on feature vectors, those that learn from strong views too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tier import in_three_epochs, own_classes

from slnlab.data.augment import Normalise
from slnlab.data.strong_view import DroppedFeatures
from slnlab.methods import SingleNetwork
from slnlab.processes.distributed import Shard
from slnlab.streams import Streams
from slnlab.train import train

SINGLE = [
    pytest.param(name, marks=() if kind.learns_from_strong_views else pytest.mark.slow)
    for name, kind in own_classes().items()
    if issubclass(kind, SingleNetwork)
]


@pytest.mark.parametrize("name", SINGLE)
def test_a_method_learns_from_vectors(name: str, tmp_path: Path) -> None:
    """Two clusters in five dimensions, a fifth of the labels wrong; each phase of the method has an epoch."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=120)
    vectors = (rng.normal(size=(120, 5)) + 4 * labels[:, None]).astype(np.float32)
    wrong = rng.random(120) < 0.2
    arrays = {"train_features": vectors, "train_labels": labels ^ wrong, "train_true_labels": labels}
    np.savez(tmp_path / "own.npz", **arrays, test_features=vectors, test_labels=labels)
    words = ["data=features", f"data.source.root={tmp_path / 'own.npz'}", "data.batch_size=32", f"runs_dir={tmp_path}"]
    result = train(in_three_epochs(f"method={name}", *words, "optimizer.lr=0.1"))
    accuracies = [row.test_accuracy.last for row in result.rows.values() if row.test_accuracy is not None]
    assert max(accuracies) > 0.65, "chance is a half; there are a dozen steps"


def test_a_strong_view_of_vectors_lacks_features() -> None:
    """Standardised numbers or 0, a fifth of them; two processes draw what one draws, and each view anew."""
    vectors, streams = torch.full((400, 50), 3.0), Streams(0, "cpu")
    view = DroppedFeatures(0.2, Normalise([1.0], [2.0]))
    view.normalise = lambda images: (images - 1) / 2  # type: ignore[assignment, method-assign]
    whole = view(vectors, Shard(0, 400, 400), streams, step=3)
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    assert (whole == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    parts = [view(vectors[part], Shard(part.start, part.stop, 400), streams, step=3) for part in PARTS]
    assert torch.equal(torch.cat(parts), whole)
    for other in (view(vectors, Shard(0, 400, 400), streams, 3, 2), view(vectors, Shard(0, 400, 400), streams, 4)):
        assert not torch.equal(other, whole)


PARTS = (slice(0, 150), slice(150, 400))
