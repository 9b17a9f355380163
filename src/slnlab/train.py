"""Train one run, or with --multirun a sweep of runs: `python -m slnlab.train noise=asym sln.sigma=0.5`.

`train(config)` is the whole of a run, for use from Python. torch is imported there and not above, so that a wrong
configuration is refused at once.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from slnlab.config.composition import explain
from slnlab.config.contents import refuse_changed, refuse_replaced
from slnlab.config.loading import CONF_DIR, FIRST_PARTS, extra_config_dirs, refuse_without_key
from slnlab.config.run_spec import RunSpec
from slnlab.errors import Pruned, SlnlabError
from slnlab.processes.cores import wait_without_spinning
from slnlab.text.quoting import dashed_key
from slnlab.text.terminal import print_anywhere, quiet_on_broken_pipe
from slnlab.training.first_runs import with_first_runs
from slnlab.training.settling import settle

if TYPE_CHECKING:
    from slnlab.callbacks.run_record import Watch
    from slnlab.data import IndexedDataModule
    from slnlab.record.result import Result
    from slnlab.record.run_directory import RunDirectory

log = logging.getLogger(__name__)

SHOWING = {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i"}
"""Options that print something and train nothing."""

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def train(
    config: DictConfig | RunSpec,
    directory: Path | None = None,
    overrides: Sequence[str] = (),
    wait: bool = False,
    watch: Watch | None = None,
) -> Result:
    """Do one run, or take its result if it is finished, or go on where it stopped.

    Args:
        config: as composed by `slnlab.config.compose`; or the run, settled already.
        directory: of the run; None: below `runs_dir`, where the configuration says.
        overrides: what was typed, for the record.
        wait: when another process is doing this very run, wait for it and take its result.
        watch: is shown each epoch's row of metrics.csv, and ends the run by raising; not in a run of several processes.

    Raises:
        ConfigError: the configuration cannot work.
        DataError: data or noise files that cannot be used, a run directory that cannot be written, or no checkpoint
            that a stopped run can go on from.
        Busy: another process is running this.
        Diverged: the loss is no longer finite.
        Stopped: SIGINT, SIGTERM, SIGUSR1 or SIGUSR2 came; the same call goes on.
    """
    spec = config if isinstance(config, RunSpec) else settle(config)
    config = spec.config
    wait_without_spinning()

    from slnlab.processes.distributed import from_rank_zero, world_size
    from slnlab.processes.peers import blame
    from slnlab.processes.starting import in_processes, joined
    from slnlab.processes.stopping import obeying_signals, stop_if_requested
    from slnlab.record.result import Result
    from slnlab.record.run_directory import RunDirectory
    from slnlab.training import devices

    processes, on_gpus = config.trainer.devices, devices.on_gpus(config)
    run = RunDirectory(directory or spec.directory)
    with ExitStack() as stack:
        stack.enter_context(obeying_signals())
        stack.enter_context(joined(processes, config.trainer.num_nodes, on_gpus, run.note_failure))
        stack.enter_context(devices.threads(config))
        from_rank_zero(lambda: stack.enter_context(run.locked(wait)))
        ready = from_rank_zero(lambda: _prepare(spec, run, overrides))
        if ready is None:
            return Result.load(run.result)
        try:
            if processes > 1 and world_size() == 1:
                in_processes(processes, on_gpus, ["slnlab.training.assemble"], _fit_in_process, run, ready)
            else:
                _fit(run, ready, watch)
        except Exception as error:
            stop_if_requested()  # and another process has stopped already
            blame(error)
            raise
        from_rank_zero(lambda: None)  # and nobody leaves before the result is there
    log.info("finished: %s", run.path)
    return Result.load(run.result)


class _Ready(NamedTuple):
    """What is left to do.

    Args:
        spec: with what comes from the runs that were needed first.
        checkpoint: to go on from.
        datamodule: what has been read already; None: several processes train, and each has its own.
    """

    spec: RunSpec
    checkpoint: Path | None
    datamodule: IndexedDataModule | None


def _prepare(spec: RunSpec, run: RunDirectory, overrides: Sequence[str]) -> _Ready | None:
    """All that comes before training: what is wrong with the data is said before anything is written, and before a
    former run is removed. None: the run is finished."""
    from slnlab.processes.distributed import world_size
    from slnlab.training import assemble

    config = spec.config
    if not config.force:
        run.refuse_another_run(spec)
        if run.finished:
            log.info("already finished: %s (force=true runs it again)", run.result)
            return None
        if (remark := run.nearly_the_same(spec)) is not None:
            log.info("%s", remark)
    # Thrown away: what only the classes know to be wrong, as which modules of a network are its parts, is said before
    # another run is trained for this one.
    assemble.method(config)
    other_run = train if world_size() == 1 else _refuse_to_begin
    ready = with_first_runs(spec, other_run)
    assemble.prepare_networks(config)
    datamodule = assemble.datamodule(ready.config)
    datamodule.prepare_data()
    refuse_changed(spec.container, run.identity)
    datamodule.setup()
    datamodule.inspect(run.path)
    if config.force:
        run.clear()
    checkpoint = assemble.checkpoints(spec, run).newest()
    run.describe(spec, overrides)
    alone = world_size() == 1 and config.trainer.devices == 1
    return _Ready(ready, checkpoint, datamodule if alone else None)


def _refuse_to_begin(needed: RunSpec, *_: Any, **__: Any) -> Result:
    raise SlnlabError(
        f"this run needs {needed.title} first (noise=dependent, init.from), and SLURM or torchrun has started several "
        "processes for it alone; make that run, or this one, in one process first"
    )


def _fit(run: RunDirectory, ready: _Ready, watch: Watch | None = None) -> None:
    """Train, and write the result; of several processes the first writes."""
    from slnlab.processes.distributed import rank
    from slnlab.training import assemble
    from slnlab.training.source_runs import start_from

    spec, config = ready.spec, ready.spec.config
    datamodule = assemble.datamodule(config) if ready.datamodule is None else ready.datamodule
    method = assemble.method(config)
    if ready.checkpoint is None:
        assemble.start_networks(method)
        start_from(method, spec.sources, config.init.weights)
    loggers = assemble.loggers(spec, run)
    finished = False
    try:
        trainer, record = assemble.trainer(spec, run, loggers, watch)
        trainer.fit(method, datamodule, ckpt_path=ready.checkpoint, weights_only=True)
        if rank() == 0:
            if datamodule.reads_while_training:
                refuse_replaced(spec.container, run.identity)
            result = assemble.result(spec, datamodule, record)
            with run.writing_result():
                result.save(run.result)
        finished = True
    except Pruned:
        finished = True  # for the loggers: nothing has gone wrong
        raise
    finally:
        assemble.close(loggers, exit_code=0 if finished else 1)


def _fit_in_process(run: RunDirectory, ready: _Ready) -> None:
    """What each of the processes does that were started for a run."""
    from slnlab.training import devices

    with devices.threads(ready.spec.config):
        _fit(run, ready)


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="train")
def _hydra_main(config: DictConfig) -> None:
    running = HydraConfig.get()
    try:
        result = train(config, Path(running.runtime.output_dir), running.overrides.task)
    except SlnlabError as error:
        if running.mode is RunMode.MULTIRUN:
            log.error("failed: %s", error)
            raise  # to Hydra, which does the sweep's other runs first
        sys.exit(f"error: {error}")
    for row in result.rows.values():
        if row.test_accuracy:
            log.info("%s: test accuracy %.2f %%", row.title, 100 * row.test_accuracy.last)


def _typed(words: Sequence[str], program: str) -> tuple[list[str], list[str]]:
    """The overrides, and all words as Hydra's own parser wants them: overrides first, then options.

    Hydra learns of what it has no option for by overrides of its own keys.
    """
    parser = get_args_parser()
    parser.prog = program
    parser.add_argument("--dry-run", action="store_true")
    asked, unknown = parser.parse_known_intermixed_args(words)
    if (wrong := dashed_key(words, unknown, FIRST_PARTS)) is not None:
        sys.exit(f"error: {wrong}")
    modes = [name for name in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(asked, name)]
    if len(modes) > 1:
        parser.error(f"--{modes[0]} and --{modes[1]}: one of them at a time")
    if asked.resolve and not (asked.cfg or asked.help):
        parser.error("--resolve: goes with --cfg or --help")
    if asked.config_dir:
        extra_config_dirs[:] = [os.path.abspath(asked.config_dir)]
    left = list(asked.overrides)
    options = []
    for word in words:
        if word in left:
            left.remove(word)
        elif word != "--dry-run":
            options.append(word)
    ours = ["+hydra.callbacks.check.dry_run=true"] * asked.dry_run + [f"hydra.help.app_name='{program}'"] * asked.help
    return list(asked.overrides), [*ours, *asked.overrides, *options]


def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.train") -> None:
    """The command line: errors that the user can mend are one message and exit code 1, others a traceback."""
    print_anywhere()
    logging.raiseExceptions = False  # a full disk is said once, not at every line of train.log
    # Hydra prints its own errors with advice on its internals; this makes it hand them to us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    overrides, sys.argv[1:] = _typed(sys.argv[1:] if arguments is None else arguments, program)
    several = "-m" in sys.argv or "--multirun" in sys.argv
    try:
        refuse_without_key(overrides, several)
        (quiet_on_broken_pipe(_hydra_main) if SHOWING & {*sys.argv} else _hydra_main)()
    except SlnlabError as error:
        sys.exit(f"error: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {explain(error, overrides, several)}")
    except OSError as error:  # Hydra writes into the run's directory before we do
        if error.errno not in CANNOT_WRITE:
            raise
        sys.exit(f"error: {error.filename or 'a file of the run'}: cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
