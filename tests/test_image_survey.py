"""The survey of a sample of images: the range of deep ones, and transparent images hidden by the background."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slnlab.errors import DataError
from slnlab.image_folder.survey import SAMPLE, check_visible, find_pixel_range


def put(folder: Path, *images: np.ndarray, suffix: str = "png") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.{suffix}" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


def deep(*values: float, dtype: type = np.uint16) -> np.ndarray:
    return np.array([values], dtype)


def test_the_range_covers_all_training_images(tmp_path: Path) -> None:
    train = put(tmp_path / "train", deep(1000, 1500), deep(1200, 2900))
    test = put(tmp_path / "test", deep(0, 60_000))
    (tmp_path / "broken.png").write_bytes(train[0].read_bytes()[:40])
    assert find_pixel_range([[*train, tmp_path / "broken.png", tmp_path / "gone.png"], [], test]) == [1000, 2900]
    floats = put(tmp_path / "floats", deep(-0.5, 0.25, dtype=np.float32), suffix="tif")
    assert find_pixel_range([floats]) == [-0.5, 0.25]
    assert find_pixel_range([put(tmp_path / "grey", deep(3, 4, dtype=np.uint8))]) is None
    assert find_pixel_range([[tmp_path / "gone.png"], []]) is None


def test_a_few_extreme_pixels_that_hide_the_others_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [np.arange(1000, 1400, dtype=np.uint16).reshape(20, 20) for _ in range(4)]
    assert find_pixel_range([put(tmp_path / "even", *images)]) == [1000, 1399]
    assert not caplog.records
    images[2][0, 0] = 65535
    assert find_pixel_range([put(tmp_path / "hot", *images)]) == [1000, 65535]
    assert "pixels from 1000 to 65535, but 99 % of them lie in 100" in caplog.text
    assert "and become 2 of 256 grey levels; data.pixel_range=[100" in caplog.text
    caplog.clear()
    spots = np.zeros((40, 40), np.uint16)
    spots[0, 0] = 60_000
    assert find_pixel_range([put(tmp_path / "spots", spots)]) == [0, 60_000]
    assert not caplog.records, "the spots are what the images show"


def test_a_large_split_is_sampled_evenly(tmp_path: Path) -> None:
    """A sample suffices, as the configuration needs the range often."""
    (last,) = put(tmp_path, deep(0, 9))
    listed = [tmp_path / "gone.png"] * (2 * SAMPLE) + [last] * 3
    assert find_pixel_range([listed]) == [0, 9]


def test_images_of_different_depths_are_refused(tmp_path: Path) -> None:
    train = put(tmp_path / "train", deep(1000, 1500))
    for other in (
        put(tmp_path / "grey", deep(3, 4, dtype=np.uint8)),
        put(tmp_path / "jpeg", deep(3, 4, dtype=np.uint8), suffix="jpg"),
        put(tmp_path / "floats", deep(0, 1, dtype=np.float32), suffix="tif"),
    ):
        with pytest.raises(DataError, match=rf"^data.pixel_range: .*{train[0]} has 16 or 32 bits, {other[0]} has"):
            find_pixel_range([train, other])


def test_images_of_one_value_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^{tmp_path}/0.png: all pixels .* have one value, 700"):
        find_pixel_range([put(tmp_path, deep(700, 700), deep(700))])


def test_nan_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^{tmp_path}/1.tif: has pixels that are not finite"):
        find_pixel_range([put(tmp_path, deep(0, 1, dtype=np.float32), deep(0, np.nan, dtype=np.float32), suffix="tif")])


def sixteen_bit_colour(path: Path, value: int) -> Path:
    """A pixel, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    pixel = chunk(b"IDAT", zlib.compress(b"\0" + 3 * struct.pack(">H", value)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixel + chunk(b"IEND", b""))
    return path


def test_16_bit_colour_with_a_narrow_range_is_refused(tmp_path: Path) -> None:
    dark = sixteen_bit_colour(tmp_path / "dark.png", 4095)  # 12 bits
    with pytest.raises(DataError, match=rf"^{dark}: 16-bit colour .* 0 to 4095 of 65535; store them with 8 bits"):
        find_pixel_range([[dark]])
    assert find_pixel_range([[dark, sixteen_bit_colour(tmp_path / "bright.png", 60_000)]]) is None


def logo(level: int, flat: bool = False) -> np.ndarray:
    alpha = np.full((2, 2), 255, np.uint8) if flat else np.array([[0, 255], [0, 255]], np.uint8)
    return np.stack([np.full((2, 2), level, np.uint8)] * 3 + [alpha], -1)


def test_transparent_images_hidden_by_the_background_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    white = put(tmp_path / "white", *[logo(255)] * 3)
    black = put(tmp_path / "black", *[logo(0)] * 3)
    with pytest.raises(DataError, match=rf"^data.background: 3 of 3 .* over white, such as {white[0]}; black or grey"):
        check_visible(white, "white")
    with pytest.raises(DataError, match=r"over black, .*; grey or white"):
        check_visible(black, "black")
    for paths, background in ((white, "black"), (black, "white"), (white + black, "grey")):
        check_visible(paths, background)  # type: ignore[arg-type]
    plain = put(tmp_path / "plain", logo(255, flat=True), np.full((2, 2), 255, np.uint8))
    check_visible([*plain, tmp_path / "gone.png"], "white")
    assert not caplog.records, "an image that is white hides nothing"
    check_visible([*black, white[0]], "white")
    assert [record.getMessage().split(" images")[0] for record in caplog.records] == ["data.background: 1 of 4"]
