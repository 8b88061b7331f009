"""The examples of docs/your-own-work.md work as they stand there: the module, its test, and both ways to run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.docs.test_readme import blocks
from tests.support.servers import ServerProcess

FILES = {block.file: block.text for block in blocks() if block.page == "your-own-work.md" and block.file}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_its_test_passes(folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_thumbnails.py"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert "1 passed" in run.stdout


def start(server: ServerProcess, **params: object) -> httpx.Response:
    body = {"id": "a", "work_type": "picture-report", "params": params}
    return httpx.post(f"{server.url}/v1/processes", json=body)


def until_ended(server: ServerProcess) -> dict[str, object]:
    process = {"state": "queued", "version": 0}
    while process["state"] in ("queued", "running"):
        query = {"wait": 10, "after": process["version"]}
        process = httpx.get(f"{server.url}/v1/processes/a", params=query, timeout=20).json()
    return process


@pytest.mark.slow
def test_its_module_runs_by_import(spawn_server: Callable[..., ServerProcess], folder: Path) -> None:
    server = spawn_server("--import", "thumbnails", PYTHONPATH=str(folder))
    refused = start(server, report="a.jpg")
    assert refused.status_code == 400
    assert refused.json()["detail"] == "picture-report: report must be the name of a .txt file, not 'a.jpg'"
    (server.files_dir / "a.jpg").write_bytes(b"abc")
    assert start(server).status_code == 201
    assert until_ended(server)["result"] == {"files": 1}
    assert (server.files_dir / "report.txt").read_text() == "a.jpg 3\n"


@pytest.mark.slow
def test_an_installed_package_offers_its_work_types(spawn_server: Callable[..., ServerProcess], folder: Path) -> None:
    block = next(block for block in blocks() if block.page == "your-own-work.md" and block.language == "toml")
    group, entry = block.text.strip().splitlines()
    assert group == '[project.entry-points."holdfast.work_types"]'
    installed = folder / "shop-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[holdfast.work_types]\n{entry.replace(chr(34), '')}\n")
    server = spawn_server(PYTHONPATH=str(folder))
    assert start(server, prefix="none").status_code == 201
    error = until_ended(server)["error"]
    assert error == {"type": "WorkError", "message": "there is no file that starts with 'none': upload some first"}
