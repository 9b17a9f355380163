"""Environment of a run: versions, machine, commit."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "slnlab",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "scikit-learn",
)


def environment() -> dict[str, Any]:
    """Versions, machine, git state and SLURM job, as plain JSON."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "packages": dict(_versions()),
        "platform": platform.platform(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "git": git_state(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


@functools.cache
def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def processor_name() -> str:
    """Model name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@functools.cache
def git_state() -> dict[str, Any] | None:
    """Commit of the running checkout, and whether its files differ from it; None outside a checkout.

    The first answer is kept for the life of the process, as later changes are not part of the running code.
    """
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1]
    # An installed package holds its configuration, and may lie two folders below the user's own repository.
    if (package / "conf").is_dir() or not (checkout / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, encoding="utf-8", check=True
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--", "src", "conf")),
        }
    except (OSError, subprocess.CalledProcessError):
        return None
