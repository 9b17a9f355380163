"""Instance-dependent noise: its source run on clean labels, and the flips made from it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import Tensor

from slnlab.callbacks.softmax_average import SoftmaxAverage
from slnlab.config import compose
from slnlab.data.digits import Digits
from slnlab.errors import SlnlabError
from slnlab.noise import NoiseRecord
from slnlab.train import train
from slnlab.training import assemble
from slnlab.training.first_runs import with_first_runs
from slnlab.training.settling import settle

N = 200
CLEAN_RUN = 'noise.clean_run=["model=cnn","trainer.max_epochs=2","optimizer.lr=0.02"]'
SMALL = (f"data.train_size={N}", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false")
Probabilities = np.ndarray[Any, np.dtype[np.float32]]


def dependent(runs: Path, *overrides: str) -> DictConfig:
    return compose([*SMALL, "noise=dependent", CLEAN_RUN, f"runs_dir={runs}", *overrides])


def stored(file: str | Path) -> tuple[Probabilities, list[int]]:
    with np.load(file) as content:
        return content["probabilities"], content["labels"].tolist()


def by_hand(probabilities: Probabilities, labels: list[int], rate: float) -> list[int]:
    """Chen et al. (2020), algorithm 1: the int(rate · N) samples of largest score take their candidate."""
    scored = []
    for sample, (row, label) in enumerate(zip(probabilities.tolist(), labels, strict=True)):
        score, candidate = max((p, c) for c, p in enumerate(row) if c != label)
        scored.append((score, sample, candidate))
    given = list(labels)
    for _, sample, candidate in sorted(scored, reverse=True)[: int(rate * len(labels))]:
        given[sample] = candidate
    return given


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one run with dependent noise was made, at rate .3, and the run on clean labels with it."""
    folder = tmp_path_factory.mktemp("runs")
    train(dependent(folder, "method=ce", "noise.rate=0.3"), folder / "first")
    return folder


def trainings(runs: Path) -> dict[Path, int]:
    """Every training on clean labels: its file, and when it was made."""
    return {file: file.stat().st_mtime_ns for file in runs.rglob("probabilities.npz")}


def test_the_source_run_on_clean_labels_is_made_on_demand(runs: Path) -> None:
    (file,) = trainings(runs)
    probabilities, labels = stored(file)
    assert probabilities.shape == (N, 10)
    assert labels == Digits().load("train").labels[:N].tolist()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert NoiseRecord.load(file.parent / "noise.npz").realised_rate == 0
    assert len((file.parent / "metrics.csv").read_text().splitlines()) == 1 + 2  # epochs, not those of the noisy run


def test_flips_follow_the_definition(runs: Path) -> None:
    (file,) = trainings(runs)
    record = NoiseRecord.load(runs / "first" / "noise.npz")
    assert record.true.tolist() == Digits().load("train").labels[:N].tolist()
    assert record.given.tolist() == by_hand(*stored(file), 0.3)
    assert int(record.wrong.sum()) == 60


@pytest.mark.parametrize(
    "overrides",
    [
        ["noise.rate=0.5"],
        ["seed=1"],
        ["method=sln"],
        ["method=sln_mo_lc", "correction.last_epochs=1"],
        ["trainer.max_epochs=3", "optimizer.lr=0.5", "scheduler=cosine", "sln.sigma=0.1", "method=sln"],
        ["data.noisy_val=50"],
        ["force=true"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_other_runs_on_the_same_data_reuse_the_probabilities(overrides: list[str], runs: Path) -> None:
    before = trainings(runs)
    spec = with_first_runs(settle(dependent(runs, *overrides)), train)
    assert trainings(runs) == before
    assert [Path(spec.config.noise.probabilities)] == list(before)


def test_another_method_and_rate_reuse_the_probabilities(runs: Path, tmp_path: Path) -> None:
    before = trainings(runs)
    train(dependent(runs, "method=sln", "noise.rate=0.55", "seed=2", "data.noisy_val=20"), tmp_path / "other")
    assert trainings(runs) == before
    (file,) = before
    record = NoiseRecord.load(tmp_path / "other" / "noise.npz")
    assert record.given.tolist() == by_hand(*stored(file), 0.55)
    # The flips of a lower rate are among those of a higher one.
    lower = NoiseRecord.load(runs / "first" / "noise.npz")
    assert torch.equal(record.given[lower.wrong], lower.given[lower.wrong])


@pytest.mark.parametrize("other", ["data.train_size=150", CLEAN_RUN.replace("0.02", "0.01")])
def test_other_data_or_networks_need_their_own_probabilities(other: str, runs: Path, tmp_path: Path) -> None:
    """The test works on a copy, so that other tests do not see the change."""
    config = dependent(tmp_path, other)
    file = Path(with_first_runs(settle(config), train).config.noise.probabilities)
    (known,) = trainings(runs)
    assert file.relative_to(tmp_path) != known.relative_to(runs)
    assert not np.array_equal(stored(file)[0], stored(known)[0][: len(stored(file)[0])])


def test_removed_probabilities_are_made_again_identically(runs: Path, tmp_path: Path) -> None:
    first = Path(with_first_runs(settle(dependent(tmp_path)), train).config.noise.probabilities)
    (known,) = trainings(runs)
    assert np.array_equal(stored(first)[0], stored(known)[0])  # another place, the same run
    first.unlink()
    again = Path(with_first_runs(settle(dependent(tmp_path)), train).config.noise.probabilities)
    assert again == first
    assert np.array_equal(stored(again)[0], stored(known)[0])


def test_a_users_probability_file_is_used_unchanged(tmp_path: Path) -> None:
    mine = np.random.default_rng(0).dirichlet(np.ones(10), N)
    np.savez(tmp_path / "mine.npz", probabilities=mine)
    config = dependent(tmp_path / "runs", f"noise.probabilities={tmp_path / 'mine.npz'}", "noise.rate=0.3")
    train(config, tmp_path / "run")
    labels = Digits().load("train").labels[:N].tolist()
    given = NoiseRecord.load(tmp_path / "run" / "noise.npz").given.tolist()
    assert given == by_hand(mine.astype(np.float32), labels, 0.3)
    assert not (tmp_path / "runs").exists()  # nothing was trained for it


def test_a_missing_probability_file_is_refused(tmp_path: Path) -> None:
    config = dependent(tmp_path / "runs", f"noise.probabilities={tmp_path / 'mine.npz'}")
    with pytest.raises(SlnlabError, match=r"noise\.probabilities.*mine\.npz"):
        train(config, tmp_path / "run")


def test_other_noise_needs_no_probabilities(tmp_path: Path) -> None:
    config = compose([*SMALL, "noise=sym", f"runs_dir={tmp_path}"])
    spec = settle(config)
    assert with_first_runs(spec, train) is spec
    assert list(tmp_path.iterdir()) == []


# The average itself


class Witness(pl.Callback):
    """After every epoch the softmax of the whole training set, in eval mode, of the images as they are."""

    def __init__(self, mean: float, std: float) -> None:
        pixels = Digits().load("train").images[:N].double() / 255
        self.images = ((pixels - mean) / std).float()
        self.softmax: list[Tensor] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        network = pl_module.network
        assert network.training
        with torch.no_grad():
            self.softmax.append(copy.deepcopy(network).eval()(self.images).softmax(1))  # type: ignore[operator]


def fit(
    folder: Path, *overrides: str, epochs: int = 3, average: bool = True, ckpt_path: Path | None = None
) -> tuple[pl.Trainer, Witness, pl.LightningModule]:
    config = compose([*SMALL, "noise=none", "method=ce", *overrides])
    method = assemble.method(config)
    witness = Witness(config.data.mean[0], config.data.std[0])
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[*([SoftmaxAverage(folder / "p.npz")] if average else []), witness],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(method, datamodule=assemble.datamodule(config), ckpt_path=ckpt_path)
    return trainer, witness, method


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
class TestAverage:
    def test_probabilities_are_the_mean_over_epochs_in_eval_mode(self, tmp_path: Path) -> None:
        _, witness, _ = fit(tmp_path, "data.padding=0", "data.eval_batch_size=70")
        assert len(witness.softmax) == 3
        assert float((witness.softmax[0] - witness.softmax[2]).abs().max()) > 0.01  # or the mean would say nothing
        np.testing.assert_allclose(stored(tmp_path / "p.npz")[0], torch.stack(witness.softmax).mean(0), atol=1e-5)

    def test_probabilities_use_the_training_augmentation(self, tmp_path: Path) -> None:
        _, witness, _ = fit(tmp_path, "data.padding=2")
        difference = np.abs(stored(tmp_path / "p.npz")[0] - torch.stack(witness.softmax).mean(0).numpy())
        assert difference.max() > 1e-3  # without augmentation 1e-5 at most, see above

    def test_a_stopped_run_continues_the_average(self, tmp_path: Path) -> None:
        (tmp_path / "stopped").mkdir()
        fit(tmp_path)
        expected = stored(tmp_path / "p.npz")[0]
        stopped, _, _ = fit(tmp_path / "stopped", epochs=1)
        stopped.save_checkpoint(tmp_path / "stopped.ckpt")
        fit(tmp_path, ckpt_path=tmp_path / "stopped.ckpt")
        np.testing.assert_allclose(stored(tmp_path / "p.npz")[0], expected, rtol=0, atol=0)

    def test_the_average_does_not_change_the_training(self, tmp_path: Path) -> None:
        (_, _, watched), (_, _, alone) = fit(tmp_path), fit(tmp_path, average=False)
        for name, value in alone.state_dict().items():
            assert torch.equal(watched.state_dict()[name], value), name


def test_keys_unrelated_to_training_samples_do_not_change_the_noise(runs: Path) -> None:
    """A sweep over batch sizes must compare methods on the same labels."""
    before = trainings(runs)
    for override in ("data.batch_size=32", "data.eval_batch_size=50", "data.padding=0", "data.noisy_val=20"):
        with_first_runs(settle(dependent(runs, override)), train)
    assert trainings(runs) == before
