"""The Ray launcher: every run is a Ray task with GPUs or cores, on a cluster or on this machine."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slnlab.errors import SlnlabError
from slnlab.launchers.planned import Outcome, Planned, execute
from slnlab.processes.stopping import obeying_signals, stop_if_requested
from slnlab.schema.kinds import NonNegative

log = logging.getLogger(__name__)


def launch(
    plan: Sequence[Planned],
    folder: Path,
    *,
    address: str | None = None,
    gpus_per_run: NonNegative | None = None,
    cpus_per_run: NonNegative = 1.0,
) -> list[Outcome]:
    """Do the runs as Ray tasks.

    After the loss of a worker or a node, Ray starts the run again, up to three times; it resumes from its last
    checkpoint. If this command is stopped, Ray ends the runs without time to save.

    Args:
        plan: the runs. A run of several processes asks for as many GPUs and cores.
        folder: folder of the sweep; all nodes must see it.
        address: address of the cluster, "auto" for that of this machine; None starts Ray on this machine.
        gpus_per_run: GPUs of each process, ≥ 0; fractions share a GPU. None means 1 if the cluster has GPUs and the
            run may use them.
        cpus_per_run: cores of each process, ≥ 0; also its threads and decoding processes, at least 1.

    Returns:
        The outcomes in the order of `plan`.

    Raises:
        SlnlabError: the extra is not installed, there is no such cluster, or a run asks for more than the cluster has.
        Stopped: a signal arrived; the runs have been ended.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise SlnlabError("launcher=ray needs the extra: pip install 'slnlab[ray]'") from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
    except (ConnectionError, ValueError) as error:
        raise SlnlabError(f"launcher=ray: hydra.launcher.address={address}: {error}") from error
    try:
        with obeying_signals():
            return _launch(ray, plan, gpus_per_run, cpus_per_run)
    finally:
        ray.shutdown()


def _launch(ray: Any, plan: Sequence[Planned], gpus: float | None, cpus: float) -> list[Outcome]:
    resources = ray.cluster_resources()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    # `max_calls` replaces a worker after 20 runs, and on GPUs after each, as nothing works after an error of CUDA. With
    # force=true a second attempt would start from scratch.
    forced = any(planned.config.force for planned in plan)
    work = ray.remote(max_retries=0 if forced else 3, max_calls=1 if resources.get("GPU") else 20)(_work)
    numbers: dict[Any, int] = {}
    for number, planned in enumerate(plan):
        count = planned.config.trainer.devices
        each = (1.0 if resources.get("GPU") else 0.0) if gpus is None else gpus
        if count > 1:
            each = float(math.ceil(each))  # no two processes of a run share a GPU
        asked = {"GPU": 0.0 if planned.config.trainer.accelerator == "cpu" else each * count, "CPU": cpus * count}
        if not any(all(wanted <= node.get(kind, 0.0) for kind, wanted in asked.items()) for node in nodes):
            wanted = ", ".join(f"{count:g} {kind}s" for kind, count in asked.items() if count)
            raise SlnlabError(f"launcher=ray: {planned} asks for {wanted} of one node, and no node has as many")
        numbers[
            work.options(num_gpus=asked["GPU"], num_cpus=asked["CPU"]).remote(planned, int(max(cpus, 1)), os.getcwd())
        ] = number
    outcomes: dict[int, Outcome] = {}
    left = list(numbers)
    while left:
        stop_if_requested()
        done, left = ray.wait(left, timeout=0.5)
        for task in done:
            planned = plan[numbers[task]]
            try:
                outcomes[numbers[task]] = ray.get(task)
            except ray.exceptions.RayError as error:
                message = f"its process has died ({str(error).strip().splitlines()[0]})"
                outcomes[numbers[task]] = Outcome("failed", message, str(planned.directory / "train.log"))
            log.info("%d/%d: %s: %s", len(outcomes), len(plan), planned, outcomes[numbers[task]].state)
    return [outcomes[number] for number in range(len(plan))]


def _work(planned: Planned, threads: int, folder: str) -> Outcome:
    os.chdir(folder)  # the run's paths may be relative
    # The lock of a lost node may last a while, and a retry does not know that it is one.
    return execute(planned.on_threads(threads), wait=True)
