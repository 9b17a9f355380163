"""Cores of this process: how many it may use, how many processes share them, how its threads wait."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def cores() -> int:
    """The number of cores for this process, at least 1: its affinity, limited by its cgroups and by SLURM.

    Other runs on the machine do not count. The number of threads decides the order of sums, and so the bits of a run;
    these must not depend on its neighbours.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = min(_quotas(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")), default=math.inf)
    if granted < usable:
        usable = max(1, math.ceil(granted))
    return min(usable, int(os.environ.get("SLURM_CPUS_PER_TASK") or usable))


def _quotas(of_process: Path, mounted: Path) -> Iterator[float]:
    """The cores that each cgroup with a limit grants, such as a container's or a systemd service's.

    Args:
        of_process: the file with the names of the process's cgroups.
        mounted: the folder with the cgroups' files.
    """
    try:
        lines = of_process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mounted / "cpu" if controllers else mounted
        group = root / path.strip("/")
        # Outer groups limit it too. A container does not see all of them.
        for folder in (group, *group.parents):
            yield from _quota(folder)
            if folder == root:
                break


def _quota(group: Path) -> Iterator[float]:
    for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):  # version 2, version 1
        try:
            quota, period = " ".join((group / name).read_text(encoding="utf-8") for name in files).split()
            if int(quota) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError):  # no limit ("max"), or no such file
            continue


def wait_without_spinning() -> None:
    """Let waiting OpenMP threads sleep. Call it before PyTorch is imported; child processes inherit it.

    By default they spin, and two runs on one machine block each other's cores: 30 times slower was measured.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def processes_here(of_run: int) -> int:
    """The number of the run's processes that share this process's cores.

    SLURM gives each task its own cores; torchrun states the number.

    Args:
        of_run: the number of the run's processes on this machine if slnlab started them.
    """
    by_slurm = int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1
    return int(os.environ.get("LOCAL_WORLD_SIZE") or (1 if by_slurm else of_run))
