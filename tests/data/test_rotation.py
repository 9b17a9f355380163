"""The rotation of whole batches against torchvision, image by image."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest
from torchvision.transforms import functional as tv

from slnlab.config import check, compose
from slnlab.data.augment import CropFlip
from slnlab.data.rotation import draw_degrees, rotate
from slnlab.errors import ConfigError
from slnlab.processes.distributed import Shard
from slnlab.training.settling import settle


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 6, 11)])
def test_each_image_is_rotated_as_by_torchvision(shape: tuple[int, int, int]) -> None:
    images = torch.randint(1, 256, (40, *shape), dtype=torch.uint8, generator=seeded(0))
    degrees = draw_degrees(40, 45, seeded(1), "cpu")
    degrees[:2] = torch.tensor([0.0, 180.0])
    rotated = rotate(images, degrees)
    assert rotated.dtype == torch.uint8
    for image, angle, found in zip(images, degrees, rotated, strict=True):
        assert torch.equal(found, tv.rotate(image, float(angle)))


def test_a_quarter_turn_by_hand() -> None:
    """Counter-clockwise: the right column becomes the top row."""
    image = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    assert rotate(image, torch.tensor([90.0])).tolist() == [[[[2, 4], [1, 3]]]]


def test_angles_are_uniform_and_do_not_depend_on_the_number_of_processes() -> None:
    drawn = draw_degrees(5000, 20, seeded(0), "cpu")
    assert kstest(drawn.numpy(), "uniform", args=(-20, 40)).pvalue > 1e-3
    images = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8, generator=seeded(2))
    crop_flip = CropFlip(0, False, 20)
    whole = crop_flip.rotated(images, Shard(0, 6, 6), seeded(3))
    assert not torch.equal(whole, images)
    assert torch.equal(crop_flip.rotated(images[3:], Shard(3, 6, 6), seeded(3)), whole[3:])


def test_without_rotation_nothing_is_drawn() -> None:
    images, generator = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), seeded(0)
    before = generator.get_state()
    assert CropFlip(0, False).rotated(images, Shard(0, 2, 2), generator) is images
    assert torch.equal(generator.get_state(), before)


def test_the_key_is_part_of_a_run_only_if_it_rotates() -> None:
    plain, rotating = settle(compose()), settle(compose(["data.rotation=20"]))
    assert "rotation" not in plain.identity["data"]
    assert rotating.identity["data"]["rotation"] == 20
    check(compose(["data=cifar100_apl", "method=ce"]))
    with pytest.raises(ConfigError, match=r"data\.rotation"):
        check(compose(["data.rotation=181"]))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="with angles"):
        rotate(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3))
