"""The processes of one run: slnlab starts them, or joins those that SLURM or torchrun started.

Started processes call a function with pickled arguments and never repeat the command line. So a run of several
processes works the same from Python, from one command and inside a sweep.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, ProcessRaisedException, start_processes

from slnlab.errors import ConfigError, SlnlabError
from slnlab.processes import forkserver
from slnlab.processes.distributed import stopping_together, world_size
from slnlab.processes.peers import watching
from slnlab.processes.stopping import SIGNALS, Stopped, obeying_signals, received_signal, stop_if_requested, stopped
from slnlab.text.terminal import log_file

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds for the others to end by themselves when one process has ended; then SIGTERM and SIGKILL follow."""

FORWARDED = signal.SIGUSR2 if hasattr(signal, "SIGUSR2") else signal.SIGINT
"""The signal that the processes get when this one gets any signal to stop."""


@contextmanager
def joined(
    devices: int, num_nodes: int, on_gpus: bool, ended: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """A process group of the processes that SLURM (`srun` with several tasks) or torchrun started, inside the block.

    Nothing changes for other processes, or if a group exists already.

    Args:
        devices: processes of the run on each node.
        num_nodes: nodes of the run.
        on_gpus: True takes the GPU of this process's place on the node, or the only visible one.
        ended: called with the reason before this process is ended because another one failed.

    Raises:
        ConfigError: the number of processes differs from the run's, the processes of a node are unknown, or two
            processes share a GPU.
    """
    found = started_by()
    if found is None or dist.is_initialized():
        if num_nodes > 1 and not dist.is_initialized():
            raise ConfigError(
                f"trainer.num_nodes={num_nodes}: slnlab starts processes on one machine only; use srun or torchrun"
            )
        yield
        return
    who, environment = found
    if environment.world_size() != devices * num_nodes:
        raise ConfigError(
            f"trainer.devices={devices}, trainer.num_nodes={num_nodes}: {who} has started {environment.world_size()} "
            "processes for this run"
        )
    before = {name: os.environ.get(name) for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")}
    os.environ["LOCAL_RANK"], os.environ["NODE_RANK"] = str(environment.local_rank()), str(environment.node_rank())
    if on_gpus:
        torch.cuda.set_device(gpu_of(environment.local_rank()))
    dist.init_process_group(
        "nccl" if on_gpus else "gloo",
        init_method=f"tcp://{environment.main_address}:{environment.main_port}",
        rank=environment.global_rank(),
        world_size=environment.world_size(),
    )
    left: threading.Event | None = None
    try:
        with stopping_together() as group:
            if on_gpus:
                _refuse_to_share(group)
            with watching(environment.main_address, ended) as left:
                yield
    finally:
        dist.destroy_process_group()
        if left is not None:
            left.set()
        for name, value in before.items():
            os.environ.pop(name, None)  # Lightning removes one of them
            if value is not None:
                os.environ[name] = value


def gpu_of(local_rank: int) -> int:
    """The index of a process's GPU among the visible ones: its place on the machine, or 0 if only one is visible."""
    return local_rank if torch.cuda.device_count() > 1 else 0


def _refuse_to_share(group: dist.ProcessGroup) -> None:
    """Refuse two processes on one GPU.

    Raises:
        ConfigError: two processes have the same GPU.
    """
    gpus: list[str] = [""] * world_size()
    dist.all_gather_object(gpus, str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid), group)
    same = [number for number, gpu in enumerate(gpus) if gpus.count(gpu) > 1]
    if same:
        raise ConfigError(
            f"trainer.devices: processes {same[0]} and {same[1]} have the same GPU; each must see all GPUs of its "
            "machine, or one of its own (--gpus-per-task=1)"
        )


def started_by() -> tuple[str, ClusterEnvironment] | None:
    """The launcher of this run's processes, torchrun or SLURM, with its environment; None if slnlab must start them.

    Raises:
        ConfigError: SLURM does not state the number of tasks on a node.
    """
    if TorchElasticEnvironment.detect():  # first, because torchrun may run inside a SLURM job
        return "torchrun", TorchElasticEnvironment()
    # The step's number of tasks, not the allocation's: a shell inside an allocation (salloc) is one process.
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks == 1 or not os.environ.get("SLURM_STEP_ID", "").isdigit():
        return None
    if "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise ConfigError(f"SLURM has started {tasks} processes: use --ntasks-per-node, not --ntasks (srun -n)")
    return "SLURM", SLURMEnvironment(auto_requeue=False)


def in_processes(
    count: int, on_gpus: bool, modules: Sequence[str], function: Callable[..., None], *arguments: Any
) -> None:
    """Call `function(*arguments)` in a process group of `count` new processes, and wait for them.

    A process that ends with an error takes the others down.

    Args:
        count: number of processes, at least 2.
        on_gpus: True gives each process the GPU of its rank, with NCCL; False uses gloo.
        modules: modules that the function needs, imported in advance.
        function: a function at the top level of a module.
        arguments: arguments that pickle can store.

    Raises:
        SlnlabError: the error of the failed process, or a message with the way in which it ended.
        Stopped: this process or a started one got a signal to stop.
    """
    logs = [handler.baseFilename for handler in log.root.handlers if isinstance(handler, logging.FileHandler)]
    with tempfile.TemporaryDirectory(prefix="slnlab-") as folder:
        method = forkserver.context(not on_gpus, modules).get_start_method()
        context = start_processes(
            _one_of_them,
            (forkserver.Surroundings(), count, on_gpus, Path(folder), logs, function, arguments),
            nprocs=count,
            join=False,
            start_method=method,
        )
        assert context is not None
        try:
            _wait(context)
        except (ProcessRaisedException, ProcessExitedException) as failure:
            raise _explained(failure, Path(folder), count) from None
        finally:
            for process in context.processes:
                if process.is_alive():
                    process.kill()


def _wait(context: ProcessContext) -> None:
    """Wait until all processes have ended. Forward a signal once."""
    forwarded = False
    while not context.join(timeout=0.2, grace_period=GRACE):
        if received_signal() and not forwarded:
            forwarded = True
            for process in context.processes:
                if process.is_alive() and process.pid is not None:
                    os.kill(process.pid, FORWARDED)


def _explained(
    failure: ProcessRaisedException | ProcessExitedException, folder: Path, count: int
) -> SlnlabError | Stopped:
    """The error of the run that follows from the end of one process."""
    code = getattr(failure, "exit_code", 1)
    received = received_signal() or next((number for number in SIGNALS if code == 128 + number), None)
    if received is not None:
        return stopped(received)
    # The process with a reason of its own counts, not one that lost the connection to it.
    for file in sorted(folder.glob("error*")):
        error: SlnlabError = pickle.loads(file.read_bytes())  # written by our own process
        return error
    who = f"process {failure.error_index} of {count}, counted from 0,"
    if isinstance(failure, ProcessRaisedException):
        return SlnlabError(f"{who} failed: {failure}")
    return SlnlabError(f"{who} has died ({failure}); the same command resumes from its last checkpoint")


def _one_of_them(
    rank: int,
    surroundings: forkserver.Surroundings,
    count: int,
    on_gpus: bool,
    folder: Path,
    logs: list[str],
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    surroundings.take_over()
    forkserver.end_with_parent(signal.SIGINT)
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if rank == 0:
        handlers += map(log_file, logs)
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.ERROR,
        format="[%(asctime)s][%(name)s][%(levelname)s] - %(message)s",
        handlers=handlers,
    )
    logging.getLogger("slnlab.processes.stopping").setLevel(logging.ERROR)  # the starting process logs it
    os.environ["LOCAL_RANK"] = str(rank)  # tells Lightning that the processes run already
    if on_gpus:
        torch.cuda.set_device(rank)
    with obeying_signals():
        dist.init_process_group(
            "nccl" if on_gpus else "gloo",
            # A file, not a port, so that two runs that start at the same moment cannot meet.
            init_method=f"file://{folder / 'rendezvous'}",
            rank=rank,
            world_size=count,
        )
        try:
            with stopping_together():
                function(*arguments)
        except SlnlabError as error:
            (folder / f"error{rank}").write_bytes(pickle.dumps(error))
            sys.exit(1)
        except Exception:
            stop_if_requested()  # the lost connection is then only a consequence
            raise
    dist.destroy_process_group()
