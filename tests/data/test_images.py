"""Images in memory: their labels, refusals, and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pictures import CLASSES, CLEAN, SYMMETRIC, Donors, OnlyTraining, Pictures, batches, pixels, ready
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from slnlab.data import ImageDataModule
from slnlab.data.source import LabelledImages, Split
from slnlab.errors import ConfigError, DataError

# Labels and replaced images


def test_training_images_and_labels_follow_the_noise_record() -> None:
    source = Pictures(train=500)
    datamodule = ready(source, noise=SYMMETRIC)
    record, labels = datamodule.noise_record, datamodule.labels
    assert torch.equal(record.true, source.splits["train"].labels)
    assert 0.3 < record.realised_rate < 0.5
    assert torch.equal(labels.true, record.true)
    assert torch.equal(labels.wrong, record.given != source.splits["train"].labels)
    for batch in batches(datamodule):
        assert torch.equal(labels.given[batch.index], record.given[batch.index])
        assert torch.equal(pixels(batch.image), source.splits["train"].images[batch.index])


OPEN_SET = {
    "_target_": "slnlab.noise.open_set",
    "name": "open_set",
    "rate": 0.3,
    "seed": 0,
    "donor": {"_target_": "pictures.Donors"},
}


@pytest.mark.parametrize("padding", [0, 2])
def test_open_set_noise_replaces_images_and_no_labels(padding: int) -> None:
    source = Pictures()
    datamodule = ready(source, noise=OPEN_SET, padding=padding)
    record = datamodule.noise_record
    assert len(record.replaced) == len(record.donor) == 30
    assert record.donor_source == "donors"
    assert torch.equal(record.given, source.splits["train"].labels)
    assert torch.equal(datamodule.labels.given, source.splits["train"].labels)
    by = dict(zip(record.replaced.tolist(), record.donor.tolist(), strict=True))
    assert len(set(by.values())) == 30
    assert datamodule.labels.wrong.tolist() == [row in by for row in range(100)]
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


def test_a_disabled_test_set_is_never_read() -> None:
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
def test_impossible_settings_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ready(**options)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_outside_the_classes_is_refused(split: str, label: int) -> None:
    source = Pictures()
    source.splits[split].labels[17] = label
    with pytest.raises(DataError, match="train" if split == "train" else "test"):
        ready(source)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda images: images / 255, r"not torch\.float32 of shape \(\d+, 1, 6, 5\)"),
        (lambda images: images.squeeze(1), r"not torch\.uint8 of shape \(\d+, 6, 5\)"),
    ],
    ids=["floating", "without-channels"],
)
def test_images_of_another_type_or_shape_are_refused(
    split: Split, spoil: Callable[[Tensor], Tensor], found: str
) -> None:
    source = Pictures()
    images, labels = source.splits[split]
    source.splits[split] = LabelledImages(spoil(images), labels)
    with pytest.raises(DataError, match=rf"pictures: {split} images must be uint8 \(N, .*{found}"):
        ready(source)


def test_a_source_that_returns_a_plain_tuple_is_refused() -> None:
    class Plain(Pictures):
        def load(self, split: Split) -> Any:
            return tuple(super().load(split))

    with pytest.raises(DataError, match="load must return LabelledImages, not a tuple"):
        ready(Plain())


@pytest.mark.parametrize("part", ["images", "labels"])
def test_arrays_in_place_of_tensors_are_refused(part: str) -> None:
    class Arrays(Pictures):
        def load(self, split: Split) -> LabelledImages:
            data = super().load(split)
            return data._replace(**{part: getattr(data, part).numpy()})

    with pytest.raises(DataError, match=f"pictures: train {part} must be a tensor, not ndarray; use torch.from_numpy"):
        ready(Arrays())


def test_different_counts_of_labels_and_images_are_refused() -> None:
    source = Pictures()
    images, labels = source.splits["train"]
    source.splits["train"] = LabelledImages(images, labels[:60])
    with pytest.raises(DataError, match="100 training images, but 60 labels"):
        ready(source)


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
def test_images_are_floats_only_within_a_batch(noise: Any) -> None:
    with LargestFloat() as watch:
        datamodule = ready(Pictures(train=2000), noise=noise, padding=2, noisy_val=100)
        batches(datamodule)
        list(datamodule.passes("clean", "x", 0))
        for loader in datamodule.val_dataloader().values():
            list(loader)
    # The noise draws a number for each label; a batch of evaluation is smaller.
    assert watch.elements == (2000 if noise is SYMMETRIC else 40 * 6 * 5)


def held(datamodule: ImageDataModule) -> int:
    """Bytes of the storages that the datamodule holds, the labels' and the record's columns aside."""
    tensors = [value for value in vars(datamodule).values() if isinstance(value, Tensor)]
    tensors += [column for data in datamodule._evaluated.values() for column in data]
    return sum(
        size
        for _, size in {(t.untyped_storage().data_ptr(), t.untyped_storage().nbytes()) for t in tensors if t.numel()}
    )


@pytest.mark.parametrize("noise", [CLEAN, OPEN_SET])
@pytest.mark.parametrize(("padding", "train_size"), [(0, None), (2, None), (0, 500), (2, 500)])
def test_images_are_held_once_as_bytes(padding: int, train_size: int | None, noise: Any) -> None:
    size = train_size or 2000
    datamodule = ready(Pictures(train=2000, test=100), noise=noise, padding=padding, train_size=train_size)
    images = (size + 100) * 6 * 5  # a batch is padded, not the images
    indices = 8 * (size + 100)
    assert held(datamodule) == images + indices
    assert datamodule.noise.options.keys() <= {"donor"}  # nor a donor data set
