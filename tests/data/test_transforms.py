"""data.augment: torchvision's transforms, image by image, the same for every number of processes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from pictures import Pictures, batches, pixels, ready
from torch import Tensor
from torchvision.transforms import v2

from slnlab.config import check, compose
from slnlab.data.augment import CropFlip, Normalise
from slnlab.data.batches import Images
from slnlab.data.transforms import Transforms, augmentation, each
from slnlab.errors import ConfigError
from slnlab.processes.distributed import Shard
from slnlab.schema.kinds import Augmentation
from slnlab.streams import Streams, derive
from slnlab.training.settling import settle

IMAGES = torch.randint(1, 256, (6, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
PLAIN = Normalise((0.0,) * 3, (1.0,) * 3)
V2 = "torchvision.transforms.v2"


def seen(choice: Augmentation, part: Shard, flip: bool = False, padding: int = 0, margins: bool = False) -> Tensor:
    """The augmented bytes of a part of the six images."""
    side = 16 - 2 * padding * margins
    rows = torch.arange(part.start, part.stop)
    augment = augmentation(choice, (side, side), flip)
    images = Images(rows, part, IMAGES, rows, CropFlip(padding, flip), PLAIN, (side, side), augment)
    return pixels(images.view(Streams(3)("augmentation", 0, 7)))


NAMES: list[Augmentation] = ["crop_flip", "random_resized", "trivial", "randaugment", "none"]
NAMES += [[{"_target_": f"{V2}.RandomCrop", "size": 16, "padding": 2}, {"_target_": f"{V2}.RandomInvert"}]]


@pytest.mark.parametrize("choice", NAMES, ids=str)
def test_a_process_sees_its_part_of_what_one_process_sees(choice: Augmentation) -> None:
    whole = seen(choice, Shard(0, 6, 6), flip=True, padding=2)
    parts = [seen(choice, Shard(start, stop, 6), flip=True, padding=2) for start, stop in ((0, 4), (4, 6))]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(seen(choice, Shard(0, 6, 6), flip=True, padding=2), whole), "a resumed run draws it again"
    assert torch.equal(whole, IMAGES) == (choice == "none")


def test_each_image_has_draws_of_its_own_and_equals_torchvisions() -> None:
    seed = Streams(3)("augmentation", 0, 7).initial_seed()
    found = seen("trivial", Shard(0, 6, 6))
    for place, image in enumerate(IMAGES):
        torch.manual_seed(derive(seed, "transform", place))
        assert torch.equal(found[place], v2.TrivialAugmentWide()(image))
    same = each(v2.RandomResizedCrop(16), IMAGES[:1].expand(6, -1, -1, -1), range(6), torch.device("cpu"))
    assert len({image.numpy().tobytes() for image in same}) == 6


def test_random_resized_crops_reach_into_the_margin_of_a_picture() -> None:
    """Margins are a part of the picture: crops of the inner square alone would never show the outer pixels."""
    images = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    images[..., 0, :] = 255
    row = torch.zeros(1, dtype=torch.int64)
    augment = augmentation("random_resized", (8, 8), False)
    batch = Images(row, Shard(0, 1, 1), images, row, CropFlip(4, False), Normalise([0], [1]), (8, 8), augment)
    assert any(batch.view(Streams(0)("x", step)).any() for step in range(40))


def test_global_generators_stay_as_they_were() -> None:
    def draws(image: Tensor) -> Tensor:
        return image + int(random.random() * 50) + np.random.randint(50) + torch.randint(50, (1,), dtype=torch.uint8)  # noqa: NPY002

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    once, again = (each(draws, IMAGES, range(6), torch.device("cpu")) for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_a_data_module_augments_training_images_alone() -> None:
    source = Pictures(shape=(3, 8, 8))
    usual, inverted = (
        ready(source, padding=2, augment=choice)
        for choice in ("crop_flip", [{"_target_": f"{V2}.RandomInvert", "p": 1.0}])
    )
    images, _ = source.splits["train"]
    for batch in batches(inverted):
        assert torch.equal(pixels(batch.image), 255 - images[batch.index])
    for split in ("test",):
        one, other = (next(iter(data.evaluation_batches(split))).image for data in (usual, inverted))
        assert torch.equal(one, other)
    assert not torch.equal(batches(usual)[0].image, batches(ready(source, padding=2, augment="none"))[0].image)


@pytest.mark.parametrize(
    ("transform", "found"),
    [
        (v2.ToDtype(torch.float32), r"torch.float32 \(3, 16, 16\)"),
        (v2.Resize(8), r"torch.uint8 \(3, 8, 8\)"),
    ],
)
def test_images_of_another_type_or_size_are_refused(transform: Any, found: str) -> None:
    rows = torch.arange(6)
    augment = Transforms(transform, cropped=False)
    images = Images(rows, Shard(0, 6, 6), IMAGES, rows, CropFlip(0, False), PLAIN, (16, 16), augment)
    with pytest.raises(
        ConfigError, match=rf"data.augment: gives {found}, but images must stay torch.uint8 \(3, 16, 16"
    ):
        images.view(Streams(0)("x"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.augment=flip", "data.augment: 'flip' is not allowed: 'crop_flip' or 'random_resized'"),
        ("data.augment=[{p: 1}]", r"data.augment\[0\]: has no _target_, such as torchvision"),
        (f"data.augment=[{{_target_: {V2}.RandomPerspectiv}}]", r"data.augment\[0\]._target_: .*RandomPerspectiv"),
        (
            f"data.augment=[{{_target_: {V2}.RandomInvert, prob: 1}}]",
            r"data.augment\[0\].prob: torchvision.transforms.v2.RandomInvert has no such parameter; it has p",
        ),
    ],
)
def test_wrong_augmentations_are_named_before_torch(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(compose([word]))


def test_values_that_a_transform_refuses_are_named() -> None:
    with pytest.raises(
        ConfigError, match=r"data.augment\[0\]: torchvision.*RandomPerspective cannot be made: .*between"
    ):
        augmentation([{"_target_": f"{V2}.RandomPerspective", "distortion_scale": 3}], (8, 8), False)


def test_the_key_is_part_of_a_run_only_if_it_changes_the_augmentation() -> None:
    assert "augment" not in settle(compose()).identity["data"]
    assert settle(compose(["data.augment=trivial"])).identity["data"]["augment"] == "trivial"
