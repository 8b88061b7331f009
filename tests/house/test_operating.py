"""Files that docs/operating.md shows: the unit and the container file are those of the repository, and work."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_readme import blocks
from tests.support.servers import free_port, wait_until
from tornado_app import settings

ROOT = Path(__file__).parents[2]
CONTAINER = (ROOT / "ops/Containerfile").read_text(encoding="utf-8").replace("\\\n", "")


def test_the_page_shows_the_files_of_the_repository() -> None:
    shown = {block.file: block.text for block in blocks() if block.page == "operating.md" and block.file}
    assert {name: (ROOT / name).read_text(encoding="utf-8") for name in shown} == shown
    assert set(shown) == {"ops/holdfast.service", "ops/Containerfile"}


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.*)$", CONTAINER, re.M)


def test_the_unit_starts_a_server_with_settings_that_can_be(tmp_path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "ops/holdfast.service")
    program, serve, *flags = shlex.split(unit["Service"]["ExecStart"])
    assert (Path(program).name, serve) == ("holdfast", "serve")
    (tmp_path / "token").write_text("a token")
    (tmp_path / "token").chmod(0o600)
    name, _, value = unit["Service"]["Environment"].partition("=")
    found = settings.read(flags, {name: value.replace("%d", str(tmp_path))})
    assert found.auth_token == "a token"
    assert str(found.data_dir).startswith("/var/lib/" + unit["Service"]["StateDirectory"])
    assert unit["Service"]["User"] != "root"
    assert float(unit["Service"]["TimeoutStopSec"]) > found.shutdown_grace


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd's own check is not on this machine")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    text = (ROOT / "ops/holdfast.service").read_text(encoding="utf-8")
    (tmp_path / "holdfast.service").write_text(text.replace("/opt/holdfast/bin/holdfast", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "holdfast.service")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert [line for line in run.stderr.splitlines() if "holdfast.service" in line] == []


@pytest.mark.slow
def test_what_the_container_copies_is_enough_to_build_from(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for copy in instructions("COPY"):
        *paths, target = copy.split()
        if paths[0].startswith("--from"):
            continue
        for path in paths:
            there = source / target / (path if target == "./" else "")
            if (ROOT / path).is_dir():
                shutil.copytree(ROOT / path, there, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(ROOT / path, there)
    command = [sys.executable, "-c", "import setuptools.build_meta as b; print(b.build_wheel('.'))"]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    names = set(zipfile.ZipFile(next(source.glob("*.whl"))).namelist())
    assert {"holdfast/py.typed", "holdfast/__main__.py", "tornado_app/backup.py", "tornado_app/viewer/page.js"} <= names
    assert any(name.startswith("holdfast/web/") for name in names)


@pytest.fixture
def state() -> Iterator[Path]:
    """A folder that other users may reach."""
    with tempfile.TemporaryDirectory(prefix="holdfast-state-") as folder:
        yield Path(folder)


@pytest.mark.slow
def test_the_container_runs_as_another_user_and_its_health_check_says_so(state: Path) -> None:
    """Its variables and commands, in folders as its RUN makes them; as its user, where this one may become it."""
    number = int(instructions("USER")[0].split(":")[0])
    assert f"--uid {number} " in CONTAINER
    folders = re.findall(r"/var/lib/holdfast[\w/]*", CONTAINER.partition("install -d")[2].partition("\n")[0])
    for folder in folders:
        Path(folder.replace("/var/lib/holdfast", str(state))).mkdir(mode=0o700, exist_ok=True)
    port = free_port()
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOLDFAST_PORT": str(port)}
    for assignment in shlex.split(instructions("ENV")[0]):
        name, _, value = assignment.partition("=")
        if name != "PATH":
            environment[name] = value.replace("/var/lib/holdfast", str(state))
    become: list[str] = []
    if os.geteuid() == 0 and shutil.which("setpriv"):
        subprocess.run(["chown", "-R", f"{number}:{number}", state], check=True)
        become = ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups"]
        # The first program is still started with the powers of this user.
        line = f"exec {shlex.quote(sys.executable)} -c 'import tornado_app.app'"
        reads = subprocess.run([*become, "sh", "-c", line], capture_output=True, cwd="/")
        become = become if reads.returncode == 0 else []  # a clone, or a Python, where nobody else may read
    command = [*become, *ast.literal_eval(instructions("ENTRYPOINT")[0])]
    refused = subprocess.run(command, env=environment, cwd=state, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2, "0.0.0.0 without a token"
    server = subprocess.Popen(command, env=environment | {"HOLDFAST_TOKEN": "t"}, cwd=state, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert b"serving on http://0.0.0.0:" in server.stdout.readline()
        check = ast.literal_eval(CONTAINER.partition("HEALTHCHECK")[2].partition("CMD")[2].partition("\n")[0].strip())
        check = [word.replace(":8000", f":{port}") for word in check]
        wait_until(lambda: subprocess.run(check, env=environment, capture_output=True).returncode == 0)
        if become:
            assert {path.stat().st_uid for path in state.rglob("*")} == {number}
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert server.returncode == 0
