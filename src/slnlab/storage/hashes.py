"""Hashes of files. Each file is read once; later it costs one `stat`.

`slnlab.storage.cache` holds the hashes by size, times and inode. This module does not import torch.
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
"""Name of the findings in the cache."""

NOT_READ = "unreadable: "
"""Stands in the place of a hash, before the reason."""

RECENT_NS = 2_000_000_000
"""Nanoseconds within which a file may change twice unnoticed. The hash of a file as young as this is not stored."""

MANY = 2000
PATIENCE = 10
"""The hashes of more than MANY files hold for PATIENCE times as long as the look at them took, because composing one
run asks dozens of times. They never hold where a run begins (`fresh`)."""

_State = tuple[int, int, int, int]
"""Size in bytes, modification and change time in ns, and inode. While these stay the same, so does the content."""

_hashes: dict[str, tuple[_State, str]] = {}
_loaded: set[str] = set()
_looks: dict[tuple[str, tuple[str, ...]], tuple[float, dict[str, str]]] = {}


def file_hashes(root: Path, paths: Iterable[str], fresh: bool) -> dict[str, str]:
    """The MD5 of each file by its path, as published data sets state it.

    Args:
        root: the folder of the paths.
        paths: file paths relative to `root`.
        fresh: True looks at the files again, however short the last look is ago.

    Returns:
        Path → hex digest, or `NOT_READ` and the reason for an unreadable file.
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
        with suppress(TypeError, AttributeError, IndexError):  # damaged or missing
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
        log.info("reading %d files (%.1f GB) of %s once, to hash them", len(changed), size / 1e9, root)
    grown = False
    with ThreadPoolExecutor(8) as pool:
        for path, digest in zip(changed, pool.map(_md5, (os.path.join(root, path) for path in changed)), strict=True):
            hashes[path] = digest
            recent = time.time_ns() - max(states[path][1:3]) < RECENT_NS
            if not recent and not digest.startswith(NOT_READ):
                _hashes[os.path.join(root, path)] = (states[path], digest)
                grown = True
    if grown:
        inside = os.path.join(root, "")
        below = {path[len(inside) :]: found for path, found in _hashes.items() if path.startswith(inside)}
        cache.save(KIND, root, {path: [*state, md5] for path, (state, md5) in below.items()})
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
