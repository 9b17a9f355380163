"""The kill matrix: real runs, ended by a signal at a chosen moment, started again, compared with one never stopped.

`make kill-matrix` does all of it, `tests/test_kill.py` a part. The moments are patched in here; slnlab itself has no
hooks for them.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import commands
import matrix_page

PHASES = {
    "first step": "in the forward pass of the very first step",
    "epoch": "in a step in the middle of epoch 3",
    "evaluation": "while epoch 3 is evaluated",
    "checkpoint": "with half of epoch 3's checkpoint written",
    "checkpoint renamed": "between the two renames that put epoch 3's checkpoint in its place",
    "metrics": "with half of epoch 3's metrics.csv written",
    "correction begins": "before the first label correction (epoch 4)",
    "correction": "inside the second label correction (epoch 5), between two batches",
    "corrected": "after the second label correction, in the first step of epoch 5",
    "trained": "after the last epoch, before the weights are judged",
    "samples": "with half of samples.npz written",
    "result": "with half of result.json written",
}

ONE = "the process"
LAUNCHER = "launcher"
"""Of a run of two processes: the one that the user started, and that starts ranks 0 and 1."""

CELLS = [
    *((phase, signal.SIGKILL, ONE) for phase in PHASES),
    *(("epoch", number, ONE) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)),
    *((phase, signal.SIGTERM, ONE) for phase in ("evaluation", "checkpoint", "correction", "trained", "result")),
    *((phase, signal.SIGKILL, "rank 0") for phase in ("checkpoint", "correction begins", "samples", "result")),
    *((phase, signal.SIGKILL, "rank 1") for phase in ("first step", "epoch", "correction", "trained")),
    *((phase, signal.SIGKILL, LAUNCHER) for phase in ("epoch", "checkpoint", "correction")),
    *(("epoch", number, LAUNCHER) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)),
]

OVERRIDES = (
    "method=sln_mo_lc",
    "data.train_size=400",
    "data.noisy_val=20",
    "data.batch_size=16",  # 24 steps per epoch: more than one call of Lightning's
    "data.eval_batch_size=100",
    "trainer.max_epochs=6",
    "correction.last_epochs=3",
    "scheduler=cosine",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)
EPOCHS = 6


@dataclass
class Cell:
    """One row of the table."""

    phase: str
    signal: str
    to: str
    exit_code: int
    epochs_begun: int
    epochs_kept: int
    steps_kept: int
    second_exit_code: int
    differences: str


# The process that is ended


ARMED = "SLNLAB_TEST_KILL"


def die(phase: str, number: int, to: str, overrides: list[str]) -> None:
    """The command line with these overrides, in which the signal comes at the phase."""
    from slnlab.train import main

    if to == ONE:
        arm(phase, number, to)
    else:  # the ranks are new interpreters, which import this file
        os.environ[ARMED] = f"{phase};{number};{to}"
    sys.argv = ["slnlab.train", *overrides]
    main()


def arm(phase: str, number: int, to: str) -> None:
    """Let the signal come to one of a run's processes when this process reaches the phase."""
    import slnlab.callbacks.correction
    import slnlab.storage.writing
    from slnlab.callbacks.correction import LabelCorrection
    from slnlab.callbacks.run_record import RunRecord
    from slnlab.methods import Method
    from slnlab.methods.single_network import SingleNetwork
    from slnlab.processes.distributed import rank
    from slnlab.streams import Streams

    epoch = 0
    sent = False

    def now() -> None:
        nonlocal sent
        if not sent and to in (ONE, f"rank {rank()}", LAUNCHER if rank() == 0 else None):
            sent = True
            print(f"begun {epoch}", flush=True)
            os.kill(os.getppid() if to == LAUNCHER else os.getpid(), number)

    def patch(owner: Any, name: str, before: Callable[..., bool]) -> None:
        """Let the signal come when `owner.name` is called and `before`, given its arguments, agrees."""
        inner = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if before(*arguments, **options):
                now()
            return inner(*arguments, **options)

        setattr(owner, name, wrapped)

    def count(*_: Any) -> bool:
        nonlocal epoch
        epoch += 1
        return False

    # Label correction comes before the method's hook of the same name.
    patch(LabelCorrection, "on_train_epoch_start", count)

    class HalfWritten:
        """A file that gets one half of what is written to it before the signal, the rest after."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> HalfWritten:
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, content: Any) -> int:
            half = len(content) // 2
            self.file.write(content[:half])
            self.file.flush()
            now()
            return int(half + self.file.write(content[half:]))

    def half_written(name: str, in_epoch: int) -> None:
        real = open

        def opened(path: Any, *arguments: Any, **options: Any) -> Any:
            file = real(path, *arguments, **options)
            ours = Path(path).name.startswith(f".{name}.") and epoch == in_epoch
            return HalfWritten(file) if ours else file

        slnlab.storage.writing.open = opened  # type: ignore[attr-defined]

    if phase == "first step":
        patch(SingleNetwork, "loss", lambda *_: True)
    elif phase == "epoch":
        patch(SingleNetwork, "loss", lambda method, _: method.steps == 2 * 24 + 17)
    elif phase == "evaluation":
        patch(Method, "_evaluate", lambda *_: epoch == 3)
    elif phase == "checkpoint":
        half_written("last.ckpt", 3)
    elif phase == "checkpoint renamed":
        patch(slnlab.storage.writing.os, "replace", lambda _, to: epoch == 3 and Path(to).name == "last.ckpt")
    elif phase == "metrics":
        half_written("metrics.csv", 3)
    elif phase == "correction begins":
        patch(slnlab.callbacks.correction, "correct_labels", lambda *_, **__: epoch == 4)
    elif phase == "correction":
        patch(Streams, "__call__", lambda _, *stream: stream == CORRECTING)
    elif phase == "corrected":
        patch(SingleNetwork, "loss", lambda method, _: method.steps == 4 * 24)
    elif phase == "trained":
        patch(RunRecord, "on_fit_end", lambda *_: True)
    elif phase == "samples":
        half_written("samples.npz", EPOCHS)
    elif phase == "result":
        half_written("result.json", EPOCHS)
    else:
        raise ValueError(phase)


CORRECTING = ("label correction", 4, 2)  # the third batch of the correction before epoch 5


# Those that start it and compare


def run_until(phase: str, number: int, *overrides: str, to: str = ONE) -> subprocess.CompletedProcess[str]:
    """The command in a new process, ended at the phase."""
    arguments = [*overrides, "--die", phase, "--signal", str(int(number)), "--to", to]
    if to == ONE or Path(sys.argv[0]).name == Path(__file__).name:
        return commands.run("kill_matrix", *arguments)
    return subprocess.run(  # its ranks look for this file as the main one
        [sys.executable, __file__, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def epochs_kept(directory: Path) -> int:
    """Of how many epochs the newest whole checkpoint knows; looked at with nothing of slnlab's own."""
    import torch

    for name in ("last.ckpt", "previous.ckpt"):
        path = directory / "checkpoints" / name
        if path.exists():
            return len(torch.load(path, weights_only=True)["metrics"])
    return 0


def steps_kept(directory: Path) -> int:
    """Of how many steps of the epoch after those a file knows; 0: it is begun anew."""
    import torch

    found = [torch.load(path, weights_only=True) for path in directory.glob("checkpoints/within-*.ckpt")]
    assert len({state["steps_of_epoch"] for state in found}) <= 1
    return found[0]["steps_of_epoch"] if found and found[0]["epoch"] == epochs_kept(directory) else 0


def differences(a: Path, b: Path, epochs: int = EPOCHS) -> list[str]:
    """What is not the same, bit for bit, in two finished runs; timings aside."""
    import numpy as np
    import torch

    found = []
    one, other = (torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (a, b))
    parts = ("state_dict", "callbacks", "sample_table", "optimizer_states", "lr_schedulers", "steps", "epoch")
    found += [part for part in parts if not same(one[part], other[part])]
    if not same(*(metrics(path, epochs) for path in (a, b))):
        found.append("metrics.csv")
    with np.load(a / "samples.npz") as first, np.load(b / "samples.npz") as second:
        if set(first) != set(second) or any(first[key].tobytes() != second[key].tobytes() for key in first):
            found.append("samples.npz")
    return found


def metrics(directory: Path, epochs: int = EPOCHS) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == epochs
    return [{key: text for key, text in row.items() if key not in ("seconds", "images_per_second")} for row in rows]


def same(a: Any, b: Any) -> bool:
    import torch

    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        # Bytes and not values: NaN is NaN, and 0.0 is not -0.0.
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


def processes(to: str) -> str:
    """The override for a run that has such a process."""
    return f"trainer.devices={1 if to == ONE else 2}"


def cell(phase: str, number: signal.Signals, to: str, whole: Path, directory: Path) -> Cell:
    """End a run, start it again, compare it."""
    overrides = (*OVERRIDES, processes(to), f"hydra.run.dir={directory}")
    first = run_until(phase, number, *overrides, to=to)
    begun = [int(line.split()[1]) for line in first.stdout.splitlines() if line.startswith("begun ")]
    assert len(begun) == 1, f"{phase}: the signal was never sent\n{first.stdout}\n{first.stderr}"
    kept, steps = epochs_kept(directory), steps_kept(directory)
    second = commands.run("slnlab.train", *overrides)
    found = [second.stderr.strip().splitlines()[-1]] if second.returncode else differences(whole, directory)
    return Cell(
        phase=phase,
        signal=number.name,
        to=to,
        # A shell shows the death by a signal as 128 + its number, which is also what slnlab exits with.
        exit_code=128 - first.returncode if first.returncode < 0 else first.returncode,
        epochs_begun=begun[0],
        epochs_kept=kept,
        steps_kept=steps,
        second_exit_code=second.returncode,
        differences=", ".join(found),
    )


def page(cells: list[Cell], seconds: float) -> str:
    """The page that describes the table."""
    import pytorch_lightning

    columns = ["phase", "signal", "to", "exit code", "epochs begun", "kept", "and steps"]
    rows = [
        (f"{c.phase}: {PHASES[c.phase]}", c.signal, c.to, c.exit_code, c.epochs_begun, c.epochs_kept, c.steps_kept)
        for c in cells
    ]
    return f"""# Kill matrix: runs stopped at awkward moments and resumed

**Question.** A run is stopped at any moment and resumed by the same command. Does it end with the same bits as an
uninterrupted run?

**Command.** `make kill-matrix` wrote this page and [`results.csv`](results.csv), in {seconds / 60:.0f} minutes.

**Set-up.** Digits, `{" ".join(OVERRIDES)}`; one process. The rows of *rank 0*, *rank 1* and *launcher* have
`trainer.devices=2`: the user starts the launcher, and the launcher starts the ranks. In each row, one process of the
command gets the signal at the phase; then the same command runs undisturbed to its end. (Commands fork from a
process that has imported PyTorch, to save time.) *Identical* means byte for byte equal to an uninterrupted run: the
network, momentum model, sample table, optimiser and schedule in the last checkpoint, every row of `metrics.csv` (but
`seconds` and `images_per_second`) and all of `samples.npz`. The same comparison finds a second uninterrupted run equal,
and a run of another seed different.

{matrix_page.environment(f"Lightning {pytorch_lightning.__version__}", "one thread")}

{matrix_page.result(cells, columns, rows)}

Exit code 137 is a killed process, and 1 a launcher that has named its dead process. slnlab itself exits with 128 + the
signal's number. *Kept* counts the epochs in the newest whole checkpoint after the exit. *And steps* counts the saved
steps, of 24, of the unfinished epoch: a signal saves the run between two steps. With SIGTERM in *result*, the result
was complete before the exit.

**Not shown.** GPUs; several machines; loss of power, which a process cannot cause.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="the folder for results.csv and README.md")
    parser.add_argument("--die", choices=PHASES, metavar="PHASE", help=argparse.SUPPRESS)
    parser.add_argument("--signal", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--to", default=ONE, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.die:
        return die(known.die, known.signal, known.to, known.overrides)
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        whole, together, again, other = (Path(folder) / name for name in ("whole", "together", "again", "other"))
        for directory, seed, to in ((whole, 0, ONE), (again, 0, ONE), (other, 1, ONE), (together, 0, LAUNCHER)):
            done = commands.run("slnlab.train", *OVERRIDES, processes(to), f"hydra.run.dir={directory}", f"seed={seed}")
            assert done.returncode == 0, done.stderr
        assert not differences(whole, again), f"two whole runs differ in {differences(whole, again)}"
        assert "state_dict" in differences(whole, other), "a run of another seed is the same: nothing is compared"
        cells = []
        for phase, number, to in CELLS:
            directory = Path(folder) / "stopped"
            cells.append(cell(phase, number, to, whole if to == ONE else together, directory))
            print(cells[-1], flush=True)
            shutil.rmtree(directory)
    matrix_page.write(known.out, cells, page(cells, time.monotonic() - begin))
    if any(c.differences for c in cells):
        sys.exit("a run that was stopped ended differently; see the table")
    return None


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__" and ARMED in os.environ:  # in a rank
    _phase, _number, _to = os.environ[ARMED].split(";")
    arm(_phase, int(_number), _to)
