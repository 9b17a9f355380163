"""Which room of `src/slnlab` imports which: `python tests/import_graph.py [src]`.

A room is a folder of the package, or a file at its top. Imports within functions count, those for types alone do not.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

SRC = Path(__file__).resolve().parents[1] / "src"


class Import(NamedTuple):
    """One module imports another.

    Args:
        importer, imported: dotted names below the package, such as `training.assemble`.
        lazy: within a function.
    """

    importer: str
    imported: str
    lazy: bool


def modules(src: Path = SRC) -> dict[str, Path]:
    """Dotted name below the package → file; the package itself is the empty name."""
    package = src / "slnlab"
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(src: Path = SRC) -> Iterator[Import]:
    """All imports of slnlab by slnlab."""
    known = modules(src)
    for importer, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for_types = {id(inner) for node in ast.walk(tree) if _is_type_checking(node) for inner in ast.walk(node)}
        at_top = {id(node) for node in tree.body}
        for node in ast.walk(tree):
            if id(node) not in for_types:
                for name in _named(node, known):
                    yield Import(importer, name, lazy=id(node) not in at_top)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _named(node: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "slnlab":
        module = str(node.module).partition(".")[2]
        for alias in node.names:
            inner = f"{module}.{alias.name}".lstrip(".")
            yield inner if inner in known else module
    elif isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.split(".")[0] == "slnlab")


def room(module: str) -> str:
    return module.partition(".")[0]


def arrows(src: Path = SRC) -> dict[tuple[str, str], list[Import]]:
    """(room, room that it imports) → the imports."""
    found: dict[tuple[str, str], list[Import]] = {}
    for each in imports(src):
        ends = (room(each.importer), room(each.imported))
        if ends[0] != ends[1] and all(ends):
            found.setdefault(ends, []).append(each)
    return found


def circle(edges: Iterator[tuple[str, str]] | set[tuple[str, str]]) -> list[str]:
    """A circle among the edges; empty if there is none."""
    graph: dict[str, set[str]] = {}
    for one, other in edges:
        graph.setdefault(one, set()).add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> None:
    src = Path(sys.argv[1]) if sys.argv[1:] else SRC
    files, found = modules(src), arrows(src)
    rooms: dict[str, list[int]] = {}
    for module, path in files.items():
        rooms.setdefault(room(module), []).append(len(path.read_text(encoding="utf-8").splitlines()))
    for name, lines in sorted(rooms.items()):
        into = ", ".join(sorted(other for one, other in found if one == name))
        print(f"{name or '(package)':14s} {len(lines):3d} files {sum(lines):5d} lines  imports {into or 'nothing'}")
    loose = sum("." not in module for module in files if module and files[module].name != "__init__.py")
    lazy = [each for group in found.values() for each in group if each.lazy]
    print(f"{len(rooms) - 1} rooms, {loose} of them loose files; {len(found)} arrows; {len(lazy)} imports in functions")
    print("circle of rooms:", " → ".join(circle(set(found))) or "none")
    among = {(each.importer, each.imported) for each in imports(src) if not each.lazy}
    print("circle of modules:", " → ".join(circle({edge for edge in among if edge[0] != edge[1]})) or "none")


if __name__ == "__main__":
    main()
