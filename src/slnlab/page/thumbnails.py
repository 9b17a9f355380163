"""Small pictures of training samples, as text in a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from itertools import islice

from PIL import features

from slnlab.errors import DataError
from slnlab.inference.images import Picture

SIDE = 128
"""Longest side of a thumbnail in pixels. Smaller pictures keep their size."""

FORMAT = "WEBP" if features.check("webp") else "JPEG"
"""WebP needs half the bytes of JPEG, above all for tiny pictures, whose JPEG is mostly header."""

MOST = 10_000
"""Most thumbnails of a page. Decoding ten thousand photographs takes a minute or two."""


def thumbnails(pictures: Iterable[Picture], room: int) -> Iterator[str | DataError]:
    """Yield data URLs of at most `MOST` pictures, in this order, while there is room.

    Args:
        pictures: of any size; an error is yielded as it is.
        room: largest number of characters of all URLs with their quotes.
    """
    for picture in islice(pictures, MOST):
        if isinstance(picture, DataError):
            yield picture
            continue
        picture.thumbnail((SIDE, SIDE))
        file = io.BytesIO()
        picture.save(file, FORMAT, quality=75)
        url = f"data:image/{FORMAT.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
        room -= len(url) + 12  # quotes, number, comma
        if room < 0:
            return
        yield url
