"""Digests of the files that a run reads: other contents are another run, the same ones elsewhere the same run.

A configuration names files in three ways, and each has its digest here:

- a data source (`data.source`, `noise.donor`) lists in `files` what it reads below its `root`;
- `noise.path` may name a run directory, whose `noise.npz` counts;
- any other value that is the path of a file.

Nothing here imports torch.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import unicodedata
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from slnlab.config.container import flat
from slnlab.errors import ConfigError, DataError
from slnlab.image_folder.listing import read_image_folder
from slnlab.schema import sections
from slnlab.storage.hashes import file_hashes
from slnlab.text.messages import quoted

log = logging.getLogger(__name__)

SOURCES = sections.SOURCES

STAMP = ("files", "published")
"""Keys of a data source that slnlab reads itself: what it reads below `root`, and the digest of the published files."""

HOW = ("root", "download", "verify", *STAMP)
"""Keys of a data source that do not count beside the digest of its files."""

BY_FILE = 1000
"""Up to so many files a change is told by file, beyond by folder."""


MOST = 10_000
"""Files below `root` that are looked at where a data source does not list its own."""

MISSING = "missing"
"""In the place of a file's hash."""


class Contents(NamedTuple):
    """Of the files of a data source: their digest, and the hash of each file, or of each folder if they are many."""

    digest: str
    parts: dict[str, str]


def node_at(container: Mapping[str, Any], dotted: str) -> Any:
    """The value at a dotted key; None where there is none."""
    node: Any = container
    for part in dotted.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def for_class(node: Mapping[str, Any]) -> dict[str, Any]:
    """A data source's node without the keys that its class does not know."""
    return {str(key): value for key, value in node.items() if key not in STAMP}


def digests(container: Mapping[str, Any], fresh: bool = False) -> dict[str, str]:
    """Digests of all files that a configuration names: by dotted key, or by that of the data source's node.

    Args:
        container: the configuration, resolved.
        fresh: look at the files again, also if they were looked at just now.

    Raises:
        ConfigError: `files` of a data source is no list of paths.
        DataError: an image folder that cannot be used.
    """
    found: dict[str, str] = {}
    for key in SOURCES:
        if (contents := source_contents(key, node_at(container, key), fresh)) is not None:
            found[key] = contents.digest
    for key, value in flat(dict(container)).items():
        section, _, name = key.rpartition(".")
        if (section in found and name in HOW) or key.startswith(("hydra.", "contents.", "init.")):
            continue
        # A name that is no path may be that of a file in the working directory by chance.
        like_a_path = isinstance(value, str) and ("." in value or os.sep in value or name.endswith("path"))
        if like_a_path and name != "_target_":
            path = Path(os.path.expanduser(value))
            if key == "noise.path" and path.is_dir():
                path /= "noise.npz"
            if path.is_file():
                found[key] = file_hashes(path.parent, [path.name], fresh)[path.name]
    return found


def source_contents(key: str, node: Any, fresh: bool = False) -> Contents | None:
    """The contents of a data source's files; None if they are unknown.

    Args:
        key: of the node, for messages.
        node: with `root` and `files`: paths below it, of files or folders, with wildcards (`*`, `**`) if need be; or
            `image_folder`, the images that `slnlab.image_folder.listing` finds. Of files that are not there yet,
            `published` is the digest: they are fetched when the run begins. Without `files` all that lies below `root`
            counts, if it is no more than `MOST` files.
        fresh: see `digests`.

    Raises:
        ConfigError, DataError: see `digests`.
    """
    if not isinstance(node, Mapping):
        return None
    files = node.get("files")
    if files is None and (files := _all_below(key, node.get("root"))) is None:
        return None
    if files != "image_folder" and not (isinstance(files, list) and all(isinstance(name, str) for name in files)):
        raise ConfigError(f"{key}.files: {files!r} is not allowed: a list of paths below {key}.root, or image_folder")
    root = Path(os.path.expanduser(str(node.get("root", ""))))
    published = node.get("published")
    missing: dict[str, str] = {}
    if files == "image_folder":
        listing = read_image_folder(str(node["root"]), node.get("unreadable", "refuse")).splits.values()
        paths = [path for split in listing for path in split.paths]
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
    """The files of a data source that does not list them; None: it has no folder, or too many files."""
    if not isinstance(root, str) or not os.path.isdir(os.path.expanduser(root)):
        return None
    walked = os.walk(os.path.expanduser(root), followlinks=True)
    if len(list(islice((name for _, _, names in walked for name in names), MOST + 1))) > MOST:
        if key not in _warned:
            log.warning(
                "%s: has more than %d files below %s, so a change in them is not noticed; list those that it reads in "
                "%s.files",
                key, MOST, root, key,
            )  # fmt: skip
            _warned.add(key)
        return None
    return ["."]


_warned: set[str] = set()


def _below(root: Path, name: str) -> list[str]:
    """The files that a path or pattern below `root` stands for, relative to it; hidden ones are left out."""
    if (root / name).is_file():
        return [name]
    if (root / name).is_dir():
        found: list[str] = []
        for folder, inner, names in os.walk(root / name, followlinks=True):
            inner[:] = [each for each in inner if not each.startswith(".")]
            found += [os.path.relpath(os.path.join(folder, each), root) for each in names if not each.startswith(".")]
        return found
    return [path for path in glob.glob(name, root_dir=root, recursive=True) if (root / path).is_file()]


# At start and at resume


def refuse_changed(container: Mapping[str, Any], stored: Path) -> None:
    """Make sure that the files are still those that the run was configured with, and the published ones where asked.

    Args:
        container: the settled configuration, whose `contents` are filled in.
        stored: `identity.json` of the run directory, where the run has begun before.

    Raises:
        DataError: names the key and what has changed.
    """
    for key in SOURCES:
        contents = source_contents(key, node_at(container, key), fresh=True)
        missing = [name for name, found in contents.parts.items() if found == MISSING] if contents else []
        if missing:
            raise DataError(f"{key}.files: there is no {missing[0]} in {_where(container, key)!r}")
    now, then = digests(container), container["contents"]
    for key in sorted(then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            raise DataError(
                f"{key}: {_where(container, key)} has changed since this run was configured"
                f"{changes(container, stored, key)}; a run does not go on with other data. The same command begins a "
                "new run with them"
            )
    for key in SOURCES:
        node = node_at(container, key)
        if isinstance(node, Mapping) and node.get("verify") and now.get(key) not in (None, node.get("published")):
            raise DataError(
                f"{key}: the files in {node['root']} are not the published ones; {key}.verify=false reads them all "
                "the same, and the result says so"
            )


def unverified(container: Mapping[str, Any]) -> bool:
    """Whether the data set has published files, and these are others."""
    published = node_at(container, "data.source.published")
    return published is not None and (container["contents"] or {}).get("data.source") != published


def parts(container: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Of each data source that lists its files the hash of each, or of each folder, so that a change can be named."""
    found = {key: source_contents(key, node_at(container, key)) for key in SOURCES}
    return {key: contents.parts for key, contents in found.items() if contents is not None}


def changes(container: Mapping[str, Any], stored: Path, key: str) -> str:
    """What has changed in a data source since the run began, as in ` ('a.png', 'b.png')`; empty where that is unknown.

    Args:
        container, stored: see `refuse_changed`.
        key: of the data source's node.
    """
    try:
        then = json.loads(stored.read_text(encoding="utf-8"))["files"][key]
        contents = source_contents(key, node_at(container, key))
        now = contents.parts if contents else {}
    except (OSError, ValueError, KeyError, ConfigError, DataError):
        return ""
    names = [repr(name) for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
    more = f" and {len(names) - 3} more" if names[3:] else ""
    return f" ({', '.join(names[:3])}{more})" if names else ""


def refuse_replaced(container: Mapping[str, Any], stored: Path) -> None:
    """Make sure that the files that a run has read while it trained are still those that it began with.

    Files that have come since are not its own. Of many files only folders are known, and a change there is a warning.

    Args:
        container, stored: see `refuse_changed`.

    Raises:
        DataError: names files that are others now, or gone.
    """
    try:
        then = json.loads(stored.read_text(encoding="utf-8"))["files"]["data.source"]
    except (OSError, ValueError, KeyError):
        return
    contents = source_contents("data.source", node_at(container, "data.source"), fresh=True)
    now = contents.parts if contents else {}
    names = [name for name, found in then.items() if now.get(name) != found]
    if not names:
        return
    said = f"{_where(container, 'data.source')}: {quoted(names, 3)} changed while the run trained"
    if any(name.endswith("/") for name in then):
        log.warning("%s, so that its result may be of neither state", said)
    else:
        raise DataError(f"{said}, so that its result would be of neither state; force=true begins it anew")


def _where(container: Mapping[str, Any], key: str) -> str:
    node = node_at(container, key)
    return str(node.get("root")) if isinstance(node, Mapping) else str(node)
