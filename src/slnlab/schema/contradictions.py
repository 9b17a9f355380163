"""The rules between the sections of a run's configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.constructors import constructor
from slnlab.schema.data_contradictions import NEEDS_IMAGES, Problems, data_contradictions
from slnlab.schema.kinds import Timing, timing
from slnlab.schema.law import law
from slnlab.schema.sections import node_at
from slnlab.text.messages import quoted


def contradictions(config: dict[str, Any]) -> Problems:
    """The faults of sections that are valid alone but not together."""
    for rule in (
        _feature_problems,
        _best_epoch_problems,
        data_contradictions,
        _noise_problems,
        _length_problems,
        _schedule_problems,
        _method_problems,
    ):
        yield from rule(config)


def _feature_problems(config: dict[str, Any]) -> Problems:
    """Features without what they need."""
    last, epochs = config["correction"]["last_epochs"], config["trainer"]["max_epochs"]
    if config["correction"]["enabled"] and last > epochs:
        yield (
            "correction.last_epochs",
            f"{last} epochs of label correction do not fit in a run of trainer.max_epochs={epochs}; give it fewer",
        )
    for each in COMPOSABLE:
        if node_at(config, each.switch):
            yield from ((each.switch, reason) for key, reason in each.needs.items() if not node_at(config, key))


def _best_epoch_problems(config: dict[str, Any]) -> Problems:
    """A best epoch without labels that could choose it, or of weights that the run lacks."""
    data, best = config["data"], config["best_epoch"]
    if not best["enabled"]:
        return
    by_label_wave = best["criterion"] == "label_wave"
    if not (by_label_wave or data["noisy_val"] or data.get("clean_val")):
        yield (
            "best_epoch.enabled",
            "no labels are held out that could choose the epoch; give data.noisy_val, or criterion=label_wave",
        )
    if by_label_wave and config["trainer"]["evaluate_every"] > 1:
        yield (
            "best_epoch.criterion",
            "label_wave may choose any epoch, so each must be evaluated: trainer.evaluate_every=1",
        )
    if by_label_wave and (data["oversampling"] or data.get("sampling") == "balanced"):
        yield (
            "best_epoch.criterion",
            "label_wave counts changed predictions, and an epoch of other samples has none to compare; choose accuracy "
            "or loss",
        )
    has = {"network": True, "momentum": config["momentum"]["enabled"]}
    has["ensemble"] = len(law(config["method"]).networks) > 1
    if not has.get(best["weights"], True):
        allowed = quoted(name for name, present in has.items() if present)
        yield "best_epoch.weights", f"the run has no weights {best['weights']}; choose null or {allowed}"


def _noise_problems(config: dict[str, Any]) -> Problems:
    """Noise that the data or the method do not go with."""
    data, noise = config["data"], config["noise"]["name"]
    if noise in ("csv", "human", "real", "run", "transition") and config["method"].get("forget_rate") == 0:
        yield (
            "method.forget_rate",
            f"noise={noise} does not state how many labels are wrong; give a rate, `anchor_points` or `estimated`",
        )
    own_noise = config["preset"].get("own_noise", False)
    if own_noise is not None and own_noise != (noise == "real"):
        yield (
            "noise",
            f"the labels of {data['name']} have real noise of an unknown kind; choose noise=real"
            if own_noise
            else f"the labels of {data['name']} have no real noise; noise=none trains on them unchanged",
        )
    if "sampling" in data and noise in NEEDS_IMAGES:
        yield "noise", f"{noise} {NEEDS_IMAGES[noise]}, and those of {data['name']} stay in their files"
    if data.get("imbalance") and noise in ("csv", "human"):
        yield (
            "data.imbalance",
            f"noise={noise} has a label for each image of the whole set; choose a noise that is drawn",
        )


def _length_problems(config: dict[str, Any]) -> Problems:
    """Runs that end before a phase of their method begins."""
    method, epochs = config["method"], config["trainer"]["max_epochs"]
    stated = constructor(method["_target_"])
    run = f"a run of trainer.max_epochs={epochs}"
    for key, parameter in ({} if stated is None else stated.parameters).items():
        mark, value = timing(parameter.kind), method.get(key)
        if value is None:
            continue
        if mark is Timing.FIRST_PHASE and value >= epochs:
            yield f"method.{key}", f"{value}, but {run} ends before this first phase of {method['name']} does"
        if mark is Timing.RAMP and value[0] >= epochs:
            yield f"method.{key}", f"{list(value)}, but {run} ends before the ramp begins; choose earlier epochs"
        if mark is Timing.BEGINNING and value > epochs:
            yield f"method.{key}", f"{value}, but {run} ends before; choose an earlier epoch, or null to leave it out"


def _method_problems(config: dict[str, Any]) -> Problems:
    """What the method refuses or needs."""
    data, method = config["data"], config["method"]
    if method.get("view2_norm") == "cifar10" and data["channels"] != 3:
        yield "method.view2_norm", f"cifar10 has 3 channels, the images have {data['channels']} channel(s); choose own"
    if data.get("sampling") == "balanced" and method.get("average_losses", 1) > 1:
        yield (
            "method.average_losses",
            "data.sampling=balanced leaves most samples without losses of earlier epochs; choose 1",
        )
    laws = law(method)
    yield from ((key, reason) for key, reason in laws.refuses.items() if node_at(config, key))
    yield from ((key, reason) for key, reason in laws.needs.items() if not node_at(config, key))


def _schedule_problems(config: dict[str, Any]) -> Problems:
    """The faults of a schedule. `slnlab.training.schedules` refuses them too, but only after a first phase."""
    scheduler, optimizer = config["scheduler"], config["optimizer"]
    if "last_epoch" in scheduler:
        yield "scheduler.last_epoch", "follows from the epoch at which a run goes on; leave it out"
    if scheduler["name"] != "linear":
        return
    constant, total = scheduler["constant_epochs"], scheduler["total_epochs"]
    if constant >= total:
        yield (
            "scheduler.constant_epochs",
            f"{constant}, but the run has {total} epochs, so none is left for the decay; choose less than {total} "
            "(published: 80 of 200)",
        )
    if scheduler["beta1"] is not None and optimizer["_target_"] == "torch.optim.SGD":
        yield "scheduler.beta1", f"optimizer={optimizer['name']} has no betas; choose null, or optimizer=adam"


def redefinitions(config: dict[str, Any]) -> Problems:
    """The keys with another value than the method's definition: pairs (key, fault)."""
    method = config["method"]
    for key, value in law(method).fixed.items():
        found = node_at(config, key)
        if found != value:
            yield key, f"{found}, but method={method['name']} is defined with {value}"


def class_map_errors(class_map: Any, data: dict[str, Any]) -> Iterator[str]:
    """The faults of an asymmetric class map for a data set; see `slnlab.data.inject.resolve_class_map`."""
    if class_map == "next":
        return
    if not isinstance(class_map, dict):
        yield f"{class_map!r} is neither `next` nor a mapping {{from: to}}"
        return
    if not class_map:
        yield "the mapping is empty, so no label would flip; noise=none says so"
    names = data["classes"] or []
    numbers = {str(c) for c in range(data["num_classes"])}
    for source, target in class_map.items():
        for label in (source, target):
            if str(label) not in names and str(label) not in numbers:
                by_name = f" or {quoted(names)}" if set(names) - numbers else ""
                allowed = f"0 to {data['num_classes'] - 1}{by_name}"
                yield f"there is no class {label!r} in {data['name']}; the classes are {allowed}"
        if str(source) == str(target):
            yield f"class {source!r} is mapped to itself"
