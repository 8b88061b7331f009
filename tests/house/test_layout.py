"""Places of files: small folders that say what they are for, and tests where the source is."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.support.source_tree import PACKAGES, ROOT, Module, modules

pytestmark = pytest.mark.slow  # to read all of the source takes more than a quarter of a second

MOST_FILES = 12
TESTED_BY_NAME = 150  # lines from which a module has a test file of its own


def folder_sizes() -> Counter[str]:
    return Counter(module.path.parent.relative_to(ROOT).as_posix() for module in modules().values())


def test_a_folder_holds_a_dozen_files_at_most() -> None:
    assert {folder: count for folder, count in folder_sizes().items() if count > MOST_FILES} == {}


def test_a_package_says_what_it_is_for() -> None:
    assert [
        module.place for module in modules().values() if module.is_package and not ast.get_docstring(module.tree)
    ] == []


def test_every_folder_of_source_is_a_package() -> None:
    folders = {module.path.parent for module in modules().values()}
    assert [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()] == []


def namesake(module: Module) -> str:
    """Return the test file of a module: `files/names.py` has `tests/tornado_app/files/test_names.py`.

    An underscore in front is left away, and a package's `__init__` is tested by the name of the package.
    """
    folder = module.path.parent.relative_to(ROOT)
    name = folder.name if module.is_package else module.path.stem
    return f"tests/{folder.as_posix()}/test_{name.strip('_')}.py"


def without_namesake() -> set[str]:
    large = [module for module in modules().values() if module.text.count("\n") >= TESTED_BY_NAME]
    return {namesake(module) for module in large if "def test_" not in read(namesake(module))}


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).exists() else ""


def test_every_module_of_some_length_has_its_namesake_test() -> None:
    assert sorted(without_namesake()) == []


def test_the_tree_of_tests_mirrors_the_source() -> None:
    for folder in PACKAGES.values():
        folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests" / folder).rglob("test_*.py")}
        assert sorted(str(path) for path in folders if not (ROOT / path).is_dir()) == []


def test_helpers_of_tests_are_in_one_place() -> None:
    """A test folder holds tests and fixtures; what they share lies in `tests/support/`."""
    others = [path for path in (ROOT / "tests").rglob("*.py") if not path.name.startswith(("test_", "conftest"))]
    # Programs that other people's tools run: clients, schemathesis, pyright.
    allowed = (
        "tests/support/",
        "tests/integration/",
        "tests/tornado_app/handlers/openapi/contract/",
        "tests/sdk/holdfast/typed_sample.py",
    )
    assert [p for path in others if not (p := path.relative_to(ROOT).as_posix()).startswith(allowed)] == []
