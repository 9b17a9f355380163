"""Decode every image of a folder once before training, so that all that cannot be read are known at once.

Verdicts are kept by the content of the files (`slnlab.cache`): neither a resumed run nor the next one decodes an image
for this again, also when it was moved. torch is not imported.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import PIL
from tqdm import tqdm  # type: ignore[import-untyped]

from slnlab import cache
from slnlab.cores import cores
from slnlab.file_hashes import NOT_READ
from slnlab.image_files import unreadable
from slnlab.stopping import stop_if_told

log = logging.getLogger(__name__)

READER = f"Pillow {PIL.__version__}, 1"
"""Verdicts of another Pillow, or of another `slnlab.image_files` (the number), do not count."""

KIND = "images"
"""Of the cache's files."""

CHUNK = 1024
"""Images that threads are given at once."""

EVERY = 30.0
"""Seconds between two lines in a log, and after which what was found is kept."""


def look(path: str) -> str | None:
    """Decode one image; what is wrong with it, or None."""
    try:
        with open(path, "rb") as file:
            start = file.read(200)
    except OSError as error:
        return error.strerror or str(error)
    if not start:
        return "is empty"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page"
    problem = unreadable(path)
    return None if problem is None else problem.removeprefix(f"{path}: ")


def problems(root: Path, hashes: Mapping[str, str], workers: int | None = None) -> dict[str, str]:
    """The images that cannot be read, and why.

    Args:
        root: directory that the paths are relative to.
        hashes: of each path, see `slnlab.file_hashes`.
        workers: threads that decode; None: as many as CPUs, 0: none but this one.

    Raises:
        Stopped: a signal told the run to stop; what was found by then is kept.
    """
    real = os.path.realpath(root)
    before = cache.kept(KIND, real)
    known: dict[str, str | None] = {}
    if isinstance(before, dict) and before.get("reader") == READER and isinstance(before.get("problems"), dict):
        known = before["problems"]
    paths = {content: path for path, content in hashes.items() if not content.startswith(NOT_READ)}
    new = [content for content in paths if content not in known]
    saved = time.monotonic()
    try:
        looked = _progress(_looks([str(root / paths[content]) for content in new], workers), len(new))
        for content, problem in zip(new, looked, strict=True):
            known[content] = problem
            if time.monotonic() - saved > EVERY:
                cache.keep(KIND, real, {"reader": READER, "problems": known})
                saved = time.monotonic()
    finally:
        if new:
            cache.keep(KIND, real, {"reader": READER, "problems": known})
    found = {path: known.get(content, content.removeprefix(NOT_READ)) for path, content in hashes.items()}
    return {path: problem for path, problem in found.items() if problem is not None}


def _looks(paths: Sequence[str], workers: int | None) -> Iterator[str | None]:
    """Threads do it: Pillow lets go of the interpreter while it decodes."""
    with ThreadPoolExecutor(max(1, cores() if workers is None else workers)) as pool:
        for first in range(0, len(paths), CHUNK):
            for problem in pool.map(look, paths[first : first + CHUNK]):
                stop_if_told()
                yield problem


def _progress(found: Iterable[str | None], total: int) -> Iterator[str | None]:
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
    for number, problem in enumerate(bar, start=1):
        yield problem
        if time.monotonic() - said > EVERY and bar.disable:
            said = time.monotonic()
            log.info("checking images: %d of %d", number, total)
