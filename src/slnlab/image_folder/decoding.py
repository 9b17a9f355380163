"""Decoding: from an image file to upright RGB pixels. This module does not import torch.

- Orientation: the orientation in EXIF or XMP is applied, so an image stands as a viewer shows it.
- Depth: images of 8 bits have values 0 to 255. Deep images (integers of 16 or 32 bits, floats) have one channel; the
  data set's range, never the image's, scales them. 16-bit colour keeps its upper 8 bits. TIFF files of 16 bits with
  white as zero are inverted, like those of 8 bits.
- Transparency: alpha channels and transparent colours are composited over a background.
- Colour: every image becomes RGB. Black-and-white, grey and palette images keep their colours; Pillow converts CMYK,
  YCbCr, LAB and HSV. Embedded ICC profiles are ignored: pixel values count as sRGB.
- Several images in one file (GIF, APNG, WebP, TIFF with pages): the first one counts.

Every other file is refused with its path.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageFile

from slnlab.errors import DataError

Background = Literal["white", "grey", "black"]
"""The colour behind transparent pixels. Dark shapes need white or grey, light shapes black or grey."""

DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of more than 8 bits, all with one channel."""

# Pillow warns of damaged metadata, and of large images as an attack. These filters are global, because `catch_warnings`
# around each image would mix up the filters of threads.
for _category in (UserWarning, Image.DecompressionBombWarning):
    warnings.filterwarnings("ignore", category=_category, module=r"PIL\.")

_OUT_OF_MEMORY = ("out of memory error when reading image file", "decoder error -9")
"""Messages of Pillow's decoders for too little memory, in an OSError without a number."""

_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
"""TIFF's photometric tag, and its value for images with dark large values, such as scanned film."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → transposition that makes the image upright."""


class NotDecoded(DataError):
    """The system, not the file's content, prevented decoding: memory, open files, a disk, permissions."""


def read_rgb(
    path: str | os.PathLike[str], pixel_range: Sequence[float] | None = None, background: Background = "white"
) -> Image.Image:
    """The image in a file: upright, opaque, RGB of 8 bits.

    Args:
        path: path of the file.
        pixel_range: [black, white], the values of the data set's deep images; other values are clipped. None if the
            data set has no deep images.
        background: see `Background`.

    Raises:
        DataError: there is no file; it is no image, damaged, or too large; or it is a deep image without a range or
            with pixels that are not finite. The message begins with the path.
    """
    return rgb(load(path), path, pixel_range, background)


def pillow_rgb(
    image: Image.Image, pixel_range: Sequence[float] | None = None, background: Background = "white"
) -> Image.Image:
    """A Pillow image, treated as `read_rgb` treats a file: upright, opaque, RGB of 8 bits.

    Args:
        image: any Pillow image; decoded first if need be.
        pixel_range, background: see `read_rgb`.

    Raises:
        DataError: see `read_rgb`. The message begins with the name of the image's file, if it has one.
    """
    file = image.filename if isinstance(image, ImageFile.ImageFile) else ""
    name = os.fsdecode(file) or "a Pillow image"
    try:
        if isinstance(image, ImageFile.ImageFile):
            image.filename = ""  # see `load`
            try:
                image.load()
            finally:
                image.filename = file
        upright = _upright(image)
    except Exception as error:  # see `load`
        raise _problem(name, error) from error
    return rgb(upright, name, pixel_range, background)


def rgb(
    image: Image.Image,
    name: str | os.PathLike[str],
    pixel_range: Sequence[float] | None = None,
    background: Background = "white",
) -> Image.Image:
    """The RGB image of a result of `load`; see `read_rgb`. `name` is for messages."""
    try:
        deep = deep_pixels(name, image)
        if deep is not None:
            return _scaled(name, deep, pixel_range, background)
        if image.has_transparency_data:
            # Pillow converts premultiplied modes to RGBA only through this detour.
            whole = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, background), whole).convert("RGB")
        return image.convert("RGB")
    except DataError:
        raise
    except (ValueError, OSError, MemoryError) as error:
        raise _problem(name, error) from error


def load(path: str | os.PathLike[str]) -> Image.Image:
    """The first image of a file, decoded and upright, in its stored mode.

    Raises:
        DataError: see `read_rgb`; `NotDecoded` where another try may succeed.
    """
    try:
        # An open file, not its name: Pillow maps a named TIFF file into memory by the size of the turned image.
        with open(path, "rb") as opened, Image.open(opened) as file:
            file.load()
            return _upright(file)
    except Exception as error:  # each format's parser has its own errors for damaged files
        raise _problem(path, error) from error


def _problem(name: str | os.PathLike[str], error: Exception) -> DataError:
    """The error of slnlab for an error of Pillow or the system."""
    if isinstance(error, FileNotFoundError):
        return NotDecoded(f"{name}: no such file")
    if isinstance(error, MemoryError) or str(error) in _OUT_OF_MEMORY:
        return NotDecoded(f"{name}: cannot be read: too little memory")
    if isinstance(error, OSError) and error.strerror:
        return NotDecoded(f"{name}: cannot be read: {error.strerror}")
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return DataError(f"{name}: has more than {most:,} pixels, the most that are read; store it smaller")
    if isinstance(error, Image.UnidentifiedImageError):
        return DataError(f"{name}: is no readable image (unknown format)")
    return DataError(f"{name}: is no readable image ({str(error) or type(error).__name__})")


def _upright(image: Image.Image) -> Image.Image:
    """The image, turned as its metadata say. Pillow turns TIFF images itself and then drops the tag."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata, whole pixels: viewers show them as stored
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def depth(image: Image.Image) -> str:
    """`8 bits`, `16 or 32 bits`, or `floats`. The image need not be decoded."""
    return "8 bits" if image.mode not in DEEP else "floats" if image.mode == "F" else "16 or 32 bits"


def deep_pixels(path: str | os.PathLike[str], image: Image.Image) -> npt.NDArray[np.float64] | None:
    """Pixels (H, W) of a deep image; larger values are brighter, NaN is transparent. None for an image of 8 bits.

    Args:
        path: path of its file, for messages.
        image: a result of `load`.

    Raises:
        DataError: a pixel is not a finite number.
    """
    if image.mode not in DEEP:
        return None
    values = np.asarray(image).astype(np.float64)
    if image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = 65535 - values  # Pillow inverts images of 8 bits itself
    if not np.isfinite(values).all():
        raise DataError(f"{path}: has pixels that are not finite numbers")
    if "transparency" in image.info:  # a single value in deep images
        values[values == image.info["transparency"]] = np.nan
    return values


def _scaled(
    path: str | os.PathLike[str],
    values: npt.NDArray[np.float64],
    pixel_range: Sequence[float] | None,
    background: Background,
) -> Image.Image:
    if pixel_range is None:
        raise DataError(
            f"{path}: has more than 8 bits, unlike other images of the data set (values {np.nanmin(values):g} to "
            f"{np.nanmax(values):g}); give data.pixel_range=[BLACK,WHITE] for all images of more than 8 bits"
        )
    black, white = pixel_range
    grey = ((values - black) * (255 / (white - black))).clip(0, 255) + 0.5
    grey[np.isnan(values)] = ImageColor.getcolor(background, "L")
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
