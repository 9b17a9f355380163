"""A rough estimate of a run's memory, made without a training step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from hydra.utils import get_class
from omegaconf import DictConfig
from torch import Tensor, nn

from slnlab.config.container import container_of
from slnlab.schema.constructors import class_variable


class Memory(NamedTuple):
    """Bytes on the training device.

    Args:
        parameters: number of parameters in all networks.
        weights: bytes of weights, gradients, optimiser state and momentum model.
        activations: bytes that a step keeps for the backward pass; None: the image size is unknown.
        images: bytes of the training images held in memory; None: the image size is unknown.
    """

    parameters: int
    weights: int
    activations: int | None
    images: int | None

    @property
    def total(self) -> int:
        """Bytes of all known parts together."""
        return self.weights + (self.activations or 0) + (self.images or 0)

    def __str__(self) -> str:
        weights = f"{_in_words(self.weights)} for the weights, gradients and averages of {self.parameters:,} parameters"
        if self.activations is None or self.images is None:
            return f"{weights}; images and activations are unknown without preset.image_size"
        parts = f"{weights}, {_in_words(self.activations)} for a step, {_in_words(self.images)} for images"
        return f"roughly {_in_words(self.total)} beside PyTorch's own: {parts}"


def estimate(config: DictConfig) -> Memory:
    """The memory of a run, counted on PyTorch's device `meta`, where tensors take none.

    The estimate has not been compared with measured runs. It leaves out PyTorch's and CUDA's own memory (about half a
    GB), scratch space, the sample table, the test images, and a method's own state.

    Args:
        config: of the run.

    Raises:
        Exception: a network or optimiser of the user's own does not work on `meta`.
    """
    container = container_of(config)
    data, trainer = container["data"], container["trainer"]
    with torch.device("meta"):
        network: nn.Module = get_class(container["model"]["_target_"])(**_options(container["model"]))
    method: Any = get_class(container["method"]["_target_"])
    networks, parameters = len(method.network_names), list(network.parameters())
    weights = _bytes([*parameters, *network.buffers()])
    averages = weights * (container["momentum"]["enabled"] + container["best_epoch"]["enabled"])
    each = weights + averages + _bytes(parameters) + _bytes(_optimizer_state(container["optimizer"], parameters))
    streamed = class_variable(data["_target_"], "reads_while_training")
    size = data.get("image_size") or container["preset"].get("image_size")
    vectors = bool(class_variable(data["_target_"], "vectors"))
    activations = images = None
    if size is not None or vectors:
        batch = -(-data["batch_size"] // (trainer["devices"] * trainer["num_nodes"]))
        activations = _activations(network, (batch, data["channels"], *([] if vectors else [size, size])))
        activations *= method.batches_kept(container["method"])
        if trainer["precision"] == "bf16-mixed":
            activations //= 2
        number = data["train_size"] or data["num_train"]
        size_of_one = 4 if vectors else size**2
        images = 0 if streamed else number * data["channels"] * size_of_one
    return Memory(networks * sum(p.numel() for p in parameters), networks * each, activations, images)


def _options(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in ("_target_", "name", "reset_each_epoch")}


def _optimizer_state(node: Mapping[str, Any], parameters: list[nn.Parameter]) -> list[Tensor]:
    """The tensors that the optimiser keeps from its first step on."""
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    optimizer = get_class(node["_target_"])(parameters, **_options(node))
    optimizer.step()
    return [value for kept in optimizer.state.values() for value in kept.values() if isinstance(value, Tensor)]


def _activations(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes that a forward pass keeps for the backward pass."""
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor  # keeping it prevents the reuse of its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(torch.empty(shape, device="meta"))
    return _bytes(list(kept.values()))


def _bytes(tensors: list[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _in_words(size: float) -> str:
    unit, scale = next(
        (unit, scale) for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if size >= scale or scale == 1e3
    )
    return f"{size / scale:.1f} {unit}"
