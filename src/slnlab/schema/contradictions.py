"""The rules between the sections of a run's configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slnlab.errors import ConfigError
from slnlab.image_folder.listing import read_image_folder
from slnlab.processes.batching import FEWEST, fold_size
from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.constructors import class_variable, constructor, defined_in
from slnlab.schema.options import law
from slnlab.schema.sections import node_at
from slnlab.text.messages import quoted

FIRST_PHASES = ("early_epochs", "warm_up_epochs", "init_epochs", "reweighting_epochs")
"""Keys of methods that begin as another method: the number of these epochs."""

BEGINNINGS = {
    "first_pruning": "no sample would ever be pruned; choose an epoch of the run, or null for never",
    "sieve_from": "every sample would always be kept; choose an epoch of the run, or null for always",
}
"""Key of a method with the epoch, counted from 1, in which a step begins → the consequence if it never begins."""

_NEED_IMAGES = {
    "part_dependent": "is made from all images at once",
    "open_set": "replaces images",
    "human": "belongs to the images of CIFAR",
}
"""Noise that is impossible for images streamed from files (data sets with data.sampling) → the reason."""


Problems = Iterator[tuple[str, str]]
"""Pairs (key, fault with the allowed values)."""


def contradictions(config: dict[str, Any]) -> Problems:
    """The faults of sections that are valid alone but not together."""
    for rule in (
        _feature_problems,
        _size_problems,
        _batch_problems,
        _noise_problems,
        _label_problems,
        _weight_problems,
        _vote_problems,
        _vector_problems,
        _augmentation_problems,
        _length_problems,
        _schedule_problems,
        _method_problems,
        _oversampling_problems,
    ):
        yield from rule(config)


def _feature_problems(config: dict[str, Any]) -> Problems:
    """Features without what they need."""
    last, epochs = config["correction"]["last_epochs"], config["trainer"]["max_epochs"]
    if config["correction"]["enabled"] and last > epochs:
        fault = f"{last} epochs of label correction do not fit in a run of trainer.max_epochs={epochs}"
        yield "correction.last_epochs", fault
    for each in COMPOSABLE:
        if node_at(config, each.switch):
            yield from ((each.switch, reason) for key, reason in each.needs.items() if not node_at(config, key))


def _size_problems(config: dict[str, Any]) -> Problems:
    """Numbers of classes, channels and samples that do not fit each other."""
    data, model = config["data"], config["model"]
    for key, of_data in (("num_classes", "num_classes"), ("in_channels", "channels")):
        if model[key] != data[of_data]:
            yield f"model.{key}", f"{model[key]}, but {data['name']} has data.{of_data}={data[of_data]}"
    train_size = data["train_size"] or data["num_train"]
    if train_size > data["num_train"]:
        yield "data.train_size", f"{data['name']} has {data['num_train']} training images, not {train_size}"
    elif data["noisy_val"] >= train_size:
        yield "data.noisy_val", f"{data['noisy_val']} of {train_size} training images held out leave none to train on"
    elif data.get("fold") and data["fold"][1] > train_size - data["noisy_val"]:
        yield "data.fold", f"{data['fold'][1]} folds of {train_size} training samples leave some without a sample"
    if data["classes"] is not None and len(data["classes"]) != data["num_classes"]:
        yield "data.classes", f"{len(data['classes'])} names for {data['num_classes']} classes"
    for key in ("mean", "std"):
        if data[key] is not None and len(data[key]) != data["channels"]:
            yield f"data.{key}", f"{len(data[key])} values for {data['channels']} channels"


def _noise_problems(config: dict[str, Any]) -> Problems:
    """Noise that the data or the method do not go with."""
    data, noise = config["data"], config["noise"]["name"]
    if noise in ("csv", "human", "real", "run") and config["method"].get("forget_rate") == 0:
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
    if "sampling" in data and noise in _NEED_IMAGES:
        yield "noise", f"{noise} {_NEED_IMAGES[noise]}, and those of {data['name']} stay in their files"
    if data.get("imbalance") and noise in ("csv", "human"):
        yield (
            "data.imbalance",
            f"noise={noise} has a label for each image of the whole set; choose a noise that is drawn",
        )


def _label_problems(config: dict[str, Any]) -> Problems:
    """Labels that a key needs and the data set lacks."""
    data = config["data"]
    if config["softmax_average"]["enabled"]:
        if data["noisy_val"]:
            yield "softmax_average.enabled", "averages over all training samples, so data.noisy_val must be 0"
        if config["noise"]["name"] == "real":
            yield "softmax_average.enabled", f"is stored with the true labels, and those of {data['name']} are unknown"
    if data.get("labels") is not None and "labels" not in data["source"]:
        yield "data.labels", f"overrides the labels of your own data (data=folder, features, …), not of {data['name']}"


def _length_problems(config: dict[str, Any]) -> Problems:
    """Runs that end before a phase of their method begins."""
    method, epochs = config["method"], config["trainer"]["max_epochs"]
    for key in FIRST_PHASES:
        if method.get(key, 0) >= epochs:
            yield (
                f"method.{key}",
                f"{method[key]}, but a run of trainer.max_epochs={epochs} ends before this first phase of "
                f"{method['name']} does",
            )
    for key, otherwise in BEGINNINGS.items():
        if (method.get(key) or 0) > epochs:
            yield f"method.{key}", f"{method[key]}, but the run has trainer.max_epochs={epochs}, so that {otherwise}"


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


def _oversampling_problems(config: dict[str, Any]) -> Problems:
    """Oversampling beside epochs that have equal classes already, or that a method makes itself."""
    data, method = config["data"], config["method"]
    if not data["oversampling"]:
        return
    if data.get("sampling") == "balanced":
        yield "data.oversampling", "an epoch of data.sampling=balanced has equal classes already; choose one of the two"
    if defined_in(method["_target_"], "batches") not in (None, "slnlab.methods.base"):
        yield "data.oversampling", f"method={method['name']} makes batches of its own, which repeat no sample"


def _weight_problems(config: dict[str, Any]) -> Problems:
    """Weights of labels beside a loss that does not count them."""
    data, method = config["data"], config["method"]
    source = data["source"]
    labels = source.get("labels")
    if source.get("files") == "image_folder":
        weights = read_image_folder(source["root"], source.get("unreadable", "refuse"), labels=labels).weights
    elif labels is not None and "kind" in source:
        from slnlab.arrays.corrected import read_corrected  # with numpy, which other data sets do without

        weights = read_corrected(source["root"], source["kind"], labels).weights
    else:
        return
    if not weights:
        return
    key = "data.source.root" if labels is None else "data.labels"
    if not law(method).weighs_samples:
        yield key, f"has a column weight, which method={method['name']} does not use; choose ce, sln or gce"
    elif config["mixup"]["alpha"]:
        yield "mixup.alpha", f"{key} gives each sample a weight, and a mixture has two samples"


def _vote_problems(config: dict[str, Any]) -> Problems:
    """Frequencies of labels as targets, beside a method that looks at given labels alone, or injected noise."""
    if config["data"]["source"].get("votes") != "frequency":
        return
    if not law(config["method"]).weighs_samples:
        yield "data.source.votes", f"method={config['method']['name']} takes given labels only; choose ce, sln or gce"
    elif config["noise"]["name"] != "real" or config["data"].get("threshold"):
        yield "data.source.votes", "frequency is no target for labels that are changed; choose majority or dawid_skene"


def _vector_problems(config: dict[str, Any]) -> Problems:
    """Networks, noise and methods for images beside a data set of vectors, or the reverse; or for samples in memory."""
    data, model = config["data"], config["model"]
    vectors = bool(class_variable(data["_target_"], "vectors"))
    if vectors != bool(class_variable(model["_target_"], "vectors")):
        yield (
            "model",
            f"{model['name']} takes images, but {data['name']} has vectors; choose model=mlp or model=linear, or a "
            "network of your own with the class variable `vectors = True`"
            if vectors
            else f"{model['name']} takes vectors, but {data['name']} has images; choose model=cnn or another network "
            "for images",
        )
    if vectors and config["noise"]["name"] in ("open_set", "human"):
        yield "noise", f"{config['noise']['name']} {_NEED_IMAGES[config['noise']['name']]}, and {data['name']} has none"
    streamed = bool(class_variable(data["_target_"], "reads_while_training"))
    if streamed and class_variable(config["method"]["_target_"], "fits_at_once"):
        yield (
            "method",
            f"{config['method']['name']} needs all images at once, and those of {data['name']} stay in their files; "
            "slnlab embed makes feature vectors of them, for data=features",
        )
    if vectors and class_variable(config["method"]["_target_"], "augments_images"):
        yield "method", f"{config['method']['name']} learns from a second, augmented view, and vectors have none"


def _augmentation_problems(config: dict[str, Any]) -> Problems:
    """Transforms of a list that do not exist, or lack a parameter."""
    augment = config["data"].get("augment")
    for number, node in enumerate(augment if isinstance(augment, list) else ()):
        key, target = f"data.augment[{number}]", node.get("_target_")
        if not isinstance(target, str):
            yield key, "has no _target_, such as torchvision.transforms.v2.RandomPerspective"
            continue
        try:
            found = constructor(target)
        except ConfigError as error:
            yield f"{key}._target_", str(error)
            continue
        if found is None or found.more:
            continue
        for name in node.keys() - {"_target_"} - found.parameters.keys():
            yield f"{key}.{name}", f"{target} has no such parameter; it has {', '.join(found.parameters)}"


def _batch_problems(config: dict[str, Any]) -> Problems:
    """Batches that do not give each process the two samples that batch norm needs."""
    data, processes = config["data"], config["trainer"]["devices"] * config["trainer"]["num_nodes"]
    fewest, size = FEWEST * processes, epoch_size(data)
    needs = f"but {processes} process(es) need at least {fewest} in a batch, two each, for batch norm"
    for key in ("batch_size", "eval_batch_size"):
        if data[key] < fewest:
            yield f"data.{key}", f"{data[key]} samples, {needs}"
    if size is not None and 0 < size < fewest:  # data.noisy_val refuses 0
        yield "data.train_size", f"leaves {size} sample(s) to train on, {needs}"


def epoch_size(data: Mapping[str, Any]) -> int | None:
    """The number of training samples of an epoch; None if it depends on the size of the smallest class.

    With `data.imbalance` it is exact for classes of equal size before.
    """
    if data.get("sampling") != "balanced":
        samples = int((data["train_size"] or data["num_train"]) * _kept_share(data))
        outside = fold_size(samples, *data["fold"]) if data.get("fold") else 0
        return int(samples - outside - data["noisy_val"])
    return None if data["per_class"] is None else int(data["per_class"] * data["num_classes"])


def _kept_share(data: Mapping[str, Any]) -> float:
    """The share of equal classes that `slnlab.data.imbalance.imbalanced_rows` keeps."""
    ratio, classes = data.get("imbalance"), data["num_classes"]
    if not isinstance(ratio, int | float) or ratio < 1 or classes < 2:  # wrong values are refused elsewhere
        return 1.0
    exponential = data.get("imbalance_kind") != "step"
    places = [c / (classes - 1) if exponential else float(c >= classes / 2) for c in range(classes)]
    return sum(ratio**-place for place in places) / classes


def _schedule_problems(config: dict[str, Any]) -> Problems:
    """The faults of a schedule. `slnlab.training.schedules` refuses them too, but only after a first phase."""
    scheduler, optimizer = config["scheduler"], config["optimizer"]
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
