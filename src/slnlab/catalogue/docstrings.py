"""Docstrings of `_target_` classes and functions, read from their source without importing torch."""

from __future__ import annotations

import ast
import re

from slnlab.errors import ConfigError
from slnlab.schema.source_code import definition, with_bases


def docstring(target: str) -> str:
    """Return the docstring of a class or function; empty if its source is not found."""
    return next(iter(_docstrings(target)), "")


def arguments(target: str) -> dict[str, str]:
    """Return the `Args` of a function, or of a class and its bases, by name. A class overrides its bases."""
    found: dict[str, str] = {}
    for text in reversed(_docstrings(target)):
        section = text.partition("Args:\n")[2].split("\n\n")[0]
        entries = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
        found |= {name.strip(): " ".join(text.split()) for names, text in entries for name in names.split(",")}
    return found


def _docstrings(target: str) -> list[str]:
    """Return the docstrings of a function, or of a class and its bases."""
    try:
        nodes = [node for _, node in with_bases(*definition(target))]
    except (LookupError, ConfigError):
        return []
    return [ast.get_docstring(node) or "" for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
