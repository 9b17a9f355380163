"""Decode every image of a folder once before training, so that all that cannot be read are known at once.

Verdicts are kept by the content of the files (`slnlab.storage.cache`): neither a resumed run nor the next one decodes
an image for this again, also when it was moved. Where the system kept it from being read, the next run looks again.
torch is not imported.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import PIL
from tqdm import tqdm  # type: ignore[import-untyped]

from slnlab.errors import DataError
from slnlab.image_folder.decoding import NotDecoded, depth, load, rgb
from slnlab.processes.cores import cores
from slnlab.processes.stopping import stop_if_requested
from slnlab.storage import cache
from slnlab.storage.hashes import NOT_READ

log = logging.getLogger(__name__)

READER = f"Pillow {PIL.__version__}, 2"
"""Verdicts of another Pillow, or of another `slnlab.image_folder.decoding` (the number), do not count."""

KIND = "images"
"""Of the cache's files."""

CHUNK = 1024
"""Images that threads are given at once."""

EVERY = 30.0
"""Seconds between two lines in a log, and after which what was found is kept."""


class Look(NamedTuple):
    """What was found in an image."""

    problem: str | None
    """What is wrong; None: nothing."""
    depth: str | None = None
    """See `slnlab.image_folder.decoding.depth`; None: it cannot be read."""
    lasting: bool = True
    """Whether this follows from what its file holds."""


def look(path: str) -> Look:
    """Decode one image."""
    try:
        with open(path, "rb") as file:
            start = file.read(200)
    except OSError as error:
        return Look(error.strerror or str(error), lasting=False)
    if not start:
        return Look("is empty")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return Look("is a web page")
    try:
        image = load(path)
        rgb(image, path, pixel_range=(0, 1))  # which range a deep image has is a matter of all of them
    except DataError as error:
        return Look(str(error).removeprefix(f"{path}: "), lasting=not isinstance(error, NotDecoded))
    return Look(None, depth(image))


def problems(root: Path, hashes: Mapping[str, str], workers: int | None = None) -> dict[str, str]:
    """The images that cannot be read, and why; see `looks`."""
    found = looks(root, hashes, workers)
    return {path: image.problem for path, image in found.items() if image.problem is not None}


def looks(root: Path, hashes: Mapping[str, str], workers: int | None = None) -> dict[str, Look]:
    """What was found in each image.

    Args:
        root: directory that the paths are relative to.
        hashes: of each path, see `slnlab.storage.hashes`.
        workers: threads that decode; None: as many as CPUs, 0: none but this one.

    Raises:
        Stopped: a signal told the run to stop; what was found by then is kept.
    """
    real = os.path.realpath(root)
    before = cache.load(KIND, real)
    known: dict[str, Look] = {}
    passing: dict[str, Look] = {}
    if isinstance(before, dict) and before.get("reader") == READER and isinstance(before.get("looks"), dict):
        known = {content: Look(*found) for content, found in before["looks"].items()}
    paths = {content: path for path, content in hashes.items() if not content.startswith(NOT_READ)}
    new = [content for content in paths if content not in known]
    saved = time.monotonic()
    try:
        looked = _progress(_looks([str(root / paths[content]) for content in new], workers), len(new))
        for content, found in zip(new, looked, strict=True):
            (known if found.lasting else passing)[content] = found
            if time.monotonic() - saved > EVERY:
                _keep(real, known)
                saved = time.monotonic()
    finally:
        if new:
            _keep(real, known)
    seen = known | passing
    return {
        path: seen[content] if content in seen else Look(content.removeprefix(NOT_READ), lasting=False)
        for path, content in hashes.items()
    }


def _keep(real: str, known: Mapping[str, Look]) -> None:
    looks = {content: (found.problem, found.depth) for content, found in known.items()}
    cache.save(KIND, real, {"reader": READER, "looks": looks})


def _looks(paths: Sequence[str], workers: int | None) -> Iterator[Look]:
    """Threads do it: Pillow lets go of the interpreter while it decodes."""
    with ThreadPoolExecutor(max(1, cores() if workers is None else workers)) as pool:
        for first in range(0, len(paths), CHUNK):
            for found in pool.map(look, paths[first : first + CHUNK]):
                stop_if_requested()
                yield found


def _progress(found: Iterable[Look], total: int) -> Iterator[Look]:
    """A line on a terminal while it lasts, lines in a log if it takes long."""
    bar = tqdm(
        found,
        total=total,
        desc="checking images",
        disable=not sys.stderr.isatty(),
        delay=1,
        leave=False,
        dynamic_ncols=True,
    )
    said = time.monotonic()
    for number, image in enumerate(bar, start=1):
        yield image
        if time.monotonic() - said > EVERY and bar.disable:
            said = time.monotonic()
            log.info("checking images: %d of %d", number, total)
