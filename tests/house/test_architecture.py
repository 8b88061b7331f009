"""The arrows of the architecture, held by import-linter (pyproject.toml), and what the linter can't say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_import_contract_is_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def imports(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_one_package_of_the_sdk_imports_httpx() -> None:
    sdk = ROOT / "sdk/holdfast"
    importers = {str(path.relative_to(sdk)) for path in sdk.rglob("*.py") if "httpx" in imports(path)}
    # work names its type for authors and never imports it at run time
    assert {name for name in importers if not name.startswith("_http/")} <= {"work/__init__.py", "work/_workshop.py"}


def test_protocols_do_no_io_and_know_no_tornado() -> None:
    doing_io = {"tornado", "asyncio", "socket", "os", "pathlib", "io", "sqlalchemy", "httpx", "threading", "time"}
    for path in (ROOT / "tornado_app/protocols").rglob("*.py"):
        assert not imports(path) & doing_io, path.name


@pytest.mark.slow
def test_upload_protocols_know_no_tornado() -> None:
    """Nor does anything that they use: they are values in and values out."""
    code = "import sys, tornado_app.handlers.uploads.choice; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "msgspec" in loaded
    assert "tornado" not in loaded


@pytest.mark.slow
def test_a_server_that_starts_loads_no_http_client() -> None:
    """It would take a third of a second more, and only some work needs one."""
    code = (
        "import sys, tornado_app.__main__, tornado_app.work_types.fetch; print(*{m.split('.')[0] for m in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"httpx", "httpcore", "click", "rich", "IPython"}


def test_the_sdk_alone_needs_only_httpx_and_msgspec() -> None:
    """`import holdfast` without the extras: no Tornado, no SQLAlchemy, no ipywidgets, no click, no rich."""
    code = "import sys, holdfast, holdfast.wire, holdfast.work; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    extras = {"tornado", "tornado_app", "sqlalchemy", "ipywidgets", "anywidget", "IPython", "click", "rich"}
    assert not set(loaded) & extras
