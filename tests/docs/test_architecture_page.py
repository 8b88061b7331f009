"""docs/architecture.md: the functions that its walks name are there, and are called in this order."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`((?:sdk/holdfast/|\w+/)?[\w/]+\.py)` `([\w.]+)`")


def path_of(text: str) -> Path:
    return ROOT / text if text.startswith("sdk/") else ROOT / "tornado_app" / text


def functions_of(path: Path) -> set[str]:
    """Qualified names of the functions of a module, methods that its classes inherit from each other included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            functions = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            names |= {f"{node.name}.{function.name}" for function in functions}
    return names


def walk_of(title: str) -> list[tuple[str, str]]:
    """Return the file and the function of each step of a walk on the page."""
    (text,) = re.findall(rf"## {title}\n(.*?)\n## ", PAGE, re.DOTALL)
    return [found.groups() for line in text.splitlines() if re.match(r"\d+\. ", line) and (found := NAMED.search(line))]


@pytest.mark.parametrize(("file", "function"), sorted(set(NAMED.findall(PAGE))))
def test_every_function_that_the_page_names_is_there(file: str, function: str) -> None:
    assert function in functions_of(path_of(file))


def test_the_rooms_and_files_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"`((?:files|processes|handlers|work_types|server|protocols|tests|docs)/[\w./]*)`", PAGE))
    assert len(named) > 10
    rooms = [ROOT, ROOT / "tornado_app"]
    assert [name for name in named if not any((room / name).exists() for room in rooms)] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "walk"),
    [
        ("Walk 1: .*?", "walks.piece_of_an_upload(twice=True)"),
        ("Walk 2: .*?", "walks.process_with_a_pause()"),
    ],
)
def test_the_functions_of_a_walk_are_called_in_the_order_of_the_page(title: str, walk: str) -> None:
    code = f"""
import json
from tests.support.walks import walk
print(json.dumps([(step.file, step.function) for step in walk(lambda walks: {walk})]))
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    called = iter([tuple(step) for step in json.loads(run.stdout)])
    for file, function in walk_of(title):
        wanted = (path_of(file).relative_to(ROOT).as_posix(), function)
        assert wanted in called, f"{wanted} was not called after what the page names before it"
