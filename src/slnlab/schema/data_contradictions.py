"""The rules between the data of a run's configuration and its other sections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slnlab.errors import ConfigError
from slnlab.image_folder.listing import read_image_folder
from slnlab.processes.batching import FEWEST
from slnlab.schema.constructors import class_variable, constructor, defined_in
from slnlab.schema.law import law
from slnlab.schema.sample_counts import epoch_size, training_samples

Problems = Iterator[tuple[str, str]]
"""Pairs (key, fault with the allowed values)."""

NEEDS_IMAGES = {
    "part_dependent": "is made from all images at once",
    "open_set": "replaces images",
    "human": "belongs to the images of CIFAR",
}
"""Noise that is impossible for images streamed from files (data sets with data.sampling) → the reason."""


def data_contradictions(config: dict[str, Any]) -> Problems:
    """The faults of data beside each other section."""
    for rule in (
        _size_problems,
        _batch_problems,
        _label_problems,
        _weight_problems,
        _vote_problems,
        _vector_problems,
        _augmentation_problems,
        _oversampling_problems,
    ):
        yield from rule(config)


def _size_problems(config: dict[str, Any]) -> Problems:
    """Numbers of classes, channels and samples that do not fit each other."""
    data, model = config["data"], config["model"]
    for key, of_data in (("num_classes", "num_classes"), ("in_channels", "channels")):
        if model[key] != data[of_data]:
            yield f"model.{key}", f"{model[key]}, but {data['name']} has data.{of_data}={data[of_data]}"
    train_size = data["train_size"] or data["num_train"]
    if train_size > data["num_train"]:
        yield "data.train_size", f"{data['name']} has {data['num_train']} training images, not {train_size}"
    elif data["noisy_val"] >= (found := training_samples(data)):
        yield "data.noisy_val", f"{data['noisy_val']} of {found} training samples held out leave none to train on"
    elif data.get("fold") and data["fold"][1] > train_size - data["noisy_val"]:
        yield "data.fold", f"{data['fold'][1]} folds of {train_size} training samples leave some without a sample"
    if data["classes"] is not None and len(data["classes"]) != data["num_classes"]:
        yield "data.classes", f"{len(data['classes'])} names for {data['num_classes']} classes"
    for key in ("mean", "std"):
        if data[key] is not None and len(data[key]) != data["channels"]:
            yield f"data.{key}", f"{len(data[key])} values for {data['channels']} channels"


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


def _label_problems(config: dict[str, Any]) -> Problems:
    """Labels that a key needs and the data set lacks."""
    data = config["data"]
    if config["softmax_average"]["enabled"]:
        if data["noisy_val"]:
            yield "softmax_average.enabled", "averages over all training samples, so data.noisy_val must be 0"
        if data.get("fold") or data.get("oversampling") or data.get("sampling") == "balanced":
            yield (
                "softmax_average.enabled",
                "averages over all epochs of each training sample; data.fold, data.oversampling and "
                "data.sampling=balanced leave some out",
            )
        if config["noise"]["name"] == "real":
            yield "softmax_average.enabled", f"is stored with the true labels, and those of {data['name']} are unknown"
    if data.get("labels") is not None and "labels" not in data["source"]:
        yield "data.labels", f"overrides the labels of your own data (data=folder, features, …), not of {data['name']}"
    elif data.get("labels") is not None and config["noise"]["name"] in ("csv", "run"):
        yield "data.labels", f"noise={config['noise']['name']} has labels of its own; noise=real trains on data.labels"


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
        yield "noise", f"{config['noise']['name']} {NEEDS_IMAGES[config['noise']['name']]}, and {data['name']} has none"
    streamed = bool(class_variable(data["_target_"], "reads_while_training"))
    if streamed and class_variable(config["method"]["_target_"], "fits_at_once"):
        yield (
            "method",
            f"{config['method']['name']} needs all images at once, and those of {data['name']} stay in their files; "
            "slnlab embed makes feature vectors of them, for data=features",
        )
    if vectors and class_variable(config["method"]["_target_"], "learns_from_strong_views"):
        if data.get("dropped_features") == 0:
            yield (
                "data.dropped_features",
                f"0, but {config['method']['name']} learns from a view that lacks some features",
            )
        if config["method"].get("cutout"):
            yield "method.cutout", "vectors have no pixels to cut out; choose 0"
        if config["method"].get("view2_norm") == "cifar10":
            yield "method.view2_norm", "cifar10 has the constants of images; vectors need own"


def _augmentation_problems(config: dict[str, Any]) -> Problems:
    """Transforms of a list that do not exist, or lack a parameter."""
    augment = config["data"].get("augment")
    if augment == []:
        yield "data.augment", "an empty list; none leaves the images as they are"
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


def _oversampling_problems(config: dict[str, Any]) -> Problems:
    """Oversampling beside epochs that have equal classes already, or that a method makes itself."""
    data, method = config["data"], config["method"]
    if not data["oversampling"]:
        return
    if data.get("sampling") == "balanced":
        yield "data.oversampling", "an epoch of data.sampling=balanced has equal classes already; choose one of the two"
    if defined_in(method["_target_"], "batches") not in (None, "slnlab.methods.base"):
        yield "data.oversampling", f"method={method['name']} makes batches of its own, which repeat no sample"
