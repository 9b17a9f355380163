"""Every datamodule: order, look and held-out set of its samples."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pictures import CLASSES, SYMMETRIC, Alike, Pictures, batches, make, order, pixels, ready
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.transforms.v2 import functional as tv

from slnlab.data import ImageDataModule, Images
from slnlab.data.batches import Batch, EvaluationBatch
from slnlab.data.datamodule import STEPS_PER_CALL
from slnlab.processes import distributed

# An epoch


@pytest.mark.parametrize("epoch", [0, 7])
def test_an_epoch_is_every_sample_once_with_its_own_image(epoch: int) -> None:
    source = Pictures()
    datamodule = ready(source)
    made = batches(datamodule, epoch)
    assert [len(batch.index) for batch in made] == [32, 32, 32, 4]
    assert datamodule.steps_per_epoch == 4
    index = torch.cat([batch.index for batch in made])
    assert index.dtype == torch.int64
    assert sorted(index.tolist()) == list(range(100))
    assert index.tolist() != list(range(100))
    assert torch.equal(pixels(torch.cat([batch.image for batch in made])), source.splits["train"].images[index])


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    datamodule = ready(padding=1, seed=3)
    orders = [order(datamodule, epoch) for epoch in range(4)]
    assert len({tuple(rows) for rows in orders}) == 4
    # Another process, that did other things before, an epoch in the middle first.
    torch.manual_seed(11)
    again = ready(padding=1, seed=3, noise=SYMMETRIC)
    list(again.passes("augmented", "label correction", 1))
    torch.rand(5)
    assert order(again, 2) == orders[2]
    next(again.epoch(3))()
    assert order(again, 1) == orders[1]
    assert order(ready(padding=1, seed=4), 1) != orders[1]


def test_nothing_is_drawn_from_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    datamodule = ready(padding=2, flip=True, noise=SYMMETRIC, noisy_val=10)
    batches(datamodule)
    list(datamodule.passes("augmented", "softmax average", 0))
    assert torch.equal(torch.get_rng_state(), before)


# Augmentation


def outcomes(image: Tensor, padding: int, flip: bool) -> dict[bytes, int]:
    """Every crop and flip of an image by torchvision, as bytes."""
    height, width = image.shape[1:]
    padded = tv.pad(image, [padding] * 4)
    crops = [tv.crop(padded, *at, height, width) for at in product(range(2 * padding + 1), repeat=2)]
    crops += [tv.hflip(crop) for crop in crops] if flip else []
    return {crop.numpy().tobytes(): number for number, crop in enumerate(crops)}


def drawn(datamodule: ImageDataModule, epoch: int) -> list[list[int]]:
    """Crop and flip of every sample at every step; the source must be `Alike`."""
    possible = outcomes(Alike().splits["train"].images[0], datamodule.crop_flip.padding, datamodule.crop_flip.flip)
    return [[possible[image.numpy().tobytes()] for image in pixels(made.image)] for made in batches(datamodule, epoch)]


def test_each_sample_and_step_draws_its_own_augmentation() -> None:
    datamodule = ready(Alike(), padding=2, flip=True, batch_size=32)
    draws = [step for epoch in range(3) for step in drawn(datamodule, epoch)]
    assert len(draws) == 6
    assert len({tuple(step) for step in draws}) == 6  # no two steps alike, of one epoch or of two
    assert all(len(set(step)) > 12 for step in draws)  # of 50 outcomes, 32 samples
    assert {number for step in draws for number in step} >= {0, 24, 25, 49}  # the corners, both ways round


@pytest.mark.parametrize(("padding", "flip", "number"), [(0, False, 1), (1, False, 9), (0, True, 2)])
def test_augmentation_follows_the_configuration(padding: int, flip: bool, number: int) -> None:
    datamodule = ready(Alike(), padding=padding, flip=flip, batch_size=64)
    assert {crop for epoch in range(3) for crop in drawn(datamodule, epoch)[0]} == set(range(number))


def test_augmentation_depends_on_seed_epoch_and_step_alone() -> None:
    expected = drawn(ready(Alike(), padding=2, flip=True, seed=5), 2)
    datamodule = ready(Alike(), padding=2, flip=True, seed=5)
    later = list(datamodule.epoch(2))
    batches(datamodule, 4)
    list(datamodule.passes("augmented", "label correction", 2))
    second, first = later[1](), later[0]()  # in another order, and after other draws
    possible = outcomes(Alike().splits["train"].images[0], 2, True)
    for found, step in ((first, 0), (second, 1)):
        assert [possible[image.numpy().tobytes()] for image in pixels(found.image)] == expected[step]
    assert torch.equal(later[0]().image, first.image)  # and again
    assert drawn(ready(Alike(), padding=2, flip=True, seed=6), 2) != expected
    # What is drawn does not hang on which samples are meant: the noise may move samples between batches.
    assert drawn(ready(Alike(), padding=2, flip=True, seed=5, noise=SYMMETRIC), 2) == expected


def test_passes_are_in_data_set_order() -> None:
    source = Pictures()
    datamodule = ready(source, padding=2, noisy_val=15, eval_batch_size=20)
    clean = list(datamodule.passes("clean", "judge", 0))
    assert [len(batch.index) for batch in clean] == [20, 20, 20, 20, 5]
    index = torch.cat([batch.index for batch in clean])
    assert index.tolist() == sorted(set(range(100)) - set(datamodule.val_index.tolist()))
    images = source.splits["train"].images
    assert torch.equal(pixels(torch.cat([batch.image for batch in clean])), images[index])
    augmented = [torch.cat([batch.image for batch in datamodule.passes("augmented", "x", e)]) for e in (0, 1, 0)]
    for one, image in zip(pixels(augmented[0]), images[index], strict=True):
        assert one.numpy().tobytes() in outcomes(image, 2, False)
    assert not torch.equal(augmented[0], augmented[1])
    assert torch.equal(augmented[0], augmented[2])


def test_a_batch_read_once_has_many_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part of each process, or the whole batch in all; each sample is augmented alike whichever it is."""
    source = Pictures()
    datamodule = ready(source, padding=2, flip=True)
    batches = [torch.tensor([7, 3, 90, 4, 55]), torch.tensor([], dtype=torch.int64), torch.tensor([7])]
    generator = torch.Generator()

    def read(number: int, whole: bool = False) -> tuple[Images, list[Tensor]]:
        images = datamodule.reading(batches, whole=whole)(number)
        return images, [images.view(), *(images.view(generator.manual_seed(seed)) for seed in (1, 2, 1))]

    images, (clean, first, second, again) = read(0)
    assert torch.equal(images.index, batches[0])
    assert torch.equal(images.pixels(), source.splits["train"].images[batches[0]])
    assert torch.equal(pixels(clean), images.pixels())
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    batch = images.batch(generator.manual_seed(1))
    assert torch.equal(batch.image, first)
    assert batch.pixels is not None
    assert torch.equal(batch.pixels(), images.pixels())
    assert [view.shape for view in read(1)[1]] == [(0, 1, 6, 5)] * 4
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(read(0)[1])
        assert all(map(torch.equal, read(0, whole=True)[1], (clean, first, second, again)))
    assert [len(views[0]) for views in parts] == [2, 3]
    together = [torch.cat(views) for views in zip(*parts, strict=True)]
    assert all(map(torch.equal, together, (clean, first, second, again)))


def test_evaluation_images_are_not_augmented() -> None:
    source = Pictures()
    datamodule = ready(source, padding=2, flip=True, noisy_val=50, eval_batch_size=20)
    loaders = datamodule.val_dataloader()
    assert list(loaders) == ["val", "test"]
    for split, rows, data in (
        ("val", datamodule.val_index, source.splits["train"]),
        ("test", torch.arange(30), source.splits["test"]),
    ):
        made = list(loaders[split])
        assert len(made) == len(loaders[split]) == -(-len(rows) // 20)
        assert torch.equal(pixels(torch.cat([batch.image for batch in made])), data.images[rows])
        assert torch.equal(torch.cat([batch.label for batch in made]), data.labels[rows])
    assert torch.equal(
        torch.cat([batch.image for batch in datamodule.test_dataloader()]),
        torch.cat([batch.image for batch in loaders["test"]]),
    )


def test_pixels_are_normalised_channel_by_channel() -> None:
    source = Pictures(shape=(3, 4, 4))
    mean, std = np.array([0.5, 0.25, 0.1]), np.array([0.2, 0.5, 1.5])
    datamodule = ready(source, mean=mean.tolist(), std=std.tolist(), noisy_val=20)

    def expected(images: Tensor) -> Tensor:
        values = images.numpy().astype(np.float64) / 255
        return torch.from_numpy((values - mean[:, None, None]) / std[:, None, None]).float()

    train, test = source.splits["train"].images, source.splits["test"].images
    (first, *_) = batches(datamodule)
    torch.testing.assert_close(first.image, expected(train[first.index]))
    (passed, *_) = datamodule.passes("clean", "x", 0)
    torch.testing.assert_close(passed.image, expected(train[passed.index]))
    (val,), (evaluated,) = datamodule.val_dataloader()["val"], datamodule.val_dataloader()["test"]
    torch.testing.assert_close(val.image, expected(train[datamodule.val_index]))
    torch.testing.assert_close(evaluated.image, expected(test))


# Subsets and held-out samples


def test_train_size_takes_the_first() -> None:
    source = Pictures()
    datamodule = ready(source, noise=SYMMETRIC, train_size=37)
    assert len(datamodule.labels.given) == datamodule.noise_record.num_samples == 37
    assert datamodule.labels.true.tolist() == source.splits["train"].labels[:37].tolist()
    assert sorted(order(datamodule)) == list(range(37))
    for batch in batches(datamodule):
        assert torch.equal(pixels(batch.image), source.splits["train"].images[batch.index])
    held_out = ready(source, train_size=37, noisy_val=7)
    assert sorted(held_out.train_index.tolist() + held_out.val_index.tolist()) == list(range(37))
    assert len(datamodule.val_dataloader()["test"]) == 1  # the test set is whole


def test_a_part_of_a_sorted_file_without_all_classes_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    source = Pictures()
    train = source.splits["train"]
    source.splits["train"] = train._replace(labels=train.labels.sort().values)
    ready(source, train_size=4)
    assert "data.train_size=4: 4 of the 5 classes have no sample among the first ones; shuffle a file" in caplog.text
    caplog.clear()
    ready(source)
    assert not caplog.text


def blacks_out(images: Tensor, labels: Tensor) -> Tensor:
    images.zero_()
    return labels


def test_a_noise_function_cannot_edit_the_images() -> None:
    source = Pictures()
    noise = {"_target_": f"{__name__}.blacks_out", "name": "own", "rate": 0.0, "seed": 0}
    datamodule = ready(source, noise=noise)
    for batch in batches(datamodule):
        assert torch.equal(pixels(batch.image), source.splits["train"].images[batch.index])


def test_held_out_samples_are_disjoint_and_keep_noisy_labels() -> None:
    source = Pictures(train=1000)
    datamodule = ready(source, noise=SYMMETRIC, noisy_val=200)
    train, val = datamodule.train_index.tolist(), datamodule.val_index.tolist()
    assert (len(train), len(val)) == (800, 200)
    assert sorted(train + val) == list(range(1000))
    assert sorted(order(datamodule)) == train
    assert datamodule.steps_per_epoch == 25
    # Spread over the data set, not cut off its end.
    assert 70 < sum(row < 500 for row in val) < 130
    labels = torch.cat([batch.label for batch in datamodule.val_dataloader()["val"]])
    assert torch.equal(labels, datamodule.noise_record.given[datamodule.val_index])
    true = source.splits["train"].labels[datamodule.val_index]
    assert 0.3 < float((labels != true).double().mean()) < 0.5


def test_the_held_out_set_depends_on_split_seed_alone() -> None:
    def held_out(**options: Any) -> list[int]:
        return ready(noisy_val=20, **options).val_index.tolist()

    expected = held_out()
    assert held_out(seed=1, noise=SYMMETRIC, padding=1, batch_size=7) == expected
    assert held_out(split_seed=1) != expected
    # A larger set holds the smaller: more held-out samples change nothing else.
    assert set(expected) < set(ready(noisy_val=40).val_index.tolist())


def test_the_noise_does_not_depend_on_the_run() -> None:
    """The labels are spoiled before the split, by a seed of their own."""

    def given(**options: Any) -> list[int]:
        return ready(**({"noise": SYMMETRIC} | options)).noise_record.given.tolist()

    expected = given()
    for options in ({"seed": 1}, {"noisy_val": 30}, {"noisy_val": 30, "split_seed": 2}, {"padding": 1, "test": False}):
        assert given(**options) == expected
    assert given(noise={**SYMMETRIC, "seed": 1}) != expected


# With Lightning, and without


class Plain(pl.LightningModule):
    """Anyone's module: the loss is its own, and the sample table gives the targets."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(30, CLASSES)
        self.automatic_optimization = False
        self.seen: dict[int, list[int]] = {}
        self.evaluated: dict[tuple[str, int], list[int]] = {}

    def training_step(self, group: Iterable[Batch], group_number: int) -> None:
        for batch in group:
            self.seen.setdefault(self.current_epoch, []).extend(batch.index.tolist())
            given = self.trainer.datamodule.labels.given[batch.index]  # type: ignore[attr-defined]
            loss = cross_entropy(self.layer(batch.image.flatten(1)), given)
            self.optimizers().zero_grad()  # type: ignore[union-attr]
            self.manual_backward(loss)
            self.optimizers().step()  # type: ignore[union-attr]

    def validation_step(self, batch: EvaluationBatch, batch_number: int, dataloader_idx: int = 0) -> None:
        split = self.trainer.datamodule.evaluation_splits[dataloader_idx]  # type: ignore[attr-defined]
        self.evaluated.setdefault((split, self.current_epoch), []).extend(batch.label.tolist())

    def test_step(self, batch: EvaluationBatch, batch_number: int) -> None:
        self.evaluated.setdefault(("tested", 0), []).extend(batch.label.tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, epochs: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_plain_trainer_gets_the_same_batches_after_a_stop(tmp_path: Path) -> None:
    options: dict[str, Any] = {"noise": SYMMETRIC, "batch_size": 3, "noisy_val": 10, "padding": 1}
    expected = {epoch: order(ready(**options), epoch) for epoch in range(3)}
    assert STEPS_PER_CALL < -(-90 // 3)  # more than one group, the last one partial

    whole, source = Plain(), Pictures()
    running = trainer(tmp_path, epochs=3)
    running.fit(whole, datamodule=make(source, **options))
    assert whole.seen == expected
    for epoch in range(3):
        datamodule = running.datamodule  # type: ignore[attr-defined]
        assert whole.evaluated["val", epoch][-10:] == datamodule.labels.given[datamodule.val_index].tolist()
        assert whole.evaluated["test", epoch][-30:] == source.splits["test"].labels.tolist()
    running.test(whole, datamodule=datamodule, verbose=False)
    assert whole.evaluated["tested", 0] == source.splits["test"].labels.tolist()
    # Read once, prepared before, however many stages there were.
    assert source.read == ["train", "test"]
    assert source.prepared >= 1

    stopped = trainer(tmp_path, epochs=1)
    stopped.fit(Plain(), datamodule=make(**options))
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    resumed = Plain()
    trainer(tmp_path, epochs=3).fit(resumed, datamodule=make(**options), ckpt_path=str(tmp_path / "stopped.ckpt"))
    assert resumed.seen == {epoch: expected[epoch] for epoch in (1, 2)}


def test_the_datamodule_works_without_lightning() -> None:
    """The three lines of anyone's own loop."""
    source = Pictures()
    datamodule = make(source, noise=SYMMETRIC)
    datamodule.prepare_data()
    datamodule.setup()
    index, image, *_ = next(datamodule.epoch(0))()
    assert source.prepared == 1
    assert image.shape == (32, 1, 6, 5)
    assert datamodule.labels.given[index].shape == (32,)
    assert datamodule.image_size == (6, 5)
    # A second setup reads and spoils nothing anew.
    datamodule.setup("test")
    assert source.read == ["train", "test"]


def test_the_loader_yields_the_epochs_batches() -> None:
    datamodule = ready(batch_size=3)
    loader = datamodule.train_dataloader()
    groups = [list(group) for group in loader]
    assert len(loader) == len(groups) == -(-34 // STEPS_PER_CALL)
    assert [len(group) for group in groups[:-1]] == [STEPS_PER_CALL] * (len(groups) - 1)
    assert [row for group in groups for batch in group for row in batch.index.tolist()] == order(datamodule)
