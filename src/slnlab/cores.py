"""How many cores there are for this process, and how many share them."""

from __future__ import annotations

import os


def cores() -> int:
    """Those that it may run on, and of these no more than SLURM has given to the task; at least 1."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(here, int(os.environ.get("SLURM_CPUS_PER_TASK") or here))


def processes_here(of_run: int) -> int:
    """How many processes of a run share this process's cores. SLURM gives each task its own; torchrun says.

    Args:
        of_run: how many the run has here, where slnlab has started them.
    """
    by_slurm = int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1
    return int(os.environ.get("LOCAL_WORLD_SIZE") or (1 if by_slurm else of_run))
