"""The strongly augmented view: torchvision's policy for each sample, for any number of processes."""

from __future__ import annotations

import torch
from torchvision.transforms import AutoAugmentPolicy, v2

from slnlab.data.augment import CropFlip, Normalise
from slnlab.data.strong_view import StrongView, autoaugment, cut_out, randaugment
from slnlab.processes.distributed import Shard
from slnlab.streams import Streams, derive

IMAGES = torch.randint(256, (6, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
PLAIN = Normalise((0.0,) * 3, (1.0,) * 3)
WHOLE = Shard(0, 6, 6)


def test_cut_out_by_hand() -> None:
    """Side 2 around (1, 1): rows and columns 0 and 1. Around (0, 3): what is left of rows −1, 0 and columns 2, 3."""
    cut = cut_out(torch.ones(3, 1, 3, 4), torch.tensor([5, 3, 11]), 2)[:, 0]
    assert cut[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]]
    assert cut[1].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert cut[2].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert torch.equal(cut_out(torch.ones(1, 1, 3, 4), torch.tensor([5]), 0), torch.ones(1, 1, 3, 4))


def test_without_crop_and_cutout_the_policy_equals_torchvisions() -> None:
    seen = StrongView(autoaugment(), CropFlip(0, False), PLAIN, 0)(IMAGES, WHOLE, Streams(3), 7)
    policy = v2.AutoAugment(AutoAugmentPolicy.CIFAR10)
    for place, image in enumerate(IMAGES):
        torch.manual_seed(derive(3, "AutoAugment", 7, place))
        torch.testing.assert_close(seen[place], policy(image) / 255)
    assert any(not torch.equal(seen[place], image / 255) for place, image in enumerate(IMAGES))


def test_randaugment_leaves_the_expected_share_of_images_as_they_are() -> None:
    """Two operations with probability ½ each. One of torchvision's fourteen is the identity: (½ + ½/14)² = .29."""
    view = StrongView(randaugment(2, 5), CropFlip(0, False), PLAIN)
    many = IMAGES[:1].expand(400, -1, -1, -1)
    seen = view(many, Shard(0, 400, 400), Streams(3), 0)
    unchanged = (seen == PLAIN(many)).flatten(1).all(1).float().mean().item()
    assert 0.2 < unchanged < 0.4
    assert torch.equal(seen, view(many, Shard(0, 400, 400), Streams(3), 0))
    assert not torch.equal(seen, view(many, Shard(0, 400, 400), Streams(3), 0, number=2))


def test_the_strengths_of_randaugment_lie_below_its_magnitude() -> None:
    """Of magnitude 3, an operation is torchvision's of strength 1 or 2 of 10, never of 3."""
    once, image, found = randaugment(1, 3), IMAGES[0], set()
    stronger = [v2.RandAugment(1, magnitude=3 * strength, num_magnitude_bins=31) for strength in (1, 2, 3)]
    for seed in range(200):
        torch.manual_seed(seed)
        seen, possible = once(image), []
        for policy in stronger:
            torch.manual_seed(seed)
            torch.rand(1)  # whether there is an operation
            torch.multinomial(torch.ones(2), 1)  # its strength
            possible.append(policy(image))
        if not any(torch.equal(possible[a], possible[b]) for a, b in ((0, 1), (0, 2), (1, 2))):
            found |= {number for number, image_then in enumerate(possible, 1) if torch.equal(seen, image_then)}
    assert found == {1, 2}


def test_samples_and_steps_differ() -> None:
    view = StrongView(autoaugment(), CropFlip(2, True), PLAIN, 8)
    same = IMAGES[:1].expand(6, -1, -1, -1)
    seen = view(same, WHOLE, Streams(3), 0)
    assert len({tuple(image.flatten().tolist()) for image in seen}) == 6
    assert not torch.equal(seen, view(same, WHOLE, Streams(3), 1))


def test_parts_equal_the_whole_and_leave_other_draws_unchanged() -> None:
    view = StrongView(autoaugment(), CropFlip(2, True), PLAIN, 8)
    torch.manual_seed(5)
    whole = view(IMAGES, WHOLE, Streams(3), 0)
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
    for part in (Shard(0, 2, 6), Shard(2, 6, 6)):
        assert torch.equal(view(part.of(IMAGES), part, Streams(3), 0), part.of(whole))
