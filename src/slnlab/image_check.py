"""Look at every image of a folder once before training: can it be decoded, and which are exact copies of one another.

What was found is kept in the user's cache, so that neither a resumed run nor the next one decodes an unchanged image
for this again. torch is not imported.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import PIL
from tqdm import tqdm  # type: ignore[import-untyped]

from slnlab.cores import cores
from slnlab.errors import DataError
from slnlab.files import replacing
from slnlab.image_files import unreadable
from slnlab.stopping import stop_if_told

log = logging.getLogger(__name__)

READER = f"Pillow {PIL.__version__}, 2"
"""Verdicts of another Pillow, or of another `unreadable` (the number), do not count."""

CHUNK = 32
"""Images that a process is given at once."""

WORTH_PROCESSES = 4 * 2**20
"""Bytes of images from which on other processes help: to start them takes a while."""

EVERY = 30.0
"""Seconds between two lines in a log, and after which what was found is kept."""

RECENT = 2 * 10**9
"""Nanoseconds after a change in which a file may change again at the same time of its clock: it is looked at again."""


class Verdict(NamedTuple):
    """Of an image: a hash of its file, 32 hex digits, "" if it cannot be opened; and why it cannot be read, or None."""

    content: str
    problem: str | None


def look(path: str) -> Verdict:
    """Read one image twice: as bytes, and decoded."""
    try:
        with open(path, "rb") as file:
            whole = file.read()
    except OSError as error:
        return Verdict("", error.strerror or str(error))
    content, start = hashlib.blake2b(whole, digest_size=16).hexdigest(), whole[:200]
    if not whole:
        return Verdict(content, "is empty")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return Verdict(content, "is a web page")
    return Verdict(content, unreadable(Path(path)))


def verdicts(root: Path, paths: Sequence[str], workers: int | None = None) -> dict[str, Verdict]:
    """Look at images, in parallel, except where the cache has what was found of the same file.

    A file is the same if its path, size and time of change (mtime, in ns) are.

    Args:
        root: directory that the paths are relative to.
        paths: of the images.
        workers: processes; None: as many as CPUs, 0: none but this one.

    Raises:
        DataError: a process has died.
        Stopped: a signal told the run to stop; what was found by then is kept.
    """
    cache = _Cache(root)
    stamps = {path: _stamp(root / path) for path in paths}
    found = {
        path: cache.known[path][1] for path in paths if path in cache.known and cache.known[path][0] == stamps[path]
    }
    todo = [path for path in paths if path not in found]
    if todo:
        size, saved = sum(stamps[path][0] for path in todo), time.monotonic()
        new: dict[str, tuple[Stamp, Verdict]] = {}
        try:
            for path, verdict in zip(todo, _progress(_looks(root, todo, size, workers), len(todo)), strict=True):
                found[path] = verdict
                # A file that could not be opened may be by then: permissions have no mtime.
                if verdict.content and time.time_ns() - stamps[path][1] > RECENT:
                    new[path] = stamps[path], verdict
                if time.monotonic() - saved > EVERY:
                    cache.add(new)
                    saved = time.monotonic()
        finally:
            cache.add(new)
    return found


Stamp = tuple[int, int]
"""Size in bytes, and mtime in ns."""


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_size, stat.st_mtime_ns)


def _looks(root: Path, paths: Sequence[str], size: int, workers: int | None) -> Iterator[Verdict]:
    count = min(cores() if workers is None else workers, -(-len(paths) // CHUNK))
    where = [str(root / path) for path in paths]
    if count < 2 or size < WORTH_PROCESSES:
        for path in where:
            stop_if_told()
            yield look(path)
        return
    # Forked on Linux, as the processes that decode for training are.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_leave_signals)
    try:
        for verdict in pool.map(look, where, chunksize=CHUNK):
            stop_if_told()
            yield verdict
    except BrokenProcessPool as error:
        raise DataError(
            f"{root}: a process that looked at images has died, perhaps for want of memory; data.workers=0 uses none"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_signals() -> None:
    """They are the main process's to answer."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _progress(found: Iterable[Verdict], total: int) -> Iterator[Verdict]:
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
    for number, verdict in enumerate(bar, start=1):
        yield verdict
        if time.monotonic() - said > EVERY and bar.disable:
            said = time.monotonic()
            log.info("checking images: %d of %d", number, total)


class _Cache:
    """A file for each root, replaced as a whole: several processes may read and write, and at worst look twice."""

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:24]
        self.files = [folder / f"{name}.json" for folder in _cache_folders()]
        self.known: dict[str, tuple[Stamp, Verdict]] = self._load()

    def add(self, found: dict[str, tuple[Stamp, Verdict]]) -> None:
        """Keep what was found, beside what others have found since."""
        if not found:
            return
        self.known = self._load() | found
        content = {"reader": READER, "files": {path: [*stamp, *v] for path, (stamp, v) in self.known.items()}}
        for file in self.files:
            with suppress(OSError, DataError):
                file.parent.mkdir(parents=True, exist_ok=True)
                with replacing(file) as writable:
                    writable.write(json.dumps(content).encode())
                return
        log.warning("%s: cannot be written, so the next run looks at all images again", self.files[0])

    def _load(self) -> dict[str, tuple[Stamp, Verdict]]:
        for file in self.files:
            try:
                content = json.loads(file.read_bytes())
                if content["reader"] == READER:
                    return {
                        path: ((size, when), Verdict(hashed, problem))
                        for path, (size, when, hashed, problem) in content["files"].items()
                    }
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # none, or damaged: it costs a look at each image
        return {}


def _cache_folders() -> list[Path]:
    """`SLNLAB_CACHE` or the user's cache; where that cannot be written, the system's folder for temporary files."""
    places = [os.environ.get("SLNLAB_CACHE"), os.environ.get("XDG_CACHE_HOME"), os.path.expanduser("~/.cache")]
    user = next(place for place in places if place)
    temporary = Path(tempfile.gettempdir()) / f"slnlab-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
    return [Path(user) / "slnlab" / "images", temporary / "images"]
