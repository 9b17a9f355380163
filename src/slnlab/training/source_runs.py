"""`init.from`: start from the weights of finished runs; those that are named by their method are made where missing.

Table 4 of the paper trains SLN first and then another method from its weights: `method=co_teaching init.from=sln` does
both stages. Nothing here imports torch until weights are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from slnlab.config import compose
from slnlab.config.container import container_of, flat
from slnlab.config.identity import digest
from slnlab.config.run_spec import RunSpec, SourceRun
from slnlab.errors import ConfigError, DataError, SlnlabError
from slnlab.schema.options import law
from slnlab.training.needed import NeededRun

if TYPE_CHECKING:
    from slnlab.methods import Method

SAME = ("noise", "model")
"""What a run that is made has from the run that it is made for, unless `init.overrides` says otherwise."""

BUDGET = ("data", "optimizer", "scheduler", "trainer")
"""Of these it has what differs there from that method's own values, as the user's choice: DivideMix brings a budget of
its own for Clothing1M, and that is not SLN's."""

SPLIT = ("train_size", "noisy_val", "split_seed")
"""Keys of `data` that say which samples are held out."""

APART = 1000
"""Between the seeds of the two runs that a two-network method starts from: so far that no other run shares them."""

Wanted = SourceRun | DictConfig
"""A run to start from: finished, or the configuration to make it with."""


def wanted(config: DictConfig) -> list[Wanted]:
    """The runs that this one starts from, one for each of its networks; none without `init.from`.

    Args:
        config: checked.

    Raises:
        ConfigError: a directory that holds no finished run, a method that cannot be made, or another number of runs
            than of networks.
    """
    start, networks = config.init["from"], len(law(config.method).networks)
    if start is None:
        return []
    if isinstance(start, str) and not Path(start).is_dir():
        return [_to_be_made(config, start, number) for number in range(networks)]
    directories = [start] if isinstance(start, str) else list(start)
    if len(directories) != networks:
        raise ConfigError(
            f"init.from: names {len(directories)} runs, method={config.method.name} has {networks} network(s)"
        )
    return [_finished(Path(directory)) for directory in directories]


def _finished(path: Path) -> SourceRun:
    try:
        result = json.loads((path / "result.json").read_text(encoding="utf-8"))
        title = next(row["title"] for row in result["rows"].values() if not row["secondary"])
        return SourceRun(path, result["method"], result["group"], result["seed"], title, result["identity"])
    except OSError:
        state = "is not finished" if (path / "config.yaml").exists() else "holds no run"
        raise ConfigError(f"init.from: {path} {state}: there is no result.json") from None
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise ConfigError(f"init.from: {path}/result.json cannot be read as a result ({error!r})") from None


_made: dict[tuple[str, str, int], DictConfig] = {}
"""Composing takes a quarter of a second, and a run is settled more than once on its way."""


def _to_be_made(config: DictConfig, method: str, number: int) -> DictConfig:
    key = (json.dumps(container_of(config), sort_keys=True), method, number)
    if key not in _made:
        if len(_made) > 100:  # of a long sweep
            _made.clear()
        _made[key] = _compose(config, method, number)
    return _made[key]


def _compose(config: DictConfig, method: str, number: int) -> DictConfig:
    """The configuration of the run that the network of this number starts from."""
    overrides = list(config.init.overrides)
    try:
        made = compose([f"data={config.data.name}", f"method={method}", *overrides])
    except ConfigError as error:
        raise ConfigError(f"init.from: {method} is neither a directory nor a method to make: {error}") from None
    typed = [override.split("=", 1)[0].lstrip("+~") for override in overrides]
    here = container_of(config)
    composed = compose([f"data={config.data.name}", f"method={config.method.name}"])
    chosen = {key: OmegaConf.select(made, key) for key in typed if "." in key}
    for node in (composed, made):  # with data=folder nothing is known before it is said where the images are
        for key, value in here["data"]["source"].items():
            if OmegaConf.is_missing(node.data.source, key):
                node.data.source[key] = value
    usual = container_of(composed)
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
    return made


def misfits(spec: RunSpec) -> Iterator[tuple[str, str]]:
    """What is wrong with the runs to start from: pairs of (key, what is wrong and what is allowed)."""
    seeds = {source.seed for source in spec.sources}
    if len(seeds) < len(spec.sources):
        yield (
            "init.from",
            f"both runs have the seed {min(seeds)}; twins would select the same samples for ever, so give runs of "
            "two seeds",
        )
    for source in spec.sources:
        there, here = flat(source.identity["model"]), flat(spec.identity["model"])
        differing = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
        if differing:
            shown = ", ".join(f"model.{key}={there.get(key)!r} there, {here.get(key)!r} here" for key in differing)
            yield "init.from", f"{source.directory} holds another network ({shown})"
        if spec.config.init.weights == "momentum" and not source.identity["momentum"]["enabled"]:
            yield "init.weights", f"{source.directory} has no momentum model; init.weights=raw"
        if source.spec is None and not source.checkpoint.exists():
            yield "init.from", f"{source.directory} has no weights any more: {source.checkpoint.name} is missing"


def remarks(spec: RunSpec) -> Iterator[str]:
    """What may be meant, and should be known, of the runs to start from."""
    for source in spec.sources:
        data = source.identity["data"]["name"]
        if data != spec.config.data.name:
            yield f"init.from: {source.directory} trained on {data}, not on {spec.config.data.name}"
        elif source.identity["noise"] != spec.identity["noise"]:
            yield f"init.from: {source.directory} trained on other noise than this run"
        for key, there, here in _other_split(source.identity["data"], spec.identity["data"]):
            yield (
                f"init.from: {source.directory} may have been trained on samples that this run holds out "
                f"(data.{key}={there} there, {here} here); what is chosen by them would seem better than it is"
            )


def needed(spec: RunSpec) -> Iterator[NeededRun]:
    """Those of the runs to start from that are named by their method."""
    for source in spec.sources:
        if source.spec is not None:
            why = f"init.from={spec.config.init['from']}: making {source.directory} first"
            yield NeededRun(source.spec, source.checkpoint, why)


def filled(spec: RunSpec) -> RunSpec:
    """With the directories of the runs in the place of their method."""
    directories = [str(source.directory) for source in spec.sources]
    return spec.changed({"init.from": directories}) if directories else spec


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


def start_from(method: Method, sources: Sequence[SourceRun], weights: str) -> None:
    """Give each network of the method the weights of a run, in their order; without any do nothing.

    Args:
        method: with one network for each run.
        sources: finished.
        weights: "raw" (the run's network) or "momentum" (its momentum model).

    Raises:
        DataError: a checkpoint that cannot be read.
        SlnlabError: it holds no such weights, or of another shape.
    """
    from slnlab.record.checkpoints import Checkpoints

    for network, source in zip(method.networks.values() if sources else (), sources, strict=True):
        try:
            checkpoint = Checkpoints(source.checkpoint, digest(source.identity)).load_checkpoint(source.checkpoint)
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
                f"init.from: {source.checkpoint} has no {weights} weights for this network: {error}"
            ) from error
