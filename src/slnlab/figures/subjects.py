"""The trained networks that a figure looks at, and the options that these figures share. It imports torch late."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slnlab.errors import ConfigError
from slnlab.figures.panels import found_groups, main_row, place
from slnlab.tables.runs import FinishedRun, Group

if TYPE_CHECKING:
    from slnlab.inference.trained_run import TrainedRun


@dataclass(frozen=True)
class Subject:
    """A set of weights of a finished run.

    Args:
        group: the runs of its configuration.
        finished: the run.
        weights: name of the weights, a row of its result.
    """

    group: Group
    finished: FinishedRun
    weights: str

    @property
    def title(self) -> str:
        """The title of its row, with the settings that tell it from others: `SLN sln.sigma=0.5`."""
        return f"{self.finished.result.rows[self.weights].title} {self.group.setting}".strip()

    @property
    def columns(self) -> dict[str, object]:
        """The columns of a CSV that name it."""
        return {
            **place(self.group),
            "label": self.finished.result.rows[self.weights].title,
            "setting": self.group.setting,
            "weights": self.weights,
            "seed": self.finished.result.seed,
            "noise_seed": self.finished.draw,
        }

    def load(self, device: str) -> TrainedRun:
        """Load the run with these weights; see `slnlab.load`."""
        from slnlab.inference.trained_run import load

        return load(self.finished.directory.path, self.weights, device)


def subjects(paths: Sequence[Path], weights: str | None, where: Sequence[str]) -> tuple[list[list[Subject]], list[str]]:
    """Find the weights to look at in the finished runs at or below `paths`.

    Args:
        paths: searched for finished runs.
        weights: a row of the results; None: the main row of each, the first that is not secondary.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        (the subjects of each configuration, ordered by seed, remarks on runs that are left out).

    Raises:
        DataError: a path does not exist, or no finished run was found.
        ConfigError: no run has these weights, or a condition cannot be read.
    """
    groups, remarks = found_groups(paths, where)
    found: list[list[Subject]] = []
    for group in groups:
        chosen = weights or main_row(group)
        if chosen in group.rows:
            found.append([Subject(group, run, chosen) for run in group.runs])
        else:
            first = group.runs[0].directory.path
            remarks.append(f"left out: {first} has no weights {chosen!r}; it has {', '.join(group.rows)}")
    if not found:
        raise ConfigError("\n  ".join([f"weights: no run has {weights!r}", *remarks]))
    return found, remarks


def first_seeds(groups: Sequence[Sequence[Subject]]) -> tuple[list[Subject], list[str]]:
    """Return the first seed of each configuration, and a remark on each that has more."""
    remarks = [
        f"{same[0].title}: drawn for seed {same[0].finished.result.seed} of "
        f"{', '.join(str(each.finished.result.seed) for each in same)}; name one run's directory to see another"
        for same in groups
        if len(same) > 1
    ]
    return [same[0] for same in groups], remarks


IN_A_ROW = 4
"""Most panels in a row."""


def in_a_row(drawn: Sequence[Subject]) -> int:
    """Return the number of panels in a row: a row for each data set and noise, if all have equally many subjects."""
    counts = set(Counter((each.group.first.data, each.group.noise) for each in drawn).values())
    return counts.pop() if len(counts) == 1 and max(counts) <= IN_A_ROW else IN_A_ROW


def panel_titles(drawn: Sequence[Subject]) -> list[str]:
    """Return the title of each subject, with data and noise if these differ."""
    where = [f"{each.group.first.data}, {each.group.noise}" for each in drawn]
    if len(set(where)) == 1:
        return [each.title for each in drawn]
    return [f"{each.title}\n{place}" for each, place in zip(drawn, where, strict=True)]


def add_weights_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses the weights of each run."""
    parser.add_argument(
        "--weights", metavar="NAME", help="network, momentum, ensemble, ...; default: the main row of each result"
    )


def add_network_arguments(parser: argparse.ArgumentParser, samples: int, of: str = "training images") -> None:
    """Add the options of every figure that needs the trained network.

    Args:
        parser: of the command.
        samples: default number of images.
        of: the images of which there are so many.
    """
    add_weights_argument(parser)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ... or auto")
    parser.add_argument(
        "--samples", type=int, default=samples, metavar="N", help=f"number of random {of}; default: {samples}"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices; default: 0")


def at_least(least: float, **values: float) -> None:
    """Refuse a value below the least.

    Raises:
        ConfigError: names the value.
    """
    for name, value in values.items():
        if not value >= least:
            raise ConfigError(f"{name}: must be at least {least:g}, not {value:g}")


def above_zero(**values: float) -> None:
    """Refuse a value that is not above 0.

    Raises:
        ConfigError: names the value.
    """
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"{name}: must be above 0, not {value:g}")
