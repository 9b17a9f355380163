"""The datamodule: which samples come in which order, how they look, and with which labels.

The data set is made up, every image different from every other, so that an image tells which sample it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as tv

from slnlab.data import ImageDataModule
from slnlab.data.datamodule import STEPS_PER_CALL, Batch, EvaluationBatch
from slnlab.data.source import LabelledImages, Split
from slnlab.errors import ConfigError, DataError

SYMMETRIC = {"_target_": "slnlab.noise.symmetric", "name": "sym", "rate": 0.4, "seed": 0}
CLEAN = {"_target_": "slnlab.noise.clean", "name": "none", "rate": 0.0, "seed": 0}
CLASSES = 5


class Pictures:
    """A source. No pixel is 0, so that none looks like padding."""

    name = "pictures"

    def __init__(self, train: int = 100, test: int = 30, shape: tuple[int, ...] = (1, 6, 5), seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.splits = {
            split: LabelledImages(
                torch.randint(1, 256, (size, *shape), dtype=torch.uint8, generator=generator),
                torch.randint(CLASSES, (size,), generator=generator),
            )
            for split, size in (("train", train), ("test", test))
        }
        self.prepared = 0
        self.read: list[str] = []

    def prepare(self) -> None:
        self.prepared += 1

    def load(self, split: Split) -> LabelledImages:
        self.read.append(split)
        return LabelledImages(*(tensor.clone() for tensor in self.splits[split]))


class OnlyTraining(Pictures):
    def load(self, split: Split) -> LabelledImages:
        assert split != "test", "the test set was read"
        return super().load(split)


class Donors(Pictures):
    """Images for open-set noise; `_target_` in a noise node."""

    name = "donors"

    def __init__(self) -> None:
        super().__init__(train=70, seed=1)


class Alike(Pictures):
    """One image, many times."""

    def __init__(self) -> None:
        super().__init__(train=64, test=1)
        images, labels = self.splits["train"]
        self.splits["train"] = LabelledImages(images[:1].expand_as(images).clone(), labels)


def make(source: Pictures | None = None, noise: Any = CLEAN, **options: Any) -> ImageDataModule:
    """A datamodule that leaves pixels alone unless asked: (pixel/255 − 0)/1, no crop, no flip."""
    source = source or Pictures()
    channels = source.splits["train"].images.shape[1]
    defaults: dict[str, Any] = {
        "num_classes": CLASSES,
        "batch_size": 32,
        "eval_batch_size": 40,
        "mean": [0.0] * channels,
        "std": [1.0] * channels,
    }
    return ImageDataModule(source, noise, **(defaults | options))


def ready(source: Pictures | None = None, noise: Any = CLEAN, **options: Any) -> ImageDataModule:
    datamodule = make(source, noise, **options)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def batches(datamodule: ImageDataModule, epoch: int = 0) -> list[Batch]:
    return [make() for make in datamodule.epoch(epoch)]


def order(datamodule: ImageDataModule, epoch: int = 0) -> list[int]:
    return [row for batch in batches(datamodule, epoch) for row in batch.index.tolist()]


def pixels(image: Tensor) -> Tensor:
    """The bytes that normalising with mean 0 and std 1 made this image from."""
    assert image.dtype == torch.float32
    return (image * 255).round().to(torch.uint8)


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


def test_the_order_is_of_seed_and_epoch_alone() -> None:
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
    """Which crop and flip every sample of every step got; the source must be `Alike`."""
    possible = outcomes(Alike().splits["train"].images[0], datamodule.crop_flip.padding, datamodule.crop_flip.flip)
    return [[possible[image.numpy().tobytes()] for image in pixels(made.image)] for made in batches(datamodule, epoch)]


def test_augmentation_is_drawn_for_every_sample_and_step() -> None:
    datamodule = ready(Alike(), padding=2, flip=True, batch_size=32)
    draws = [step for epoch in range(3) for step in drawn(datamodule, epoch)]
    assert len(draws) == 6
    assert len({tuple(step) for step in draws}) == 6  # no two steps alike, of one epoch or of two
    assert all(len(set(step)) > 12 for step in draws)  # of 50 outcomes, 32 samples
    assert {number for step in draws for number in step} >= {0, 24, 25, 49}  # the corners, both ways round


@pytest.mark.parametrize(("padding", "flip", "number"), [(0, False, 1), (1, False, 9), (0, True, 2)])
def test_augmentation_is_what_was_asked_for(padding: int, flip: bool, number: int) -> None:
    datamodule = ready(Alike(), padding=padding, flip=flip, batch_size=64)
    assert {crop for epoch in range(3) for crop in drawn(datamodule, epoch)[0]} == set(range(number))


def test_augmentation_is_of_seed_epoch_and_step_alone() -> None:
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


def test_evaluation_sees_images_as_they_are() -> None:
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
    assert len(datamodule.table) == datamodule.noise_record.num_samples == 37
    assert datamodule.table["true"].tolist() == source.splits["train"].labels[:37].tolist()
    assert sorted(order(datamodule)) == list(range(37))
    for batch in batches(datamodule):
        assert torch.equal(pixels(batch.image), source.splits["train"].images[batch.index])
    held_out = ready(source, train_size=37, noisy_val=7)
    assert sorted(held_out.train_index.tolist() + held_out.val_index.tolist()) == list(range(37))
    assert len(datamodule.val_dataloader()["test"]) == 1  # the test set is whole


def test_held_out_samples_are_apart_and_keep_their_noisy_labels() -> None:
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


def test_corrected_targets_never_reach_the_held_out_labels() -> None:
    datamodule = ready(noise=SYMMETRIC, noisy_val=20)
    before = torch.cat([batch.label for batch in datamodule.val_dataloader()["val"]])
    rows = torch.arange(100)
    datamodule.table.correct(rows, torch.zeros(100), torch.zeros(100, dtype=torch.int64))
    assert torch.equal(torch.cat([batch.label for batch in datamodule.val_dataloader()["val"]]), before)


def test_which_are_held_out_depends_on_split_seed_alone() -> None:
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


# Labels and replaced images


def test_training_sees_what_the_record_says() -> None:
    source = Pictures(train=500)
    datamodule = ready(source, noise=SYMMETRIC)
    record, table = datamodule.noise_record, datamodule.table
    assert torch.equal(record.true, source.splits["train"].labels)
    assert 0.3 < record.realised_rate < 0.5
    assert torch.equal(table["true"], record.true)
    assert torch.equal(table["wrong"], record.given != source.splits["train"].labels)
    for batch in batches(datamodule):
        assert torch.equal(table["given"][batch.index], record.given[batch.index])
        assert torch.equal(table.targets(batch.index).argmax(1), record.given[batch.index])
        assert torch.equal(pixels(batch.image), source.splits["train"].images[batch.index])


OPEN_SET = {
    "_target_": "slnlab.noise.open_set",
    "name": "open_set",
    "rate": 0.3,
    "seed": 0,
    "donor": {"_target_": f"{__name__}.Donors"},
}


@pytest.mark.parametrize("padding", [0, 2])
def test_open_set_noise_replaces_the_recorded_images_and_no_label(padding: int) -> None:
    source = Pictures()
    datamodule = ready(source, noise=OPEN_SET, padding=padding)
    record = datamodule.noise_record
    assert len(record.replaced) == len(record.donor) == 30
    assert record.donor_source == "donors"
    assert torch.equal(record.given, source.splits["train"].labels)
    assert torch.equal(datamodule.table["given"], source.splits["train"].labels)
    by = dict(zip(record.replaced.tolist(), record.donor.tolist(), strict=True))
    assert len(set(by.values())) == 30
    assert datamodule.table["wrong"].tolist() == [row in by for row in range(100)]
    ours, donors = source.splits["train"].images, Donors().splits["train"].images
    for batch in datamodule.passes("clean", "x", 0):
        for row, image in zip(batch.index.tolist(), pixels(batch.image), strict=True):
            assert torch.equal(image, donors[by[row]] if row in by else ours[row])
    if not padding:
        for batch in batches(datamodule):
            for row, image in zip(batch.index.tolist(), pixels(batch.image), strict=True):
                assert torch.equal(image, donors[by[row]] if row in by else ours[row])
    # The test set knows nothing of it.
    (test,) = datamodule.test_dataloader()
    assert torch.equal(pixels(test.image), source.splits["test"].images)


def test_without_a_test_set_it_is_never_read() -> None:
    source = OnlyTraining()
    datamodule = ready(source, noise=SYMMETRIC, test=False, noisy_val=10)
    assert source.read == ["train"]
    assert datamodule.evaluation_splits == ["val"]
    assert list(datamodule.val_dataloader()) == ["val"]
    with pytest.raises(ConfigError, match=r"data\.test=false"):
        datamodule.test_dataloader()
    assert ready(OnlyTraining(), test=False).val_dataloader() == {}
    with pytest.raises(AssertionError, match="was read"):  # this source does tell
        ready(OnlyTraining())


# Refusals


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"train_size": 101}, ConfigError, r"data\.train_size.*100 training images, not 101"),
        ({"train_size": 0}, ConfigError, r"data\.train_size.*not 0"),
        ({"train_size": -3}, ConfigError, r"data\.train_size.*not -3"),
        ({"noisy_val": 100}, ConfigError, r"data\.noisy_val.*\[0, 100\), not 100"),
        ({"noisy_val": 40, "train_size": 40}, ConfigError, r"data\.noisy_val.*\[0, 40\), not 40"),
        ({"noisy_val": -1}, ConfigError, r"data\.noisy_val.*not -1"),
        ({"channels": 3}, DataError, r"data\.channels.*says 3, the files hold 1"),
        ({"num_train": 60}, DataError, r"data\.num_train.*says 60, the files hold 100"),
        ({"mean": [0.5] * 3, "std": [0.5] * 3}, ConfigError, r"data\.mean.*3 values.*1 channels"),
        ({"num_classes": 4}, DataError, r"pictures.*training label.*4 classes"),
        ({"padding": -1}, ConfigError, "padding"),
        ({"std": [0.0]}, ConfigError, "std"),
        (
            {"noise": {**SYMMETRIC, "_target_": "slnlab.noise.asymmetric", "class_map": {"9": "1"}}},
            ConfigError,
            r"noise\.class_map.*'9'",
        ),
        (
            {"noise": {**SYMMETRIC, "_target_": "slnlab.noise.asymmetric", "class_map": {"cat": "dog"}}},
            ConfigError,
            r"noise\.class_map.*'cat'",
        ),
        ({"noise": {**OPEN_SET, "donor": None}}, ConfigError, r"noise\.donor"),
        ({"noise": {**SYMMETRIC, "rate": 1.0}}, ConfigError, r"noise\.rate"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ready(**options)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_outside_the_classes_is_refused(split: str, label: int) -> None:
    source = Pictures()
    source.splits[split].labels[17] = label
    with pytest.raises(DataError, match="train" if split == "train" else "test"):
        ready(source)


def test_labels_and_images_of_different_number_are_refused() -> None:
    source = Pictures()
    images, labels = source.splits["train"]
    source.splits["train"] = LabelledImages(images, labels[:60])
    with pytest.raises(DataError, match="100 training images, but 60 labels"):
        ready(source)


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
            targets = self.trainer.datamodule.table.targets(batch.index)  # type: ignore[attr-defined]
            loss = -(targets * self.layer(batch.image.flatten(1)).log_softmax(1)).sum(1).mean()
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
def test_a_plain_trainer_gets_the_same_batches_also_after_a_stop(tmp_path: Path) -> None:
    options: dict[str, Any] = {"noise": SYMMETRIC, "batch_size": 3, "noisy_val": 10, "padding": 1}
    expected = {epoch: order(ready(**options), epoch) for epoch in range(3)}
    assert STEPS_PER_CALL < -(-90 // 3)  # more than one group, the last one partial

    whole, source = Plain(), Pictures()
    running = trainer(tmp_path, epochs=3)
    running.fit(whole, datamodule=make(source, **options))
    assert whole.seen == expected
    for epoch in range(3):
        datamodule = running.datamodule  # type: ignore[attr-defined]
        assert whole.evaluated["val", epoch][-10:] == datamodule.table["given"][datamodule.val_index].tolist()
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


def test_without_lightning() -> None:
    """The three lines of anyone's own loop."""
    source = Pictures()
    datamodule = make(source, noise=SYMMETRIC)
    datamodule.prepare_data()
    datamodule.setup()
    index, image, _ = next(datamodule.epoch(0))()
    assert source.prepared == 1
    assert image.shape == (32, 1, 6, 5)
    assert datamodule.table.targets(index).shape == (32, CLASSES)
    assert datamodule.image_size == (6, 5)
    # A second setup reads and spoils nothing anew: the table may hold corrections by now.
    table = datamodule.table
    datamodule.setup("test")
    assert datamodule.table is table
    assert source.read == ["train", "test"]


def test_the_loaders_groups_are_the_epochs_batches() -> None:
    datamodule = ready(batch_size=3)
    loader = datamodule.train_dataloader()
    groups = [list(group) for group in loader]
    assert len(loader) == len(groups) == -(-34 // STEPS_PER_CALL)
    assert [len(group) for group in groups[:-1]] == [STEPS_PER_CALL] * (len(groups) - 1)
    assert [row for group in groups for batch in group for row in batch.index.tolist()] == order(datamodule)


# Memory


class LargestFloat(TorchDispatchMode):
    """Remembers the largest floating-point tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.mark.parametrize("noise", [CLEAN, SYMMETRIC])
def test_images_are_never_floats_but_in_a_batch(noise: Any) -> None:
    with LargestFloat() as watch:
        datamodule = ready(Pictures(train=2000), noise=noise, padding=2, noisy_val=100)
        batches(datamodule)
        list(datamodule.passes("clean", "x", 0))
        for loader in datamodule.val_dataloader().values():
            list(loader)
    assert watch.elements == max(2000, 40 * 6 * 5)  # a column of the table, or a batch of evaluation


def held(datamodule: ImageDataModule) -> int:
    """Bytes of the storages that the datamodule holds, the table's and the record's columns aside."""
    tensors = [value for value in vars(datamodule).values() if isinstance(value, Tensor)]
    return sum(
        size
        for _, size in {(t.untyped_storage().data_ptr(), t.untyped_storage().nbytes()) for t in tensors if t.numel()}
    )


@pytest.mark.parametrize("noise", [CLEAN, OPEN_SET])
@pytest.mark.parametrize(("padding", "train_size"), [(0, None), (2, None), (0, 500), (2, 500)])
def test_images_are_held_once_as_bytes(padding: int, train_size: int | None, noise: Any) -> None:
    size = train_size or 2000
    datamodule = ready(Pictures(train=2000, test=100), noise=noise, padding=padding, train_size=train_size)
    images = size * (6 + 2 * padding) * (5 + 2 * padding) + 100 * 6 * 5
    indices = 8 * (size + 100)
    assert held(datamodule) == images + indices
    assert datamodule.noise.options.keys() <= {"donor"}  # nor a donor data set
