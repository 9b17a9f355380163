"""The plan of a study: its values, its runs, their directories, and all checks before a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep
from omegaconf import DictConfig

from slnlab.config import check, compose
from slnlab.config.identity import digest
from slnlab.config.run_spec import RunSpec
from slnlab.errors import ConfigError
from slnlab.schema.law import law
from slnlab.schema.sample_counts import training_samples
from slnlab.study.overrides import seeds, split
from slnlab.training.settling import settle

Values = Mapping[str, str]
"""Values of a trial: searched key → value as typed."""

MAIN = "main"
"""Stands for the main row of each method, in a study that searches methods with different ones."""

OF_BATCHES = {
    *("batch_size", "eval_batch_size", "padding", "flip", "rotation", "augment", "oversampling"),
    *("dropped_features", "mean", "std"),
}
"""Keys of `data` that a study may search: they change neither the choice of held-out samples nor their labels."""


@dataclass(frozen=True)
class StudyRun:
    """A run of a study.

    Args:
        values: of its trial.
        overrides: of the run, as for `slnlab.train`.
        config: composed from the overrides.
    """

    values: Values
    overrides: list[str]
    config: DictConfig

    @cached_property
    def spec(self) -> RunSpec:
        """The settled run.

        Raises:
            ConfigError: the configuration is wrong; names the run.
        """
        try:
            return settle(self.config)
        except ConfigError as error:
            raise ConfigError(f"in the run {self}: {error}") from error

    @property
    def directory(self) -> Path:
        """The directory of the run."""
        return self.spec.directory

    def __str__(self) -> str:
        return f"{typed(self.values)} seed={self.config.seed}"


def typed(values: Values) -> str:
    """The values as typed, e.g. `sln.sigma=0.5 optimizer.lr=0.1`."""
    return " ".join(f"{key}={value}" for key, value in values.items())


class Plan:
    """A checked study before its first run.

    Args:
        overrides: as for `slnlab.train`. Keys with several values (`sln.sigma=0.1,0.5`) are searched; with `trials`
            a key may have an interval (`optimizer.lr=tag(log,interval(0.01,1))`). `seed=` sets the seeds of the final
            runs.
        weights: the row whose accuracy chooses, e.g. "momentum"; None: the main row of each trial's method.
        last: number of last epochs whose mean accuracy counts, in [1, epochs of a run].
        trial_seeds: seeds of each trial; None: the first seed of the final runs.
        trials: number of trials chosen by Optuna, ≥ 1; None: every combination of the values, once.
        prune: with `trials`, end trials below the median of the others early.

    Raises:
        ConfigError: an override or an argument is wrong.
    """

    def __init__(
        self,
        overrides: Sequence[str],
        *,
        weights: str | None = None,
        last: int = 1,
        trial_seeds: Sequence[int] | None = None,
        trials: int | None = None,
        prune: bool = True,
    ) -> None:
        self.last, self.trials, self.prune = last, trials, prune
        self.fixed, self.space, self.launcher = split(overrides)
        if self.launcher and trials is not None:
            raise ConfigError(f"{self.launcher[0]}: Optuna chooses each trial by earlier ones; leave the launcher out")
        self.final_seeds = seeds(self.space.pop("seed", None), compose(self.fixed).seed)
        self.fixed = [text for text in self.fixed if not text.lstrip("+").startswith("seed=")]
        # Once, as `shuffle(...)` has another order each time.
        self._choices = {k: [*v.sweep_string_iterator()] for k, v in self.space.items() if v.is_discrete_sweep()}
        self.trial_seeds = list(trial_seeds or self.final_seeds[:1])
        if not self.space:
            raise ConfigError("nothing to choose from: give a key several values, such as sln.sigma=0.1,0.2,0.5,1")
        self.intervals = [key for key, override in self.space.items() if not override.is_discrete_sweep()]
        if self.intervals and trials is None:
            raise ConfigError(f"{self.intervals[0]}: a grid has no end in an interval; give --trials, or single values")
        self.noisy_val, self.noisy_val_given = self._held_out()
        self._trial_overrides = (f"data.noisy_val={self.noisy_val}", "data.test=false")
        self.trial_runs = [self.trial(values, seed) for values in self._examples() for seed in self.trial_seeds]
        self.weights = self._weights(weights)
        self._check()

    # Searched values

    def choices(self, key: str) -> list[str]:
        """The values of a key without an interval, as typed."""
        return self._choices[key]

    def grid(self) -> Iterator[Values]:
        """Every combination; the last key changes fastest."""
        for combination in product(*map(self.choices, self.space)):
            yield dict(zip(self.space, combination, strict=True))

    def _examples(self) -> Iterator[Values]:
        """The values to check before a run: the grid, or with Optuna the ends of each interval."""
        if self.trials is None:
            yield from self.grid()
            return
        ends = {key: self._ends(key) for key in self.space}
        first = {key: values[0] for key, values in ends.items()}
        yield first
        for key, values in ends.items():
            yield from (first | {key: value} for value in values[1:])

    def _ends(self, key: str) -> list[str]:
        interval = self.space[key].value()
        if isinstance(interval, IntervalSweep):
            if "log" in interval.tags and not (interval.start or 0) > 0:
                raise ConfigError(f"{key}: a logarithmic interval begins above 0")
            if not (interval.start or 0) < (interval.end or 0):
                raise ConfigError(f"{key}: an interval begins below its end, and {interval.start} is not below it")
            return [str(interval.start), str(interval.end)]
        return self.choices(key)

    # Runs

    def trial(self, values: Values, seed: int) -> StudyRun:
        """A run of a trial: samples are held out with their noisy labels, and the test set is not read."""
        return self._run(values, *self._trial_overrides, f"seed={seed}")

    def final(self, values: Values, seed: int) -> StudyRun:
        """A final run: on all training samples but `final_noisy_val`, with the test set."""
        return self._run(values, *self.final_overrides(values), f"seed={seed}")

    def final_overrides(self, values: Values) -> tuple[str, str]:
        """The overrides of the final runs beside the values."""
        return f"data.noisy_val={self.final_noisy_val(values)}", "data.test=true"

    def final_noisy_val(self, values: Values) -> int:
        """The number of samples held out in the final runs: 0, unless they choose the weights that are kept."""
        config = compose(self._overrides(values, f"data.noisy_val={self.noisy_val}"))
        best = config.best_epoch
        chooses = best.enabled and best.criterion != "label_wave" and not config.data.get("clean_val")
        return self.noisy_val if chooses or "data.noisy_val" in law(config.method).needs else 0

    def _run(self, values: Values, *more: str) -> StudyRun:
        overrides = self._overrides(values, *more)
        return StudyRun(dict(values), overrides, compose(overrides))

    def _overrides(self, values: Values, *more: str) -> list[str]:
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items()), *more]

    @property
    def title(self) -> str:
        """Title of the row whose accuracy chooses."""
        if self.weights == MAIN:
            return "each method's main weights"
        return self.weights if len(self.methods) > 1 else titles(self.example).get(self.weights, self.weights)

    @property
    def methods(self) -> list[str]:
        """The methods of the trials."""
        return list(dict.fromkeys(run.config.method.name for run in self.trial_runs))

    def row_of(self, run: StudyRun) -> str:
        """Name of the row of a run whose accuracy counts."""
        return _mains(run)[0] if self.weights == MAIN else self.weights

    @property
    def example(self) -> RunSpec:
        """The first trial run, for keys that all runs share."""
        return self.trial_runs[0].spec

    @property
    def directory(self) -> Path:
        """Directory of the study, named by a hash of its question. More trials or final seeds do not change it."""
        question = {
            "trials": self.example.group,
            "space": {key: override.input_line for key, override in self.space.items()},
            "weights": self.weights,
            "last": self.last,
            "trial_seeds": self.trial_seeds,
            "by": "grid" if self.trials is None else "optuna, pruned" if self.prune else "optuna",
        }
        data, noise = (self.example.config[group].name for group in ("data", "noise"))
        method = self.methods[0] if len(self.methods) == 1 else "methods"
        return Path(self.example.config.runs_dir) / "studies" / f"{data}-{noise}-{method}-{digest(question)}"

    def trial_sweep(self) -> list[str]:
        """Overrides for `slnlab.train -m` that do the trials of the grid."""
        space = [f"{key}={','.join(self.choices(key))}" for key in self.space]
        return [*self.fixed, *space, *self._trial_overrides, _sweep(self.trial_seeds)]

    def final_sweep(self, values: Values) -> list[str]:
        """Overrides for `slnlab.train -m` that do the final runs."""
        return self._overrides(values, *self.final_overrides(values), _sweep(self.final_seeds))

    # Checks

    def _held_out(self) -> tuple[int, bool]:
        first = {key: self._ends(key)[0] for key in self.space}
        config = compose(self._overrides(first))
        check(config if config.data.noisy_val else compose(self._overrides(first, "data.noisy_val=1")))
        typed_key = any(text.lstrip("+").startswith("data.noisy_val=") for text in self.fixed)
        if typed_key and config.data.noisy_val == 0:
            raise ConfigError("data.noisy_val: 0, but held-out samples choose; leave it out to hold out a tenth")
        if config.data.noisy_val:
            return config.data.noisy_val, True
        return max(1, training_samples(config.data) // 10), False

    def _weights(self, wanted: str | None) -> str:
        if wanted is None:
            mains = {_mains(run)[0] for run in self.trial_runs}
            return mains.pop() if len(mains) == 1 else MAIN
        first, *others = map(_rows, self.trial_runs)
        common = [name for name in first if all(name in names for names in others)]
        if wanted not in common:
            known = ", ".join(f"{name} ({titles(self.example).get(name, name)})" for name in common)
            raise ConfigError(f"--weights: these runs have no {wanted!r}; they have {known}")
        return wanted

    def _check(self) -> None:
        first, *others = {typed(run.values): run.values for run in self.trial_runs}.values()
        finals = [self.final(first, seed) for seed in self.final_seeds]
        finals += [self.final(values, self.final_seeds[0]) for values in others]
        for run in [*self.trial_runs, *finals]:
            _ = run.spec
        if not 1 <= self.last <= (epochs := min(run.config.trainer.max_epochs for run in self.trial_runs)):
            raise ConfigError(f"--last: must lie in [1, {epochs}], as a run has {epochs} epochs, not {self.last}")
        held_out = {(run.config.seed, digest(_labels(run.spec.identity))) for run in self.trial_runs}
        if len(held_out) > len({seed for seed, _ in held_out}):  # each trial has a run of each seed
            keys = ", ".join(key for key in self.space if key.lstrip("+").split(".")[0] in ("data", "noise"))
            raise ConfigError(f"{keys}: accuracies on different held-out labels do not compare; make one study each")
        if (
            self.trials is not None
            and not self.intervals
            and self.trials > (all_ := math.prod(len(self.choices(key)) for key in self.space))
        ):
            raise ConfigError(
                f"--trials {self.trials}: there are only {all_} combinations; without --trials each is tried once"
            )
        directories: dict[Path, StudyRun] = {}
        for run in self.trial_runs:
            other = directories.setdefault(run.directory, run)
            if other is not run:
                raise ConfigError(f"{other} and {run} are the same run: the searched keys make no difference")


def titles(spec: RunSpec) -> dict[str, str]:
    """Titles of the rows of a run, by name."""
    return {name: row.title for name, row in spec.rows.items()}


def _rows(run: StudyRun) -> list[str]:
    """Names of the rows that a run has."""
    made = {"momentum": run.config.momentum.enabled, "best": run.config.best_epoch.enabled}
    names = [name for name in law(run.config.method).rows if made.get(name, True)]
    return [*names, *(name for name, there in made.items() if there and name not in names)]


def _mains(run: StudyRun) -> list[str]:
    """Names of the rows that a run has, the main ones first."""
    rows = run.spec.rows
    return sorted(_rows(run), key=lambda name: name in rows and rows[name].secondary)


def _labels(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that decide the held-out samples and their labels."""
    return {"noise": identity["noise"], "data": {k: v for k, v in identity["data"].items() if k not in OF_BATCHES}}


def _sweep(seeds: Sequence[int]) -> str:
    return f"seed={','.join(map(str, seeds))}"
