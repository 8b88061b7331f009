"""The import graph has no circles: not for types only, not inside functions, not by names put together at run time."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.source_tree import Module, circles, imported, is_dynamic_import, lazy_table, modules

pytestmark = pytest.mark.slow  # to read all of the source takes more than a quarter of a second

# The packages whose public names are imported when they are first used, each with the package that its table is of.
# What such a table names counts as an import.
LAZY = {"holdfast": "holdfast", "holdfast.widgets": "holdfast"}
# They import what a person names: work types, and a work type's module in a process of its own.
IMPORTS_FOR_PEOPLE = {"tornado_app.processes.registry", "tornado_app.processes.executors.child"}


def lazy_imports(module: Module) -> set[str]:
    """Return what the table of a lazy package names, as modules."""
    return {f"{LAZY[module.name]}.{home}" for home in lazy_table(module).values()} if module.name in LAZY else set()


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imported(module, known) | lazy_imports(module) for name, module in known.items()}


def test_there_are_no_circles() -> None:
    assert [sorted(circle) for circle in circles(graph())] == []


def test_no_import_is_hidden_behind_a_name_put_together_at_run_time() -> None:
    hidden: list[str] = []
    for name, module in modules().items():
        calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call) and is_dynamic_import(node)]
        composed = [call for call in calls if not isinstance(call.args[0], ast.Constant)]
        allowed = 1 if name in LAZY else len(composed) if name in IMPORTS_FOR_PEOPLE else 0
        hidden += [f"{module.place}:{call.lineno}: {ast.unparse(call)}" for call in composed[allowed:]]
    assert hidden == []


def test_the_lazy_tables_name_what_type_checkers_see() -> None:
    known = modules()
    for name in LAZY:
        table = lazy_imports(known[name])
        assert table
        assert table <= set(known)
        assert table <= imported(known[name], known)


def module_of(text: str, name: str = "house.room.module") -> Module:
    return Module(name, Path("module.py"), text, ast.parse(text))


def test_an_import_counts_wherever_it_stands() -> None:
    known = {"house.a", "house.b", "house.c", "house.d", "house.room.e", "house.f"}
    text = """
import house.a
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from house.b import thing
def function():
    from house import c
    import importlib; importlib.import_module("house.d")
class Local:
    from . import e
    from ..f import thing
"""
    assert imported(module_of(text), known) == known


def test_a_circle_is_found_and_a_chain_is_none() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
