"""A notebook that was run by a program and saved: what a reader sees without kernel, network and front end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser.conftest import new_page
from tests.support.servers import PATIENCE

CELLS = {
    "connect": "import holdfast\nclient = holdfast.connect()\n"
    "client.files.write('a folder/<b>.csv', b'a,b\\n1,2\\n3\\n')",
    "card": "process = client.processes.start('manifest', id='the-list').wait()\nprocess",
    "failed": "client.processes.start('import-csv', id='wrong', file_name='a folder/<b>.csv', table='t').wait()",
    "dashboard": "client.dashboard()",
    "client": "client",
    "transfer": "upload = client.files.upload(__import__('io').BytesIO(b'123'), 'three.bin')\nupload.wait()\nupload",
    "files": "client.files",
    "processes": "client.processes",
    "box": "client.files.upload_box('raw/')",
    "link": "client.files.download_link('three.bin')",
    "lists": "client.files.list(), client.processes.list(), client.events(), client.transfers, client.seed, process",
    "others": "aclient = holdfast.AsyncClient(client.base_url)\n"
    "aclient.files, aclient.processes, aclient.transfers, aclient.seed, aclient.files.list(), aclient.processes.list()",
    "function": "client.process(lambda job: 1), aclient.process(lambda job: 1)",
    "opened": "client.files.open('three.bin'), client.files.info('three.bin')",
}


def nbconvert(path: Path, *arguments: str) -> None:
    """Run nbconvert on a notebook. What it writes is beside it."""
    command = [sys.executable, "-m", "nbconvert", *arguments, path.name]
    run = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr


@pytest.fixture
def saved(kernel_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notebook after nbclient has run and saved it, as papermill does."""
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(kernel_home / "state"))
    kernel = {"name": "python3", "display_name": "Python 3"}
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    path = kernel_home / "saved.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    nbconvert(path, "--to", "notebook", "--execute", "--inplace")
    return path


def texts(path: Path, kind: str) -> dict[str, str]:
    """Return what each cell shows in one format."""
    return {
        name: "".join(output.get("data", {}).get(kind, "") for output in cell.outputs)
        for name, cell in zip(CELLS, nbformat.read(path, as_version=4).cells, strict=True)
    }


def test_a_notebook_that_a_program_has_run_is_read_without_network(saved: Path, browser: Any) -> None:
    nbconvert(saved, "--to", "html")
    page = new_page(browser)  # it reaches nothing but this machine
    page.goto(saved.with_suffix(".html").as_uri(), wait_until="domcontentloaded")
    shown = dict(zip(CELLS, page.locator(".jp-OutputArea").all_inner_texts(), strict=True))
    for name, words in {
        "card": ["succeeded", "the-list", "manifest", "100%", "as of"],
        "failed": ["failed", "wrong", "import-csv"],
        "dashboard": ["the-list", "wrong", "a folder/<b>.csv"],
        "client": ["the-list"],
        "transfer": ["succeeded", "three.bin", "upload", "100%"],
        "files": ["three.bin"],
        "processes": ["the-list"],
        "box": ["Box for uploads"],
        "link": ["Download three.bin"],
    }.items():
        for word in words:
            assert word in shown[name], name
    assert page.locator(".jupyter-widgets").count() == 0, "a blank widget"
    if folder := os.environ.get("HOLDFAST_PICTURES"):
        (Path(folder) / "saved.png").write_bytes(page.screenshot(full_page=True))


def test_its_outputs_say_nothing_of_memory_and_bring_no_style_of_the_whole_page(saved: Path) -> None:
    for kind in ("text/plain", "text/html"):
        for name, text in texts(saved, kind).items():
            assert not re.search(r"\bat 0x[0-9a-f]+", text), (name, text)
    for name, html in texts(saved, "text/html").items():
        assert not re.search(r"<(style|script|link|iframe)\b|\b(class|id|onclick)=", html), (name, html)


def test_it_holds_no_program_of_a_widget(saved: Path) -> None:
    state = nbformat.read(saved, as_version=4).metadata.get("widgets", {})
    assert "_esm" not in repr(state)


def test_it_is_read_without_its_html(saved: Path) -> None:
    """As `nbconvert --to markdown`, a diff and a terminal show it."""
    shown = texts(saved, "text/plain")
    assert shown["card"].startswith("manifest the-list: succeeded\n[####################] 100%")
    assert "import-csv wrong: failed" in shown["failed"]
    assert "manifest the-list: succeeded" in shown["dashboard"]
    assert "file three.bin: 3 B" in shown["files"]
    assert "<SentFunction <lambda>>" in shown["function"]
    assert "<Values: loop over them, or call list() on them>" in shown["lists"]
