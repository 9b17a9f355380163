"""`init.from`: start from the weights of finished runs; those that are named by their method are made where missing.

Table 4 of the paper trains SLN first and then another method from its weights: `method=co_teaching init.from=sln` does
both stages. Nothing here imports torch until weights are read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from slnlab.config import check, compose
from slnlab.config.contents import digests
from slnlab.config.identity import digest, group_hash, identity, run_subdir
from slnlab.config.plain import flat, plain
from slnlab.errors import ConfigError, DataError, SlnlabError
from slnlab.schema.options import law

if TYPE_CHECKING:
    from slnlab.methods import Method
    from slnlab.record.result import Result

log = logging.getLogger(__name__)

SAME = ("noise", "model")
"""What a run that is made has from the run that it is made for, unless `init.overrides` says otherwise."""

BUDGET = ("data", "optimizer", "scheduler", "trainer")
"""Of these it has what differs there from that method's own values, as the user's choice: DivideMix brings a budget of
its own for Clothing1M, and that is not SLN's."""

SPLIT = ("train_size", "noisy_val", "split_seed")
"""Keys of `data` that say which samples are held out."""

APART = 1000
"""Between the seeds of the two runs that a two-network method starts from: so far that no other run shares them."""


@dataclass(frozen=True)
class SourceRun:
    """A run to start from."""

    directory: Path
    method: str
    group: str
    seed: int
    label: str
    identity: dict[str, Any]
    config: DictConfig | None
    """To make it with; None: it was named by its directory."""

    @property
    def name(self) -> str:
        """What it is, wherever it lies."""
        return f"{self.method}/{self.group}/seed{self.seed}"

    @property
    def checkpoint(self) -> Path:
        return self.directory / "checkpoints" / "last.ckpt"


def source_runs(config: DictConfig) -> list[SourceRun]:
    """The runs that this one starts from, one for each of its networks; none without `init.from`.

    Raises:
        ConfigError: a directory that holds no finished run, or a method that cannot be made.
    """
    wanted = config.get("init", {}).get("from")
    if wanted is None:
        return []
    if isinstance(wanted, str) and not Path(wanted).is_dir():
        return [_to_be_made(config, wanted, number) for number in range(len(law(config.method).networks))]
    return [_finished(Path(path)) for path in ([wanted] if isinstance(wanted, str) else wanted)]


def source_names(config: DictConfig) -> list[str]:
    """What the run starts from, for its identity: by content, so that a run's directory may be moved."""
    try:
        return [run.name for run in source_runs(config)]
    except ConfigError:  # said by `problems`, before anything runs
        return [str(config.init["from"])]


def _finished(path: Path) -> SourceRun:
    try:
        result = json.loads((path / "result.json").read_text(encoding="utf-8"))
        identity_, evaluator = result["identity"], result["evaluators"]["network"]
        label = evaluator["label"].removesuffix(" (network)")
        return SourceRun(path, result["method"], result["group"], result["seed"], label, identity_, None)
    except OSError:
        state = "is not finished" if (path / "config.yaml").exists() else "holds no run"
        raise ConfigError(f"init.from: {path} {state}: there is no result.json") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"init.from: {path}/result.json cannot be read as a result ({error!r})") from None


_made: dict[tuple[str, str, int], SourceRun] = {}
"""Composing takes a quarter of a second, and a run's identity is asked for a dozen times."""


def _to_be_made(config: DictConfig, method: str, number: int) -> SourceRun:
    container = plain(config)
    files = container["contents"] or digests(container)
    key = (json.dumps([container, files], sort_keys=True), method, number)
    if key not in _made:
        if len(_made) > 100:  # of a long sweep
            _made.clear()
        _made[key] = _compose(config, method, number)
    return _made[key]


def _compose(config: DictConfig, method: str, number: int) -> SourceRun:
    overrides = list(config.init.overrides)
    try:
        made = compose([f"data={config.data.name}", f"method={method}", *overrides])
    except ConfigError as error:
        raise ConfigError(f"init.from: {method} is neither a directory nor a method to make: {error}") from None
    typed = [override.split("=", 1)[0].lstrip("+~") for override in overrides]
    here = plain(config)
    composed = compose([f"data={config.data.name}", f"method={config.method.name}"])
    chosen = {key: OmegaConf.select(made, key) for key in typed if "." in key}
    for node in (composed, made):  # with data=folder nothing is known before it is said where the images are
        for key, value in here["data"]["source"].items():
            if OmegaConf.is_missing(node.data.source, key):
                node.data.source[key] = value
    usual = plain(composed)
    with open_dict(made):
        for section in (*SAME, *BUDGET):
            if section in typed:  # another option of the group was chosen
                continue
            if section in SAME or here[section].get("name") != usual[section].get("name"):
                made[section] = here[section]
            else:
                for key in here[section].keys() | usual[section].keys():
                    if here[section].get(key) != usual[section].get(key):
                        made[section][key] = here[section].get(key)
        for key, value in chosen.items():
            OmegaConf.update(made, key, value)
        if here["data"]["noisy_val"] and "data" not in typed:
            # By them this run chooses, so they must not have been trained on before, whatever made them be held out:
            # method=early_stopping brings them itself, and the method that is made does not.
            for key in SPLIT:
                if f"data.{key}" not in typed:
                    made.data[key] = here["data"][key]
        made.runs_dir = config.runs_dir
        if "seed" not in typed:
            made.seed = config.seed
        made.seed += APART * number
    label = law(made.method).rows["network"].removesuffix(" (network)")
    directory = Path(config.runs_dir) / run_subdir(made)
    return SourceRun(directory, made.method.name, group_hash(made), made.seed, label, identity(made), made)


def problems(config: DictConfig) -> Iterator[tuple[str, str]]:
    """What is wrong with `init`: pairs of (key, what is wrong and what is allowed)."""
    networks = len(law(config.method).networks)
    wanted = config.init["from"]
    if isinstance(wanted, str) and Path(wanted).is_dir():
        wanted = [wanted]
    if not isinstance(wanted, str) and len(wanted) != networks:
        yield "init.from", f"names {len(wanted)} runs, method={config.method.name} has {networks} network(s)"
        return
    try:
        runs = source_runs(config)
    except ConfigError as error:
        yield "init.from", str(error).removeprefix("init.from: ")
        return
    if len({run.seed for run in runs}) < len(runs):
        yield (
            "init.from",
            f"both runs have the seed {runs[0].seed}; twins would select the same samples for ever, so give runs of "
            "two seeds",
        )
    for run in runs:
        yield from _misfits(config, run)


def _misfits(config: DictConfig, run: SourceRun) -> Iterator[tuple[str, str]]:
    there, here = flat(run.identity["model"]), flat(identity(config)["model"])
    differing = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    if differing:
        shown = ", ".join(f"model.{key}={there.get(key)!r} there, {here.get(key)!r} here" for key in differing)
        yield "init.from", f"{run.directory} holds another network ({shown})"
    if config.init.weights == "momentum" and not run.identity["momentum"]["enabled"]:
        yield "init.weights", f"{run.directory} has no momentum model; init.weights=raw"
    if run.config is None and not run.checkpoint.exists():
        yield "init.from", f"{run.directory} has no weights any more: {run.checkpoint.name} is missing"
    if run.config is not None:
        try:
            check(run.config)
        except ConfigError as error:
            yield "init.overrides", f"the run to start from cannot work: {error}"


def with_source_runs(config: DictConfig, train: Callable[..., Result]) -> DictConfig:
    """The configuration with the directories of finished runs in `init.from`; without it, it passes as it is.

    Runs that were named by their method are made where they are missing. The identity does not change.

    Args:
        config: of the run that starts from them.
        train: `slnlab.train.train`.

    Raises:
        SlnlabError: what `train` raises.
    """
    runs = source_runs(config)
    if not runs:
        return config
    for run in runs:
        data = run.identity["data"]["name"]
        if data != config.data.name:
            log.warning("init.from: %s trained on %s, not on %s", run.directory, data, config.data.name)
        elif run.identity["noise"] != identity(config)["noise"]:
            log.warning("init.from: %s trained on other noise than this run", run.directory)
        for key, there, here in _other_split(run.identity["data"], identity(config)["data"]):
            log.warning(
                "init.from: %s may have been trained on samples that this run holds out (data.%s=%s there, %s here); "
                "what is chosen by them would seem better than it is",
                run.directory,
                key,
                there,
                here,
            )
        if run.config is None:
            continue
        finished = (run.directory / "result.json").exists()
        if finished and run.checkpoint.exists():
            continue
        log.info("init.from=%s: making %s first", config.init["from"], run.directory)
        made = run.config.copy()
        made.force = finished  # its weights were removed
        train(made, run.directory, [f"(made for method={config.method.name})"], wait=True)
    filled = OmegaConf.create(plain(config))
    filled.init["from"] = [str(run.directory) for run in runs]
    return filled


def _other_split(there: dict[str, Any], here: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Where samples that are held out here may be training samples there: triples of (key, there, here).

    More of the same split may be held out there: the fewer are the first of them.
    """
    if not here["noisy_val"]:
        return
    theirs, ours = ({**data, "train_size": data.get("train_size") or data.get("num_train")} for data in (there, here))
    for key in ("name", "train_size", "split_seed"):
        if theirs.get(key) != ours[key]:
            yield key, theirs.get(key), ours[key]
    if theirs.get("noisy_val", 0) < ours["noisy_val"]:
        yield "noisy_val", theirs.get("noisy_val", 0), ours["noisy_val"]


def start_from(method: Method, runs: Sequence[SourceRun], weights: str) -> None:
    """Give each network of the method the weights of a run, in their order; without runs do nothing.

    Args:
        method: with one network for each run.
        runs: finished.
        weights: "raw" (the run's network) or "momentum" (its momentum model).

    Raises:
        DataError: a checkpoint that cannot be read.
        SlnlabError: it holds no such weights, or of another shape.
    """
    from slnlab.record.checkpoints import Checkpoints

    for network, run in zip(method.networks.values() if runs else (), runs, strict=True):
        try:
            checkpoint = Checkpoints(run.checkpoint, digest(run.identity)).load_checkpoint(run.checkpoint)
        except DataError as error:
            raise DataError(f"init.from: {error}") from error
        try:
            if weights == "momentum":
                state = checkpoint["callbacks"]["MomentumModel"]["network"]
            else:
                prefix = "networks.network."
                items = checkpoint["state_dict"].items()
                state = {key.removeprefix(prefix): value for key, value in items if key.startswith(prefix)}
            network.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            raise SlnlabError(
                f"init.from: {run.checkpoint} has no {weights} weights for this network: {error}"
            ) from error


def labels(config: DictConfig) -> dict[str, str]:
    """Display names of the evaluators; of a run that starts from others, what came first stands before: SLN → SIGUA."""
    first = list(
        dict.fromkeys(run.label + (" MO" * (config.init.weights == "momentum")) for run in source_runs(config))
    )
    return {
        key: " → ".join([" + ".join(first), label] if first else [label])
        for key, label in law(config.method).rows.items()
    }
