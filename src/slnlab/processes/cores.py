"""How many cores there are for this process, how many share them, and how they wait for one another."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def cores() -> int:
    """Those that this process may run on, no more than its cgroups and SLURM grant it; at least 1.

    Other runs on the machine do not count: the number of threads decides the order of sums, so the bits of a run, and
    these must not depend on its neighbours.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = min(_quotas(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")), default=math.inf)
    if granted < here:
        here = max(1, math.ceil(granted))
    return min(here, int(os.environ.get("SLURM_CPUS_PER_TASK") or here))


def _quotas(of_process: Path, mounted: Path) -> Iterator[float]:
    """Cores that each cgroup of a process grants, of those that grant a number: a container's, a systemd service's.

    Args:
        of_process: the file that names the cgroups.
        mounted: where the groups' files are.
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
        # The groups around it grant too. Those that a container cannot see have no files here.
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
        except (OSError, ValueError):  # there is none: "max"
            continue


def wait_without_spinning() -> None:
    """Let threads that wait for one another sleep. It works before PyTorch is imported, and in child processes.

    Threads of OpenMP spin, so two runs on one machine take each other's cores for waiting: 30 times as long was seen.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def processes_here(of_run: int) -> int:
    """How many processes of a run share this process's cores. SLURM gives each task its own; torchrun says.

    Args:
        of_run: how many the run has here, where slnlab has started them.
    """
    by_slurm = int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1
    return int(os.environ.get("LOCAL_WORLD_SIZE") or (1 if by_slurm else of_run))
