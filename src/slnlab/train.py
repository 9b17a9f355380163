"""Train one run, or with --multirun a sweep of runs: `python -m slnlab.train noise=asym sln.sigma=0.5`.

`train(config)` does a whole run from Python. The function imports torch, the module does not, so that a wrong
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
from yaml import YAMLError

from slnlab.config.composition import explain
from slnlab.config.loading import CONF_DIR, FIRST_PARTS, refuse_incomplete, search_in
from slnlab.config.run_spec import RunSpec
from slnlab.errors import Pruned, SlnlabError
from slnlab.processes import importing
from slnlab.processes.cores import wait_without_spinning
from slnlab.processes.heap import keep_freed_memory
from slnlab.schema.user_code import user_code
from slnlab.text.quoting import dashed_key
from slnlab.text.terminal import print_anywhere, quiet_on_broken_pipe
from slnlab.training.before_running import settled_runs
from slnlab.training.first_runs import with_first_runs
from slnlab.training.settling import settle

if TYPE_CHECKING:
    from pytorch_lightning import Callback

    from slnlab.callbacks.run_record import Watch
    from slnlab.data import IndexedDataModule
    from slnlab.record.result import Result
    from slnlab.record.run_directory import RunDirectory

log = logging.getLogger(__name__)

SHOWING = {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i"}
"""Options that print something without training."""

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def train(
    config: DictConfig | RunSpec,
    directory: Path | None = None,
    overrides: Sequence[str] = (),
    wait: bool = False,
    watch: Watch | None = None,
    callbacks: Sequence[Callback] = (),
    wanted: Path | None = None,
) -> Result:
    """Train one run, resume a stopped one, or load the result of a finished one.

    Args:
        config: a configuration from `slnlab.config.compose`, or a settled run.
        directory: directory of the run; None: below `runs_dir`.
        overrides: command line overrides, for the record.
        wait: if another process trains the same run, wait for it and load its result.
        watch: receives each epoch's row of metrics.csv, and ends the run by raising; only with one process.
        callbacks: further callbacks of Lightning, likewise.
        wanted: a file of the directory; a finished run that has lost it is trained anew.

    Returns:
        The result, as in `result.json`.

    Raises:
        ConfigError: the configuration is wrong.
        DataError: data or noise files are unusable, the run directory cannot be written, or a stopped run has no usable
            checkpoint.
        Busy: another process trains the same run.
        Diverged: the loss is not finite.
        Stopped: SIGINT, SIGTERM, SIGUSR1 or SIGUSR2 came; the same call resumes the run.
    """
    spec = config if isinstance(config, RunSpec) else settle(config)
    config = spec.config
    wait_without_spinning()

    with importing.without_search("pytorch_lightning"):
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
        ready = from_rank_zero(lambda: _prepare(spec, run, overrides, wanted))
        if ready is None:
            return Result.load(run.result)
        stack.callback(_advise, config, run)
        try:
            if processes > 1 and world_size() == 1:
                in_processes(processes, on_gpus, ["slnlab.training.assemble"], _fit_in_process, run, ready)
            else:
                _fit(run, ready, watch, callbacks)
        except Exception as error:
            stop_if_requested()  # the error may follow from another process's stop
            blame(error)
            raise
        from_rank_zero(lambda: None)  # wait for the result
    log.info("finished: %s", run.path)
    return Result.load(run.result)


class _Ready(NamedTuple):
    """A run that is ready for training.

    Args:
        spec: the run, filled in from the runs needed first.
        checkpoint: checkpoint to resume from, if any.
        datamodule: the data; None: several processes train, and each reads its own.
    """

    spec: RunSpec
    checkpoint: Path | None
    datamodule: IndexedDataModule | None


def _prepare(spec: RunSpec, run: RunDirectory, overrides: Sequence[str], wanted: Path | None = None) -> _Ready | None:
    """Prepare a run for training; None: the run is finished.

    Errors of the data come before anything is written, and before a former run is removed.
    """
    from slnlab.processes.distributed import world_size
    from slnlab.record.input_files import refuse_changed
    from slnlab.training import assemble

    config, anew = spec.config, spec.config.force
    user_code(spec.container)  # the digests of now stay: the code is imported soon, and first runs may take hours
    if not config.force:
        run.refuse_another_run(spec)
        anew = run.finished and wanted is not None and not wanted.exists()
        if run.finished and not anew:
            changed = run.changed_code(spec)
            other = f", with another version of {', '.join(changed)}" if changed else ""
            log.log(
                logging.WARNING if changed else logging.INFO,
                "already finished%s: %s (force=true runs it again)", other, run.result,
            )  # fmt: skip
            return None
        if (remark := run.nearly_the_same(spec)) is not None:
            log.info("%s", remark)
    # The method is made and thrown away: errors that only its constructor finds must come before the runs needed first.
    assemble.method(config)
    other_run = train if world_size() == 1 else _refuse_to_begin
    ready = with_first_runs(spec, other_run)
    assemble.prepare_networks(config)
    datamodule = assemble.datamodule(ready.config)
    datamodule.prepare_data()
    refuse_changed(spec.container, run)
    datamodule.setup()
    assemble.try_network(config, datamodule)
    datamodule.inspect(run.path)
    if anew:
        run.clear()
    checkpoint = assemble.checkpoints(spec, run).newest()
    if checkpoint is not None and (changed := run.changed_code(spec)):
        log.warning(
            "%s: %s changed since this run began, so that its result belongs to neither version; force=true begins it "
            "anew",
            run.path, ", ".join(changed),
        )  # fmt: skip
    run.describe(spec, overrides, resumes=checkpoint is not None)
    alone = world_size() == 1 and config.trainer.devices == 1
    return _Ready(ready, checkpoint, datamodule if alone else None)


def _advise(config: DictConfig, run: RunDirectory) -> None:
    """Say how a run with force=true goes on, if it has not finished. Other messages speak of the same command."""
    if config.force and not run.finished:
        log.warning("%s: without force=true the same command goes on; with it the run begins anew", run.path)


def _refuse_to_begin(needed: RunSpec, *_: Any, **__: Any) -> Result:
    raise SlnlabError(
        f"this run needs {needed.title} first (noise=dependent, init.from), but SLURM or torchrun has started several "
        "processes for this run alone; train that run, or this one, in one process first"
    )


def _fit(run: RunDirectory, ready: _Ready, watch: Watch | None = None, callbacks: Sequence[Callback] = ()) -> None:
    """Train; the first process writes the result."""
    from slnlab.processes.distributed import rank
    from slnlab.record.input_files import refuse_replaced
    from slnlab.training import assemble
    from slnlab.training.source_runs import start_from

    keep_freed_memory()
    spec, config = ready.spec, ready.spec.config
    datamodule = assemble.datamodule(config) if ready.datamodule is None else ready.datamodule
    method = assemble.method(config)
    if ready.checkpoint is None:
        assemble.start_networks(method)
        start_from(method, spec.sources, config.init.weights)
    loggers = assemble.loggers(spec, run)
    finished = False
    try:
        trainer, record = assemble.trainer(spec, run, loggers, watch, callbacks)
        trainer.fit(method, datamodule, ckpt_path=ready.checkpoint, weights_only=True)
        if rank() == 0:
            if datamodule.reads_while_training:
                refuse_replaced(spec.container, run)
            result = assemble.result(spec, datamodule, record)
            with run.writing_result():
                result.save(run.result)
        finished = True
    except Pruned:
        finished = True  # the loggers must not report a failure
        raise
    finally:
        assemble.close(loggers, exit_code=0 if finished else 1)


def _fit_in_process(run: RunDirectory, ready: _Ready) -> None:
    """Train in one of several processes of a run."""
    from slnlab.training import devices

    with devices.threads(ready.spec.config):
        _fit(run, ready)


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="train")
def _hydra_main(config: DictConfig) -> None:
    running = HydraConfig.get()
    settled, _ = settled_runs.get(tuple(running.overrides.task), (config, None))
    try:
        result = train(settled, Path(running.runtime.output_dir), running.overrides.task)
    except SlnlabError as error:
        if running.mode is RunMode.MULTIRUN:
            log.error("failed: %s", error)
            raise  # Hydra does the other runs of the sweep first
        sys.exit(f"error: {error}")
    for row in result.rows.values():
        if row.test_accuracy:
            log.info("%s: test accuracy %.2f %%", row.title, 100 * row.test_accuracy.last)


def _typed(words: Sequence[str], program: str) -> tuple[list[str], list[str]]:
    """Return the overrides, and all words for Hydra's parser: overrides first, then options.

    Hydra has no option for some of ours; they become overrides of its own keys.
    """
    parser = get_args_parser()
    parser.prog = program
    parser.add_argument("--dry-run", action="store_true")
    asked, unknown = parser.parse_known_intermixed_args(words)
    if (wrong := dashed_key(words, unknown, FIRST_PARTS)) is not None:
        sys.exit(f"error: {wrong}")
    if unknown:  # Hydra's own message lacks --dry-run
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    modes = [name for name in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(asked, name)]
    if len(modes) > 1:
        parser.error(f"--{modes[0]} and --{modes[1]}: one of them at a time")
    if asked.resolve and not (asked.cfg or asked.help):
        parser.error("--resolve: goes with --cfg or --help")
    if asked.config_dir:
        search_in([os.path.abspath(asked.config_dir)])
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
    """Run the command line. A user's error is one message and exit code 1, a bug is a traceback."""
    print_anywhere()
    logging.raiseExceptions = False  # a full disk is reported once, not at every line of train.log
    # Hydra prints its errors with advice on its internals; with this variable it raises them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        overrides, sys.argv[1:] = _typed(sys.argv[1:] if arguments is None else arguments, program)
    except SlnlabError as error:
        sys.exit(f"error: {error}")
    several = "-m" in sys.argv or "--multirun" in sys.argv
    try:
        refuse_incomplete(overrides, several)
        (quiet_on_broken_pipe(_hydra_main) if SHOWING & {*sys.argv} else _hydra_main)()
    except SlnlabError as error:
        sys.exit(f"error: {error}")
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        sys.exit(f"error: {explain(error, overrides, several)}")
    except OSError as error:  # Hydra is the first to write into the run's directory
        if error.errno not in CANNOT_WRITE:
            raise
        sys.exit(f"error: {error.filename or 'a file of the run'}: cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
