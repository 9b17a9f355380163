"""Choose hyper-parameters on held-out *noisy* labels, as the paper chose σ, then retrain on everything:
`python -m slnlab.tune sln.sigma=0.1,0.2,0.5,1 noise=asym seed=0,1,2`.

A command of its own and no Hydra sweeper: a sweeper sees one kind of run and one number per run, while a study has two
kinds (trials that cannot read the test set, final runs that may) and a choice between them. What several values of a
key mean is Hydra's, and each run is the one that `slnlab.train` does with the same overrides, in the same directory. So
the directories are the store of a grid, the same command goes on where it stopped, two people can work on one study,
and with `launcher=` the sweeps of trials and of final runs are `slnlab.train -m`'s.
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
from slnlab.study.plan import Plan, typed
from slnlab.study.record import Final, Study
from slnlab.study.runs import launched_result, sweep, train_run
from slnlab.text.quoting import override, with_dashes
from slnlab.text.terminal import ending_with_its_reader, print_anywhere
from slnlab.training import dry_run

log = logging.getLogger(__name__)


def tune(plan: Plan, leave_out_failed: bool = False) -> Study:
    """Do the trials that are missing, choose, and do the final runs; everything is in `plan.directory`.

    Args:
        plan: what is asked.
        leave_out_failed: choose also if trials failed. Values that make the loss diverge are out in any case.

    Raises:
        SlnlabError: trials failed, so that the choice would depend on what is no hyper-parameter; or a final run did.
        Stopped: a signal came; the same call goes on.
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
    save(study, plan.directory)  # before anything has seen the test set
    log.info("chosen: %s", typed(study.chosen))
    for remark in study.remarks:
        log.info("%s", remark)
    if plan.launcher:
        sweep(plan, plan.final_sweep(study.chosen))
    for seed in plan.final_seeds:
        run = plan.final(study.chosen, seed)
        log.info("final run: %s", run)
        result = launched_result(run) if plan.launcher else train_run(run, wait=True)
        accuracies = {name: e.test_accuracy.last for name, e in result.rows.items() if e.test_accuracy}
        study.finals.append(Final(seed=seed, directory=str(run.directory), test_accuracy=accuracies))
        save(study, plan.directory)
    return study


def _dry_run(plan: Plan) -> Iterator[str]:
    """What the study would do."""
    if plan.trials is None:
        trials = [plan.trial(values, seed) for values in plan.grid() for seed in plan.trial_seeds]
        yield from dry_run.plan([(str(run), run.directory, run.spec) for run in trials], kind="trial")
        command = shlex.join(["-m", "slnlab.train", "-m", *plan.launcher, *plan.trial_sweep()])
        yield f"the trials alone: python {command}"
    else:
        space = " ".join(override.input_line or "" for override in plan.space.values())
        yield f"trials    {plan.trials}, chosen by Optuna: {space}"
    yield f"final     with what is chosen, data.noisy_val=0, seeds {', '.join(map(str, plan.final_seeds))}"
    yield f"study     {plan.directory}"


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def _searched(folder: Path | None) -> list[str]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise ConfigError(f"--config-dir: there is no directory {folder}")
    config.extra_config_dirs[:] = [str(folder)]  # for the runs that a trial needs first
    return shlex.split(override("hydra.searchpath", f"[{folder}]") or "")


def _arguments(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        program,
        description="Choose hyper-parameters on held-out noisy labels, then retrain on all samples and test.",
        epilog="The same command goes on where it stopped. Exit codes: as of slnlab.train.",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE[,VALUE...]",
        help="as for slnlab.train; what has several values is searched over, seed=0,1,2 are the final runs'",
    )
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="options of your own, as for slnlab.train")
    parser.add_argument("--weights", help="whose accuracy chooses: network, momentum, ...; default: the method's own")
    parser.add_argument("--last", type=_count, default=1, metavar="K", help="mean accuracy of the last K epochs (1)")
    parser.add_argument(
        "--trial-seeds", type=_numbers, metavar="0,1", help="seeds of the trials; default: the first of seed="
    )
    parser.add_argument(
        "--trials",
        type=_count,
        metavar="N",
        help="N trials chosen by Optuna, also from intervals: optimizer.lr='tag(log,interval(0.01,1))'",
    )
    parser.add_argument("--no-pruning", action="store_true", help="with --trials: end no trial early")
    parser.add_argument("--leave-out-failed", action="store_true", help="choose even if some trials failed")
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what would run, run nothing")
    # As for slnlab.train, though here a key may have several values in any case.
    parser.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)
    words = sys.argv[1:] if arguments is None else arguments
    asked, unknown = parser.parse_known_intermixed_args(words)  # options may stand between keys
    if unknown:
        wrong = with_dashes(words, unknown, FIRST_PARTS)
        parser.error(wrong or f"unrecognized arguments: {' '.join(unknown)}")
    return asked


@ending_with_its_reader
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.tune") -> None:
    """The command line."""
    print_anywhere()
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
    except SlnlabError as error:
        sys.exit(f"error: {error}")
    except (HydraException, OmegaConfBaseException) as error:  # a key's value is asked for in many places
        sys.exit(f"error: {config.explain(error, asked.overrides, several=True)}")
    print(page(study))
    print(f"\nstudy: {plan.directory / 'study.md'}")


if __name__ == "__main__":
    main()
