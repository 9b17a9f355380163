"""The small text files of finished runs in one archive: every table and curve without weights, samples and labels.

    python -m slnlab.report runs --archive runs.tar.xz
    tar -xf runs.tar.xz -C runs

Unpacked runs lie where their command looks for them, so that a sweep repeats none of them. Equal runs give equal bytes.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from slnlab.config.identity import subdir_of
from slnlab.errors import DataError
from slnlab.record.run_directory import RunDirectory
from slnlab.storage.writing import replacing

SUFFIX = ".tar.xz"


def write_archive(path: Path, runs: Iterable[tuple[RunDirectory, Mapping[str, Any], str]]) -> None:
    """Write the archive, whole or not at all.

    Args:
        path: of the archive, ends with `.tar.xz`.
        runs: directory, identity and group of each run.

    Raises:
        DataError: `path` has another suffix or cannot be written, or a run's `result.json` cannot be read.
    """
    if not path.name.endswith(SUFFIX):
        raise DataError(f"{path}: an archive of runs ends with {SUFFIX}")
    named = sorted((subdir_of(identity, group), run) for run, identity, group in runs)
    with replacing(path) as file, tarfile.open(fileobj=file, mode="w:xz", encoding="utf-8") as archive:
        for name, run in named:
            for member in (run.config, run.overrides, run.environment, run.identity, run.metrics, run.result):
                if member.exists() or member == run.result:
                    _add(archive, f"{name}/{member.name}", member.read_bytes())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file without its owner and time, which would make other bytes of the same runs."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, BytesIO(content))
