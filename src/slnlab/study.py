"""What a study of hyper-parameters asks, and what came out: see `slnlab.tune`. Nothing here imports torch."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig
from pydantic import BaseModel, Field

from slnlab.config import CONF_DIR, check, compose, digest, explain, group_hash, identity, run_subdir
from slnlab.errors import ConfigError, DataError
from slnlab.files import replacing
from slnlab.source_runs import labels

Values = Mapping[str, str]
"""Of a trial: the keys searched over, and what each is, as it would be typed."""

OF_THE_STUDY = {
    "data.test": "trials never read the test set, the final runs do",
    "force": "a study goes on where it stopped; force=true would do the same trials again each time",
}
"""Keys that the study itself sets."""

LAUNCHING = ("launcher", "hydra/launcher", "cluster")
"""Keys, beside hydra.launcher.*, that say who does the runs."""

BATCHES = ("batch_size", "eval_batch_size", "padding", "flip", "mean", "std")
"""Keys of `data` that a study may search over: they change neither which samples are held out nor their labels."""


@dataclass(frozen=True)
class Job:
    """A run of a study."""

    values: Values
    overrides: list[str]
    config: DictConfig

    @property
    def directory(self) -> Path:
        return Path(self.config.runs_dir) / run_subdir(self.config)

    def __str__(self) -> str:
        return f"{typed(self.values)} seed={self.config.seed}"


def typed(values: Values) -> str:
    """`sln.sigma=0.5 optimizer.lr=0.1`."""
    return " ".join(f"{key}={value}" for key, value in values.items())


class Plan:
    """A study before anything has run.

    Args:
        overrides: as for `slnlab.train`; those with several values (`sln.sigma=0.1,0.5`) or, with `trials`, an
            interval (`optimizer.lr=tag(log,interval(0.01,1))`) are what is searched over. Those of `seed` are the
            seeds of the final runs.
        evaluator: whose accuracy chooses, e.g. "momentum"; None: the first that the method itself is about.
        last: the accuracy is the mean over so many last epochs, at least 1.
        trial_seeds: of the trials; None: the first of the final runs.
        trials: so many are chosen by Optuna; None: every combination of the values, once.
        prune: with `trials`: end those early that are below the median of the others.

    Raises:
        ConfigError: what cannot work, before anything is run.
    """

    def __init__(
        self,
        overrides: Sequence[str],
        *,
        evaluator: str | None = None,
        last: int = 1,
        trial_seeds: Sequence[int] | None = None,
        trials: int | None = None,
        prune: bool = True,
    ) -> None:
        self.last, self.trials, self.prune = last, trials, prune
        self.fixed, self.space, self.launcher = _split(overrides)
        if self.launcher and trials is not None:
            raise ConfigError(f"{self.launcher[0]}: Optuna chooses each trial by those before; leave the launcher out")
        self.final_seeds = _seeds(self.space.pop("seed", None), compose(self.fixed).seed)
        self.fixed = [text for text in self.fixed if not text.startswith("seed=")]
        self.trial_seeds = list(trial_seeds or self.final_seeds[:1])
        if not self.space:
            raise ConfigError("nothing to choose from: give a key several values, such as sln.sigma=0.1,0.2,0.5,1")
        self.intervals = [key for key, override in self.space.items() if not override.is_discrete_sweep()]
        if self.intervals and trials is None:
            raise ConfigError(f"{self.intervals[0]}: a grid has no end in an interval; give --trials, or single values")
        self.noisy_val, self.noisy_val_given = self._held_out()
        self.jobs = [self.trial(values, seed) for values in self._examples() for seed in self.trial_seeds]
        self.evaluator = self._evaluator(evaluator)
        self._check()

    # What is searched over

    def choices(self, key: str) -> list[str]:
        """The values of a key that has no interval, as typed."""
        return list(self.space[key].sweep_string_iterator())

    def grid(self) -> Iterator[Values]:
        """Every combination; the last key changes fastest."""
        for combination in product(*map(self.choices, self.space)):
            yield dict(zip(self.space, combination, strict=True))

    def _examples(self) -> Iterator[Values]:
        """What is checked before anything runs: the grid, or of Optuna's trials the ends of each interval."""
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
            return [str(interval.start), str(interval.end)]
        return self.choices(key)

    # What is run

    def trial(self, values: Values, seed: int) -> Job:
        """A run that chooses: some samples are held out with their noisy labels, and there is no test set."""
        return self._job(values, f"data.noisy_val={self.noisy_val}", "data.test=false", f"seed={seed}")

    def final(self, values: Values, seed: int) -> Job:
        """The run on all training samples, with the test set."""
        return self._job(values, "data.noisy_val=0", "data.test=true", f"seed={seed}")

    def _job(self, values: Values, *more: str) -> Job:
        overrides = [*self.fixed, *(f"{key}={value}" for key, value in values.items()), *more]
        return Job(dict(values), overrides, compose(overrides))

    @property
    def label(self) -> str:
        """The evaluator as it stands in tables."""
        return self.labels.get(self.evaluator, self.evaluator)

    @property
    def labels(self) -> dict[str, str]:
        """Of the evaluators."""
        return {str(name): label for name, label in labels(self.example).items()}

    @property
    def example(self) -> DictConfig:
        return self.jobs[0].config

    @property
    def directory(self) -> Path:
        """Of the study, which follows from what it asks; more trials or final seeds are the same study."""
        question = {
            "trials": group_hash(self.example),
            "space": {key: override.input_line for key, override in self.space.items()},
            "evaluator": self.evaluator,
            "last": self.last,
            "trial_seeds": self.trial_seeds,
            "by": "grid" if self.trials is None else "optuna, pruned" if self.prune else "optuna",
        }
        data, noise, method = (self.example[group].name for group in ("data", "noise", "method"))
        return Path(self.example.runs_dir) / "studies" / f"{data}-{noise}-{method}-{digest(question)}"

    def trial_sweep(self) -> list[str]:
        """What `slnlab.train -m` is given to do the trials of the grid."""
        space = [f"{key}={','.join(self.choices(key))}" for key in self.space]
        return [*self.fixed, *space, f"data.noisy_val={self.noisy_val}", "data.test=false", _sweep(self.trial_seeds)]

    def final_sweep(self, values: Values) -> list[str]:
        """What `slnlab.train -m` is given to do the final runs."""
        chosen = [f"{key}={value}" for key, value in values.items()]
        return [*self.fixed, *chosen, "data.noisy_val=0", "data.test=true", _sweep(self.final_seeds)]

    # What can be wrong with it

    def _held_out(self) -> tuple[int, bool]:
        config = compose([*self.fixed, *(f"{key}={self._ends(key)[0]}" for key in self.space)])
        if any(text.startswith("data.noisy_val=") for text in self.fixed):
            if config.data.noisy_val == 0:
                raise ConfigError("data.noisy_val: 0, but held-out samples choose; leave it out, and it is a tenth")
            return int(config.data.noisy_val), True
        if config.data.noisy_val:
            return int(config.data.noisy_val), True
        return max(1, (config.data.train_size or config.data.num_train) // 10), False

    def _evaluator(self, wanted: str | None) -> str:
        found: list[list[str]] = []
        for job in self.jobs:
            names = [name for name in job.config.method.labels if name != "momentum" or job.config.momentum.enabled]
            found.append([*names, *(["momentum"] if job.config.momentum.enabled and "momentum" not in names else [])])
        common = [name for name in found[0] if all(name in names for names in found)]
        labels = self.labels
        if wanted is None:
            mains = [name for name in common if not str(labels.get(name, "")).endswith("(network)")]
            return (mains or common)[0]
        if wanted not in common:
            known = ", ".join(f"{name} ({labels.get(name, name)})" for name in common)
            raise ConfigError(f"--evaluator: {wanted!r} is none of these runs'; they have {known}")
        return wanted

    def _check(self) -> None:
        for job in [*self.jobs, self.final(self.jobs[0].values, self.final_seeds[0])]:
            try:
                check(job.config)
            except ConfigError as error:
                raise ConfigError(f"in the run {job}: {error}") from error
        if not 1 <= self.last <= (epochs := min(job.config.trainer.max_epochs for job in self.jobs)):
            raise ConfigError(f"--last: must lie in [1, {epochs}], the epochs of a run, not {self.last}")
        held_out = {digest(_labels(job.config)) for job in self.jobs}
        if len(held_out) > 1:
            keys = ", ".join(key for key in self.space if key.split(".")[0] in ("data", "noise"))
            raise ConfigError(f"{keys}: accuracies on different held-out labels do not compare; one study for each")
        if (
            self.trials is not None
            and not self.intervals
            and self.trials > (all_ := math.prod(len(self.choices(key)) for key in self.space))
        ):
            raise ConfigError(
                f"--trials {self.trials}: there are only {all_} combinations; without it each is tried once"
            )
        directories: dict[Path, Job] = {}
        for job in self.jobs:
            other = directories.setdefault(job.directory, job)
            if other is not job:
                raise ConfigError(f"{other} and {job} are the same run: what is searched over makes no difference")


def _split(overrides: Sequence[str]) -> tuple[list[str], dict[str, Override], list[str]]:
    """Overrides with one value, those with several, by key, and those that say who does the runs."""
    fixed, space, launcher = [], {}, []
    try:
        parsed = {text: OverridesParser.create().parse_override(text) for text in _with_experiment(overrides)}
    except HydraException as error:
        raise ConfigError(explain(error)) from error
    for text, override in parsed.items():
        key = override.key_or_group
        if key in OF_THE_STUDY:
            raise ConfigError(f"{key}: leave it out: {OF_THE_STUDY[key]}")
        if key in LAUNCHING or key.startswith("hydra.launcher."):
            launcher.append(text)
            continue
        if key.startswith("hydra") and key != "hydra.searchpath":
            raise ConfigError(f"{key}: has no meaning for a study; where its runs go, runs_dir says")
        if not override.is_sweep_override():
            fixed.append(text)
        elif key == "data.noisy_val":
            raise ConfigError("data.noisy_val: accuracies on different held-out labels do not compare; give one number")
        elif override.is_discrete_sweep() and text.split("=", 1)[1].startswith("glob("):
            raise ConfigError(f"{key}: name the values, glob() is for sweeps")
        else:
            space[key] = override
    return fixed, space, launcher


def _with_experiment(overrides: Sequence[str]) -> list[str]:
    """With the sweep that an `experiment=` brings; what was typed counts more."""
    named = [text for text in overrides if text.startswith("experiment=")]
    if not named:
        return list(overrides)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        params = hydra_compose("train", overrides=named, return_hydra_config=True).hydra.sweeper.params or {}
    keys = [text.split("=", 1)[0] for text in overrides]
    return [*(f"{key}={value}" for key, value in params.items() if key not in keys), *overrides]


def _seeds(override: Override | None, single: int) -> list[int]:
    if override is None:
        return [single]
    try:
        return [int(text) for text in override.sweep_string_iterator()]
    except (ValueError, HydraException):
        raise ConfigError(f"{override.input_line}: seeds are whole numbers") from None


def _labels(config: DictConfig) -> dict[str, Any]:
    """What decides which samples are held out and with which labels."""
    made = identity(config)
    return {"noise": made["noise"], "data": {k: v for k, v in made["data"].items() if k not in BATCHES}}


# What came out


class Trial(BaseModel):
    """One choice of values, over the seeds of the trials."""

    values: dict[str, str]
    state: Literal["finished", "diverged", "pruned", "failed"]
    accuracies: list[float] = Field(description="on the held-out noisy labels, in [0, 1], one per seed that finished")
    directories: list[str]
    message: str | None = Field(default=None, description="why it is not finished")

    @property
    def accuracy(self) -> float:
        return fmean(self.accuracies)


class Final(BaseModel):
    """The chosen values, trained on everything."""

    seed: int
    directory: str
    test_accuracy: dict[str, float] = Field(description="at the last epoch, in [0, 1], by evaluator")


class Study(BaseModel):
    """`study.json`."""

    data: str
    noise: str
    method: str
    fixed: list[str] = Field(description="overrides that all runs share")
    space: list[str] = Field(description="overrides that are searched over, as typed")
    by: str
    evaluator: str
    label: str
    last: int = Field(description="the accuracy is the mean over so many last epochs")
    noisy_val: int = Field(description="training samples held out, with their noisy labels")
    training_samples: int
    trial_seeds: list[int]
    labels: dict[str, str] = Field(description="of the evaluators")
    trials: list[Trial] = []
    chosen: dict[str, str] | None = None
    remarks: list[str] = []
    finals: list[Final] = []

    @classmethod
    def begin(cls, plan: Plan) -> Study:
        config = plan.example
        rate = f" {config.noise.rate:g}" if config.noise.rate else ""
        by = "grid" if plan.trials is None else "Optuna (TPE" + (", median pruning)" if plan.prune else ")")
        return cls(
            data=config.data.name,
            noise=f"{config.noise.name}{rate}",
            method=config.method.name,
            fixed=plan.fixed,
            space=[override.input_line or key for key, override in plan.space.items()],
            by=by,
            evaluator=plan.evaluator,
            label=plan.label,
            last=plan.last,
            noisy_val=plan.noisy_val,
            training_samples=config.data.train_size or config.data.num_train,
            trial_seeds=plan.trial_seeds,
            labels=plan.labels,
        )

    def choose(self) -> None:
        """Take the values of best accuracy, the first of equals, and say what else was as good.

        Raises:
            DataError: no trial has finished.
        """
        finished = [trial for trial in self.trials if trial.state == "finished"]
        if not finished:
            raise DataError("no trial has finished, so nothing can be chosen:\n  " + "\n  ".join(self._unfinished()))
        best = max(finished, key=lambda trial: trial.accuracy)
        self.chosen, self.remarks = best.values, []
        others = [trial for trial in finished if trial.values != best.values]
        if equal := [typed(trial.values) for trial in others if trial.accuracy == best.accuracy]:
            self.remarks.append(f"As good as it, and later in the order of the study: {'; '.join(equal)}.")
        error = self.standard_error(best.accuracy)
        near = [t for t in others if best.accuracy > t.accuracy >= best.accuracy - error]
        if near:
            near.sort(key=lambda trial: -trial.accuracy)
            self.remarks.append(
                f"Within one standard error of it (± {100 * error:.1f} points with {self.noisy_val} held-out samples): "
                f"{'; '.join(typed(trial.values) for trial in near)}. More held-out samples (data.noisy_val) or trial "
                "seeds would tell them apart."
            )
        if unfinished := self._unfinished():
            self.remarks.append(f"Not among the choices: {'; '.join(unfinished)}.")

    def standard_error(self, accuracy: float) -> float:
        """Of an accuracy on the held-out samples, as a binomial proportion; seeds share the samples."""
        return math.sqrt(accuracy * (1 - accuracy) / self.noisy_val)

    def _unfinished(self) -> list[str]:
        return [f"{typed(t.values)} ({t.state}: {t.message})" for t in self.trials if t.state in ("diverged", "failed")]

    @property
    def failed(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.state == "failed"]

    def save(self, directory: Path) -> None:
        """`study.json`, `study.md` and `trials.csv`, each complete or not at all.

        Raises:
            DataError: one cannot be written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{directory}: cannot be made: {error.strerror or error}") from error
        with replacing(directory / "study.json") as file:
            file.write((json.dumps(self.model_dump(), indent=2) + "\n").encode())
        with replacing(directory / "study.md") as file:
            file.write((self.page() + "\n").encode())
        self._write_trials(directory / "trials.csv")

    def _write_trials(self, path: Path) -> None:
        import io

        text = io.StringIO(newline="")
        keys = list(self.trials[0].values) if self.trials else []
        writer = csv.writer(text)
        writer.writerow([*keys, "state", *(f"noisy_val_accuracy_seed{seed}" for seed in self.trial_seeds), "mean"])
        for trial in self.trials:
            missing = [None] * (len(self.trial_seeds) - len(trial.accuracies))
            mean = trial.accuracy if trial.state == "finished" else None
            writer.writerow([*trial.values.values(), trial.state, *trial.accuracies, *missing, mean])
        with replacing(path) as file:
            file.write(text.getvalue().encode())

    def page(self) -> str:
        """The study as Markdown."""
        when = "at the last epoch" if self.last == 1 else f"mean of the last {self.last} epochs"
        fixed = f" Fixed: `{' '.join(self.fixed)}`." if self.fixed else ""
        parts = [
            f"# {self.method} on {self.data}, {self.noise}: {', '.join(self.space)}",
            f"By {self.by}. {self.noisy_val} of the {self.training_samples} training samples are held out with their "
            f"*noisy* labels; what is compared is the accuracy of {self.label} on them, {when}, over "
            f"{_seeds_of(self.trial_seeds)}. No trial has read the test set.{fixed}",
        ]
        if self.trials:
            parts.append(self._table())
        if self.chosen:
            parts.append(f"**Chosen: {typed(self.chosen)}.** " + " ".join(self.remarks))
        if self.finals:
            parts.append(self._final_table())
        return "\n\n".join(part.rstrip() for part in parts)

    def _table(self) -> str:
        keys = list(self.trials[0].values)
        lines = [f"| {' | '.join(keys)} | held-out noisy labels, % | |", "|" + "---:|" * (len(keys) + 1) + "---|"]
        for trial in self.trials:
            mean = f"{_percent(trial.accuracies)}" if trial.state == "finished" else "–"
            remark = "chosen" if trial.values == self.chosen and trial.state == "finished" else ""
            if trial.state != "finished":
                remark = f"{trial.state}: {trial.message}" if trial.message else trial.state
            cells = [_short(value) for value in trial.values.values()]
            lines.append(f"| {' | '.join([*cells, mean, remark.replace('|', '/')])} |")
        return "\n".join(lines)

    def _final_table(self) -> str:
        seeds = _seeds_of([final.seed for final in self.finals])
        lines = [
            f"Retrained on all {self.training_samples} training samples, {seeds}:",
            "",
            "| | test accuracy at the last epoch, % |",
            "|---|---:|",
        ]
        for name in self.finals[0].test_accuracy:
            lines.append(
                f"| {self.labels.get(name, name)} | {_percent([f.test_accuracy[name] for f in self.finals])} |"
            )
        return "\n".join(lines)


def _sweep(seeds: Sequence[int]) -> str:
    return f"seed={','.join(map(str, seeds))}"


def _seeds_of(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _percent(values: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.2f}{spread}"


def _short(value: str) -> str:
    """Optuna's numbers have sixteen digits."""
    try:
        return value if len(value) < 7 else f"{float(value):.4g}"
    except ValueError:
        return value
