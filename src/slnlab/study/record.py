"""The record of a study: its trials, the choice among them, and its final runs."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, Field

from slnlab.errors import DataError
from slnlab.schema.sample_counts import training_samples
from slnlab.study.plan import Plan, typed


class Trial(BaseModel):
    """One set of values, trained once per trial seed."""

    values: dict[str, str]
    state: Literal["finished", "diverged", "pruned", "failed"]
    accuracies: list[float] = Field(description="on the held-out noisy labels, in [0, 1], one per seed that finished")
    directories: list[str]
    message: str | None = Field(default=None, description="why it is not finished")

    @property
    def accuracy(self) -> float:
        """Mean accuracy over the seeds, in [0, 1]. At least one seed must have finished."""
        return fmean(self.accuracies)


class Final(BaseModel):
    """A run with the chosen values on all training samples but those of `Study.final_noisy_val`."""

    seed: int
    directory: str
    test_accuracy: dict[str, float] = Field(description="at the last epoch, in [0, 1], by row")


class Study(BaseModel):
    """`study.json`."""

    data: str
    noise: str
    method: str
    fixed: list[str] = Field(description="overrides that all runs share")
    space: list[str] = Field(description="overrides of the searched keys, as typed")
    by: str
    weights: str
    title: str
    last: int = Field(description="number of last epochs whose mean accuracy counts")
    noisy_val: int = Field(description="training samples held out, with their noisy labels")
    training_samples: int
    final_noisy_val: int = Field(default=0, description="training samples that the final runs hold out too")
    trial_seeds: list[int]
    titles: dict[str, str] = Field(default={}, description="titles of the rows of the final runs, by name")
    trials: list[Trial] = []
    chosen: dict[str, str] | None = None
    remarks: list[str] = []
    finals: list[Final] = []

    @classmethod
    def begin(cls, plan: Plan) -> Study:
        """The record of a plan before its first trial."""
        config = plan.example.config
        by = "grid" if plan.trials is None else "Optuna (TPE" + (", median pruning)" if plan.prune else ")")
        return cls(
            data=config.data.name,
            noise=plan.example.noise,
            method=", ".join(plan.methods),
            fixed=plan.fixed,
            space=[override.input_line or key for key, override in plan.space.items()],
            by=by,
            weights=plan.weights,
            title=plan.title,
            last=plan.last,
            noisy_val=plan.noisy_val,
            training_samples=training_samples(config.data),
            trial_seeds=plan.trial_seeds,
        )

    def choose(self) -> None:
        """Set `chosen` to the values of the best accuracy (the first of equals), and `remarks` to close competitors.

        Raises:
            DataError: no trial has finished.
        """
        finished = [trial for trial in self.trials if trial.state == "finished"]
        if not finished:
            raise DataError("no trial has finished, so there is no choice:\n  " + "\n  ".join(self._unfinished()))
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
        """Standard error of a held-out accuracy as a binomial proportion. Seeds share the samples and do not reduce it.

        At 0 and 1 the formula would give 0, as if a few samples proved it. There two right and two wrong samples are
        added, as in the interval of Agresti and Coull (1998).

        Args:
            accuracy: in [0, 1].
        """
        size = self.noisy_val
        if accuracy in (0, 1):
            accuracy, size = (accuracy * size + 2) / (size + 4), size + 4
        return math.sqrt(accuracy * (1 - accuracy) / size)

    def _unfinished(self) -> list[str]:
        return [f"{typed(t.values)} ({t.state}: {t.message})" for t in self.trials if t.state in ("diverged", "failed")]

    @property
    def failed(self) -> list[Trial]:
        """Trials that ended by an error other than divergence."""
        return [trial for trial in self.trials if trial.state == "failed"]
