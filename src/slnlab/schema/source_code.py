"""Modules read from their source, without importing them: the definitions of dotted paths, the values of literals.

Names are followed through imports. Types from a module named `kinds` are imported; other types of this program are
evaluated from the source; types of libraries are unknown.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import importlib
import importlib.util
import math
import sys
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from slnlab.errors import ConfigError

_NAMES = {name: getattr(builtins, name) for name in ("bool", "int", "float", "str", "dict", "list")}
_MODULES = {"typing": typing, "collections.abc": collections.abc, "math": math}
_TYPES = ("Annotated", "Any", "Literal", "Mapping", "Optional", "Sequence", "Union")


class Module:
    """A module's source: each name with its definition, or with the dotted path of its import."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self.names: dict[str, Any] = {}
        self.stars: list[str] = []
        try:
            self._take(ast.parse(path.read_bytes()).body)
        except SyntaxError as error:
            raise ConfigError(f"{path}, line {error.lineno}: {error.msg}") from error

    def _take(self, body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                self.names[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        self.names[target.id] = node.value
            elif isinstance(node, ast.Import):
                self.names |= {
                    a.asname or top: a.name if a.asname else top for a in node.names for top in [a.name.split(".")[0]]
                }
            elif isinstance(node, ast.ImportFrom):
                above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1] if node.level else []
                origin = ".".join([*above, *filter(None, [node.module])])
                self.names |= {a.asname or a.name: f"{origin}.{a.name}" for a in node.names if a.name != "*"}
                self.stars += [origin for a in node.names if a.name == "*"]
            elif isinstance(node, ast.If | ast.Try):
                self._take(node.body + node.orelse)

    def value(self, expression: ast.expr) -> Any:
        """The value of an expression of literals, types and named constants. Other expressions raise any error."""
        if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
            return expression.value
        return eval(compile(ast.Expression(expression), str(self.path), "eval"), {"__builtins__": {}}, _Names(self))


class _Names(dict[str, Any]):
    """The names of a module, evaluated on demand."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def __missing__(self, name: str) -> Any:
        found = self.module.names.get(name, _NAMES.get(name))
        if isinstance(found, str):
            origin, _, leaf = found.rpartition(".")
            if origin in _MODULES and (origin == "math" or leaf in _TYPES):
                return getattr(_MODULES[origin], leaf)
            if origin.rpartition(".")[2] == "kinds":
                return getattr(importlib.import_module(origin), leaf)
            if found.split(".")[0] not in {self.module.name.split(".")[0], "slnlab"} - {"torch"}:
                raise NameError(found)  # no type of a library is the type of a key
            module, node = definition(found)
            return module.value(node)
        return self.module.value(found) if isinstance(found, ast.expr) else _NAMES[name]


def definition(dotted: str, seen: frozenset[str] = frozenset()) -> tuple[Module, Any]:
    """The definition of a dotted path: its module, and its statement or assigned value.

    Raises:
        ConfigError: there is no such module, or no such name in it.
        LookupError: it is not written in Python, or is a member of a class.
    """
    origin, _, name = dotted.rpartition(".")
    module = _module(origin, dotted)
    found = module.names.get(name)
    if isinstance(found, str) and found not in seen:
        return definition(found, seen | {dotted})
    if found is not None:
        return module, found
    for star in (star for star in module.stars if f"{star}.{name}" not in seen):
        try:
            return definition(f"{star}.{name}", seen | {dotted})
        except ConfigError:
            continue
    if "__getattr__" in module.names:
        raise LookupError(dotted)
    raise ConfigError(f"{dotted} cannot be found: {module.path} has no {name}")


_found: dict[tuple[str, ...], Path] = {}
"""Module and search path → its file. A sweep asks for the same few modules for each of its runs."""


def _module(name: str, wanted: str) -> Module:
    found = module_file(name, wanted)
    return _parsed(name, found, found.stat().st_mtime_ns)


def module_file(name: str, wanted: str = "") -> Path:
    """The file of a module, which is not imported.

    Args:
        name: dotted path of the module.
        wanted: what the message says cannot be found; by default the module.

    Raises:
        ConfigError: there is no such module.
        LookupError: it is not written in Python.
    """
    place = (name, *sys.path)
    if place not in _found or not _found[place].is_file():
        _found[place] = _file_of(name, wanted or name)
    return _found[place]


def _file_of(name: str, wanted: str) -> Path:
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top) if top else None
    except ValueError as error:  # a module without a spec, such as __main__
        raise LookupError(name) from error
    if spec is None:
        raise ConfigError(f"{wanted} cannot be found: there is no module {top!r}; is it on PYTHONPATH?")
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    found = Path(spec.origin) if spec.origin and spec.has_location else None
    for number, part in enumerate(rest, start=1):
        python = [path for place in places for path in (place / part / "__init__.py", place / f"{part}.py")]
        above, found = found, next((path for path in python if path.is_file()), None)
        if found is None:  # a search of the folders, which costs more than all else here
            compiled = [path for place in places for path in place.glob(f"{part}.*") if path.suffix in (".so", ".pyd")]
            found = next((path for path in compiled if path.is_file()), None)
        places = [place / part for place in places if (place / part).is_dir()]
        if found is None and not places:
            outer = _parsed(name, above, 0).names.get(part) if above and above.suffix == ".py" else None
            if isinstance(outer, ast.ClassDef | str) and number == len(rest):
                raise LookupError(name)
            raise ConfigError(f"{wanted} cannot be found: there is no module {name!r}")
    if found is None or found.suffix != ".py":
        raise LookupError(name)
    return found


@cache
def _parsed(name: str, path: Path, _changed: int) -> Module:
    return Module(name, path)


def with_bases(module: Module, node: Any) -> Iterator[tuple[Module, Any]]:
    """A class and its bases, depth first, with None for an unreadable base; or a function alone."""
    yield module, node
    for base in getattr(node, "bases", ()):
        head, dot, rest = ast.unparse(base.value if isinstance(base, ast.Subscript) else base).partition(".")
        found = module.names.get(head)
        try:
            at = definition(found + dot + rest) if isinstance(found, str) else (module, found)
        except (LookupError, ConfigError):
            at = (module, None)
        yield from with_bases(at[0], at[1] if isinstance(at[1], ast.ClassDef) else None)
