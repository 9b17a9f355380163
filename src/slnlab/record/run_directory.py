"""The directory of a run: what lies where, whether it is finished, and whose it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import NoneType
from typing import Any

from omegaconf import OmegaConf

from slnlab.config.container import flat
from slnlab.config.contents import SOURCES, changes, parts
from slnlab.config.run_spec import RunSpec
from slnlab.errors import Busy, ConfigError, DataError, Pruned
from slnlab.processes.stopping import Stopped, stop_if_requested
from slnlab.record.environment import environment
from slnlab.storage.locks import FolderLock
from slnlab.storage.writing import remove_unfinished, replacing
from slnlab.text.messages import short
from slnlab.text.quoting import override

LENGTH = "trainer.max_epochs"

LONGER = (
    "No run is extended, as its schedules follow its length; to train on from its weights, for trainer.max_epochs more"
)

OF_IMAGES = {"data.num_train", "data.num_classes", "data.classes", "data.clean_val", "data.test", "model.num_classes"}
"""Keys that follow from the images of a folder."""

LATEST = 100
"""So many runs beside a new one are looked at."""


_begun: dict[Path, frozenset[tuple[str, int, int]]] = {}
"""The runs that this process has begun, and what was saved of each then."""


def got_further() -> bool:
    """Whether any run that this process has begun, the ones that another needs first among them, has been saved
    since."""
    return any(RunDirectory(path)._saved() - before for path, before in _begun.items())


class RunDirectory:
    """`path/` with

    - `config.yaml` (resolved), `overrides.yaml` (as typed), `environment.json` (versions, machine, git state)
    - `identity.json`: what of the configuration makes it this run, and the hashes of the data set's files
    - `noise.npz`: the noise record; another run takes it with `noise=run noise.path=…`
    - `metrics.csv`: one row per epoch
    - `checkpoints/last.ckpt`: everything a stopped run goes on from; `previous.ckpt`: the one before;
      `within-<process>.ckpt`: what the steps of a begun epoch have changed
    - `samples.npz`: per training sample, what the final weights say about its label
    - `label_issues.csv`: all training samples, the likeliest wrong labels first
    - `unreadable.csv`, `duplicates.csv`: of a folder's images, those that cannot be read and those that are copies
    - `profile/`: with trainer.profile=true, where the time of a few steps went
    - `pruned.json`: a study has ended the run early (`slnlab.tune`); it can go on
    - `wandb.json`: with logger=wandb, the id of the W&B run and the last epoch that it was told; `wandb/`: recordings
    - `failure.txt`: why the run ended before, if it was by an error; gone when it begins again
    - `result.json`: see `slnlab.record.result`; its presence means that the run is finished
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.overrides = path / "overrides.yaml"
        self.environment = path / "environment.json"
        self.identity = path / "identity.json"
        self.noise = path / "noise.npz"
        self.metrics = path / "metrics.csv"
        self.checkpoint = path / "checkpoints" / "last.ckpt"
        self.samples = path / "samples.npz"
        self.label_issues = path / "label_issues.csv"
        self.probabilities = path / "probabilities.npz"
        self.wandb = path / "wandb.json"
        self.profile = path / "profile"
        self.pruned = path / "pruned.json"
        self.failure = path / "failure.txt"
        self.result = path / "result.json"
        self._described = False

    @property
    def finished(self) -> bool:
        return self.result.exists()

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Keep other processes out; see `slnlab.storage.locks`.

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
                stop_if_requested()
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
                remove_unfinished(folder)
            yield
        except Exception as error:
            # A typing mistake that is refused before the run begins is no failed run.
            if not self.finished and not isinstance(error, Pruned | (NoneType if self._described else ConfigError)):
                self.note_failure(f"{type(error).__name__}: {error}")
            raise
        finally:
            lock.release()

    def note_failure(self, reason: str) -> None:
        """Write down why the run has ended, if that is possible."""
        with suppress(DataError), replacing(self.failure) as file:
            file.write(f"{reason}\n".encode(errors="backslashreplace"))

    def _saved(self) -> frozenset[tuple[str, int, int]]:
        """The files that the run goes on from, each with what is another when it is written anew."""
        found = set()
        for path in self.checkpoint.parent.glob("*.ckpt"):
            with suppress(OSError):  # another process of the run has replaced it
                stat = path.stat()
                found.add((path.name, stat.st_mtime_ns, stat.st_ino))
        return frozenset(found)

    def refuse_another_run(self, spec: RunSpec) -> None:
        """Make sure that what lies here, if anything, was made by this very configuration.

        Raises:
            ConfigError: names the keys that differ.
        """
        if not self.config.exists():
            return
        there, here = flat(self._stored_identity()), flat(spec.identity)
        differing = _differing(there, here)
        if differing:
            first = ", ".join(f"{k}={short(there.get(k))} there, {short(here.get(k))} here" for k in differing[:3])
            more = f", and {len(differing) - 3} more" if differing[3:] else ""
            for key in (key for key in differing if key.endswith(".contents")):
                more += changes(spec.container, self.identity, key.removesuffix(".contents"))
            advice = self._longer(spec) if LENGTH in differing else ""
            raise ConfigError(
                f"{self.path} holds another run ({first}{more}); "
                f"name another hydra.run.dir, or force=true to replace it{advice}"
            )

    def nearly_the_same(self, spec: RunSpec) -> str | None:
        """One line on a run beside this one that differs in its length only, or in the contents of its files only.

        None where there is no such run, or this one has begun. Of many runs the latest are looked at.
        """
        if self.config.exists():
            return None
        here = flat(spec.identity)
        files = {f"{key}.contents" if key in SOURCES else key for key in spec.container["contents"]}
        beside: list[Path] = []
        with suppress(OSError):  # one has just been removed
            beside = list(self.path.parent.parent.glob(f"*/{self.path.name}/{self.identity.name}"))
            beside.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for other in (RunDirectory(path.parent) for path in beside[:LATEST]):
            with suppress(DataError):
                there = flat(other._stored_identity())
                differing = _differing(there, here)
                if LENGTH in differing and other.finished:
                    lengths = (there[LENGTH], here[LENGTH])
                    if all((there.get(key), here.get(key)) == lengths for key in differing):  # T_max and the like
                        return (
                            f"the same with {LENGTH}={lengths[0]} is finished in {other.path}; this run begins anew"
                            f"{other._longer(spec)}"
                        )
                elif files & set(differing) and set(differing) <= files | OF_IMAGES:
                    names = ", ".join(key.removesuffix(".contents") for key in differing if key in files)
                    return f"the same run on other contents of {names} is {other.path}; this one begins anew"
        return None

    def _stored_identity(self) -> dict[str, Any]:
        """
        Raises:
            DataError: it cannot be read.
        """
        try:
            stored: dict[str, Any] = json.loads(self.identity.read_text(encoding="utf-8"))["identity"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{self.identity}: cannot be read, so whose directory this is is unknown") from error
        return stored

    def _longer(self, spec: RunSpec) -> str:
        """What to type to train on from the weights of this run."""
        if spec.config.method.get("networks", 1) > 1:  # it would start from a run of each
            return ""
        return f". {LONGER}: {override('init.from', str(self.path))}"

    def clear(self) -> None:
        """Remove what a run has made here, and nothing else."""
        records = (self.result, self.metrics, self.samples, self.label_issues, self.noise)
        for made in (*records, self.probabilities, self.wandb, self.pruned):
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

    def describe(self, spec: RunSpec, overrides: Sequence[str]) -> None:
        """Write down what is about to run, and with what.

        Raises:
            DataError: a file cannot be written.
        """
        self.pruned.unlink(missing_ok=True)  # it goes on
        self.failure.unlink(missing_ok=True)
        stored = {"identity": spec.identity, "files": parts(spec.container)}
        for path, text in (
            (self.identity, json.dumps(stored, indent=1) + "\n"),  # before the next: that one says that it has begun
            (self.config, OmegaConf.to_yaml(spec.config)),
            (self.overrides, OmegaConf.to_yaml(OmegaConf.create(list(overrides)))),
            (self.environment, json.dumps(environment(), indent=2) + "\n"),
        ):
            with replacing(path) as file:
                file.write(text.encode())
        self._described = True


def _differing(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    return [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
