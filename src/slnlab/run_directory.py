"""The directory of a run: what lies where, whether it is finished, and whose it is."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from slnlab.errors import Busy, ConfigError, DataError, Pruned
from slnlab.files import remove_begun, replacing
from slnlab.identity import identity
from slnlab.locks import FolderLock
from slnlab.plain import flat, plain
from slnlab.stopping import Stopped, stop_if_told

PACKAGES = (
    "slnlab",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "scikit-learn",
)


_begun: dict[Path, frozenset[tuple[str, int, int]]] = {}
"""The runs that this process has begun, and what was saved of each then."""


def got_further() -> bool:
    """Whether any run that this process has begun, the ones that another needs first among them, has been saved
    since."""
    return any(RunDirectory(path)._saved() - before for path, before in _begun.items())


class RunDirectory:
    """`path/` with

    - `config.yaml` (resolved), `overrides.yaml` (as typed), `environment.json` (versions, machine, git state)
    - `noise.npz`: the noise record; another run takes it with `noise=run noise.path=…`
    - `metrics.csv`: one row per epoch
    - `checkpoints/last.ckpt`: everything a stopped run goes on from; `previous.ckpt`: the one before;
      `within-<process>.ckpt`: what the steps of a begun epoch have changed
    - `samples.npz`: per training sample, what the final weights say about its label
    - `label_issues.csv`: the labels that they do not agree with, the likeliest mistakes first
    - `profile/`: with trainer.profile=true, where the time of a few steps went
    - `pruned.json`: a study has ended the run early (`slnlab.tune`); it can go on
    - `failure.txt`: why the run ended before, if it was by an error; gone when it begins again
    - `result.json`: see `slnlab.result`; its presence means that the run is finished
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.overrides = path / "overrides.yaml"
        self.environment = path / "environment.json"
        self.noise = path / "noise.npz"
        self.metrics = path / "metrics.csv"
        self.checkpoint = path / "checkpoints" / "last.ckpt"
        self.samples = path / "samples.npz"
        self.label_issues = path / "label_issues.csv"
        self.probabilities = path / "probabilities.npz"
        self.wandb_id = path / "wandb_id"
        self.profile = path / "profile"
        self.pruned = path / "pruned.json"
        self.failure = path / "failure.txt"
        self.result = path / "result.json"

    @property
    def finished(self) -> bool:
        return self.result.exists()

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Keep other processes out; see `slnlab.locks`.

        Args:
            wait: until a process that is running here has ended.

        Raises:
            Busy: another process is running here, and `wait` is False.
            DataError: the directory cannot be written or locked.
            Stopped: a signal came while waiting.
        """
        lock, waited = FolderLock(self.path, "another process is running in"), False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            while not lock.held:
                stop_if_told()
                with suppress(*([Busy] if wait else [])):
                    lock.acquire(timeout=1 if wait else 0.5)  # `sweep status` looks for a moment
                waited = not lock.held
        except Stopped as stopped:
            stopped.waiting = waited
            raise
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        _begun.setdefault(self.path, self._saved())
        try:
            for folder in (self.path, self.checkpoint.parent):
                remove_begun(folder)
            yield
        except Exception as error:
            if not self.finished and not isinstance(error, Pruned | ConfigError):  # a typing mistake is no failed run
                self.note_failure(f"{type(error).__name__}: {error}")
            raise
        finally:
            lock.release()

    def note_failure(self, reason: str) -> None:
        """Write down why the run has ended, if that is possible."""
        with suppress(DataError), replacing(self.failure) as file:
            file.write(f"{reason}\n".encode())

    def _saved(self) -> frozenset[tuple[str, int, int]]:
        """The files that the run goes on from, each with what is another when it is written anew."""
        found = set()
        for path in self.checkpoint.parent.glob("*.ckpt"):
            with suppress(OSError):  # another process of the run has replaced it
                stat = path.stat()
                found.add((path.name, stat.st_mtime_ns, stat.st_ino))
        return frozenset(found)

    def refuse_another_run(self, config: DictConfig) -> None:
        """Make sure that what lies here, if anything, was made by this very configuration.

        Raises:
            ConfigError: names the keys that differ.
        """
        if not self.config.exists():
            return
        stored = OmegaConf.load(self.config)
        assert isinstance(stored, DictConfig)
        there, here = (flat(identity(node)) for node in (stored, config))
        differing = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
        if differing:
            first = ", ".join(f"{k}={there.get(k)!r} there, {here.get(k)!r} here" for k in differing[:3])
            more = f", and {len(differing) - 3} more" if differing[3:] else ""
            raise ConfigError(
                f"{self.path} holds another run ({first}{more}); "
                "name another hydra.run.dir, or force=true to replace it"
            )

    def clear(self) -> None:
        """Remove what a run has made here, and nothing else."""
        records = (self.result, self.metrics, self.samples, self.label_issues, self.noise)
        for made in (*records, self.probabilities, self.wandb_id, self.pruned):
            made.unlink(missing_ok=True)
        for folder in (self.checkpoint.parent, self.path / "tensorboard", self.profile):
            if folder.exists():
                shutil.rmtree(folder)

    @contextmanager
    def writing_result(self) -> Iterator[None]:
        """Around what writes the result: a failure says that nothing is lost.

        Raises:
            DataError: what was raised in the block, with advice.
        """
        try:
            yield
        except DataError as error:
            raise DataError(
                f"{error}. All epochs are done; when this is mended, the same command writes the result"
            ) from error

    def describe(self, config: DictConfig, overrides: Sequence[str]) -> None:
        """Write down what is about to run, and with what.

        Raises:
            DataError: a file cannot be written.
        """
        self.pruned.unlink(missing_ok=True)  # it goes on
        self.failure.unlink(missing_ok=True)
        for path, text in (
            (self.config, OmegaConf.to_yaml(OmegaConf.create(plain(config)))),
            (self.overrides, OmegaConf.to_yaml(OmegaConf.create(list(overrides)))),
            (self.environment, json.dumps(environment(), indent=2) + "\n"),
        ):
            with replacing(path) as file:
                file.write(text.encode())


def environment() -> dict[str, Any]:
    """Versions, machine and git state, as plain JSON."""
    import torch

    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "packages": versions,
        "platform": platform.platform(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "git": git_state(),
    }


def processor_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def git_state() -> dict[str, Any] | None:
    """The commit of the checkout that slnlab runs from, and whether it was changed since; None when installed."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--", "src", "conf")),
        }
    except (OSError, subprocess.CalledProcessError):
        return None
