"""Image files: orientation, transparency, depth, colour, several images in one, and refusals."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from slnlab.errors import DataError
from slnlab.image_folder.decoding import NotDecoded, load, read_rgb

PICTURE = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)

STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
"""EXIF's orientation → how an image is stored that is to be seen as it is."""


def read(path: Path, **options: Any) -> npt.NDArray[np.int64]:
    return np.asarray(read_rgb(path, **options)).astype(np.int64)


@pytest.mark.parametrize(
    ("suffix", "options", "off"),
    [
        ("png", {}, 0),
        ("webp", {"lossless": True}, 0),
        ("tif", {}, 0),
        ("tif", {"compression": "tiff_lzw"}, 0),
        ("jpg", {"quality": 100, "subsampling": 0}, 2),
    ],
)
def test_images_are_rotated_once_by_their_metadata(
    tmp_path: Path, suffix: str, options: dict[str, Any], off: int
) -> None:
    for orientation, stored in STORED.items():
        exif, path = Image.Exif(), tmp_path / f"{orientation}.{suffix}"
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(stored(PICTURE))).save(path, exif=exif, **options)
        found = read(path)
        assert found.shape == PICTURE.shape, orientation
        assert np.abs(found - PICTURE).max() <= off, orientation


@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA", "CMYK"])
def test_uncompressed_tiff_files_are_rotated_in_every_mode(tmp_path: Path, mode: str) -> None:
    """Pillow may read these by memory mapping."""
    values = PICTURE[..., :1].repeat(4, 2) + np.arange(4, dtype=np.uint8)
    values = values if mode in ("RGBA", "CMYK") else values[..., 0]
    values = values.astype(np.uint16) * 257 if mode == "I;16" else values
    for orientation, stored in STORED.items():
        image = Image.fromarray(np.ascontiguousarray(stored(values)))
        image = Image.frombytes("CMYK", image.size, image.tobytes()) if mode == "CMYK" else image
        assert image.mode == mode
        image.save(tmp_path / "x.tif", tiffinfo={0x0112: orientation})
        assert np.array_equal(np.asarray(load(tmp_path / "x.tif")), values), orientation


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*garbage", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_damaged_metadata_leave_the_image_unrotated(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "x.png", exif=exif)
    assert (read(tmp_path / "x.png") == PICTURE).all()


def with_alpha(mode: str, path: Path) -> None:
    """A pixel of 40 at alpha 0, 128 and 255; of modes with one transparent value, two pixels of 40 and one of 200."""
    alpha = np.array([[0, 128, 255]], np.uint8)
    grey = np.full_like(alpha, 40)
    if mode == "RGBA":
        Image.fromarray(np.stack([grey, grey, grey, alpha], -1)).save(path)
    elif mode == "LA":
        Image.fromarray(np.stack([grey, alpha], -1)).save(path)
    elif mode == "P":
        image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
        image.putpalette([40] * 9)
        image.save(path, transparency=bytes([0, 128, 255]))
    else:
        Image.fromarray(np.array([[200, 40, 40]], np.uint8)).convert(mode).save(
            path, transparency=(200, 200, 200) if mode == "RGB" else 200
        )


@pytest.mark.parametrize(("background", "level"), [("white", 255), ("grey", 128), ("black", 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_the_background_shows_through_transparent_pixels(
    tmp_path: Path, mode: str, background: Any, level: int
) -> None:
    with_alpha(mode, tmp_path / "x.png")
    half = 40 if mode in ("RGB", "L") else (40 * 128 + level * 127) / 255
    found = read(tmp_path / "x.png", background=background)
    assert np.abs(found[0, :, 0] - [level, half, 40]).max() <= 1
    assert (found == found[..., :1]).all()


DEEP = {
    "16.png": np.uint16,
    "16.tif": np.uint16,
    "16big.tif": np.dtype(">u2"),
    "32.tif": np.int32,
    "float.tif": np.float32,
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_images_are_scaled_by_the_given_range(tmp_path: Path, name: str) -> None:
    """The images' own ranges do not matter: a part of the range stays a part of it, and values outside are clipped."""
    grey = np.arange(60, 180, dtype=np.int64).reshape(8, 15)
    Image.fromarray((1000 + 8 * grey).astype(DEEP[name])).save(tmp_path / name)
    assert (read(tmp_path / name, pixel_range=(1000, 1000 + 8 * 255)) == grey[..., None]).all()
    clipped = read(tmp_path / name, pixel_range=(1000 + 8 * 100, 1000 + 8 * 151))
    assert (clipped == ((grey - 100) * 5).clip(0, 255)[..., None]).all()


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_deep_tiff_files_with_white_zero_are_inverted(tmp_path: Path, compression: str | None) -> None:
    """Pillow does the same with 8-bit images."""
    stored = np.array([[0, 13107, 65535]], np.uint16)
    for zero, expected in ((0, [255, 204, 0]), (1, [0, 51, 255])):
        Image.fromarray(stored).save(tmp_path / "x.tif", tiffinfo={262: zero, 0x0112: 6}, compression=compression)
        assert compression or stored.tobytes() in (tmp_path / "x.tif").read_bytes()
        assert read(tmp_path / "x.tif", pixel_range=(0, 65535))[:, 0, 0].tolist() == expected


def test_transparent_values_of_deep_images_become_background(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 500, 1000]], np.uint16)).save(tmp_path / "x.png", transparency=0)
    assert read(tmp_path / "x.png", pixel_range=(500, 1000))[0, :, 0].tolist() == [255, 0, 255]
    assert read(tmp_path / "x.png", pixel_range=(500, 1000), background="black")[0, :, 0].tolist() == [0, 0, 255]


def test_a_deep_image_without_a_range_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[7, 4095]], np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=rf"^{tmp_path}/x.png: has more than 8 bits, .*7 to 4095.* data.pixel_range="):
        read_rgb(tmp_path / "x.png")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_pixels_are_refused(tmp_path: Path, value: float) -> None:
    Image.fromarray(np.array([[0.5, value]], np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=rf"^{tmp_path}/x.tif: has pixels that are not finite"):
        read_rgb(tmp_path / "x.tif", pixel_range=(0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    coloured = Image.new("RGB", (2, 2), "white" if mode in ("1", "L") else (204, 51, 102))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(coloured, *profiles, outputMode="LAB")
        assert image is not None
    else:
        image = coloured.convert(mode)
    image.save(tmp_path / "x.tif")
    with Image.open(tmp_path / "x.tif") as stored:
        assert stored.mode == mode
    assert np.abs(read(tmp_path / "x.tif") - np.asarray(coloured)).max() <= 6


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_the_first_of_several_images_in_a_file_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert (read(tmp_path / f"x.{suffix}") == [255, 0, 0]).all()


def test_an_unreadable_file_is_named_with_the_reason(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).resize((64, 64)).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    header = struct.pack(">II", 20_000, 20_000)  # and a wrong checksum, which is not looked at first
    for name, content, message in (
        ("empty.png", b"", "is no readable image"),
        ("page.jpg", b"<html></html>", r"is no readable image \(unknown format\)$"),
        ("cut.png", whole[: len(whole) // 2], "is no readable image"),
        ("huge.pgm", b"P5 20000 20000 255\n", "has more than 178,956,970 pixels, the most that are read"),
        ("bad.png", whole[:16] + header + whole[24:], "is no readable image"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"^{tmp_path / name}: {message}") as error:
            read_rgb(tmp_path / name)
        assert not isinstance(error.value, NotDecoded)
    (tmp_path / "folder.png").mkdir()
    for name, message in (("folder.png", "cannot be read: Is a directory"), ("gone.png", "no such file")):
        with pytest.raises(NotDecoded, match=f"^{tmp_path / name}: {message}$"):
            read_rgb(tmp_path / name)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "too little memory"),
        (OSError("out of memory error when reading image file"), "too little memory"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
@pytest.mark.parametrize("where", ["PIL.ImageFile.ImageFile.load", "PIL.Image.Image.convert"])
def test_system_errors_are_distinguished_from_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception, message: str
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise error

    Image.fromarray(PICTURE).save(tmp_path / "x.png")
    monkeypatch.setattr(where, refused)
    with pytest.raises(NotDecoded, match=f"^{tmp_path}/x.png: cannot be read: {message}$"):
        read_rgb(tmp_path / "x.png")


def test_a_large_image_is_read_without_a_warning(tmp_path: Path) -> None:
    """In an interpreter of its own: pytest has filters of warnings for itself."""
    Image.fromarray(PICTURE).save(tmp_path / "x.png")
    script = "from slnlab.image_folder.decoding import Image, read_rgb; Image.MAX_IMAGE_PIXELS = 10; read_rgb('x.png')"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize(("category", "shown"), [("UserWarning", False), ("RuntimeWarning", True)])
def test_only_pillows_warnings_of_metadata_are_hidden(category: str, shown: bool) -> None:
    warns = f"warnings.warn_explicit('of Pillow', {category}, 'Image.py', 1, 'PIL.Image')"
    script = f"import warnings; import slnlab.image_folder.decoding; {warns}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ("of Pillow" in done.stderr) == shown
