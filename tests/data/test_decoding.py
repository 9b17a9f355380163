"""Decoding an image file to its centre square."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional as tv

from slnlab.data.decoding import decode
from slnlab.errors import DataError


@pytest.mark.parametrize(
    "shape", [(8, 8), (20, 31), (31, 20), (400, 101), (101, 400), (3, 12), (57, 57), (1, 4), (1, 1)]
)
def test_the_shorter_side_fits_and_the_centre_is_kept(tmp_path: Path, shape: tuple[int, int]) -> None:
    """To the bit what torchvision makes of it."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    image.save(tmp_path / "x.png")
    for size in (28, 57):
        expected = tv.pil_to_tensor(tv.center_crop(tv.resize(image, [size]), [size, size]))
        assert (decode(tmp_path / "x.png", size) == expected).all()


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (7, 2999)])
def test_only_the_centre_of_a_strip_is_enlarged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    """It is the middle, to a pixel of the file: the brightness says where a pixel comes from, 4 steps for each."""
    ramp = (np.abs(np.arange(max(shape)) - max(shape) // 2 + 24) * 4).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(ramp if shape[1] > shape[0] else ramp[:, None], shape).copy()).convert(
        "RGB"
    )
    image.save(tmp_path / "x.png")
    expected = tv.pil_to_tensor(tv.center_crop(tv.resize(image, [28]), [28, 28]))
    resize, made = Image.Image.resize, list[int]()

    def watched(self: Image.Image, size: tuple[int, int], *args: Any, **kwargs: Any) -> Image.Image:
        made.append(size[0] * size[1])
        return resize(self, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    found = decode(tmp_path / "x.png", 28)
    assert (found.int() - expected.int()).abs().max() <= 4
    assert max(made) <= 4 * 28 * 28


def test_decode_applies_pixel_range_and_background(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 240, np.uint16)).save(tmp_path / "x.png")
    assert decode(tmp_path / "x.png", 8, pixel_range=(200, 300)).unique().tolist() == [102]
    Image.new("LA", (8, 8), (0, 0)).save(tmp_path / "y.png")
    assert decode(tmp_path / "y.png", 8, background="grey").unique().tolist() == [128]
    with pytest.raises(DataError, match=f"^{tmp_path}/z.png: no such file"):
        decode(tmp_path / "z.png", 8)
