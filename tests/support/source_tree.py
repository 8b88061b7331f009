"""The source as the house tests read it: modules, their syntax trees and their imports. Nothing is imported."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"tornado_app": "tornado_app", "holdfast": "sdk/holdfast", "holdfast_examples": "examples/holdfast_examples"}


@dataclass(frozen=True)
class Module:
    """One module of the packages: its dotted name and its file."""

    name: str
    path: Path
    text: str = field(repr=False, compare=False)
    tree: ast.Module = field(repr=False, compare=False)

    @property
    def is_package(self) -> bool:
        """Return whether this is the `__init__` of a package."""
        return self.path.name == "__init__.py"

    @property
    def package(self) -> str:
        """Return the package that relative imports start from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @property
    def place(self) -> str:
        """Return the path of the file as the repository names it."""
        return self.path.relative_to(ROOT).as_posix()


def read_module(name: str, path: Path) -> Module:
    """Parse one file."""
    text = path.read_text(encoding="utf-8")
    return Module(name, path, text, ast.parse(text))


@functools.cache
def modules() -> dict[str, Module]:
    """Return every module of the three packages by its name."""
    found: dict[str, Module] = {}
    for package, folder in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = read_module(name, path)
    return found


def definitions(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Iterate over all classes and functions of a module, nested ones too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imported(module: Module, known: Iterable[str]) -> set[str]:
    """Return the modules among `known` that a module names: at its top, in functions, and for types only.

    `from a import b` names `a.b` when that is a module, and else `a`. That importing a module runs its packages first
    is no edge: a package would depend on all that is in it, and all that is in it on the package.
    """
    known = frozenset(known)
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.package.split(".")
                base = ".".join(parents[: len(parents) - node.level + 1] + ([base] if base else []))
            found |= {name if (name := f"{base}.{alias.name}") in known else base for alias in node.names}
        elif isinstance(node, ast.Call) and is_dynamic_import(node):
            found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return (found & known) - {module.name}


def is_dynamic_import(call: ast.Call) -> bool:
    """Return whether a call imports a module by a name that it is given."""
    return ast.unparse(call.func).rpartition(".")[2] in {"import_module", "__import__", "run_module"}


def lazy_table(module: Module) -> dict[str, str]:
    """Return the `_HOME` of a package that imports its public names when they are first used: name to module."""
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
            table: dict[str, str] = ast.literal_eval(node.value)
            return table
    return {}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the strongly connected parts of more than one module (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            part = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(part) > 1:
                found.append(part)

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return found
