"""The keys of a configuration, read from the source of the constructor that takes them.

The constructor of what a `_target_` names is found without importing anything: not its module, and so not torch. Names
are followed through imports and base classes, `**options` to the constructor that they are handed on to. A type or a
default that only the module itself could evaluate is unknown; types of a module named `kinds` are imported.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import importlib
import importlib.util
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from slnlab.errors import ConfigError

REQUIRED, UNKNOWN = object(), object()
"""In the place of a default: there is none, or only the module itself could evaluate it."""

_NAMES = {name: getattr(builtins, name) for name in ("bool", "int", "float", "str", "dict", "list")}
_MODULES = {"typing": typing, "collections.abc": collections.abc, "math": math}
_TYPES = ("Annotated", "Any", "Literal", "Mapping", "Optional", "Sequence", "Union")


class Parameter(NamedTuple):
    """One parameter of a constructor: its type (`Any` where it is unknown), and its default."""

    kind: Any
    default: Any
    positional: bool = False


@dataclass(frozen=True, eq=False)
class Constructor:
    """What a constructor or a function takes: `more` is true if its `**options` go where they cannot be followed."""

    parameters: dict[str, Parameter]
    more: bool


class _Module:
    """The source of a module: what its names are defined as, or the dotted path that they are imported from."""

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
        """What an expression of literals, types and named constants is; anything else raises."""
        if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
            return expression.value
        return eval(compile(ast.Expression(expression), str(self.path), "eval"), {"__builtins__": {}}, _Names(self))

    def type_of(self, annotation: ast.expr | None) -> Any:
        try:
            if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
                annotation = ast.parse(annotation.value, mode="eval").body
            return Any if annotation is None else self.value(annotation)
        except Exception:  # of whatever kind the module's own types are
            return Any

    def default_of(self, default: ast.expr | None) -> Any:
        try:
            value = REQUIRED if default is None else self.value(default)
        except Exception:
            return UNKNOWN
        return list(value) if isinstance(value, tuple) else value


class _Names(dict[str, Any]):
    """The names of a module, evaluated when they are asked for."""

    def __init__(self, module: _Module) -> None:
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
                raise NameError(found)  # of a library: its types are none that a configuration holds
            module, node = definition(found)
            return module.value(node)
        return self.module.value(found) if isinstance(found, ast.expr) else _NAMES[name]


def constructor(target: str) -> Constructor | None:
    """What the class or function at a dotted path takes; None if it is not written in Python.

    Raises:
        ConfigError: there is no such module, or nothing of that name in it.
    """
    try:
        module, node = definition(target)
    except LookupError:
        return None
    return _at(module, node)


@cache
def _at(module: _Module, node: Any) -> Constructor | None:
    return _constructor(with_bases(module, node))


def class_variable(target: str, name: str) -> Any:
    """The value of a class variable, written as a literal in the class or a base; None if there is none.

    Raises:
        ConfigError: see `constructor`.
    """
    try:
        for module, node in with_bases(*definition(target)):
            for line in node.body if isinstance(node, ast.ClassDef) else ():
                targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
                if isinstance(line, ast.Assign | ast.AnnAssign) and name in [getattr(t, "id", None) for t in targets]:
                    return module.value(line.value) if line.value else None
    except LookupError:
        pass
    return None


def definition(dotted: str, seen: frozenset[str] = frozenset()) -> tuple[_Module, Any]:
    """Where a dotted path is defined. LookupError: in something that is not written in Python."""
    origin, _, name = dotted.rpartition(".")
    module = _module(origin, dotted)
    found = module.names.get(name)
    if isinstance(found, str):
        return definition(found, seen)
    if found is not None:
        return module, found
    for star in {*module.stars} - seen:
        try:
            return definition(f"{star}.{name}", seen | {star})
        except ConfigError:
            continue
    if "__getattr__" in module.names:
        raise LookupError
    raise ConfigError(f"{dotted} cannot be found: {module.path} has no {name}")


def _module(name: str, wanted: str) -> _Module:
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top) if top else None
    except ValueError:  # a module without a specification, such as __main__
        raise LookupError from None
    if spec is None:
        raise ConfigError(f"{wanted} cannot be found: there is no module {top!r}; is it on PYTHONPATH?")
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    found = Path(spec.origin) if spec.origin and spec.has_location else None
    for part in rest:
        paths = [path for place in places for path in (place / part / "__init__.py", place / f"{part}.py")]
        found = next((path for path in paths if path.exists()), None)
        places = [place / part for place in places if (place / part).is_dir()]
        if found is None and not places:
            if any(place.glob(f"{part}.*") for place in places):
                raise LookupError
            raise ConfigError(f"{wanted} cannot be found: there is no module {name!r}")
    if found is None or found.suffix != ".py":
        raise LookupError
    return _parsed(name, found, found.stat().st_mtime_ns)


@cache
def _parsed(name: str, path: Path, _changed: int) -> _Module:
    return _Module(name, path)


def with_bases(module: _Module, node: Any) -> Iterator[tuple[_Module, Any]]:
    """A class and its bases, depth first; None in the place of a base that cannot be read. A function is alone."""
    yield module, node
    for base in getattr(node, "bases", ()):
        head, dot, rest = ast.unparse(base.value if isinstance(base, ast.Subscript) else base).partition(".")
        found = module.names.get(head)
        try:
            at = definition(found + dot + rest) if isinstance(found, str) else (module, found)
        except (LookupError, ConfigError):
            at = (module, None)
        yield from with_bases(at[0], at[1] if isinstance(at[1], ast.ClassDef) else None)


def _constructor(chain: Iterator[tuple[_Module, Any]]) -> Constructor | None:
    """That of a class, from itself and its bases; or a function."""
    for module, node in chain:
        if isinstance(node, ast.FunctionDef):
            return _of_function(module, node, skip=0)
        if not isinstance(node, ast.ClassDef):
            return None
        if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            fields = [
                line for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
            ]
            named = {line.target.id: line for line in fields if isinstance(line.target, ast.Name)}
            types = {name: module.type_of(line.annotation) for name, line in named.items()}
            return Constructor(
                {k: Parameter(kind, module.default_of(named[k].value)) for k, kind in types.items()}, False
            )
        for init in node.body:
            if isinstance(init, ast.FunctionDef) and init.name == "__init__":
                found = _of_function(module, init, skip=1)
                below = _constructor(chain) if found.more else None
                return found if below is None else _handed_on(init, found, below)
    return Constructor({}, False)


def _handed_on(init: ast.FunctionDef, found: Constructor, below: Constructor) -> Constructor:
    """With the parameters of the base that `**options` may hold: those that the call of its `__init__` leaves open."""
    calls = [call for call in ast.walk(init) if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)]
    for call in calls:
        if call.func.attr == "__init__" and any(keyword.arg is None for keyword in call.keywords):  # type: ignore[attr-defined]
            positional = [name for name, parameter in below.parameters.items() if parameter.positional]
            given = {keyword.arg for keyword in call.keywords} | {*positional[: len(call.args)]}
            open_ones = {name: each for name, each in below.parameters.items() if name not in given}
            return Constructor({**open_ones, **found.parameters}, below.more)
    return found


def _of_function(module: _Module, node: ast.FunctionDef, skip: int) -> Constructor:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args][skip:]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + [*arguments.defaults]
    either = [*zip(positional, defaults, strict=False), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    taken = {
        name.arg: Parameter(module.type_of(name.annotation), module.default_of(default), name in positional)
        for name, default in either
    }
    return Constructor(taken, arguments.kwarg is not None and not arguments.kwarg.arg.startswith("_"))
