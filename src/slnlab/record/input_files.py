"""Checks of the files that a run reads, before and after training: they are those of its configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from slnlab.config.container import differing
from slnlab.config.contents import MISSING, changes, digests, source_contents, where
from slnlab.errors import DataError
from slnlab.record.run_directory import RunDirectory
from slnlab.schema.sections import SOURCES, node_at
from slnlab.text.messages import quoted

log = logging.getLogger(__name__)


def refuse_changed(container: Mapping[str, Any], run: RunDirectory) -> None:
    """Check that the files are those of the configuration, and, with `verify`, the published ones.

    Args:
        container: the settled configuration with its `contents`.
        run: its directory, which may know the files of an earlier start.

    Raises:
        DataError: files are missing, changed, or not the published ones; the message names the key.
    """
    for key in SOURCES:
        contents = source_contents(key, node_at(container, key), fresh=True)
        missing = [name for name, found in contents.parts.items() if found == MISSING] if contents else []
        if missing:
            raise DataError(f"{key}.files: there is no {missing[0]} in {where(container, key)!r}")
    now = digests(container)
    for key in differing(container["contents"], now):
        raise DataError(
            f"{key}: {where(container, key)} has changed since this run was configured"
            f"{changes(container, run.stored_files(), key)}; a run never resumes with other data. The same command "
            "begins a new run with them"
        )
    for key in SOURCES:
        node = node_at(container, key)
        if isinstance(node, Mapping) and node.get("verify") and now.get(key) not in (None, node.get("published")):
            raise DataError(
                f"{key}: the files in {node['root']} are not the published ones; {key}.verify=false reads them all "
                "the same, and the result says so"
            )


def refuse_replaced(container: Mapping[str, Any], run: RunDirectory) -> None:
    """Check after training that the files are those of the start. New files do not count.

    For many files only the hashes of folders are known; a change there is a warning.

    Args:
        container, run: see `refuse_changed`.

    Raises:
        DataError: files changed or disappeared; the message names them.
    """
    then = run.stored_files().get("data.source", {})
    if not then:
        return
    contents = source_contents("data.source", node_at(container, "data.source"), fresh=True)
    now = contents.parts if contents else {}
    names = [name for name, found in then.items() if now.get(name) != found]
    if not names:
        return
    changed = f"{where(container, 'data.source')}: {quoted(names, 3)} changed while the run trained"
    if any(name.endswith("/") for name in then):
        log.warning("%s, so that its result may belong to neither state", changed)
    else:
        raise DataError(f"{changed}, so that its result would belong to neither state; force=true begins it anew")
