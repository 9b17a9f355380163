"""Docstrings of what a `_target_` names, read from its source: nothing is imported, and so no torch."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]

Definition = ast.ClassDef | ast.FunctionDef


@cache
def definitions(folder: Path) -> dict[str, Definition]:
    """Classes and functions of a module's file, or of a package's files, by name."""
    files = [folder.with_suffix(".py")] if folder.with_suffix(".py").exists() else sorted(folder.glob("*.py"))
    nodes = (node for path in files for node in ast.parse(path.read_bytes()).body)
    return {node.name: node for node in nodes if isinstance(node, Definition)}


def _definition(target: str) -> Definition | None:
    *module, name = target.split(".")
    folders = [Path(path or ".").joinpath(*module) for path in (str(SOURCE.parent), *sys.path)] if module else []
    ours = [SOURCE / "methods", SOURCE / "losses"]  # of a base class only its name is known
    return next((found for folder in (*folders, *ours) if (found := definitions(folder).get(name))), None)


def docstring(target: str) -> str:
    """The docstring of a class or function; empty if its source is not found."""
    node = _definition(target)
    return (ast.get_docstring(node) or "") if node else ""


def arguments(target: str) -> dict[str, str]:
    """What the docstrings of a class and its bases, or of a function, say of its arguments."""
    node = _definition(target)
    return {} if node is None else dict(_arguments(node))


def _arguments(node: Definition) -> Iterator[tuple[str, str]]:
    for base in getattr(node, "bases", []):
        if isinstance(base, ast.Name):
            yield from arguments(base.id).items()
    said = (ast.get_docstring(node) or "").partition("Args:\n")[2].split("\n\n")[0]
    for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", said, re.MULTILINE):
        yield from ((name.strip(), " ".join(text.split())) for name in names.split(","))
