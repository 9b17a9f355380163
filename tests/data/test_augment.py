"""Batched crop, flip and normalisation against torchvision, image by image."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import functional as tv1
from torchvision.transforms.v2 import functional as tv2

from slnlab.data.augment import CropFlip, Draws, Normalise, _mirrored, view
from slnlab.errors import ConfigError

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 6, 11), (1, 9, 4), (4, 5, 5)]
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(count: int, shape: tuple[int, int, int]) -> Tensor:
    # From 1, so that no pixel looks like padding.
    return torch.randint(1, 256, (count, *shape), dtype=torch.uint8, generator=seeded(0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("margins", [False, True])
def test_crop_and_flip_equal_torchvision_pixel_for_pixel(
    shape: tuple[int, int, int], padding: int, flip: bool, margins: bool
) -> None:
    channels, *size = shape
    images = random_images(7, (channels, *(side + 2 * padding * margins for side in size)))
    kept = images.clone()
    index = torch.randint(7, (50,), generator=seeded(1))
    crop_flip = CropFlip(padding, flip)
    draws = crop_flip.draw(50, seeded(2), "cpu")
    batch = crop_flip.apply(images, index, draws, (size[0], size[1]))
    assert batch.dtype == torch.uint8
    assert batch.shape == (50, *shape)
    assert batch.is_contiguous()
    for row in range(50):
        image = images[index[row]] if margins else tv2.pad(images[index[row]], [padding] * 4, fill=0)
        image = tv2.crop(image, int(draws.top[row]), int(draws.left[row]), *size)
        if draws.flip[row]:
            image = tv2.hflip(image)
        assert torch.equal(batch[row], image)
    assert torch.equal(images, kept)


def test_every_crop_and_flip_is_exact() -> None:
    """All (2p + 1)² · 2 outcomes of one image, the corners among them."""
    image = random_images(1, (3, 5, 7))
    tops, lefts, flips = (
        grid.flatten() for grid in torch.meshgrid(torch.arange(5), torch.arange(5), torch.arange(2), indexing="ij")
    )
    draws = Draws(tops, lefts, flips.bool())
    batch = CropFlip(2, True).apply(image, torch.zeros(50, dtype=torch.int64), draws, (5, 7))
    for row, (top, left, flip) in enumerate(zip(tops, lefts, flips, strict=True)):
        expected = tv2.crop(tv2.pad(image[0], [2] * 4), int(top), int(left), 5, 7)
        assert torch.equal(batch[row], tv2.hflip(expected) if flip else expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("margins", [False, True])
def test_the_view_without_augmentation_is_the_image(shape: tuple[int, int, int], padding: int, margins: bool) -> None:
    images = random_images(6, shape)
    stored = tv2.pad(images, [padding] * 4, fill=7) if margins else images.clone()
    kept = stored.clone()
    index = torch.tensor([5, 0, 0, 3])
    seen = view(stored, index, padding, shape[1:])
    assert torch.equal(seen, images[index])
    seen.zero_()  # a copy, so the data set does not notice
    assert torch.equal(stored, kept)


def test_pixels_beyond_the_image_are_zero_before_normalising() -> None:
    corner = torch.zeros(1, dtype=torch.int64)
    draws = Draws(corner, corner, corner.bool())
    crop = CropFlip(2, True).apply(random_images(1, (3, 4, 6)), corner, draws, (4, 6))
    assert int((crop == 0).sum()) == 3 * (4 * 6 - 2 * 4)
    torch.testing.assert_close(Normalise(MEAN, STD)(crop)[0, :, 0, 0], -torch.tensor(MEAN) / torch.tensor(STD))


@pytest.mark.parametrize("flip", [[True, False, True], [False] * 3, [True] * 3])
def test_flips_without_looking_up_equal_those_with_it(flip: list[bool]) -> None:
    images = random_images(3, (3, 4, 6))
    expected = torch.stack([image.flip(2) if flips else image for image, flips in zip(images, flip, strict=True)])
    for look_up in (True, False):
        mirrored, place = _mirrored(images, torch.tensor(flip), look_up=look_up)
        assert torch.equal(torch.cat([images, mirrored])[place], expected)


def test_draws_are_uniform_and_independent() -> None:
    draws = CropFlip(4, True).draw(40_000, seeded(3), "cpu")
    assert draws.top.dtype == draws.left.dtype == torch.int64
    assert draws.flip.dtype == torch.bool
    assert len(draws.top) == len(draws.left) == len(draws.flip) == 40_000
    # Jointly over all 9 · 9 · 2 outcomes: covers each being uniform and their independence.
    outcome = (draws.top * 9 + draws.left) * 2 + draws.flip
    counts = torch.bincount(outcome, minlength=162)
    assert len(counts) == 162
    assert stats.chisquare(counts.numpy()).pvalue > 0.001
    # And from one sample to the next.
    for values, kinds in ((draws.top, 9), (draws.left, 9), (draws.flip.long(), 2)):
        pairs = torch.bincount(values[:-1] * kinds + values[1:], minlength=kinds**2)
        assert len(pairs) == kinds**2
        assert stats.chisquare(pairs[: kinds**2].numpy()).pvalue > 0.001


def test_samples_of_one_batch_are_drawn_independently() -> None:
    """The same image all through a batch: torchvision.v2 on the batch would give one picture."""
    crop_flip = CropFlip(4, True)
    draws = crop_flip.draw(64, seeded(4), "cpu")
    index = torch.zeros(64, dtype=torch.int64)
    batch = crop_flip.apply(random_images(1, (1, 8, 8)), index, draws, (8, 8))
    assert len({bytes(image.flatten().tolist()) for image in batch}) > 40


def test_the_generator_determines_the_draws() -> None:
    def drawn(seed: int) -> list[list[int]]:
        draws = CropFlip(4, True).draw(20, seeded(seed), "cpu")
        return [draws.top.tolist(), draws.left.tolist(), draws.flip.tolist()]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
    top, left, _ = drawn(0)
    assert top != left
    generator = seeded(0)
    one, two = (CropFlip(4, True).draw(20, generator, "cpu") for _ in range(2))
    assert not torch.equal(one.top, two.top)


def test_switched_off_augmentation_draws_nothing() -> None:
    generator = seeded(0)
    before = generator.get_state()
    draws = CropFlip(0, False).draw(5, generator, "cpu")
    assert torch.equal(generator.get_state(), before)
    assert draws.top.tolist() == draws.left.tolist() == [0] * 5
    assert draws.flip.tolist() == [False] * 5
    assert not CropFlip(4, False).draw(100, seeded(0), "cpu").flip.any()
    flip_only = CropFlip(0, True).draw(100, seeded(0), "cpu")
    assert 0 < int(flip_only.flip.sum()) < 100
    assert not flip_only.top.any()
    # A flip alone takes the stream's first numbers, as if crops did not exist.
    assert torch.equal(flip_only.flip, torch.randint(2, (100,), generator=seeded(0)).bool())


@pytest.mark.parametrize(("mean", "std"), [(MEAN, STD), ([0.2860], [0.3530]), ([0.0], [1.0])])
def test_normalise_is_torchvision_bit_for_bit(mean: list[float], std: list[float]) -> None:
    """Every byte in every channel, as ToTensor and Normalize make it of a PIL image or an array."""
    channels = len(mean)
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, channels, -1, -1)
    got = Normalise(mean, std)(every)
    assert got.dtype == torch.float32
    for image, normalised in zip(every, got, strict=True):
        from_array = tv1.to_tensor(image.permute(1, 2, 0).numpy())
        assert torch.equal(normalised, tv1.normalize(from_array, mean, std))
        assert torch.equal(normalised, tv1.normalize(tv1.convert_image_dtype(image), mean, std))
        assert torch.equal(normalised, tv2.normalize(tv1.convert_image_dtype(image), mean, std))
        # v2.to_dtype multiplies by a rounded 1/255: off by the last place before normalising.
        second = tv2.normalize(tv2.to_dtype(image, torch.float32, scale=True), mean, std)
        torch.testing.assert_close(normalised, second, rtol=0, atol=2**-22 / min(std))


def test_normalise_keeps_its_input_and_takes_any_layout() -> None:
    images = random_images(3, (3, 6, 5))
    kept = images.clone()
    normalise = Normalise(MEAN, STD)
    expected = normalise(images)
    assert torch.equal(images, kept)
    assert torch.equal(normalise(images.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(normalise(images.flip(3).flip(3)[1:]), expected[1:])
    assert normalise(images.to("meta")).device.type == "meta"


def test_augmentation_never_waits_for_the_device() -> None:
    """On the meta device reading a value raises."""
    images = torch.empty(9, 3, 8, 8, dtype=torch.uint8, device="meta")
    index = torch.empty(4, dtype=torch.int64, device="meta")
    crop_flip = CropFlip(2, True)
    for size in ((8, 8), (4, 4)):  # without and with margins
        batch = crop_flip.apply(images, index, crop_flip.draw(4, None, "meta"), size)
        assert Normalise(MEAN, STD)(batch).shape == (4, 3, *size)
        assert view(images, index, 2, size).shape == (4, 3, *size)


def test_an_empty_batch_stays_empty() -> None:
    crop_flip = CropFlip(2, True)
    index = torch.empty(0, dtype=torch.int64)
    for side in (4, 8):  # without and with margins
        batch = crop_flip.apply(random_images(2, (3, side, side)), index, crop_flip.draw(0, None, "cpu"), (4, 4))
        assert Normalise(MEAN, STD)(batch).shape == (0, 3, 4, 4)


def test_wrong_image_sizes_are_refused() -> None:
    images = random_images(4, (3, 12, 12))
    index = torch.arange(4)
    crop_flip = CropFlip(2, True)
    draws = crop_flip.draw(4, None, "cpu")
    with pytest.raises(ValueError, match="nor have margins of 4"):
        CropFlip(4, True).apply(images, index, draws, (8, 8))
    with pytest.raises(ValueError, match="nor have margins of 2"):
        crop_flip.apply(images, index, draws, (8, 9))
    with pytest.raises(ValueError, match="nor have margins of 0"):
        view(images, index, 0, (8, 8))
    with pytest.raises(ValueError, match="draws for 3"):
        crop_flip.apply(images, index, crop_flip.draw(3, None, "cpu"), (8, 8))
    with pytest.raises(ValueError, match="uint8"):
        Normalise(MEAN, STD)(images.float())
    with pytest.raises(ValueError, match="uint8"):
        Normalise([0.5], [0.5])(images)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="padding = -1"):
        CropFlip(-1, True)
    with pytest.raises(ConfigError, match="padding = -1"):
        view(random_images(1, (1, 4, 4)), torch.arange(1), -1, (4, 4))
    nan = float("nan")
    for mean, std in [
        (MEAN, STD[:2]),
        ([], []),
        ([0.5], [0.0]),
        ([0.5], [-1.0]),
        ([nan], [0.5]),
        ([0.5], [nan]),
    ]:
        with pytest.raises(ConfigError, match="Normalise"):
            Normalise(mean, std)
