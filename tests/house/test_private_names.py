"""Tests look at what a class promises: few of them reach into its private attributes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT

pytestmark = pytest.mark.slow  # to read all of the source takes more than a quarter of a second

MOST = 60

PRIVATE = re.compile(r"_[^_].*(?<!_)$")  # `_repr_html_` and `__len__` are protocols of others
OF_OTHERS = {"os._exit", "sys._getframe"}  # documented, in spite of their names


def reaches(tree: ast.Module) -> list[tuple[int, str]]:
    """Return each `other._name` of a test file, but for what the file itself defines."""
    own: set[str] = set()
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and PRIVATE.match(node.attr):
            if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}:
                own.add(node.attr)
            else:
                found.append((node.lineno, ast.unparse(node)))
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"import {alias.name}") for alias in node.names if PRIVATE.match(alias.name)]
    return [(line, text) for line, text in found if re.split(r"[. ]", text)[-1] not in own and text not in OF_OTHERS]


def all_reaches() -> list[str]:
    found: list[str] = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        lines = reaches(ast.parse(path.read_text(encoding="utf-8")))
        found += [f"{path.relative_to(ROOT)}:{line}: {text}" for line, text in lines if not is_module(text)]
    return found


def is_module(text: str) -> bool:
    """Return whether a private name is a module's: what is in it is the test's own business."""
    name = re.split(r"[. ]", text)[-1]
    return name in {path.stem for folder in ("sdk", "tornado_app") for path in Path(ROOT, folder).rglob("_*")}


def test_few_tests_reach_into_private_attributes() -> None:
    found = all_reaches()
    assert len(found) <= MOST, "\n".join(found)


def test_a_reach_is_what_another_object_keeps_to_itself() -> None:
    text = """
import os
from room import _private
class Mine:
    def __init__(self): self._own = 1
mine._own
other._secret._deeper
thing._repr_html_()
os._exit(1)
"""
    assert [name for _, name in reaches(ast.parse(text))] == [
        "import _private",
        "other._secret._deeper",
        "other._secret",
    ]
