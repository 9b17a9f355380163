"""Number of cores of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slnlab.config import compose
from slnlab.processes import cores
from slnlab.training import devices

Granted = Callable[..., int]


@pytest.fixture
def granted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Granted:
    """The cores of a machine with eight, whose cgroups are these."""
    quotas = cores._quotas

    def count(cgroups: str, **files: str) -> int:
        of_process = tmp_path / "cgroup"
        of_process.write_text(cgroups)
        for path, text in files.items():
            file = tmp_path / "mounted" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        monkeypatch.setattr(cores, "_quotas", lambda *_: quotas(of_process, tmp_path / "mounted"))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
        monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
        return cores.cores()

    return count


V1_QUOTA, V1_PERIOD = "cpu/docker/abc/cpu.cfs_quota_us", "cpu/docker/abc/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("cgroups", "files", "expected"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "200000 100000\n"}, 2),  # docker run --cpus=2
        ("0::/", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/", {"cpu.max": "1600000 100000\n"}, 8),
        ("0::/", {"cpu.max": "max 100000\n"}, 8),
        ("0::/user.slice/a.scope", {"user.slice/a.scope/cpu.max": "300000 100000\n"}, 3),  # systemd-run
        (
            "0::/user.slice/a.scope",
            {"user.slice/a.scope/cpu.max": "max 100000", "user.slice/cpu.max": "100000 100000"},
            1,
        ),
        ("4:memory:/x\n1:cpu,cpuacct:/docker/abc\n", {V1_QUOTA: "400000\n", V1_PERIOD: "100000\n"}, 4),
        ("1:cpu:/docker/abc\n", {V1_QUOTA: "-1\n", V1_PERIOD: "100000\n"}, 8),
        # A container that sees its own group at the root, by its name on the host.
        ("1:cpu:/docker/abc\n", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ("1:cpuset:/\n", {"cpu.max": "100000 100000\n"}, 8),
    ],
)
def test_a_quota_limits_the_cores(cgroups: str, files: dict[str, str], expected: int, granted: Granted) -> None:
    assert granted(cgroups, **files) == expected


def test_affinity_and_slurm_limit_the_cores(granted: Granted, monkeypatch: pytest.MonkeyPatch) -> None:
    assert granted("0::/", **{"cpu.max": "400000 100000"}) == 4
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert cores.cores() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert cores.cores() == 1


def test_a_machine_without_cgroups_uses_all_cores(tmp_path: Path) -> None:
    assert list(cores._quotas(tmp_path / "none", tmp_path)) == []


@pytest.mark.parametrize(
    ("typed", "of_pytorch", "granted", "processes", "expected"),
    [("null", 8, 2, 1, 2), ("null", 1, 8, 1, 1), ("null", 8, 8, 2, 4), ("null", 8, 1, 2, 1), ("6", 8, 2, 1, 6)],
)
def test_threads_default_to_the_cores(
    typed: str, of_pytorch: int, granted: int, processes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: of_pytorch)
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setattr(devices, "cores", lambda: granted)
    with devices.threads(compose([f"trainer.threads={typed}", f"trainer.devices={processes}"])):
        pass
    assert used == [expected, of_pytorch]


def test_waiting_threads_sleep_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    cores.wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    cores.wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"


def test_a_command_sets_threads_before_importing_torch() -> None:
    """Afterwards it has no effect."""
    script = """
import sys
import slnlab.processes.cores
def told():
    sys.exit("too late" if "torch" in sys.modules else "in time")
slnlab.processes.cores.wait_without_spinning = told
import slnlab.train
slnlab.train.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.endswith("in time\n")
