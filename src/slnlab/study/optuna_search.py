"""Trials chosen by Optuna, for `slnlab.tune --trials N`. Needs the extra `tune`.

Optuna's study lies in a journal file, as network file systems handle appends better than SQLite's locks. One process at
a time works on it, so an unfinished trial in it belongs to a dead process and continues from its checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep

from slnlab.errors import Pruned, SlnlabError
from slnlab.storage.locks import FolderLock
from slnlab.study.files import save
from slnlab.study.plan import Plan, Values, typed
from slnlab.study.record import Study, Trial
from slnlab.study.runs import run_trial

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

STARTUP_TRIALS = 5
"""Number of finished trials before any trial is pruned."""

WARM_UP = 1 / 3
"""Fraction of the epochs before any trial is pruned: with much noise on its targets a network learns late, but well."""

RECORD = "slnlab.trial"
"""Attribute of an Optuna trial: its `slnlab.study.record.Trial`. Only trials with it count."""

AGAIN = "slnlab.again"
"""Attribute of a repeated Optuna trial: the number of the unfinished trial."""


def check() -> None:
    """Check that Optuna is installed.

    Raises:
        SlnlabError: Optuna is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError:
        raise SlnlabError("--trials needs the extra: pip install 'slnlab[tune]'") from None


def search(plan: Plan, study: Study) -> None:
    """Do trials until the study has `plan.trials`, and save it after each.

    The values of a trial depend only on its number and on the trials before it, so a resumed study equals an
    uninterrupted one.

    Raises:
        Busy: another process works on the study.
        DataError: the study's folder cannot be written or locked.
        SlnlabError: Optuna is not installed.
    """
    check()
    import optuna

    assert plan.trials is not None
    plan.directory.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lock = FolderLock(plan.directory, "another process works on the study")
    lock.acquire(timeout=0)
    try:
        journal = _open(plan)
        study.trials = _done(journal)[: plan.trials]
        failed: list[Trial] = []
        while (number := len(study.trials)) < plan.trials:
            journal.sampler = optuna.samplers.TPESampler(seed=number)
            asked = journal.ask()
            values = {key: _suggest(plan, key, asked) for key in plan.space}
            log.info("trial %d of %d: %s", number + 1, plan.trials, typed(values))
            trial = run_trial(plan, values, watch=_pruning(plan, asked, values))
            if trial.state == "failed":
                failed.append(trial)
            else:
                asked.set_user_attr(RECORD, trial.model_dump())
            if trial.state == "finished":
                journal.tell(asked, trial.accuracy)
            else:
                state = optuna.trial.TrialState.PRUNED if trial.state == "pruned" else optuna.trial.TrialState.FAIL
                journal.tell(asked, state=state)
            study.trials = [*_done(journal), *failed]
            save(study, plan.directory)
    finally:
        lock.release()


def _open(plan: Plan) -> optuna.Study:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    path = plan.directory / "optuna.journal"
    _mend(path)
    if plan.prune:
        pruner: Any = optuna.pruners.MedianPruner(STARTUP_TRIALS)  # `_pruning` warms up, as trials differ in length
    else:
        pruner = optuna.pruners.NopPruner()
    study = optuna.create_study(
        study_name="slnlab",
        direction="maximize",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))),
        pruner=pruner,
        load_if_exists=True,
    )
    states = optuna.trial.TrialState
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state == states.RUNNING:  # its process was killed
            study.tell(trial.number, state=states.FAIL)
    tried_again = {trial.user_attrs.get(AGAIN) for trial in trials}
    for trial in trials:
        # An interrupted trial, or a failed one whose cause may be mended by now.
        undone = trial.state in (states.RUNNING, states.FAIL) and RECORD not in trial.user_attrs
        if undone and trial.number not in tried_again and len(trial.params) == len(plan.space):
            study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})
    return study


def _mend(path: Path) -> None:
    """Remove a half-written last line, left by a lost machine. Optuna would refuse the whole journal."""
    if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _done(study: optuna.Study) -> list[Trial]:
    """The trials that count, in order."""
    trials = study.get_trials(deepcopy=False)
    return [Trial.model_validate(trial.user_attrs[RECORD]) for trial in trials if RECORD in trial.user_attrs]


def _suggest(plan: Plan, key: str, trial: optuna.Trial) -> str:
    override = plan.space[key]
    interval = override.value()
    if not isinstance(interval, IntervalSweep):
        return str(trial.suggest_categorical(key, plan.choices(key)))
    assert interval.start is not None
    assert interval.end is not None
    log_scale = "log" in interval.tags
    if isinstance(interval.start, int) and isinstance(interval.end, int):
        return str(trial.suggest_int(key, interval.start, interval.end, log=log_scale))
    return repr(trial.suggest_float(key, interval.start, interval.end, log=log_scale))


def _pruning(plan: Plan, trial: optuna.Trial, values: Values) -> Callable[[float, int], None] | None:
    """A watch that reports each epoch's accuracy to Optuna and ends the run on its advice; None without pruning.

    Nothing ends in the first `WARM_UP` of the trial's own epochs, nor in the last one.
    """
    config = plan.trial(values, plan.trial_seeds[0]).config
    epochs = config.trainer.max_epochs
    if not plan.prune or config.trainer.devices > 1:  # the other processes would not learn of the end
        return None

    def watch(accuracy: float, epoch: int) -> None:
        trial.report(accuracy, epoch)
        if int(WARM_UP * epochs) < epoch < epochs and trial.should_prune():
            raise Pruned(f"below the median of the other trials in epoch {epoch} ({100 * accuracy:.1f} %)")

    return watch
