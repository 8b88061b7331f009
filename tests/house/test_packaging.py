"""Builds and installations: one version, whole archives, versions that are locked, types that resolve."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import holdfast

ROOT = Path(__file__).parents[2]
VERSIONS = (ROOT / ".ci/versions.txt").read_text(encoding="utf-8").splitlines()


def test_the_version_stands_in_one_place() -> None:
    assert holdfast.__version__ == metadata.version("holdfast")
    literal = re.compile(rf"['\"]{re.escape(holdfast.__version__)}['\"]")
    texts = [ROOT / "setup.py", ROOT / "pyproject.toml", *ROOT.glob("sdk/**/*.py"), *ROOT.glob("tornado_app/**/*.py")]
    found = [str(path.relative_to(ROOT)) for path in texts if literal.search(path.read_text(encoding="utf-8"))]
    assert found == ["sdk/holdfast/__init__.py"]


@pytest.mark.slow
def test_the_command_says_the_version() -> None:
    run = subprocess.run([sys.executable, "-m", "holdfast", "--version"], capture_output=True, text=True)
    assert run.stdout == f"holdfast, version {holdfast.__version__}\n"


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_the_repository_has(tmp_path: Path) -> None:
    names = [*subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")]
    source = tmp_path / "source"
    for name in filter(None, names):
        if name.startswith(("sdk/", "tornado_app/", "examples/", ".ci/")) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source)]
    run = subprocess.run(build, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    look = [sys.executable, str(ROOT / ".ci/dist.py"), str(tmp_path / "dist"), "--look"]
    run = subprocess.run(look, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_each_version_is_pinned_and_no_place_is_named() -> None:
    for line in VERSIONS[1:]:
        assert re.fullmatch(r"[a-z0-9._-]+==[\w.]+( ; [^;@]+)?", line), line
    assert "://" not in "\n".join(VERSIONS)


def test_what_is_installed_is_what_the_lock_says() -> None:
    """In an environment that `.ci/environment` has made; where somebody else made this one there is nothing to say."""
    if not Path(sys.prefix, ".has-dev").exists() or "-newest" in sys.prefix:
        pytest.skip("this environment was not made by make")
    locked: dict[str, set[str]] = {}
    for line in VERSIONS[1:]:
        name, _, version = line.partition(" ")[0].partition("==")
        locked.setdefault(name, set()).add(version)
    for needed in ("pytest", "tornado", "msgspec", "httpx", "sqlalchemy"):
        assert metadata.version(needed) in locked[needed], f"{needed}: run make test again, or make lock"


PROGRAM = """import holdfast

client: int = holdfast.Client("http://127.0.0.1:8000")
"""


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_types_resolve_in_an_editable_installation(checker: str, tmp_path: Path) -> None:
    """From outside the clone, whose own settings would show the way."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "pyrightconfig.json").write_text("{}")
    flags = {
        "mypy": ["--config-file=", "--cache-dir", str(tmp_path / "cache"), "--python-executable", sys.executable],
        "basedpyright": ["--pythonpath", sys.executable, "--level", "error"],
    }[checker]
    program = Path(sys.executable).with_name(checker)
    run = subprocess.run([program, *flags, "program.py"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "program.py:3" in run.stdout
    assert '"Client"' in run.stdout
