"""A settled run: all that is known of a run before it begins, in one value that is handed on.

`slnlab.training.settling.settle` makes it, once. Nothing changes it afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from slnlab.config.container import container_of
from slnlab.config.identity import group_of
from slnlab.schema.options import law


@dataclass(frozen=True)
class RunSpec:
    """What a run is.

    Args:
        config: resolved and checked, with the digests of its files (`contents`).
        identity: what of it makes the run this run; see `slnlab.config.identity.identity`.
        sources: the runs whose weights it starts from (`init.from`), one for each network; mostly none.
    """

    config: DictConfig
    identity: dict[str, Any]
    sources: tuple[SourceRun, ...] = ()

    @cached_property
    def container(self) -> dict[str, Any]:
        """The configuration as plain containers."""
        return container_of(self.config)

    @cached_property
    def group(self) -> str:
        """Digest of the identity without its seed: runs that are averaged share it."""
        return group_of(self.identity)

    @property
    def noise(self) -> str:
        """For titles: `sym 0.4`."""
        noise = self.config.noise
        return f"{noise.name} {noise.rate}" if noise.rate else str(noise.name)

    @property
    def title(self) -> str:
        """For titles: `digits sym 0.4 sln seed=0`."""
        return f"{self.config.data.name} {self.noise} {self.config.method.name} seed={self.config.seed}"

    @property
    def subdir(self) -> str:
        """Its directory below `runs_dir`, the same from a single run and from a sweep."""
        noise = self.noise.replace(" ", "-")
        return f"{self.config.data.name}/{noise}/{self.config.method.name}/{self.group}/seed{self.config.seed}"

    @property
    def directory(self) -> Path:
        """Where it lies unless another directory is named."""
        return Path(self.config.runs_dir) / self.subdir

    @property
    def row_titles(self) -> dict[str, str]:
        """How tables name each of its rows; what a run starts from comes first: `SLN → SIGUA`."""
        momentum = " MO" * (self.config.init.weights == "momentum")
        first = " + ".join(dict.fromkeys(source.title + momentum for source in self.sources))
        titles = law(self.config.method).rows
        return {key: f"{first} → {title}" if first else title for key, title in titles.items()}

    def changed(self, values: Mapping[str, Any]) -> RunSpec:
        """The same run with other values of keys that do not belong to its identity, by dotted key."""
        config = OmegaConf.create(self.container)
        for key, value in values.items():
            OmegaConf.update(config, key, value)
        return replace(self, config=config)


@dataclass(frozen=True)
class SourceRun:
    """A run that another one starts from.

    Args:
        directory: where it lies.
        method, group, seed, identity: its own.
        title: of its main row.
        spec: to make it with where it is missing; None: it was named by its directory.
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
        """A run that is made where it is missing."""
        title = main_title(spec.row_titles["network"])
        return cls(spec.directory, spec.config.method.name, spec.group, spec.config.seed, title, spec.identity, spec)

    @property
    def name(self) -> str:
        """What it is, wherever it lies."""
        return f"{self.method}/{self.group}/seed{self.seed}"

    @property
    def checkpoint(self) -> Path:
        return self.directory / "checkpoints" / "last.ckpt"


def main_title(title: str) -> str:
    """Of a method whose main row is not its network's, the network's row says so; the method's name does not."""
    return title.removesuffix(" (network)")
