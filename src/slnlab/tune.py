"""Choose hyper-parameters on held-out *noisy* labels, as the paper chose σ, then retrain and test:
`python -m slnlab.tune sln.sigma=0.1,0.2,0.5,1 noise=asym seed=0,1,2`. The final runs train on all samples, unless their
method chooses its weights by held-out ones.

Tuning is a command and no Hydra sweeper. A sweeper knows one kind of run with one number. A study has two kinds, trials
without the test set and final runs with it, and a selection between them. Several values of a key have Hydra's
meaning. Each run equals that of `slnlab.train` with the same overrides, in the same directory. So the directories store
a grid, the same command resumes a study, two people can share one, and `launcher=` runs trials and final runs as sweeps
of `slnlab.train -m`.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from slnlab import config
from slnlab.config.loading import FIRST_PARTS
from slnlab.errors import ConfigError, SlnlabError
from slnlab.study import grid_search, optuna_search
from slnlab.study.files import save
from slnlab.study.page import page
from slnlab.study.plan import Plan, titles, typed
from slnlab.study.record import Final, Study
from slnlab.study.runs import launched_result, share, sweep, train_run
from slnlab.text.numbers import count, seeds
from slnlab.text.quoting import dashed_key, override
from slnlab.text.terminal import command
from slnlab.training import dry_run

log = logging.getLogger(__name__)


def tune(plan: Plan, leave_out_failed: bool = False) -> Study:
    """Do the missing trials, choose values, and do the final runs; `plan.directory` holds everything.

    Args:
        plan: the plan of the study.
        leave_out_failed: choose even if trials failed. Diverged trials are left out in any case.

    Returns:
        The finished study.

    Raises:
        SlnlabError: trials failed, so the selection would depend on chance; or a final run failed.
        Stopped: a signal came; the same call resumes the study.
    """
    study = Study.begin(plan)
    if plan.launcher:
        sweep(plan, plan.trial_sweep())
    if plan.trials is None:
        grid_search.search(plan, study)
    else:
        optuna_search.search(plan, study)
    if study.failed and not leave_out_failed:
        save(study, plan.directory)
        failures = "\n  ".join(f"{typed(trial.values)}: {trial.message}" for trial in study.failed)
        raise SlnlabError(
            f"{len(study.failed)} of {len(study.trials)} trials failed, so nothing is chosen:\n  {failures}\n"
            "The same command tries them again; --leave-out-failed chooses among the others"
        )
    study.choose()
    assert study.chosen is not None
    study.final_noisy_val = plan.final_noisy_val(study.chosen)
    save(study, plan.directory)  # the selection is stored before any run reads the test set
    log.info("chosen: %s", typed(study.chosen))
    for remark in study.remarks:
        log.info("%s", remark)
    if plan.launcher:
        sweep(plan, plan.final_sweep(study.chosen))
    runs, finals = [plan.final(study.chosen, seed) for seed in plan.final_seeds], dict[int, Final]()

    def do(number: int, wait: bool) -> None:
        run, seed = runs[number], plan.final_seeds[number]
        log.info("final run: %s", run)
        study.titles = titles(run.spec)
        result = launched_result(run, wait) if plan.launcher else train_run(run, wait)
        accuracies = {name: e.test_accuracy.last for name, e in result.rows.items() if e.test_accuracy}
        finals[number] = Final(seed=seed, directory=str(run.directory), test_accuracy=accuracies)
        study.finals = [finals[i] for i in sorted(finals)]
        save(study, plan.directory)

    share(len(runs), do)
    return study


def _dry_run(plan: Plan) -> Iterator[str]:
    """Yield lines on the runs of the study."""
    if plan.trials is None:
        trials = [plan.trial(values, seed) for values in plan.grid() for seed in plan.trial_seeds]
        yield from dry_run.plan([(str(run), run.directory, run.spec) for run in trials], kind="trial")
        command = shlex.join(["-m", "slnlab.train", "-m", *plan.launcher, *plan.trial_sweep()])
        yield f"the trials alone: python {command}"
    else:
        space = " ".join(override.input_line or "" for override in plan.space.values())
        yield f"trials    {plan.trials}, chosen by Optuna: {space}"
    held_out = " or ".join(dict.fromkeys(str(plan.final_noisy_val(run.values)) for run in plan.trial_runs))
    seeds_of_finals = ", ".join(map(str, plan.final_seeds))
    yield f"final     with the chosen values, data.noisy_val={held_out}, seeds {seeds_of_finals}"
    yield f"study     {plan.directory}"


def _searched(folder: Path | None) -> list[str]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise ConfigError(f"--config-dir: there is no directory {folder}")
    config.search_in([str(folder)])  # for the runs needed before a trial
    return shlex.split(override("hydra.searchpath", f"[{folder}]") or "")


def _arguments(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        program,
        description="Choose hyper-parameters on held-out noisy labels, then retrain on all samples and test. A method "
        "that chooses its weights by held-out samples keeps them held out.",
        epilog="The same command resumes a stopped study. Exit codes are those of slnlab.train.",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE[,VALUE...]",
        help="as for slnlab.train; keys with several values are searched, seed=0,1,2 sets the seeds of the final runs",
    )
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="options of your own, as for slnlab.train")
    parser.add_argument("--weights", help="whose accuracy chooses: network, momentum, ...; default: the method's own")
    parser.add_argument(
        "--last", type=count, default=1, metavar="K", help="mean accuracy of the last K evaluated epochs (1)"
    )
    parser.add_argument(
        "--trial-seeds", type=seeds, metavar="0,1", help="seeds of the trials; default: the first of seed="
    )
    parser.add_argument(
        "--trials",
        type=count,
        metavar="N",
        help="N trials chosen by Optuna, also from intervals: optimizer.lr='tag(log,interval(0.01,1))', whole numbers "
        "from int(interval(16,256))",
    )
    parser.add_argument("--no-pruning", action="store_true", help="with --trials: end no trial early")
    parser.add_argument("--leave-out-failed", action="store_true", help="choose even if some trials failed")
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the plan, without running")
    # Accepted as in slnlab.train. Here a key may always have several values.
    parser.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)
    words = sys.argv[1:] if arguments is None else arguments
    asked, unknown = parser.parse_known_intermixed_args(words)  # options may stand between keys
    if unknown:
        wrong = dashed_key(words, unknown, FIRST_PARTS)
        parser.error(wrong or f"unrecognized arguments: {' '.join(unknown)}")
    return asked


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.tune") -> None:
    """Run the command line."""
    asked = _arguments(arguments, program)
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s", stream=sys.stderr)
    try:
        plan = Plan(
            [*_searched(asked.config_dir), *asked.overrides],
            weights=asked.weights,
            last=asked.last,
            trial_seeds=asked.trial_seeds,
            trials=asked.trials,
            prune=not asked.no_pruning,
        )
        if plan.trials is not None:
            optuna_search.check()
        if not plan.noisy_val_given:
            log.info("data.noisy_val is not given: a tenth of the training samples, %d, is held out", plan.noisy_val)
        log.info("%s chooses (%s)", plan.weights, plan.title)
        if asked.dry_run:
            for line in (*_dry_run(plan), dry_run.NOTHING):
                print(line, flush=True)
            return
        study = tune(plan, asked.leave_out_failed)
    except (HydraException, OmegaConfBaseException) as error:  # many places read a key's value
        sys.exit(f"error: {config.explain(error, asked.overrides, multirun=True)}")
    print(page(study))
    print(f"\nstudy: {plan.directory / 'study.md'}")


if __name__ == "__main__":
    main()
