"""A SLURM cluster of one node, this machine, for as long as it is needed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")

CONFIGURATION = """
ClusterName=slnlab-tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmctldPort={port}
SlurmdPidFile={folder}/slurmd.pid
SlurmdLogFile={folder}/slurmd.log
SlurmdPort={port2}
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
KillWait=5
JobRequeue=1
SlurmdTimeout=20
SchedulerParameters=batch_sched_delay=0,sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def why_not() -> str | None:
    """Reasons why no cluster can start here."""
    absent = [program for program in PROGRAMS if not (shutil.which(program) or Path("/usr/sbin", program).exists())]
    if absent:
        return f"no SLURM here ({', '.join(absent)} missing): apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "SLURM's daemons are started as root"


@contextmanager
def cluster(folder: Path, cores: int = 2) -> Iterator[dict[str, str]]:
    """Start it, yield the environment that its commands need, and end it with everything that runs on it.

    `cores` is what the node says it has; it may be more than there are.
    """
    for name in ("spool", "state"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    port, port2 = _free_ports()
    configuration = folder / "slurm.conf"
    text = CONFIGURATION.format(folder=folder, host=host, cores=cores, port=port, port2=port2)
    configuration.write_text(text)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    folder.chmod(0o755)
    environment = {
        **os.environ,
        "SLURM_CONF": str(configuration),
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
    }
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
        + [f"--{what}-file={folder}/munge.{what}" for what in ("pid", "log", "seed")],
        ["slurmctld", "-D", "-i", "-f", str(configuration)],
        ["slurmd", "-D", "-f", str(configuration), "-N", host],
    ]
    running: list[subprocess.Popen[bytes]] = []
    _running[folder] = running
    try:
        for daemon in daemons:
            running.append(_start(daemon, folder, environment))
            time.sleep(0.5)
        wait_until_idle(environment, folder)
        yield environment
    finally:
        if len(running) == len(daemons):
            subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True, check=False, timeout=30)
            time.sleep(1)
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        del _running[folder]


_running: dict[Path, list[subprocess.Popen[bytes]]] = {}


def _start(daemon: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / f"{daemon[0]}.out").open("ab") as log:
        return subprocess.Popen(daemon, env=environment, stdout=log, stderr=log)


def lose_node(folder: Path) -> None:
    """Kill the node's daemon and everything that SLURM has started on it, as a power cut would."""
    slurmd = _running[folder][-1]
    slurmd.kill()
    slurmd.wait()
    # The daemon of each job step first: it would report how its task ended.
    for process in psutil.process_iter(["name"]):
        if str(process.info["name"]).startswith("slurmstepd"):
            process.kill()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            there = process.environ()
            if there.get("SLURM_CONF") == str(folder / "slurm.conf") and "SLURM_JOB_ID" in there:
                process.kill()


def bring_back_node(folder: Path, environment: dict[str, str]) -> None:
    """Start the node's daemon again."""
    slurmd = _running[folder][-1]
    _running[folder][-1] = _start(list(slurmd.args), folder, environment)  # type: ignore[call-overload, arg-type]


def wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 60
    state = ""
    while time.monotonic() < deadline:
        asked = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True, check=False
        )
        state = asked.stdout.strip() or asked.stderr.strip()
        if state == "idle":
            return
        time.sleep(0.3)
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in folder.glob("*.log"))
    raise RuntimeError(f"the SLURM node is {state!r} after a minute\n{logs}")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]
