"""Sweeps on this machine and their status. test_slurm.py tests SLURM."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import commands
import pytest
from commands import Command
from omegaconf import OmegaConf

from slnlab.config import compose
from slnlab.config.container import container_of
from slnlab.config.launching import check_options
from slnlab.config.run_spec import RunSpec
from slnlab.errors import ConfigError, SlnlabError
from slnlab.figures import surface
from slnlab.launchers import local, ray
from slnlab.launchers.local import Slots, _work
from slnlab.launchers.planned import Outcome, Planned, execute, missing
from slnlab.record.run_directory import RunDirectory
from slnlab.record.sweep_plan import PLANS, RunStatus, run_statuses, time_left, write_plan
from slnlab.sweep import table
from slnlab.training.before_running import shared_directories
from slnlab.training.settling import settle

SMALL = ("data.train_size=100", "trainer.max_epochs=2", "trainer.accelerator=cpu", "launcher=local")
HERE = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
MISBEHAVING = "method._target_=two_processes.Misbehaving"


def sweep(folder: Path, *overrides: str, misbehave: str = "") -> Command:
    environment = {**os.environ, "PYTHONPATH": HERE, "MISBEHAVE": misbehave or "-1 0 -"}
    arguments = ("-m", *SMALL, f"runs_dir={folder}", *overrides)
    return Command("slnlab.train", *arguments, env=environment, merged=True, session=True)


def said_by(running: Command, code: int) -> str:
    said, _ = running.communicate()
    assert running.returncode == code, said
    return said


def states(folder: Path) -> dict[str, str]:
    return {run.path.rpartition("seed")[2]: run.state for run in run_statuses(folder)}


def test_only_failed_and_killed_runs_are_repeated(tmp_path: Path) -> None:
    runs = ("seed=0,1,2", MISBEHAVING)
    said = said_by(sweep(tmp_path, *runs, misbehave="0 3 SIGKILL 1"), code=1)
    assert "2 runs done, 1 failed" in said
    assert re.search("failed: seed=1: its process has died", said)
    assert states(tmp_path) == {"0": "done", "1": "stopped", "2": "done"}
    said = said_by(sweep(tmp_path, *runs, misbehave="0 2 raise 1"), code=1)
    assert "2 of 3 runs are finished already" in said
    assert "failed: seed=1: something that only this process has noticed (see" in said
    assert states(tmp_path)["1"] == "failed"
    assert "something that only this process" in table(run_statuses(tmp_path))
    (log,) = tmp_path.rglob("seed1/train.log")
    assert "something that only this process has noticed" in log.read_text()
    said = said_by(sweep(tmp_path, *runs), code=0)
    assert "1 runs done, 0 failed" in said
    assert set(states(tmp_path).values()) == {"done"}


def test_two_sweeps_started_at_once_share_the_runs(tmp_path: Path) -> None:
    """Nothing is done twice, and nobody is told of a failure."""
    both = [sweep(tmp_path, "seed=0,1", "trainer.max_epochs=8") for _ in range(2)]
    for running in both:
        assert re.search(r"\d+ runs done, 0 failed", said_by(running, code=0))
    assert set(states(tmp_path).values()) == {"done"}
    for seed in (0, 1):
        (log,) = tmp_path.rglob(f"seed{seed}/train.log")
        assert log.read_text().count("finished: ") == 1, "trained once"


def test_stopping_the_launcher_stops_its_runs(tmp_path: Path) -> None:
    running = sweep(tmp_path, "seed=0,1,2", "trainer.max_epochs=100000")
    commands.until(lambda: len(list(tmp_path.rglob("metrics.csv"))) == 2, "two runs have begun")
    running.send_signal(signal.SIGTERM)
    said = said_by(running, code=143)
    assert "Traceback" not in said
    assert sorted(states(tmp_path).values()) == ["missing", "stopped", "stopped"]


@pytest.mark.cluster
def test_ray_restarts_a_run_after_its_worker_died(tmp_path: Path) -> None:
    """The call also reports a failure."""
    pytest.importorskip("ray")
    once = tmp_path / "died"
    running = sweep(
        tmp_path,
        "launcher=ray",
        "hydra.launcher.cpus_per_run=1",
        "seed=0,1",
        MISBEHAVING,
        misbehave=f"0 3 SIGKILL 1 {once}",
    )
    assert "2 runs done, 0 failed" in said_by(running, code=0)
    assert once.exists()
    failing = sweep(tmp_path, "launcher=ray", "seed=0,1", MISBEHAVING, "trainer.max_epochs=3", misbehave="0 2 raise 1")
    said = said_by(failing, code=1)
    assert "failed: seed=1: something that only this process has noticed" in said
    assert "1 runs done, 1 failed" in said


@pytest.mark.cluster
def test_ray_refuses_resources_that_no_node_has(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    running = sweep(tmp_path, "launcher=ray", "hydra.launcher.cpus_per_run=1000", "seed=0")
    assert "asks for 1000 CPUs of one node, and no node has as many" in said_by(running, code=1)


def planned(devices: int) -> Planned:
    return Planned(RunSpec({"trainer": {"devices": devices, "threads": None}}, {}), Path(), (), "")


def test_another_run_in_a_planned_directory_is_not_taken_for_finished(tmp_path: Path) -> None:
    """With `hydra.sweep.subdir` of the user's own, two sweeps can name one directory."""
    mine, other = (settle(compose([f"method={name}", f"runs_dir={tmp_path}"])) for name in ("ce", "elr"))
    run = RunDirectory(tmp_path / "mine" / "seed0")
    run.path.mkdir(parents=True)
    run.describe(mine, [])
    run.result.write_text("{}")
    assert list(shared_directories([("ce", run.path, mine)])) == []
    assert missing([Planned(mine, run.path, (), "ce")]) == []
    with pytest.raises(ConfigError, match=r"mine/seed0 holds another run \(method._target_="):
        list(shared_directories([("elr", run.path, other)]))


def test_the_logs_of_runs_side_by_side_have_their_lines_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run ends while the second is still going."""
    first_ends, second_goes_on = threading.Event(), threading.Event()

    def train(spec: Any, directory: Path, *_: Any, **__: Any) -> None:
        logging.getLogger("slnlab").info("begins")
        if directory.name == "first":
            assert second_goes_on.wait(10)
            return
        second_goes_on.set()
        assert first_ends.wait(10)
        logging.getLogger("slnlab").info("ends")

    monkeypatch.setattr("slnlab.train.train", train)
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    spec = settle(compose([]))
    runs = [Planned(spec, tmp_path / name, (), name) for name in ("second", "first")]
    threads = [threading.Thread(target=execute, args=[run]) for run in runs]
    for thread in threads:
        thread.start()
    threads[1].join()
    first_ends.set()
    threads[0].join()
    assert [(tmp_path / name / "train.log").read_text().count("ends") for name in ("first", "second")] == [0, 1]
    assert logging.getLogger().level == logging.WARNING


def test_no_device_is_given_to_two_ranks() -> None:
    """Small runs share a device, so many to each; a run of several processes has whole devices for itself."""
    slots = Slots(["0", "1", "2"], each=2)
    assert [slots.names[slot] for slot in range(6)] == ["0", "1", "2", "0", "1", "2"], "one each before two on one"

    def take(count: int) -> list[int]:
        taken = slots.take(count)
        for slot in taken:
            assert not slots.busy[slot]
            slots.busy[slot] = True
        return taken

    one = take(1)
    several = take(2)
    assert {slots.names[slot] for slot in several} == {"1", "2"}
    assert len(several) == 4, "both slots of both"
    assert not slots.take(2)
    other = take(1)
    assert slots.names[one[0]] == slots.names[other[0]] == "0"
    assert not slots.take(1)
    slots.free(several, broken=False)
    assert {slots.names[slot] for slot in slots.take(2)} == {"1", "2"}


def test_cores_are_divided_among_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slnlab.launchers.local.cores", lambda: 8)
    assert Slots([None] * 4, each=1)._threads() == 2
    assert Slots([None] * 8, each=1)._threads() == 1, "of each process of a run, which has a slot each"
    assert Slots(["0"], each=2)._threads() == 4


@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_decoding_processes_are_divided_among_the_runs(
    launcher: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("planned", "ray"):
        name = f"slnlab.launchers.{module}.execute"
        monkeypatch.setattr(name, lambda planned, wait=False: planned.config.data.workers)
    for given, used in (("null", 3), ("8", 8)):
        container = container_of(compose(["data=clothing1m", "noise=real", f"data.workers={given}"]))
        planned = Planned(RunSpec(container, {}), tmp_path, (), "")
        found = _work([planned], threads=3) if launcher == "local" else [ray._work(planned, 3, str(tmp_path))]
        assert found == [used]


@pytest.mark.parametrize(
    ("accelerator", "devices", "slots"),
    [("auto", None, ["0", "1", "0", "1"]), ("auto", 1, ["0", "0"]), ("cpu", None, [None] * 8), ("cpu", 3, [None] * 3)],
)
def test_runs_without_gpus_take_cores_one_each(
    accelerator: str, devices: int | None, slots: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slnlab.launchers.local.cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found: list[str | None] = []

    def launch_groups(plan: list[list[Planned]], devices: list[str | None], each: int) -> list[list[Outcome]]:
        found.extend(Slots(devices, each).names)
        return [[Outcome("done")] for _ in plan]

    monkeypatch.setattr(local, "launch_groups", launch_groups)
    plan = [Planned(settle(compose([f"trainer.accelerator={accelerator}"])), Path(), (), "")]
    local.launch(plan, folder=Path(), runs_per_device=2, devices=devices)
    assert found == slots


def test_idle_cores_are_announced(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("slnlab.launchers.local.cores", lambda: 64)
    caplog.set_level("INFO")
    local._advise([planned(1)] * 2, 64)
    assert caplog.messages == ["2 runs with 1 thread(s) each on 64 cores; hydra.launcher.devices=2 gives each 32"]
    for plan, slots in (([planned(1)] * 2, 2), ([planned(1)] * 33, 64), ([planned(64)], 64)):
        local._advise(plan, slots)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("engine", "key", "value", "allowed"),
    [
        ("local", "runs_per_device", 0, "0 is not allowed: an integer in [1, inf)"),
        ("local", "devices", 2.5, "2.5 is not allowed: an integer in [1, inf), or null"),
        ("local", "runs", 2, "launcher=local has no such option"),
        ("batched", "runs_together", "all", "'all' is not allowed: an integer"),
        ("ray", "gpus_per_run", -1, "-1 is not allowed: a number in [0, inf), or null"),
        ("slurm", "poll_s", 0, "0 is not allowed: a number in (0, inf)"),
        ("slurm", "wait", "no", "'no' is not allowed: true or false"),
        *(
            ("slurm", key, runs, f"{runs!r} is not allowed: an integer in [1, inf), or null")
            for key in ("array_size", "array_parallelism")
            for runs in (0, True)
        ),
    ],
)
def test_a_launcher_refuses_impossible_options(engine: str, key: str, value: object, allowed: str) -> None:
    typed = {"_target_": "hydra_plugins.slnlab_launchers.SlnlabLauncher", "engine": engine, key: value}
    with pytest.raises(ConfigError, match=re.escape(f"hydra.launcher.{key}: {allowed}")):
        check_options(OmegaConf.create(typed))


@pytest.mark.parametrize(
    "begin", [lambda around: local._begin(None, around), lambda around: surface._begin(around, None, 1)]
)
def test_a_child_ends_with_its_parent_on_windows_too(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def end_with_parent(number: signal.Signals) -> None:
        raise SlnlabError(number.name)

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("slnlab.processes.forkserver.end_with_parent", end_with_parent)
    around = SimpleNamespace(take_over=lambda: None)
    with pytest.raises(SlnlabError, match="SIGKILL"):
        begin(around)
    monkeypatch.delattr(signal, "SIGKILL")
    with pytest.raises(SlnlabError, match="SIGTERM"):
        begin(around)


def test_a_process_with_an_unforeseen_error_takes_no_other_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After an error of CUDA's nothing works in it any more, and it would fail all that is left of a sweep."""
    for error, sound in ((RuntimeError("CUDA error: device-side assert triggered"), False), (SlnlabError("no"), True)):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("slnlab.train.train", fail)
        outcome = execute(Planned(settle(compose([])), tmp_path, (), ""))
        assert (outcome.state, outcome.sound) == ("failed", sound)


def made_run(folder: Path, path: str, epochs: int, *, finished: bool = False, failure: str = "") -> Path:
    """Files as a run leaves them."""
    run = folder / path
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("trainer: {max_epochs: 10}\n")
    (run / "identity.json").write_text("{}")
    (run / ".lock").touch()
    rows = [f"{epoch},2.5" for epoch in range(1, epochs + 1)]
    (run / "metrics.csv").write_text("\n".join(["epoch,seconds", *rows]) + "\n")
    if finished:
        (run / "result.json").write_text("{}")
    if failure:
        (run / "failure.txt").write_text(failure)
    return run


def test_status_shows_the_state_of_each_run(tmp_path: Path) -> None:
    from filelock import FileLock

    paths = {name: f"digits/sym-0.4/sln/abc/seed{number}" for number, name in enumerate(("d", "r", "s", "f", "m"))}
    made_run(tmp_path, paths["d"], 10, finished=True)
    running = made_run(tmp_path, paths["r"], 4)
    made_run(tmp_path, paths["s"], 2)
    made_run(tmp_path, paths["f"], 1, failure="SlnlabError: the loss is nan")
    write_plan(tmp_path, [tmp_path / path for path in paths.values()], ["seed=0,1,2,3,4"])
    write_plan(tmp_path, [tmp_path / path for path in paths.values()], ["seed=0,1,2,3,4"])
    assert len(list((tmp_path / PLANS).iterdir())) == 1
    with FileLock(running / ".lock"):
        found = {run.path: run for run in run_statuses(tmp_path)}
        shown = table(list(found.values()))
    assert {name: found[path].state for name, path in paths.items()} == {
        "d": "done",
        "r": "running",
        "s": "stopped",
        "f": "failed",
        "m": "missing",
    }
    # Left: 6 epochs of 2.5 s, 8 of 2.5 s, and a run like the one that is done (25 s), by one process.
    assert time_left(list(found.values())) == pytest.approx(6 * 2.5 + 8 * 2.5 + 25)
    assert "about 1 min" in shown
    assert "4/10 epochs" in shown
    assert "the loss is nan" in shown
    # The lock of a process that has died is nobody's.
    assert {run.path: run.state for run in run_statuses(tmp_path)}[paths["r"]] == "stopped"


def test_status_does_not_block_a_starting_run(tmp_path: Path) -> None:
    from slnlab.record.run_directory import RunDirectory

    directory = RunDirectory(made_run(tmp_path, "a/b/c/d/seed0", 1))
    seen = tmp_path / "seen.txt"
    seen.touch()
    looking = Command("slnlab.sweep", "status", str(tmp_path), "--watch", "0.001", terminal=str(seen))
    try:
        commands.until(lambda: seen.read_text().count("1 stopped") > 2, "it looks again and again")
        for _ in range(200):
            with directory.locked():
                pass
        assert looking.poll() is None
    finally:
        looking.kill()


def test_odd_files_do_not_hide_the_status_of_other_runs(tmp_path: Path) -> None:
    made_run(tmp_path, "a/b/c/d/seed0", 10, finished=True)
    (made_run(tmp_path, "a/b/c/d/seed1", 1) / "config.yaml").write_text("trainer: {max_")
    (made_run(tmp_path, "a/b/c/d/seed2", 1) / "config.yaml").write_text("model: {}\n")
    with (made_run(tmp_path, "a/b/c/d/seed3", 4) / "metrics.csv").open("a") as metrics:
        metrics.write("5")
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "config.yaml").write_text("somebody: else\n")
    (tmp_path / PLANS).mkdir()
    (tmp_path / PLANS / "torn.json").write_text('{"runs": ["a')
    found = run_statuses(tmp_path)
    assert [(run.path[-5:], run.state, run.epochs) for run in found] == [
        ("seed0", "done", 10),
        ("seed1", "failed", 1),
        ("seed2", "failed", 1),
        ("seed3", "stopped", 4),
    ]
    assert found[1].message == "config.yaml cannot be read"


def test_the_status_command_prints_the_table(tmp_path: Path) -> None:
    made_run(tmp_path, "a/b/c/d/seed0", 10, finished=True)
    status = functools.partial(commands.run, "slnlab.sweep", "status")
    assert "1 done" in status(str(tmp_path)).stdout
    (run,) = json.loads(status(str(tmp_path), "--json").stdout)
    assert RunStatus(**run) == RunStatus("a/b/c/d/seed0", "done", 10, 10, 25.0)
    nowhere = status(str(tmp_path / "no"))
    assert nowhere.returncode == 1
    assert "there is no such folder" in nowhere.stderr


def test_watching_ends_when_nothing_will_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed run stays failed until somebody repeats the command."""
    from slnlab import sweep as status

    made_run(tmp_path, "a/b/c/d/seed0", 10, finished=True)
    failed = RunStatus("a/b/c/d/seed1", "failed", 3, 10, 25.0, "the loss is nan")
    monkeypatch.setattr(status, "run_statuses", lambda folder: [*run_statuses(folder), failed])
    status.main(["status", str(tmp_path), "--watch", "9"])
