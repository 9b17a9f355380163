"""The last stage and the classifier of a network, for methods that train a network part by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from slnlab.errors import ConfigError


class Parts(NamedTuple):
    """Names of the submodules of each part, in the order of the forward pass. The stem is the rest of the network."""

    last_stage: tuple[str, ...]
    classifier: tuple[str, ...]


def parts_of(network: nn.Module, last_stage: Sequence[str] | None, classifier: Sequence[str] | None) -> Parts:
    """Return the parts of a network.

    A network names them in its class attribute `parts`. The default for a network with the modules `layer4` and `fc`,
    such as torchvision's ResNets, is these two.

    Args:
        network: any network.
        last_stage, classifier: names of submodules ("layer4.1"); None: the network's own; empty: no such part.

    Raises:
        ConfigError: the parts are unknown, or a module does not exist; a part has no parameters, shares some with the
            other, or leaves none to the stem; or a layer of a part has no `reset_parameters`. The message names the
            key.
    """
    known = getattr(network, "parts", None)
    if not isinstance(known, Parts):
        children = dict(network.named_children())
        known = Parts(("layer4",), ("fc",)) if {"layer4", "fc"} <= children.keys() else None
    modules = dict(network.named_modules())
    kind, taken = type(network).__name__, set[int]()
    found: list[tuple[str, ...]] = []
    for key, given in (("last_stage", last_stage), ("classifier", classifier)):
        if given is None and known is None:
            raise ConfigError(
                f"method.{key}: {kind} does not name these modules; name them, as in "
                f"method.{key}=[{list(modules)[-1]}]. Its modules are {', '.join(name for name in modules if name)}"
            )
        names = tuple(given) if given is not None else getattr(known, key)
        for name in names:
            if not name or name not in modules:
                raise ConfigError(
                    f"method.{key}: {kind} has no module {name!r}; there are "
                    f"{', '.join(name for name in modules if name)}"
                )
            for inner, module in modules[name].named_modules(prefix=name):
                if next(module.parameters(recurse=False), None) is not None and not hasattr(module, "reset_parameters"):
                    raise ConfigError(f"method.{key}: {inner} ({type(module).__name__}) has no reset_parameters()")
        mine = {id(parameter) for name in names for parameter in modules[name].parameters()}
        if names and (not mine or mine & taken):
            what = "is a part of the last stage" if mine else "has no parameters"
            raise ConfigError(f"method.{key}: {list(names)} of {kind} {what}")
        taken |= mine
        found.append(names)
    if taken == {id(parameter) for parameter in network.parameters()}:
        raise ConfigError(f"method.last_stage: last stage and classifier are all of {kind}, and no stem is left")
    return Parts(*found)
