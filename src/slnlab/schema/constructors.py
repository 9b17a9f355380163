"""The parameters of constructors, read from their source: the keys of a node with a `_target_`.

No module is imported, so neither is torch. `**options` are followed to the base class that takes them. A type or value
that only the running module could evaluate is unknown.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from slnlab.errors import ConfigError
from slnlab.schema.source_code import Module, definition, with_bases

REQUIRED, UNKNOWN = object(), object()
"""Stand in the place of a default: there is none, or only the running module could evaluate it."""


class Parameter(NamedTuple):
    """One parameter of a constructor: its type (`Any` if unknown), its default, and True if it may be positional."""

    kind: Any
    default: Any
    positional: bool = False


@dataclass(frozen=True, eq=False)
class Constructor:
    """The parameters of a constructor or function.

    `more` is true if its `**options` cannot be followed, `ignores` if it leaves them unused (`**_`).
    """

    parameters: dict[str, Parameter]
    more: bool
    ignores: bool = False


def constructor(target: str) -> Constructor | None:
    """The parameters of the class or function at a dotted path; None if it is not written in Python.

    Raises:
        ConfigError: there is no such module, or no such name in it.
    """
    try:
        module, node = definition(target)
    except LookupError:
        return None
    return _at(module, node)


@cache
def _at(module: Module, node: Any) -> Constructor | None:
    return _constructor(with_bases(module, node))


def class_variable(target: str, name: str, unless: Collection[str] = ()) -> Any:
    """The value of a class variable, a literal in the class or a base; None if there is none.

    Args:
        target: dotted path of the class.
        name: of the class variable.
        unless: methods. A class that defines one of them must state the variable itself: bases do not speak for it.

    Raises:
        ConfigError: see `constructor`; or the value is no literal.
    """
    try:
        for module, node in with_bases(*definition(target)):
            for line in node.body if isinstance(node, ast.ClassDef) else ():
                targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
                if isinstance(line, ast.Assign | ast.AnnAssign) and name in [getattr(t, "id", None) for t in targets]:
                    return module.value(line.value) if line.value else None
            if isinstance(node, ast.ClassDef) and any(getattr(line, "name", None) in unless for line in node.body):
                return None
    except LookupError:
        return None
    except Exception as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{target}.{name}: must be written as a literal ({error})") from error
    return None


@cache
def _methods(module: Module, node: Any, name: str) -> tuple[tuple[Module, ast.FunctionDef | None], ...]:
    """The definitions of a method in a class and its bases, depth first; None for an unreadable base."""
    found: list[tuple[Module, ast.FunctionDef | None]] = []
    for where, each in with_bases(module, node):
        lines = [None] if each is None else getattr(each, "body", ())
        found += [(where, line) for line in lines if line is None or getattr(line, "name", None) == name]
    return tuple(found)


def defined(target: str, name: str) -> bool:
    """True if a class or one of its bases has a method, or if that is unknown, as for what a function returns.

    Raises:
        ConfigError: see `constructor`.
    """
    try:
        module, node = definition(target)
    except LookupError:
        return True
    return not isinstance(node, ast.ClassDef) or bool(_methods(module, node, name))


def defined_in(target: str, name: str) -> str | None:
    """The module whose class defines a method that a class has; None if that is unknown, or no class defines it.

    Raises:
        ConfigError: see `constructor`.
    """
    try:
        found = _methods(*definition(target), name)
    except LookupError:
        return None
    return found[0][0].name if found and found[0][1] is not None else None


def derives(target: str, base: str) -> bool:
    """True if a class is another one or derives from it, or if that is unknown.

    Args:
        target: dotted path of the class.
        base: dotted path of the other one, in the module that defines it.

    Raises:
        ConfigError: see `constructor`.
    """
    try:
        return not {None, base}.isdisjoint(_lineage(*definition(target)))
    except LookupError:
        return True


@cache
def _lineage(module: Module, node: Any) -> frozenset[str | None]:
    """The dotted paths of a class and its bases; None for an unreadable base."""
    return frozenset(each and f"{where.name}.{each.name}" for where, each in with_bases(module, node))


def calls_super(target: str, name: str) -> bool:
    """False if a user's class overrides a method and does not call the overridden one.

    Raises:
        ConfigError: see `constructor`.
    """
    try:
        found = _methods(*definition(target), name)
    except LookupError:
        return True
    if not found or found[0][1] is None or found[0][0].name.partition(".")[0] == "slnlab":
        return True
    calls = [call.func for call in ast.walk(found[0][1]) if isinstance(call, ast.Call)]
    return any(isinstance(call, ast.Attribute) and call.attr == name for call in calls)


def _constructor(chain: Iterator[tuple[Module, Any]]) -> Constructor | None:
    """The parameters of a class or function. `chain` yields the class and its bases."""
    for module, node in chain:
        if isinstance(node, ast.FunctionDef):
            return _from_signature(module, node, skip=0)
        if not isinstance(node, ast.ClassDef):
            return None
        if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            fields = [
                line for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
            ]
            named = {line.target.id: line for line in fields if isinstance(line.target, ast.Name)}
            types = {name: _type(module, line.annotation) for name, line in named.items()}
            return Constructor(
                {k: Parameter(kind, _default(module, named[k].value)) for k, kind in types.items()}, False
            )
        for init in node.body:
            if isinstance(init, ast.FunctionDef) and init.name == "__init__":
                found = _from_signature(module, init, skip=1)
                below = _constructor(chain) if found.more else None
                return found if below is None else _handed_on(init, found, below)
    return Constructor({}, False)


def _handed_on(init: ast.FunctionDef, found: Constructor, below: Constructor) -> Constructor:
    """Add the parameters of the base that `**options` may hold: all that the call of its `__init__` leaves open."""
    calls = [call for call in ast.walk(init) if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)]
    for call in calls:
        if call.func.attr == "__init__" and any(keyword.arg is None for keyword in call.keywords):  # type: ignore[attr-defined]
            positional = [name for name, parameter in below.parameters.items() if parameter.positional]
            given = {keyword.arg for keyword in call.keywords} | {*positional[: len(call.args)]}
            open_ones = {name: each for name, each in below.parameters.items() if name not in given}
            return Constructor({**open_ones, **found.parameters}, below.more, below.ignores)
    return found


def _from_signature(module: Module, node: ast.FunctionDef, skip: int) -> Constructor:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args][skip:]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + [*arguments.defaults]
    either = [*zip(positional, defaults, strict=False), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    taken = {
        name.arg: Parameter(_type(module, name.annotation), _default(module, default), name in positional)
        for name, default in either
    }
    ignores = arguments.kwarg is not None and arguments.kwarg.arg.startswith("_")
    return Constructor(taken, arguments.kwarg is not None and not ignores, ignores)


def _type(module: Module, annotation: ast.expr | None) -> Any:
    try:
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        return Any if annotation is None else module.value(annotation)
    except Exception:  # types that only the module knows
        return Any


def _default(module: Module, default: ast.expr | None) -> Any:
    try:
        value = REQUIRED if default is None else module.value(default)
    except Exception:
        return UNKNOWN
    return list(value) if isinstance(value, tuple) else value
