"""The user's cache: findings about files that can always be found again.

The directory is `SLNLAB_CACHE`, `XDG_CACHE_HOME` or `~/.cache`, in this order. If it is read-only, the system's folder
for temporary files takes its place. Files are replaced as a whole, so several processes may read and write.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from slnlab.errors import DataError
from slnlab.storage.writing import replacing

log = logging.getLogger(__name__)


def load(kind: str, root: str) -> Any:
    """The JSON value that `save` wrote for a folder; None if it is missing or damaged.

    Args:
        kind: names the kind of findings, such as `images`.
        root: real path of the folder.
    """
    for file in _files(kind, root):
        with suppress(OSError, ValueError):
            return json.loads(file.read_text(encoding="utf-8"))
    return None


def save(kind: str, root: str, content: Any) -> None:
    """Store a JSON value for `load`. A cache without a writable place logs a warning."""
    files = _files(kind, root)
    for file in files:
        with suppress(OSError, DataError):
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as opened:
                opened.write(json.dumps(content).encode())
            return
    log.warning("%s: cannot be written, so the next run reads all files of %s again", files[0], root)


def _files(kind: str, root: str) -> list[Path]:
    name = f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json"
    places = [os.environ.get("SLNLAB_CACHE"), os.environ.get("XDG_CACHE_HOME"), os.path.expanduser("~/.cache")]
    user = next(place for place in places if place)
    temporary = Path(tempfile.gettempdir()) / f"slnlab-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
    return [Path(user) / "slnlab" / kind / name, temporary / kind / name]
