"""A settled run: everything known of a run before it begins, in one frozen value.

`slnlab.training.settling.settle` makes it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from slnlab.config.container import container_of
from slnlab.config.identity import group_of, noise_title, subdir_of
from slnlab.schema.law import RowTitle, law


@dataclass(frozen=True)
class RunSpec:
    """A settled run.

    Args:
        container: the resolved and checked configuration as nested dicts and lists, with the digests of its files
            (`contents`).
        identity: the part that can change the result; see `slnlab.config.identity.identity`.
        sources: the runs whose weights it starts from (`init.from`), one for each network; usually none.
    """

    container: dict[str, Any]
    identity: dict[str, Any]
    sources: tuple[SourceRun, ...] = ()

    @cached_property
    def config(self) -> DictConfig:
        """The configuration, made on demand: a sweep settles a thousand runs and reads few of their values."""
        return OmegaConf.create(self.container)

    @cached_property
    def group(self) -> str:
        """The digest of the identity without its seed. Tables average the runs of a group."""
        return group_of(self.identity)

    @property
    def noise(self) -> str:
        """The noise as titles show it: `sym 0.4`."""
        return noise_title(self.container)

    @property
    def title(self) -> str:
        """The title of the run: `digits sym 0.4 sln seed=0`."""
        data, method = self.container["data"]["name"], self.container["method"]["name"]
        return f"{data} {self.noise} {method} seed={self.container['seed']}"

    @property
    def subdir(self) -> str:
        """The run's directory below `runs_dir`, the same for a single run and in a sweep."""
        return subdir_of(self.container, self.group)

    @property
    def directory(self) -> Path:
        """The run's directory, unless the user names another one."""
        return Path(self.container["runs_dir"]) / self.subdir

    @property
    def rows(self) -> dict[str, RowTitle]:
        """Key of a row → its title in tables. The titles of the source runs come first: `SLN → SIGUA`."""
        momentum = " MO" * (self.container["init"]["weights"] == "momentum")
        first = " + ".join(dict.fromkeys(source.title + momentum for source in self.sources))
        rows = law(self.container["method"]).rows
        return {name: row._replace(title=f"{first} → {row.title}") for name, row in rows.items()} if first else rows

    def changed(self, values: Mapping[str, Any]) -> RunSpec:
        """The same run with other values, by dotted key, of keys outside its identity."""
        config = OmegaConf.create(self.container)
        for key, value in values.items():
            OmegaConf.update(config, key, value)
        return replace(self, container=container_of(config))


@dataclass(frozen=True)
class SourceRun:
    """A run whose weights another run starts from.

    Args:
        directory: its directory.
        method, group, seed, identity: those of the run.
        title: title of its first row that is not secondary.
        spec: its settled run, to train it if it is missing; None if the user named its directory.
    """

    directory: Path
    method: str
    group: str
    seed: int
    title: str
    identity: dict[str, Any]
    spec: RunSpec | None = None

    @classmethod
    def of(cls, spec: RunSpec) -> SourceRun:
        """The source run of a settled run. It is trained if it is missing."""
        method = spec.container["method"]
        title = next((row.title for row in spec.rows.values() if not row.secondary), method["title"])
        return cls(spec.directory, method["name"], spec.group, spec.container["seed"], title, spec.identity, spec)

    @property
    def name(self) -> str:
        """Its name, independent of its place."""
        return f"{self.method}/{self.group}/seed{self.seed}"

    @property
    def checkpoint(self) -> Path:
        return self.directory / "checkpoints" / "last.ckpt"
