"""Digests of the files that a run reads. Other contents make another run; another place of the files does not.

A configuration names files in three ways, each with a digest:

- A data source (`data.source`, `noise.donor`) lists its paths below `root` in `files`.
- `noise.path` may name a run directory; its `noise.npz` counts.
- Any other value may be the path of a file.

This module does not import torch.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import unicodedata
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from slnlab.config.container import differing, flat
from slnlab.errors import ConfigError, DataError
from slnlab.image_folder.listing import read_image_folder
from slnlab.schema.sections import SOURCES, node_at
from slnlab.storage.hashes import file_hashes

log = logging.getLogger(__name__)

OWN_KEYS = ("files", "published")
"""Keys of a data source for slnlab alone: the paths below `root`, and the digest of the published files."""

PLACE_KEYS = ("root", "download", "verify", *OWN_KEYS)
"""Keys of a data source that do not count beside the digest of its files."""

BY_FILE = 1000
"""Most files of a data source whose changes are named by file; beyond, messages name folders."""

MAX_FILES = 10_000
"""Most files below `root` that are hashed if a data source does not list its own."""

MISSING = "missing"
"""Stands in the place of a missing file's hash."""


class Contents(NamedTuple):
    """The files of a data source.

    Args:
        digest: 16 hex digits over all paths and hashes, or the published digest before a download.
        parts: path → hash for each file, or folder → hash for more than `BY_FILE` files.
    """

    digest: str
    parts: dict[str, str]


def for_class(node: Mapping[str, Any]) -> dict[str, Any]:
    """A data source's node without the keys for slnlab alone, as its constructor takes it."""
    return {str(key): value for key, value in node.items() if key not in OWN_KEYS}


def digests(container: Mapping[str, Any]) -> dict[str, str]:
    """Dotted key → digest for all files that a configuration names. A data source has the key of its node.

    Args:
        container: the resolved configuration.

    Raises:
        ConfigError: `files` of a data source is no list of paths.
        DataError: an image folder is unusable.
    """
    found: dict[str, str] = {}
    for key in SOURCES:
        if (contents := source_contents(key, node_at(container, key))) is not None:
            found[key] = contents.digest
    for key, value in flat(dict(container)).items():
        section, _, name = key.rpartition(".")
        if (section in found and name in PLACE_KEYS) or key.startswith(("contents.", "init.")):
            continue
        # A bare word may equal the name of a file in the working directory by chance.
        like_a_path = isinstance(value, str) and ("." in value or os.sep in value or name.endswith("path"))
        if like_a_path and name != "_target_":
            path = Path(os.path.expanduser(value))
            if key == "noise.path" and path.is_dir():
                path /= "noise.npz"
            if path.is_file():
                found[key] = file_hashes(path.parent, [path.name], fresh=False)[path.name]
    return found


def source_contents(key: str, node: Any, fresh: bool = False) -> Contents | None:
    """The contents of a data source's files; None if they are unknown.

    Args:
        key: dotted key of the node, for messages.
        node: the node, with up to three keys. `root`: a folder, or the only file. `files`: paths of files or folders
            below `root`, perhaps with wildcards (`*`, `**`), or `image_folder` for the images of
            `slnlab.image_folder.listing`; without it all files below `root` count, if there are at most `MAX_FILES`.
            `published`: the digest of the published files; it also holds before their download.
        fresh: True looks at the files again, however short the last look is ago.

    Raises:
        ConfigError, DataError: see `digests`.
    """
    if not isinstance(node, Mapping):
        return None
    files, root = node.get("files"), Path(os.path.expanduser(str(node.get("root", ""))))
    if files is None and root.is_file():
        root, files = root.parent, [root.name]
    if files is None and (files := _all_below(key, node.get("root"))) is None:
        return None
    if files != "image_folder" and not (isinstance(files, list) and all(isinstance(name, str) for name in files)):
        raise ConfigError(f"{key}.files: {files!r} is not allowed: a list of paths below {key}.root, or image_folder")
    published = node.get("published")
    missing: dict[str, str] = {}
    if files == "image_folder":
        found = read_image_folder(str(node["root"]), node.get("unreadable", "refuse"), labels=node.get("labels"))
        paths = [path for split in found.splits.values() for path in split.paths]
        if root.is_file():
            paths.append(root.name)
        root = found.top
    else:
        matches = {name: _below(root, name) for name in files}
        paths = sorted({path for found in matches.values() for path in found})
        if not paths and published is not None:
            return Contents(str(published), {})
        missing = {name: MISSING for name, found in matches.items() if not found and not glob.has_magic(name)}
    hashes = file_hashes(root, paths, fresh) | missing
    whole = hashlib.sha256()
    folders: dict[str, Any] = {}
    for path in sorted(hashes, key=os.fsencode):
        line = os.fsencode(unicodedata.normalize("NFC", path)) + b"\0" + hashes[path].encode() + b"\n"
        whole.update(line)
        folders.setdefault(os.path.dirname(path) or ".", hashlib.md5(usedforsecurity=False)).update(line)
    by_folder = {f"{folder}/": digest.hexdigest() for folder, digest in folders.items()}
    return Contents(whole.hexdigest()[:16], hashes if len(hashes) <= BY_FILE else by_folder)


def _all_below(key: str, root: Any) -> list[str] | None:
    """The paths of a data source without `files`: its whole folder. None without a folder, or with too many files."""
    if not isinstance(root, str) or not os.path.isdir(os.path.expanduser(root)):
        return None
    walked = os.walk(os.path.expanduser(root), followlinks=True)
    if len(list(islice((name for _, _, names in walked for name in names), MAX_FILES + 1))) > MAX_FILES:
        if key not in _warned:
            log.warning(
                "%s: has more than %d files below %s, so a change in them is not noticed; list those that it reads in "
                "%s.files",
                key, MAX_FILES, root, key,
            )  # fmt: skip
            _warned.add(key)
        return None
    return ["."]


_warned: set[str] = set()


def _below(root: Path, name: str) -> list[str]:
    """The visible files of a path or pattern below `root`, relative to `root`."""
    if (root / name).is_file():
        return [name]
    if (root / name).is_dir():
        found: list[str] = []
        for folder, inner, names in os.walk(root / name, followlinks=True):
            inner[:] = [each for each in inner if not each.startswith(".")]
            found += [os.path.relpath(os.path.join(folder, each), root) for each in names if not each.startswith(".")]
        return found
    return [path for path in glob.glob(name, root_dir=root, recursive=True) if (root / path).is_file()]


def where(container: Mapping[str, Any], key: str) -> str:
    """The place of a data source or a file of a configuration, for messages."""
    node = node_at(container, key)
    return str(node.get("root")) if isinstance(node, Mapping) else str(node)


def unverified(container: Mapping[str, Any]) -> bool:
    """True if the data set has published files and the run uses others."""
    published = node_at(container, "data.source.published")
    return published is not None and (container["contents"] or {}).get("data.source") != published


def parts(container: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Key of a data source → `Contents.parts`, stored so that a message can name a later change."""
    found = {key: source_contents(key, node_at(container, key)) for key in SOURCES}
    return {key: contents.parts for key, contents in found.items() if contents is not None}


def changes(container: Mapping[str, Any], then: Mapping[str, Mapping[str, str]], key: str) -> str:
    """The changes in a data source since its `parts` were stored, such as ` ('a.png', 'b.png')`; empty if unknown.

    Args:
        container: the configuration.
        then: the stored `parts`.
        key: dotted key of the data source's node.
    """
    if key not in then:
        return ""
    try:
        contents = source_contents(key, node_at(container, key))
    except (ConfigError, DataError):
        return ""
    names = [repr(name) for name in differing(then[key], contents.parts if contents else {})]
    more = f" and {len(names) - 3} more" if names[3:] else ""
    return f" ({', '.join(names[:3])}{more})" if names else ""
