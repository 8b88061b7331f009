"""One line in a JupyterLab with the extension: the box goes by the page's own address, and nothing else is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import Jupyter, end_shared_servers
from tests.browser.test_upload_box import Open, big, sha256, slow_down

__all__ = ["big"]

CELL = "import holdfast\n\nclient = holdfast.connect()\nclient.files.upload_box()"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A Jupyter server with the extension."""
    folder = tmp_path_factory.mktemp("jupyter")
    server = Jupyter(folder, extension=True)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        end_shared_servers(folder)


def test_one_line_a_file_a_reload_and_a_new_kernel(jupyter: Jupyter, open_notebook: Open, big: Path) -> None:
    notebook = open_notebook(CELL)
    sent: list[str] = []
    notebook.page.on("request", lambda request: sent.append(request.url) if request.method == "PATCH" else None)
    notebook.run_all()
    assert "Connected to the Holdfast server of this Jupyter" in notebook.cell(0).inner_text()
    box = notebook.cell(0)
    box.get_by_text("Drop files or folders here").wait_for()
    slow_down(notebook, 3_000_000)  # there is time to press a button, however busy this machine is
    notebook.drop(0, big)
    box.get_by_text("B/s").wait_for()
    box.get_by_role("button", name="Pause big.bin").click()
    box.get_by_text("paused · ").wait_for()
    notebook.shoot(whole=True, connect=0)

    notebook.reload()
    notebook.restart_kernel()
    notebook.run_all()
    box.get_by_text("unfinished, ").get_by_text(" of 50 MB").wait_for()
    slow_down(notebook, -1)
    notebook.drop(0, big)
    box.get_by_text("succeeded · 50 MB of 50 MB").wait_for()
    assert sha256(jupyter.root / "big.bin") == sha256(big), "it is in Jupyter's file browser"
    assert sent
    assert all(url.startswith(f"{jupyter.url}/holdfast/") for url in sent)
