"""The check of all images before training: it decodes each once and finds every unreadable one.

`slnlab.storage.cache` stores the verdicts by the content of the files, so no later run decodes an image again for this,
even if it was moved. After a failure of the system, such as too little memory, the next run checks the image again.
This module does not import torch.
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
"""Only verdicts of this Pillow and this version of `slnlab.image_folder.decoding` (the number) count."""

KIND = "images"
"""Name of the verdicts in the cache."""

CHUNK = 1024
"""Images that the threads get at once."""

EVERY = 30.0
"""Seconds between two lines in the log, and between two writes to the cache."""


class Verdict(NamedTuple):
    """The result of decoding an image."""

    problem: str | None
    """The fault; None if the image is readable."""
    depth: str | None = None
    """See `slnlab.image_folder.decoding.depth`; None if the image is unreadable."""
    lasting: bool = True
    """True if it follows from the content of the file, False after a failure of the system."""


def judge(path: str) -> Verdict:
    """Decode one image."""
    try:
        with open(path, "rb") as file:
            start = file.read(200)
    except OSError as error:
        return Verdict(error.strerror or str(error), lasting=False)
    if not start:
        return Verdict("is empty")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return Verdict("is a web page")
    try:
        image = load(path)
        rgb(image, path, pixel_range=(0, 1))  # any range: that of deep images depends on all of them
    except DataError as error:
        return Verdict(str(error).removeprefix(f"{path}: "), lasting=not isinstance(error, NotDecoded))
    return Verdict(None, depth(image))


def problems(root: Path, hashes: Mapping[str, str], workers: int | None = None) -> dict[str, str]:
    """Path → fault of every unreadable image; see `verdicts`."""
    found = verdicts(root, hashes, workers)
    return {path: verdict.problem for path, verdict in found.items() if verdict.problem is not None}


def verdicts(root: Path, hashes: Mapping[str, str], workers: int | None = None) -> dict[str, Verdict]:
    """The verdict on each image, by its path.

    Args:
        root: the folder of the paths.
        hashes: path → hash of the file; see `slnlab.storage.hashes`.
        workers: number of decoding threads, 0 like 1; None uses all cores.

    Raises:
        Stopped: a signal arrived; the verdicts until then are in the cache.
    """
    real = os.path.realpath(root)
    before = cache.load(KIND, real)
    known: dict[str, Verdict] = {}
    passing: dict[str, Verdict] = {}
    if isinstance(before, dict) and before.get("reader") == READER and isinstance(before.get("verdicts"), dict):
        known = {content: Verdict(*found) for content, found in before["verdicts"].items()}
    paths = {content: path for path, content in hashes.items() if not content.startswith(NOT_READ)}
    new = [content for content in paths if content not in known]
    saved = time.monotonic()
    try:
        judged = _progress(_judge_all([str(root / paths[content]) for content in new], workers), len(new))
        for content, found in zip(new, judged, strict=True):
            (known if found.lasting else passing)[content] = found
            if time.monotonic() - saved > EVERY:
                _save(real, known)
                saved = time.monotonic()
    finally:
        if new:
            _save(real, known)
    seen = known | passing
    return {
        path: seen[content] if content in seen else Verdict(content.removeprefix(NOT_READ), lasting=False)
        for path, content in hashes.items()
    }


def _save(real: str, known: Mapping[str, Verdict]) -> None:
    stored = {content: (found.problem, found.depth) for content, found in known.items()}
    cache.save(KIND, real, {"reader": READER, "verdicts": stored})


def _judge_all(paths: Sequence[str], workers: int | None) -> Iterator[Verdict]:
    """The verdicts in the order of the paths. Threads suffice, as Pillow releases the interpreter while it decodes."""
    with ThreadPoolExecutor(max(1, cores() if workers is None else workers)) as pool:
        for first in range(0, len(paths), CHUNK):
            for found in pool.map(judge, paths[first : first + CHUNK]):
                stop_if_requested()
                yield found


def _progress(found: Iterable[Verdict], total: int) -> Iterator[Verdict]:
    """Show the progress: a bar on a terminal, else a line in the log every `EVERY` seconds."""
    bar = tqdm(
        found,
        total=total,
        desc="checking images",
        disable=not sys.stderr.isatty(),
        delay=1,
        leave=False,
        dynamic_ncols=True,
    )
    logged = time.monotonic()
    for number, verdict in enumerate(bar, start=1):
        yield verdict
        if time.monotonic() - logged > EVERY and bar.disable:
            logged = time.monotonic()
            log.info("checking images: %d of %d", number, total)
