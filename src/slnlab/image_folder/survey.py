"""What a sample of a data set's image files have in common: their depth, its range, and whether transparency hides all.

torch is not imported: the configuration takes the range from here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from slnlab.errors import DataError
from slnlab.image_folder.decoding import DEEP, Background, deep_pixels, depth, load, read_rgb


class Paths(Protocol):
    """A list of paths, or what is like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Path: ...


log = logging.getLogger(__name__)

SAMPLE = 256
"""Images of each split that are looked at, evenly over its list."""


def find_pixel_range(splits: Sequence[Paths]) -> list[float] | None:
    """What is black and what is white in deep images: the smallest and the largest value of the training images.

    Images that cannot be read do not count.

    Args:
        splits: paths of the images; the training images first. The range is theirs, depths are compared in all.

    Returns:
        None if all have 8 bits.

    Raises:
        DataError: images of different depths, deep ones that have one value only or values that are not finite, or
            16-bit colour that uses a small part of its range.
    """
    samples = [_sample(paths) for paths in splits]
    depths: dict[str, Path] = {}
    colour: list[Path] = []
    for path in chain.from_iterable(samples):
        try:
            with Image.open(path) as file:
                found = depth(file)
                if found == "8 bits" and ";16" in str(file.tile):  # how Pillow will unpack it
                    colour.append(path)
        except Exception:  # no image; whoever reads it says so
            continue
        depths.setdefault(found, path)
    check_depths(depths)
    _check_colour(colour)
    return None if not depths.keys() - {"8 bits"} else _extremes(samples[0])


def check_depths(examples: Mapping[str, Path]) -> None:
    """Compare depths of images whose range nobody has given.

    Args:
        examples: of each depth (`slnlab.image_folder.decoding.depth`) one image.

    Raises:
        DataError: there are several.
    """
    if len(examples) > 1:
        found = ", ".join(f"{path} has {depth}" for depth, path in examples.items())
        raise DataError(
            f"data.pixel_range: the images have different depths ({found}); make them alike, or give "
            "data.pixel_range=[BLACK,WHITE] for those of more than 8 bits; the others have 0 to 255"
        )


def check_visible(paths: Paths, background: Background) -> None:
    """Look whether images with transparency can be told from their background.

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
        except Exception:  # whoever reads it says so
            continue
    if hidden:
        said = f"{len(hidden)} of {transparent} images with transparency are one flat colour over {background}"
        others = " or ".join(sorted({"white", "grey", "black"} - {background}))
        message = f"data.background: {said}, such as {hidden[0]}; {others}"
        if 2 * len(hidden) > transparent:
            raise DataError(message)
        log.warning("%s", message)


def _sample(paths: Paths) -> list[Path]:
    step = -(-len(paths) // SAMPLE) or 1
    return [paths[row] for row in range(0, len(paths), step)]


def _extremes(paths: Sequence[Path]) -> list[float]:
    smallest, largest = np.inf, -np.inf
    for path in paths:
        try:
            image = load(path)
        except DataError:
            continue
        values = deep_pixels(path, image)
        if values is not None and not np.isnan(values).all():
            smallest, largest = min(smallest, np.nanmin(values)), max(largest, np.nanmax(values))
    if not smallest < largest:
        raise DataError(f"{paths[0]}: all pixels of the images of more than 8 bits have one value, {smallest:g}")
    return [float(smallest), float(largest)]


def _check_colour(paths: Sequence[Path]) -> None:
    """16-bit colour is read by its upper 8 bits."""
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
    """Smallest and largest value of each channel."""
    return [channel.getextrema() for channel in image.split()]  # type: ignore[misc]
