"""The directory of a run: its files, its lock, and the configuration that it belongs to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import NoneType
from typing import Any

from omegaconf import OmegaConf

from slnlab.config.container import differing, flat
from slnlab.config.contents import changes, parts
from slnlab.config.run_spec import RunSpec
from slnlab.errors import Busy, ConfigError, DataError, Pruned
from slnlab.processes.stopping import Stopped, stop_if_requested
from slnlab.record.environment import environment
from slnlab.schema.law import law
from slnlab.schema.sections import SOURCES
from slnlab.schema.user_code import user_code
from slnlab.storage.locks import FolderLock
from slnlab.storage.writing import remove_unfinished, replacing
from slnlab.text.messages import short
from slnlab.text.quoting import override

LENGTH = "trainer.max_epochs"

LONGER = (
    "Runs cannot be extended, as their schedules follow their length; train on from its weights for "
    "trainer.max_epochs more"
)

OF_IMAGES = {"data.num_train", "data.num_classes", "data.classes", "data.clean_val", "data.test", "model.num_classes"}
OF_IMAGES |= {"data.channels", "model.in_channels"}
OF_IMAGES |= {"best_epoch.enabled", "best_epoch.weights", "best_epoch.criterion"}
"""Keys that follow from the user's files."""

LATEST = 100
"""Number of existing runs that are compared with a new one, latest first."""


_begun: dict[Path, frozenset[tuple[str, int, int]]] = {}
"""Runs begun by this process, each with its checkpoints at that time."""


def got_further() -> bool:
    """True if any run begun by this process has saved a checkpoint since, first runs included."""
    return any(RunDirectory(path)._saved() - before for path, before in _begun.items())


class RunDirectory:
    """The files below `path/`:

    - `config.yaml` (resolved), `overrides.yaml` (as typed), `environment.json` (versions, machine, commit, SLURM job)
    - `identity.json`: the keys that can change the result, and the hashes of the data set's files
    - `noise.npz`: the noise record; another run reads it with `noise=run noise.path=…`
    - `metrics.csv`: one row per epoch
    - `checkpoints/last.ckpt`: the last finished epoch; `previous.ckpt`: the one before; `within-<process>.ckpt`: the
      changes by the steps of a begun epoch
    - `samples.npz`: per training sample, loss, prediction and margin of the final weights, and its training dynamics
    - `label_issues.csv`: all training samples, the likeliest wrong labels first
    - `unreadable.csv`, `duplicates.csv`: unreadable and duplicate images of a folder
    - `profile/`: with trainer.profile=true, the time of each operation in a few steps
    - `pruned.json`: a study (`slnlab.tune`) has ended the run early; it can continue
    - `wandb.json`: with logger=wandb, the id of the W&B run and its last logged epoch; `wandb/`: offline recordings
    - `failure.txt`: the error that ended the run; removed when the run begins again
    - `result.json`: see `slnlab.record.result`; the run is finished when it exists

    Args:
        path: of the directory, which need not exist.
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
        """True if `result.json` exists."""
        return self.result.exists()

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Lock the directory against other processes; see `slnlab.storage.locks`.

        Args:
            wait: wait for the end of another process in the directory.

        Raises:
            Busy: another process runs in the directory, and `wait` is False.
            DataError: the directory cannot be written or locked.
            Stopped: a signal came while waiting.
        """
        lock, waited = FolderLock(self.path, "another process is running in"), False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            while not lock.held:
                stop_if_requested()
                with suppress(*([Busy] if wait else [])):
                    lock.acquire(timeout=1 if wait else 0.5)  # `sweep status` holds the lock for a moment
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
            # A configuration refused before the run begins is no failed run.
            if not self.finished and not isinstance(error, Pruned | (NoneType if self._described else ConfigError)):
                self.note_failure(f"{type(error).__name__}: {error}")
            raise
        finally:
            lock.release()

    def begun_by(self, slurm_job: str) -> bool:
        """True if this job has begun or resumed the run, after it has removed a former run where that was asked for.

        Args:
            slurm_job: the number of the job, which it keeps when it is requeued.
        """
        return bool(self.stored_environment().get("slurm_job") == slurm_job)

    def note_failure(self, reason: str) -> None:
        """Write the reason to `failure.txt`, if the directory can be written."""
        with suppress(DataError), replacing(self.failure) as file:
            file.write(f"{reason}\n".encode(errors="backslashreplace"))

    def _saved(self) -> frozenset[tuple[str, int, int]]:
        """Checkpoints as (name, modification time in ns, inode); a rewritten file differs."""
        found = set()
        for path in self.checkpoint.parent.glob("*.ckpt"):
            with suppress(OSError):  # another process of the run has replaced it
                stat = path.stat()
                found.add((path.name, stat.st_mtime_ns, stat.st_ino))
        return frozenset(found)

    def refuse_another_run(self, spec: RunSpec) -> None:
        """Refuse a directory that holds a run of another configuration.

        Raises:
            ConfigError: names the differing keys.
            DataError: the stored identity cannot be read.
        """
        if not self.config.exists():
            return
        stored, wanted = flat(self.stored_identity()), flat(spec.identity)
        keys = differing(stored, wanted)
        if keys:
            first = ", ".join(f"{k}={short(stored.get(k))} there, {short(wanted.get(k))} here" for k in keys[:3])
            more = f", and {len(keys) - 3} more" if keys[3:] else ""
            for key in (key for key in keys if key.endswith(".contents")):
                more += changes(spec.container, self.stored_files(), key.removesuffix(".contents"))
            advice = self._longer(spec) if LENGTH in keys else ""
            raise ConfigError(
                f"{self.path} holds another run ({first}{more}); "
                f"name another hydra.run.dir, or force=true to replace it{advice}"
            )

    def nearly_the_same(self, spec: RunSpec) -> str | None:
        """A line about a neighbouring run that differs only in its length, or only in the contents of its files.

        None without such a run, or if this run has begun. Only the `LATEST` newest runs are compared.
        """
        if self.config.exists():
            return None
        wanted = flat(spec.identity)
        files = {f"{key}.contents" if key in SOURCES else key for key in spec.container["contents"]}
        beside: list[Path] = []
        with suppress(OSError):  # a run was removed meanwhile
            beside = list(self.path.parent.parent.glob(f"*/{self.path.name}/{self.identity.name}"))
            beside.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for other in (RunDirectory(path.parent) for path in beside[:LATEST]):
            with suppress(DataError):
                stored = flat(other.stored_identity())
                keys = differing(stored, wanted)
                if LENGTH in keys and other.finished:
                    lengths = (stored[LENGTH], wanted[LENGTH])
                    if all((stored.get(key), wanted.get(key)) == lengths for key in keys):  # such as T_max
                        return (
                            f"the same with {LENGTH}={lengths[0]} is finished in {other.path}; this run begins anew"
                            f"{other._longer(spec)}"
                        )
                elif files & set(keys) and set(keys) <= files | OF_IMAGES:
                    names = ", ".join(key.removesuffix(".contents") for key in keys if key in files)
                    return f"the same run on other contents of {names} is {other.path}; this one begins anew"
        return None

    def changed_code(self, spec: RunSpec) -> list[str]:
        """The modules of the user's own code that have changed since the run began, or that it had not, or no more has.

        Empty if that is unknown.
        """
        then = self.stored_environment().get("user_code")
        return differing(then, user_code(spec.container)) if isinstance(then, dict) else []

    def stored_environment(self) -> dict[str, Any]:
        """The environment of the last start; empty if it cannot be read."""
        try:
            stored = json.loads(self.environment.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stored if isinstance(stored, dict) else {}

    def stored_identity(self) -> dict[str, Any]:
        """The identity of the run that has begun here.

        Raises:
            DataError: it cannot be read.
        """
        try:
            stored: dict[str, Any] = {**self._stored()["identity"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.identity}: cannot be read, so the run of this directory is unknown") from error
        return stored

    def stored_files(self) -> dict[str, dict[str, str]]:
        """The `slnlab.config.contents.parts` of the run that has begun here; empty if they cannot be read."""
        try:
            files: dict[str, dict[str, str]] = {**self._stored()["files"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return files

    def _stored(self) -> dict[str, Any]:
        stored: dict[str, Any] = json.loads(self.identity.read_text(encoding="utf-8"))
        return stored

    def _longer(self, spec: RunSpec) -> str:
        """Advice on training further from the weights of this run."""
        method = law(spec.container["method"])
        if len(method.networks) > 1 or "init.from" in method.refuses:  # each network needs a run of its own
            return ""
        return f". {LONGER}: {override('init.from', str(self.path))}"

    def clear(self) -> None:
        """Remove the files made by a run, and nothing else."""
        records = (self.result, self.metrics, self.samples, self.label_issues, self.noise)
        for made in (*records, self.probabilities, self.wandb, self.pruned):
            made.unlink(missing_ok=True)
        for folder in (self.checkpoint.parent, self.path / "tensorboard", self.profile):
            if folder.exists():
                shutil.rmtree(folder)

    @contextmanager
    def writing_result(self) -> Iterator[None]:
        """Add advice to an error while the result is written.

        Raises:
            DataError: the error of the block, with the advice that no epoch is lost.
        """
        try:
            yield
        except DataError as error:
            raise DataError(
                f"{error}. All epochs are done; once this is mended, the same command writes the result"
            ) from error

    def describe(self, spec: RunSpec, overrides: Sequence[str], resumes: bool = False) -> None:
        """Write configuration, overrides, identity and environment of a run that begins.

        Args:
            spec: of the run.
            overrides: as typed.
            resumes: True keeps the digests of the user's code with which it was trained before, beside today's.

        Raises:
            DataError: a file cannot be written.
        """
        self.pruned.unlink(missing_ok=True)
        self.failure.unlink(missing_ok=True)
        stored = {"identity": spec.identity, "files": parts(spec.container)}
        code = user_code(spec.container)
        then = self.stored_environment().get("user_code")
        for module, before in then.items() if resumes and isinstance(then, dict) else ():
            code[module] = " ".join(dict.fromkeys([*str(before).split(), *code.get(module, "").split()]))
        for path, text in (
            (self.identity, json.dumps(stored, indent=1) + "\n"),  # first, as config.yaml marks the run as begun
            (self.config, OmegaConf.to_yaml(spec.config)),
            (self.overrides, OmegaConf.to_yaml(OmegaConf.create(list(overrides)))),
            (self.environment, json.dumps({**environment(), "user_code": code}, indent=2) + "\n"),
        ):
            with replacing(path) as file:
                file.write(text.encode())
        self._described = True
