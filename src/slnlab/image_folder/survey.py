"""A survey of a sample of image files: their depth, its range, and whether transparency hides their content.

The configuration takes the range from here, so this module does not import torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from slnlab.errors import DataError
from slnlab.image_folder.decoding import DEEP, Background, deep_pixels, depth, load, read_rgb


class Paths(Protocol):
    """A sequence of paths, perhaps made on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Path: ...


log = logging.getLogger(__name__)

SAMPLE = 256
"""Most images of the sample of a split, evenly spaced over its list."""


MIDDLE = 0.99
"""Share of the pixels that should use `LEAST` of the range or more."""

LEAST = 0.1
"""Less than this share of the range leaves 25 of 256 grey levels."""


def find_pixel_range(splits: Sequence[Paths]) -> list[float] | None:
    """The range of deep images: the smallest and the largest value of at most `SAMPLE` training images.

    A few extreme pixels that leave the others a small part of the range get a warning. Unreadable images do not count.

    Args:
        splits: paths of the images of each split, training first. The range is that of the training images; depths are
            compared in all splits.

    Returns:
        [black, white]; None if all images have 8 bits.

    Raises:
        DataError: images have different depths; all deep pixels have one value, or some are not finite; or 16-bit
            colour uses a small part of its range.
    """
    samples = [_sample(paths) for paths in splits]
    depths: dict[str, Path] = {}
    colour: list[Path] = []
    for path in chain.from_iterable(samples):
        try:
            with Image.open(path) as file:
                found = depth(file)
                if found == "8 bits" and ";16" in str(file.tile):  # how Pillow unpacks it
                    colour.append(path)
        except Exception:  # unreadable; the check of all images reports it
            continue
        depths.setdefault(found, path)
    check_depths(depths)
    _check_colour(colour)
    return None if not depths.keys() - {"8 bits"} else _extremes(samples[0])


def check_depths(examples: Mapping[str, Path]) -> None:
    """Refuse images of several depths without a given range.

    Args:
        examples: depth (`slnlab.image_folder.decoding.depth`) → path of one such image.

    Raises:
        DataError: there are several depths.
    """
    if len(examples) > 1:
        found = ", ".join(f"{path} has {depth}" for depth, path in examples.items())
        raise DataError(
            f"data.pixel_range: the images have different depths ({found}); make them alike, or give "
            "data.pixel_range=[BLACK,WHITE] for those of more than 8 bits; the others have 0 to 255"
        )


def check_visible(paths: Paths, background: Background) -> None:
    """Check that images with transparency stand out from their background. A few flat ones get a warning.

    Raises:
        DataError: most of them are one flat colour over this background.
    """
    hidden, transparent = [], 0
    for path in _sample(paths):
        try:
            with Image.open(path) as file:
                if file.mode in DEEP or not file.has_transparency_data:
                    continue
            transparent += 1
            flat = _is_flat(read_rgb(path, None, background))
            if flat and not _is_flat(load(path)):
                hidden.append(path)
        except Exception:  # unreadable; the check of all images reports it
            continue
    if hidden:
        counted = f"{len(hidden)} of {transparent} images with transparency are one flat colour over {background}"
        others = " or ".join(sorted({"white", "grey", "black"} - {background}))
        message = f"data.background: {counted}, such as {hidden[0]}; {others}"
        if 2 * len(hidden) > transparent:
            raise DataError(message)
        log.warning("%s", message)


def _sample(paths: Paths) -> list[Path]:
    step = -(-len(paths) // SAMPLE) or 1
    return [paths[row] for row in range(0, len(paths), step)]


def _extremes(paths: Sequence[Path]) -> list[float]:
    smallest, largest = np.inf, -np.inf
    some: list[npt.NDArray[Any]] = []
    for path in paths:
        try:
            image = load(path)
        except DataError:
            continue
        values = deep_pixels(path, image)
        if values is not None and not np.isnan(values).all():
            smallest, largest = min(smallest, np.nanmin(values)), max(largest, np.nanmax(values))
            some.append(values.ravel()[:: values.size // 1000 or 1])
    if not smallest < largest:
        raise DataError(f"{paths[0]}: all pixels of the images of more than 8 bits have one value, {smallest:g}")
    low, high = np.nanquantile(np.concatenate(some), [(1 - MIDDLE) / 2, (1 + MIDDLE) / 2])
    share = (high - low) / (largest - smallest)
    if 0 < share < LEAST:  # 0: a background of one value around small objects
        log.warning(
            "data.pixel_range: the images have pixels from %g to %g, but %g %% of them lie in %g to %g and become %d "
            "of 256 grey levels; data.pixel_range=[%g,%g] gives them all",
            *(smallest, largest, 100 * MIDDLE, low, high, 1 + int(255 * share), low, high),
        )
    return [float(smallest), float(largest)]


def _check_colour(paths: Sequence[Path]) -> None:
    """Refuse 16-bit colour that is dark in its upper 8 bits, the only ones that are read."""
    highest = 0
    for path in paths:
        try:
            highest = max(highest, *(high for _, high in _per_channel(load(path).convert("RGB"))))
        except DataError:
            continue
    if paths and highest < 64:
        raise DataError(
            f"{paths[0]}: 16-bit colour is read by its upper 8 bits, and the images use 0 to {256 * highest + 255} of "
            "65535; store them with 8 bits"
        )


def _is_flat(image: Image.Image) -> bool:
    return all(low == high for low, high in _per_channel(image))


def _per_channel(image: Image.Image) -> list[tuple[int, int]]:
    """(smallest, largest) value of each channel."""
    return [channel.getextrema() for channel in image.split()]  # type: ignore[misc]
