"""`init.from`: start from the weights of finished runs. A run named by its method is made if it is missing.

Table 4 of the paper trains SLN first and then another method from its weights. `method=co_teaching init.from=sln` does
both stages. This module imports torch only when weights are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from slnlab.config import compose
from slnlab.config.container import container_of, differing, flat
from slnlab.config.identity import digest
from slnlab.config.run_spec import RunSpec, SourceRun
from slnlab.errors import ConfigError, DataError, SlnlabError
from slnlab.schema.law import law
from slnlab.training.needed import NeededRun

if TYPE_CHECKING:
    from slnlab.methods import Method

SAME = ("noise", "model")
"""Groups that the source run copies from the run that needs it, unless `init.overrides` sets them."""

BUDGET = ("data", "optimizer", "scheduler", "trainer")
"""Groups in which, like `clip_norm` and `preset`, the source run copies only the user's choices: values that differ
from the default of the run's method. DivideMix has a budget of its own for Clothing1M, which must not become SLN's."""

SPLIT = ("train_size", "noisy_val", "split_seed")
"""Keys of `data` that decide which samples are held out."""

APART = 1000
"""Distance between the seeds of the two runs that a two-network method starts from, large enough to be unshared."""

Wanted = SourceRun | DictConfig
"""A run to start from: a finished run, or the configuration of one to be made."""


def wanted(config: dict[str, Any]) -> list[Wanted]:
    """The runs to start from, one per network; none without `init.from`.

    Args:
        config: a checked configuration, as nested dicts.

    Raises:
        ConfigError: a directory holds no finished run, a method cannot be composed, or the numbers of runs and
            networks differ.
    """
    start, networks = config["init"]["from"], len(law(config["method"]).networks)
    if start is None:
        return []
    if isinstance(start, str) and not Path(start).is_dir():
        return [_to_be_made(config, start, number) for number in range(networks)]
    directories = [start] if isinstance(start, str) else list(start)
    if len(directories) != networks:
        raise ConfigError(
            f"init.from: names {len(directories)} runs, method={config['method']['name']} has {networks} network(s)"
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
"""Composed configurations. Composing takes a quarter of a second, and a run is settled more than once."""


def _to_be_made(config: dict[str, Any], method: str, number: int) -> DictConfig:
    key = (json.dumps(config, sort_keys=True), method, number)
    if key not in _made:
        if len(_made) > 100:  # bounds the memory of a long sweep
            _made.clear()
        _made[key] = _compose(config, method, number)
    return _made[key]


def _compose(own: dict[str, Any], method: str, number: int) -> DictConfig:
    """The configuration of the source run for the network of this number, from 0."""
    overrides, data = list(own["init"]["overrides"]), f"data={own['data']['name']}"
    try:
        made = compose([data, f"method={method}", *overrides])
    except ConfigError as error:
        raise ConfigError(f"init.from: {method} is neither a directory nor a method to make: {error}") from None
    typed = [override.split("=", 1)[0].lstrip("+~") for override in overrides]
    composed = compose([data, f"method={own['method']['name']}"])
    chosen = {key: OmegaConf.select(made, key) for key in typed if "." in key}
    for node in (composed, made):  # data=folder cannot be resolved without the place of its images
        for key, value in own["data"]["source"].items():
            if OmegaConf.is_missing(node.data.source, key):
                node.data.source[key] = value
    usual = container_of(composed)
    with open_dict(made):
        for section in (*SAME, *BUDGET):
            if section in typed:  # another option of the group was chosen
                continue
            if section in SAME or own[section].get("name") != usual[section].get("name"):
                made[section] = own[section]
            else:
                for key in own[section].keys() | usual[section].keys():
                    if own[section].get(key) != usual[section].get(key):
                        made[section][key] = own[section].get(key)
        if "data" not in typed:
            for key, value in own["preset"].items():  # an experiment's own tables, such as preset.sigma
                if value != usual["preset"].get(key):
                    made.preset[key] = value
        for key, value in chosen.items():
            OmegaConf.update(made, key, value)
        if own["data"]["noisy_val"] and "data" not in typed:
            # The run chooses by its held-out samples, so the source run must not train on them, even if the method
            # holds them out by default (method=early_stopping) and the source run's method does not.
            for key in SPLIT:
                if f"data.{key}" not in typed:
                    made.data[key] = own["data"][key]
        if own["clip_norm"] != usual["clip_norm"] and "clip_norm" not in typed:
            made.clip_norm = own["clip_norm"]
        made.runs_dir = own["runs_dir"]
        if "seed" not in typed:
            made.seed = own["seed"]
        made.seed += APART * number
    return made


def misfits(spec: RunSpec) -> Iterator[tuple[str, str]]:
    """Reasons against the source runs, as (key, message)."""
    seeds = {source.seed for source in spec.sources}
    if len(seeds) < len(spec.sources):
        yield (
            "init.from",
            f"both runs have the seed {min(seeds)}; twins would always select the same samples, so give runs of two "
            "seeds",
        )
    for source in spec.sources:
        theirs, own = flat(source.identity["model"]), flat(spec.identity["model"])
        if keys := differing(theirs, own):
            shown = ", ".join(f"model.{key}={theirs.get(key)!r} there, {own.get(key)!r} here" for key in keys)
            yield "init.from", f"{source.directory} holds another network ({shown})"
        if spec.config.init.weights == "momentum" and not source.identity["momentum"]["enabled"]:
            yield "init.weights", f"{source.directory} has no momentum model; use init.weights=raw"
        if source.spec is None and not source.checkpoint.exists():
            yield "init.from", f"{source.directory} has lost its weights: {source.checkpoint.name} is missing"


def remarks(spec: RunSpec) -> Iterator[str]:
    """Warnings about the source runs: allowed differences from this run."""
    for source in spec.sources:
        data = source.identity["data"]["name"]
        if data != spec.config.data.name:
            yield f"init.from: {source.directory} trained on {data}, not on {spec.config.data.name}"
        elif source.identity["noise"] != spec.identity["noise"]:
            yield f"init.from: {source.directory} trained on other noise than this run"
        for key, theirs, own in _other_split(source.identity["data"], spec.identity["data"]):
            yield (
                f"init.from: {source.directory} may have been trained on samples that this run holds out "
                f"(data.{key}={theirs} there, {own} here); a choice by them would seem better than it is"
            )


def needed(spec: RunSpec) -> Iterator[NeededRun]:
    """The source runs named by their method."""
    for source in spec.sources:
        if source.spec is not None:
            by = f"init.from={spec.config.init['from']}"
            yield NeededRun(source.spec, source.checkpoint, by, f"{by}: training {source.directory} first")


def _other_split(source: dict[str, Any], data: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Keys by which the source run may train on held-out samples of this run: (key, source's value, own value).

    The source run may hold out more samples of the same split, as a smaller held-out set is the first part of a larger.
    """
    if not data["noisy_val"]:
        return
    theirs, own = ({**each, "train_size": each.get("train_size") or each.get("num_train")} for each in (source, data))
    for key in ("name", "train_size", "split_seed"):
        if theirs.get(key) != own[key]:
            yield key, theirs.get(key), own[key]
    if theirs.get("noisy_val", 0) < own["noisy_val"]:
        yield "noisy_val", theirs.get("noisy_val", 0), own["noisy_val"]


def start_from(method: Method, sources: Sequence[SourceRun], weights: str) -> None:
    """Load the weights of the source runs into the networks of the method, in order.

    Args:
        method: with one network per source run.
        sources: finished runs; none: the networks stay as they are.
        weights: "raw" (the run's network) or "momentum" (its momentum model).

    Raises:
        DataError: a checkpoint cannot be read.
        SlnlabError: a checkpoint lacks these weights, or has them in another shape.
    """
    from slnlab.record.checkpoints import read_checkpoint

    for network, source in zip(method.networks.values() if sources else (), sources, strict=True):
        try:
            checkpoint = read_checkpoint(source.checkpoint, digest(source.identity))
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
