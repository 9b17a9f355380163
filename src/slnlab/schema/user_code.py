"""The user's own code that a configuration names: its modules and all that they import, with digests.

A run's identity does not cover it, as a comment or an unrelated function would make all finished runs new ones. The
result records it instead, and messages name what has changed.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from slnlab.errors import ConfigError
from slnlab.schema.source_code import module_file

INSTALLED = ("site-packages", "dist-packages")

LIBRARIES = {
    *("slnlab", "torch", "torchvision", "torchmetrics", "pytorch_lightning", "lightning", "lightning_fabric", "hydra"),
    *("omegaconf", "numpy", "scipy", "pandas", "sklearn", "matplotlib", "PIL", "pydantic", "yaml", "timm", "wandb"),
    *("cleanlab", "optuna", "ray", "submitit", "rich", "tqdm"),
}
"""Packages that are no user's code, wherever they are installed: a reading of all of PyTorch would take minutes."""


def user_code(container: Mapping[str, Any]) -> dict[str, str]:
    """Module → 10 hex digits of its file's SHA-256, for the modules of each `_target_` and all that they import.

    slnlab, the standard library and installed packages are no user's code. Imports that only the running module knows
    are not followed, and code of `__main__` is unknown.

    Args:
        container: the resolved configuration.
    """
    found: dict[str, str] = {}
    left = {prefix for target in _targets(container) for prefix in _prefixes(target.rpartition(".")[0])}
    while left:
        name = left.pop()
        if name not in found and (file := _own_file(name)) is not None:
            found[name], imported = _read(name, file)
            left |= imported
    return dict(sorted(found.items()))


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield from (value for key, value in node.items() if key == "_target_" and isinstance(value, str))
    if isinstance(node, Mapping | list):
        for inner in node.values() if isinstance(node, Mapping) else node:
            yield from _targets(inner)


def _own_file(name: str) -> Path | None:
    """The file of a module of the user's; None for another module, or for what is no module."""
    top = name.partition(".")[0]
    if top in LIBRARIES or top in sys.stdlib_module_names:
        return None
    try:
        file = module_file(name)
    except (ConfigError, LookupError):
        return None
    return None if any(part in INSTALLED for part in file.parts) else file


@functools.cache
def _read(name: str, file: Path) -> tuple[str, frozenset[str]]:
    """The digest of a module, and the names that it imports, of modules or in them, with the packages around these.

    The first answer is kept for the life of the process, as later changes are not part of the running code.
    """
    code = file.read_bytes()
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    imported = {name}
    with suppress(SyntaxError, ImportError):  # a module that cannot be imported either
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                origin = resolve_name("." * node.level + (node.module or ""), package)
                imported |= {f"{origin}.{alias.name}" for alias in node.names}
    around = frozenset(prefix for each in imported for prefix in _prefixes(each))
    return hashlib.sha256(code).hexdigest()[:10], around


def _prefixes(dotted: str) -> Iterator[str]:
    """The packages around a module, the module, and perhaps a class in it: each beginning of a dotted path."""
    parts = dotted.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))
