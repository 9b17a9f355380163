"""Small pictures of training samples, as text in a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence

from PIL import features

from slnlab.data.datamodule import IndexedDataModule
from slnlab.inference.images import pictures

SIDE = 128
"""Longest side of a thumbnail in pixels. Smaller pictures keep their size."""

FORMAT = "WEBP" if features.check("webp") else "JPEG"
"""WebP needs half the bytes of JPEG, above all for tiny pictures, whose JPEG is mostly header."""

MOST = 10_000
"""Most thumbnails of a page. Decoding ten thousand photographs takes a minute or two."""


def thumbnails(data: IndexedDataModule, rows: Sequence[int], room: int) -> Iterator[str]:
    """Yield data URLs of the training samples of these rows, in this order, while there is room.

    Args:
        data: the data of the run; vectors have no pictures.
        rows: rows of the data set.
        room: largest number of characters of all URLs with their quotes.

    Raises:
        DataError: a file cannot be read.
    """
    if data.vectors:
        return
    for picture in pictures(data, rows[:MOST]):
        picture.thumbnail((SIDE, SIDE))
        file = io.BytesIO()
        picture.save(file, FORMAT, quality=75)
        url = f"data:image/{FORMAT.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
        room -= len(url) + 12  # quotes, number, comma
        if room < 0:
            return
        yield url
