"""Runs in two real processes against runs in one."""

from __future__ import annotations

import csv
import gc
import os
import pickle
import re
import signal
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import commands
import kill_matrix
import pytest
import torch
import torch.distributed as dist
from pytorch_lightning.utilities import rank_zero_only

from slnlab.config import compose
from slnlab.errors import ConfigError, SlnlabError
from slnlab.processes import distributed, forkserver
from slnlab.processes import starting as processes
from slnlab.processes.distributed import Shard, gather, shard
from slnlab.processes.stopping import Stopped
from slnlab.record.metrics import read_metrics
from slnlab.record.run_directory import RunDirectory
from slnlab.train import train
from slnlab.training import assemble, devices
from slnlab.training.settling import settle

COMMON = (
    "method=sln_mo_lc",
    "data.train_size=101",
    "data.noisy_val=61",  # 40 to train on: batches of 16, 16 and 8, and validation batches of which one has 1 image
    "data.batch_size=16",
    "data.eval_batch_size=60",
    "momentum.decay=0.5",
    "correction.last_epochs=2",
    "trainer.max_epochs=4",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "scheduler=cosine",
)
RECORDING = (*COMMON, "method._target_=two_processes.Recording")
FLOAT64 = (*RECORDING, "model._target_=two_processes.Float64Network", "model.widths=[4,4,4,4]")


def recorded(directory: Path, *overrides: str) -> list[Any]:
    """Do the run; what each of its processes recorded."""
    train(compose(overrides), directory)
    return [torch.load(file, weights_only=True) for file in sorted(directory.glob("rank*.pt"))]


@pytest.fixture(scope="module")
def float64(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Any], list[Any]]:
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    return (
        alone,
        together,
        recorded(alone, *FLOAT64, "trainer.devices=1"),
        recorded(together, *FLOAT64, "trainer.devices=2"),
    )


def test_two_processes_compute_the_gradients_of_one(float64: Any) -> None:
    """Same order, noise and augmentation, also with label correction, over the whole run."""
    _, _, (one,), two = float64
    assert len(two) == 2
    assert len(one["gradients"]) == 4 * 3
    assert sum(len(index) for index in one["indices"][:3]) == 40
    for step, expected in enumerate(one["gradients"]):
        assert torch.equal(torch.cat([process["indices"][step] for process in two]), one["indices"][step])
        for process in two:
            for gradient, wanted in zip(process["gradients"][step], expected, strict=True):
                torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)
    assert max(float(gradient.abs().max()) for gradient in one["gradients"][-1]) > 1e-3, "there was something to differ"


def test_every_sample_counts_once_in_two_processes(float64: Any) -> None:
    alone, together, (one,), two = float64
    rows = [read_metrics(folder / "metrics.csv") for folder in (alone, together)]
    for wanted, found in zip(*rows, strict=True):
        assert wanted.keys() == found.keys()
        assert {"test/momentum/accuracy", "val/network/loss", "train/memorised"} <= wanted.keys()
        for name in wanted.keys() - {"seconds", "images_per_second"}:
            assert found[name] == pytest.approx(wanted[name], rel=1e-5), name
    # Corrected labels and their weights, of all samples, on all processes.
    last = one["epochs"][-1]["table"]
    assert (last["weight"] < 1).sum() == 39, "all but the one of largest loss are corrected"
    for process in two:
        table = process["epochs"][-1]["table"]
        assert torch.equal(table["predicted"], last["predicted"])
        torch.testing.assert_close(table["weight"], last["weight"])


def test_all_processes_hold_the_same_state(tmp_path: Path) -> None:
    """Networks, momentum models, batch-norm statistics, sample tables, metrics: to the last bit."""
    first, second = recorded(tmp_path, *RECORDING, "trainer.devices=2")
    assert len(first["epochs"]) == 4
    for one, other in zip(first["epochs"], second["epochs"], strict=True):
        assert one.keys() == other.keys() == {"network", "momentum", "table", "metrics"}
        assert any("running_mean" in name for name in one["momentum"])
        for part in one:
            assert kill_matrix.same(one[part], other[part]), part
    assert not kill_matrix.same(first["indices"], second["indices"]), "each did its own part"


def test_a_stop_of_the_first_process_reaches_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a signal while it prepares the data: the others would wait for the value."""
    sent: list[Any] = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for number, raised in enumerate((Stopped(signal.SIGUSR2), ConfigError("wrong"))):

        def compute(raised: BaseException = raised) -> None:
            raise raised

        monkeypatch.setattr(distributed, "rank", lambda: 0)
        monkeypatch.setattr(distributed.dist, "broadcast_object_list", lambda outcome, group: sent.append(outcome[0]))
        with pytest.raises(type(raised)):
            distributed.from_rank_zero(compute)

        def receive(outcome: list[Any], group: Any, number: int = number) -> None:
            outcome[0] = pickle.loads(pickle.dumps(sent[number]))

        monkeypatch.setattr(distributed, "rank", lambda: 1)
        monkeypatch.setattr(distributed.dist, "broadcast_object_list", receive)
        with pytest.raises(type(raised), match=str(raised)):
            distributed.from_rank_zero(compute)


def test_shards_are_a_partition() -> None:
    assert shard(7) == Shard(0, 7, 7), "alone, all of it"
    assert len(Shard(2, 5, 9)) == 3
    assert Shard(2, 5, 9).of(torch.arange(9)).tolist() == [2, 3, 4]
    rows = torch.arange(3)
    assert gather(rows) is rows
    assert shard(3).gather(rows) is rows


def test_a_shard_gathers_what_all_processes_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes share 7 rows as 2, 2 and 3, and 5 rows as 2, 3 and 0. Only rows travel, and they are padded."""
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    monkeypatch.setattr(dist, "get_backend", lambda: "gloo")
    for total, sizes in ((7, (2, 2, 3)), (5, (2, 3, 0))):
        rows, parts = torch.arange(total) % 2 == 0, list[Shard]()
        for number in range(3):
            monkeypatch.setattr(distributed, "rank", lambda number=number: number)
            parts.append(shard(total))
        assert tuple(map(len, parts)) == sizes

        def exchanged(received: list[torch.Tensor], sent: torch.Tensor, rows=rows, parts=parts) -> None:  # type: ignore[no-untyped-def]
            assert len(sent) == 3
            for place, part in zip(received, parts, strict=True):
                place[: len(part)] = part.of(rows)

        monkeypatch.setattr(dist, "all_gather", exchanged)
        for part in parts:
            assert torch.equal(part.gather(part.of(rows)), rows)


def test_a_warm_process_searches_for_garbage_of_its_own_only() -> None:
    """A search among what the server has imported would take longer than most runs of tests."""
    with ProcessPoolExecutor(1, forkserver.context(True, ["slnlab.training.assemble"])) as pool:
        assert pool.submit(gc.isenabled).result()
        assert pool.submit(gc.get_freeze_count).result() > 100_000


def test_an_error_in_one_process_ends_the_run_with_its_message(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MISBEHAVE", "1 4 raise")
    config = compose([*COMMON, "method._target_=two_processes.Misbehaving", "trainer.devices=2"])
    with pytest.raises(SlnlabError, match="something that only this process has noticed"):
        train(config, tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_a_run_resumes_after_one_process_was_stopped_or_killed(tmp_path: Path, monkeypatch: Any) -> None:
    overrides = [*COMMON, "method._target_=two_processes.Misbehaving", "trainer.devices=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(compose(overrides), whole)
    # Told to stop within an epoch of corrected labels: both are saved after the same step, though only one was told.
    monkeypatch.setenv("MISBEHAVE", "1 6 SIGUSR1")
    with pytest.raises(Stopped):
        train(compose(overrides), killed)
    first, second = (torch.load(path, weights_only=True) for path in sorted(killed.rglob("within-*.ckpt")))
    assert first["method"]["steps"] == second["method"]["steps"] == 7
    assert not torch.equal(first["method"]["sample_table"]["loss"], second["method"]["sample_table"]["loss"])
    # Then one of them is killed, after a step that the other has done too.
    monkeypatch.setenv("MISBEHAVE", "1 7 SIGKILL")
    with pytest.raises(SlnlabError, match=r"process 1 of 2.*SIGKILL.*resumes from its last checkpoint"):
        train(compose(overrides), killed)
    # The kill comes at the first step of this command.
    assert time.time() - (killed / "environment.json").stat().st_mtime < 60
    assert kill_matrix.epochs_kept(killed) == 2
    monkeypatch.setenv("MISBEHAVE", "0 6 raise")  # a step that is not done again
    train(compose(overrides), killed)
    assert kill_matrix.differences(whole, killed, epochs=4) == []
    assert not list(killed.rglob("within-*.ckpt")), "nothing is left over"


def environment() -> dict[str, str]:
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": here}


def test_a_sweep_can_mix_device_counts(tmp_path: Path) -> None:
    """Each run once, none left over, no process waits for another's."""
    overrides = (*COMMON, "trainer.devices=2,1", f"runs_dir={tmp_path}", "trainer.max_epochs=2", "-m")
    done = commands.run("slnlab.train", *overrides, env=environment())
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("result.json"))) == 2
    assert len(re.findall("finished: ", done.stdout + done.stderr)) == 2
    for metrics in tmp_path.rglob("metrics.csv"):
        assert [row["epoch"] for row in csv.DictReader(metrics.open())] == ["1", "2"]


@pytest.mark.parametrize("whom", ["the command", "all processes"])
def test_all_processes_stop_when_one_gets_a_signal(whom: str, tmp_path: Path) -> None:
    """Both ways that a cluster does it."""
    overrides = (*COMMON, "trainer.devices=2", "trainer.max_epochs=10000", f"hydra.run.dir={tmp_path}")
    running = commands.Command("slnlab.train", *overrides, env=environment(), merged=True, session=True)
    commands.until((tmp_path / "checkpoints" / "last.ckpt").exists, "an epoch is done")
    if whom == "the command":
        running.send_signal(signal.SIGTERM)
    else:
        os.killpg(running.pid, signal.SIGTERM)
    said, _ = running.communicate()
    assert running.returncode == 143, said
    assert "Traceback" not in said
    assert len(re.findall("SIGTERM: stopping.*Exit code 143", said)) == 1
    commands.until(lambda: not anybody_in(running.pid), "all have gone", seconds=60)


@pytest.mark.parametrize("started", [("trainer.devices=2",), ("-m", "launcher=local", "seed=0")])
def test_processes_end_with_their_parent(started: tuple[str, ...], tmp_path: Path) -> None:
    """Also when it is killed: nobody would wait for them, and the same command could not take the run."""
    overrides = (*COMMON, *started, "trainer.max_epochs=10000", f"runs_dir={tmp_path}")
    running = commands.Command("slnlab.train", *overrides, env=environment(), session=True)
    commands.until(lambda: list(tmp_path.rglob("last.ckpt")), "an epoch is done")
    running.kill()
    running.communicate()
    commands.until(lambda: not anybody_in(running.pid), "all have gone", seconds=60)


def started_by_torchrun(*overrides: str, **variables: str) -> list[commands.Command]:
    """Both processes of a run, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = {"TORCHELASTIC_RUN_ID": "one", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    started["GROUP_RANK"] = "0"
    return [
        commands.Command(
            "slnlab.train",
            *(*COMMON, "trainer.devices=2", "trainer.max_epochs=10000", *overrides),
            env={**environment(), **started, "RANK": str(rank), "LOCAL_RANK": str(rank), **variables},
            merged=True,
        )
        for rank in range(2)
    ]


def test_processes_started_by_a_launcher_stop_together(tmp_path: Path) -> None:
    """Only the second is told: on GPUs the first would wait for it, and nobody would end that."""
    running = started_by_torchrun(f"hydra.run.dir={tmp_path}")
    commands.until((tmp_path / "checkpoints" / "last.ckpt").exists, "an epoch is done")
    running[1].send_signal(signal.SIGUSR1)
    for process in running:
        said, _ = process.communicate()
        assert process.returncode == 128 + signal.SIGUSR1, said
        assert "Traceback" not in said
        assert "SIGUSR1: stopping" in said


def test_a_dying_process_ends_the_others(tmp_path: Path) -> None:
    """Which wait for it without an end, as they do on GPUs."""
    first, second = started_by_torchrun(
        f"hydra.run.dir={tmp_path}", "method._target_=two_processes.Misbehaving", MISBEHAVE="1 4 alone-SIGKILL"
    )
    second.communicate()
    assert second.returncode == -signal.SIGKILL
    said, _ = first.communicate()
    assert first.returncode == 1, said
    assert "process 1 of 2, counted from 0, has died; this process waits for it in vain" in said
    assert (tmp_path / "failure.txt").read_text() == "process 1 of 2, counted from 0, has died\n"


def anybody_in(process_group: int) -> bool:
    """But for those that have ended and that nobody has asked for their exit code, as where there is no init."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
            found.append(state != "Z" and int(group) == process_group)
    return any(found)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.batch_size=3"], r"data.batch_size: 3 samples, but 2 process\(es\) need at least 4"),
        (["trainer.sync_batchnorm=true"], "on GPUs only"),
    ],
)
def test_settings_impossible_in_several_processes_are_refused(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(compose([*COMMON, "trainer.devices=2", *overrides]), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_more_gpus_than_available_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PyTorch sees none"):
        train(compose([*COMMON, "trainer.devices=2", "trainer.accelerator=gpu"]), tmp_path / "run")


@pytest.mark.parametrize(("visible", "device"), [(1, 0), (2, 1), (8, 1)])
def test_a_process_with_one_visible_gpu_uses_it(
    visible: int, device: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """srun --gpus-per-task=1: to each of the processes its GPU is number 0."""
    config = compose(["trainer.devices=2", "trainer.accelerator=gpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    if visible == 1:
        with pytest.raises(ConfigError, match=r"trainer\.devices: 2, but PyTorch sees 1 GPU"):
            devices.on_gpus(config)  # slnlab is to start the processes, for which there are not enough
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as the trainer will have it; it is 0 again for the next test
    for module in (assemble, devices):
        monkeypatch.setattr(module, "world_size", lambda: 2)
    assert devices.on_gpus(config)
    assert processes.gpu_of(local_rank=1) == device
    trainer, _ = assemble.trainer(settle(config), RunDirectory(tmp_path), [])
    assert trainer.strategy.root_device == torch.device("cuda", device)
    assert trainer.world_size == 2


def test_two_processes_with_the_same_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun on a machine that has one."""
    seen = SimpleNamespace(uuid="GPU-1")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: seen)
    monkeypatch.setattr(processes, "world_size", lambda: 3)
    for others, refused in ((["GPU-0", "GPU-2"], False), (["GPU-0", "GPU-1"], True)):
        monkeypatch.setattr(
            dist, "all_gather_object", lambda found, own, _, more=others: found.__setitem__(slice(3), [*more, own])
        )
        with pytest.raises(ConfigError, match="processes 1 and 2 have the same GPU") if refused else nullcontext():
            processes._refuse_to_share(None)  # type: ignore[arg-type]
