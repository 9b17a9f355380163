"""One image file to pixels: how slnlab reads what a file says. torch is not imported.

- Orientation: EXIF's (or XMP's) is applied, so that an image stands as a viewer shows it.
- Depth: images of 8 bits are 0 to 255. Deep ones (integers of 16 or 32 bits, floats) have one colour channel and are
  scaled by a range that belongs to the data set, never to the image. Colour of 16 bits is read by its upper 8 bits.
  TIFF files of 16 bits whose zero is white are inverted, as those of 8 bits are.
- Transparency: alpha channels and transparent colours are composited over a background.
- Colour: everything becomes RGB. Black-and-white, grey and palette images keep their colours; CMYK, YCbCr, LAB and HSV
  are converted by Pillow. Embedded ICC profiles are ignored: pixel values are taken as sRGB.
- Several images in one file (GIF, APNG, WebP, TIFF of several pages): the first.

Whatever cannot be read in this way is refused, with its path.
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
"""What shows through transparent pixels. Dark shapes need white or grey, light ones black or grey."""

DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of more than 8 bits; they have one channel."""

# Pillow warns of damaged metadata, and of large images as of an attack. Once for all: `catch_warnings` around each
# image would mix up the filters of threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

_OUT_OF_MEMORY = ("out of memory error when reading image file", "decoder error -9")
"""What Pillow's decoders say of it, in an OSError without a number."""

_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
"""TIFF's tag, and its value of images whose large values are dark, as of scanned film."""

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
"""EXIF's orientation → what makes the image upright."""


class NotDecoded(DataError):
    """The system, not what the file holds, kept an image from being read: memory, open files, a disk, permissions."""


def read_rgb(
    path: str | os.PathLike[str], pixel_range: Sequence[float] | None = None, background: Background = "white"
) -> Image.Image:
    """The image in a file: upright, opaque, RGB of 8 bits.

    Args:
        path: of the file.
        pixel_range: what is black and what is white in the data set's deep images; values outside are clipped. None:
            the data set has no deep images.
        background: see `Background`.

    Raises:
        DataError: no file, no image, one that Pillow cannot read whole, one of too many pixels, or a deep image without
            a range or with pixels that are not finite. The message begins with the path.
    """
    return rgb(load(path), path, pixel_range, background)


def pillow_rgb(
    image: Image.Image, pixel_range: Sequence[float] | None = None, background: Background = "white"
) -> Image.Image:
    """A Pillow image as `read_rgb` reads a file: upright, opaque, RGB of 8 bits.

    Args:
        image: decoded here if it is not yet.
        pixel_range, background: see `read_rgb`.

    Raises:
        DataError: see `read_rgb`. The message begins with the name of the image's file, if there is one.
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
    """An image as `load` gives it, with its name for messages; see `read_rgb`."""
    try:
        deep = deep_pixels(name, image)
        if deep is not None:
            return _scaled(name, deep, pixel_range, background)
        if image.has_transparency_data:
            # Premultiplied modes have a way to RGBA by this detour only.
            whole = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, background), whole).convert("RGB")
        return image.convert("RGB")
    except DataError:
        raise
    except (ValueError, OSError, MemoryError) as error:
        raise _problem(name, error) from error


def load(path: str | os.PathLike[str]) -> Image.Image:
    """The first image of a file, decoded and upright, in the mode that it is stored in.

    Raises:
        DataError: see `read_rgb`; `NotDecoded` where another try may succeed.
    """
    try:
        # Pillow maps a TIFF file of a known name into memory by the size that the turned image will have.
        with open(path, "rb") as opened, Image.open(opened) as file:
            file.load()
            return _upright(file)
    except Exception as error:  # each format has a parser of its own, with its own errors about damaged files
        raise _problem(path, error) from error


def _problem(name: str | os.PathLike[str], error: Exception) -> DataError:
    """What the error says about the image of this name."""
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
        return DataError(f"{name}: is no image that can be read (of no format that Pillow knows)")
    return DataError(f"{name}: is no image that can be read ({str(error) or type(error).__name__})")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its metadata say. Of TIFF Pillow does so itself while loading, and forgets the tag."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata: the pixels are whole, and viewers show them as they are stored
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def depth(image: Image.Image) -> str:
    """`8 bits`, `16 or 32 bits`, or `floats`; of an image that is not decoded yet, too."""
    return "8 bits" if image.mode not in DEEP else "floats" if image.mode == "F" else "16 or 32 bits"


def deep_pixels(path: str | os.PathLike[str], image: Image.Image) -> npt.NDArray[np.float64] | None:
    """Pixels (H, W) of a deep image, larger ones brighter, NaN where it is transparent; None: it has 8 bits.

    Args:
        path: named in messages.
        image: as `load` gives it.

    Raises:
        DataError: a pixel is not a finite number.
    """
    if image.mode not in DEEP:
        return None
    values = np.asarray(image).astype(np.float64)
    if image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = 65535 - values  # of 8 bits Pillow does so itself
    if not np.isfinite(values).all():
        raise DataError(f"{path}: has pixels that are not finite numbers")
    if "transparency" in image.info:  # one value
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
