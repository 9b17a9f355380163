"""Docstrings of what a `_target_` names, read from its source: nothing is imported, and so no torch."""

from __future__ import annotations

import ast
import re

from slnlab.errors import ConfigError
from slnlab.schema.source_code import definition, with_bases


def docstring(target: str) -> str:
    """The docstring of a class or function; empty if its source is not found."""
    return next(iter(_docstrings(target)), "")


def arguments(target: str) -> dict[str, str]:
    """What the docstrings of a class and its bases, or of a function, say of their arguments; its own count most."""
    found: dict[str, str] = {}
    for text in reversed(_docstrings(target)):
        said = text.partition("Args:\n")[2].split("\n\n")[0]
        entries = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", said, re.MULTILINE)
        found |= {name.strip(): " ".join(text.split()) for names, text in entries for name in names.split(",")}
    return found


def _docstrings(target: str) -> list[str]:
    """Of a class and its bases, or of a function."""
    try:
        nodes = [node for _, node in with_bases(*definition(target))]
    except (LookupError, ConfigError):
        return []
    return [ast.get_docstring(node) or "" for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
