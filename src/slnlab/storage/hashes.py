"""Hashes of files, each read once: they are kept (`slnlab.storage.cache`) by what changes with a file's content.

Later a file costs one `stat`. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from slnlab.storage import cache

log = logging.getLogger(__name__)

KIND = "contents"
"""Of the cache's files."""

NOT_READ = "unreadable: "
"""In the place of a hash, before the reason."""

RECENT_NS = 2_000_000_000
"""A file that was changed so shortly before it was read may change again unnoticed: its hash is not kept."""

MANY = 2000
PATIENCE = 10
"""Of more than MANY files a look holds for PATIENCE times as long as it took: composing one run asks for it dozens of
times. It never holds where a run begins (`fresh`)."""

_State = tuple[int, int, int, int]
"""Size, times of change of content and of inode in ns, and inode: while they stay, so does the content."""

_hashes: dict[str, tuple[_State, str]] = {}
_loaded: set[str] = set()
_looks: dict[tuple[str, tuple[str, ...]], tuple[float, dict[str, str]]] = {}


def file_hashes(root: Path, paths: Iterable[str], fresh: bool) -> dict[str, str]:
    """The MD5 of each file, the hash that published data sets state; of one that cannot be read, why.

    Args:
        root: of the paths.
        paths: relative to it.
        fresh: look at them again, also if they were looked at just now.
    """
    asked = (os.path.realpath(root), tuple(paths))
    until, hashes = _looks.get(asked, (0.0, {}))
    begun = time.monotonic()
    if fresh or begun >= until:
        hashes = _hash_changed(*asked)
        if len(_looks) > 100:
            _looks.clear()
        if len(hashes) > MANY:
            now = time.monotonic()
            _looks[asked] = (now + PATIENCE * (now - begun), hashes)
    return hashes


def _hash_changed(root: str, paths: tuple[str, ...]) -> dict[str, str]:
    if root not in _loaded:
        _loaded.add(root)
        with suppress(TypeError, AttributeError, IndexError):  # damaged, or none
            lines = cache.load(KIND, root)
            _hashes.update({os.path.join(root, path): (tuple(line[:4]), line[4]) for path, line in lines.items()})
    hashes: dict[str, str] = {}
    states: dict[str, _State] = {}
    for path in paths:
        full = os.path.join(root, path)
        try:
            states[path] = _state(full)
        except OSError as error:
            hashes[path] = NOT_READ + str(error.strerror)
            continue
        known = _hashes.get(full)
        if known is not None and known[0] == states[path]:
            hashes[path] = known[1]
    changed = [path for path in paths if path not in hashes]
    if not changed:
        return hashes
    size = sum(states[path][0] for path in changed)
    if size > 1e9 or len(changed) > 20_000:
        log.info("reading %d files (%.1f GB) of %s once, to tell their contents", len(changed), size / 1e9, root)
    keep = False
    with ThreadPoolExecutor(8) as pool:
        for path, digest in zip(changed, pool.map(_md5, (os.path.join(root, path) for path in changed)), strict=True):
            hashes[path] = digest
            recent = time.time_ns() - max(states[path][1:3]) < RECENT_NS
            if not recent and not digest.startswith(NOT_READ):
                _hashes[os.path.join(root, path)] = (states[path], digest)
                keep = True
    if keep:
        inside = os.path.join(root, "")
        here = {path[len(inside) :]: found for path, found in _hashes.items() if path.startswith(inside)}
        cache.save(KIND, root, {path: [*state, md5] for path, (state, md5) in here.items()})
    return hashes


def _state(path: str) -> _State:
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _md5(path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        return NOT_READ + str(error.strerror)
    return digest.hexdigest()
