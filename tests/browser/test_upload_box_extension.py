"""The upload box where the browser reaches JupyterLab alone: by the extension of `holdfast[jupyter]`, also on a hub."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import (
    Jupyter,
    NotebookPage,
    enable_extension,
    end_shared_servers,
    launch,
    new_page,
    write_notebook,
)
from tests.browser.test_upload_box import SHOW, sha256, slow_down
from tests.support.jupyterhub import Hub
from tests.support.servers import wait_until

CONNECT = "import holdfast\nclient = holdfast.connect()"
MB = 1_000_000


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """300 MB that are nowhere the same."""
    path = tmp_path / "large.bin"
    source = random.Random(9)
    with path.open("wb") as file:
        for _ in range(30):
            file.write(source.randbytes(10 * MB))
    return path


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Jupyter]:
    """A JupyterLab with the extension, below a path and with a token, as on a machine far away."""
    server = Jupyter(tmp_path / "jupyter", base_url="/user/ada/", token="of-jupyter", extension=True)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        end_shared_servers(tmp_path)


def open_far(playwright: Any, port: int) -> Iterator[NotebookPage]:
    """A page for which there is one address, `http://lab.test`, and nothing else."""
    browser = launch(playwright, f"MAP lab.test:80 127.0.0.1:{port}, MAP * ~NOTFOUND")
    yield NotebookPage(new_page(browser))
    browser.close()


@pytest.fixture
def far(playwright: Any, remote: Jupyter) -> Iterator[NotebookPage]:
    yield from open_far(playwright, remote.port)


def test_300_mb_by_the_extension_outlive_a_pause_a_reload_and_a_restart_of_jupyter(
    remote: Jupyter, far: NotebookPage, large: Path
) -> None:
    write_notebook(remote.root / "a.ipynb", CONNECT, SHOW, "client.files.download_link('large.bin')")
    url = "http://lab.test/user/ada/doc/tree/a.ipynb?token=of-jupyter"
    far.goto(url)
    far.run(0)
    far.run(1)
    box = far.output(1)
    slow_down(far, 30 * MB)
    far.drop(1, large)
    box.get_by_text("B/s").wait_for()
    assert box.get_by_role("status").first.inner_text() == "", "it goes straight to the server"
    box.get_by_role("button", name="Pause large.bin").click()
    box.locator(".paused").wait_for()

    far.reload()
    box.get_by_text("unfinished, ").get_by_text(" of 300 MB").wait_for()
    far.drop(1, large)
    box.get_by_text("B/s").wait_for()
    box.get_by_role("button", name="Pause large.bin").click()
    box.locator(".paused").wait_for()

    remote.stop()
    remote.start()
    far.goto(url)
    far.run(0)
    far.run(1)
    box.get_by_text("unfinished, ").get_by_text(" of 300 MB").wait_for()
    assert "unfinished, 0 B" not in box.inner_text()
    far.drop(1, large)
    box.get_by_text("succeeded · 300 MB of 300 MB").wait_for()
    assert far.value("len(list(client.files.uploads()))") == "1", "it was one upload"
    assert sha256(remote.root / "large.bin") == sha256(large), "it is in Jupyter's own folder"
    far.run(2)
    with far.page.expect_download() as download:
        far.output(2).get_by_role("link", name="Download large.bin").click()
    assert sha256(Path(download.value.path())) == sha256(large)


def test_an_upload_by_the_extension_goes_on_while_jupyter_is_restarted(
    remote: Jupyter, far: NotebookPage, large: Path
) -> None:
    write_notebook(remote.root / "a.ipynb", CONNECT, SHOW)
    far.goto("http://lab.test/user/ada/doc/tree/a.ipynb?token=of-jupyter")
    far.run(0)
    far.run(1)
    box = far.output(1)
    slow_down(far, 30 * MB)
    far.drop(1, large)
    box.get_by_text("B/s").wait_for()
    remote.stop()
    box.get_by_text("tries again").wait_for()
    remote.start()
    slow_down(far, -1)
    box.get_by_text("300 MB of 300 MB").wait_for()
    wait_until(lambda: (remote.root / "large.bin").exists())
    assert sha256(remote.root / "large.bin") == sha256(large)


def test_on_a_hub_an_upload_outlives_a_restart_of_the_users_server(
    playwright: Any, tmp_path: Path, large: Path
) -> None:
    arguments = ["--LabApp.expose_app_in_browser=True", "--ServerApp.allow_remote_access=True"]
    environment = {"HOLDFAST_STATE_DIR": str(tmp_path / "state")}
    with Hub(tmp_path / "hub", arguments=arguments, environment=environment) as hub:
        try:
            home = hub.homes / "ada"
            home.mkdir(parents=True)
            write_notebook(home / "a.ipynb", CONNECT, SHOW)
            enable_extension(home / ".jupyter")
            hub.start_server("ada")
            for far in open_far(playwright, hub.port):
                page = far.page
                page.goto("http://lab.test/hub/login?next=/user/ada/doc/tree/a.ipynb")
                page.get_by_label("Username").fill("ada")
                page.get_by_label("Password").fill(Hub.PASSWORD)
                page.get_by_role("button", name="Sign in").click()
                far.ready()
                far.run(0)
                far.run(1)
                box = far.output(1)
                slow_down(far, 30 * MB)
                far.drop(1, large)
                box.get_by_text("B/s").wait_for()
                assert box.get_by_role("status").first.inner_text() == "", "it goes straight to the server"
                box.get_by_role("button", name="Pause large.bin").click()
                box.locator(".paused").wait_for()
                far.save()
                page.goto("about:blank")
                hub.stop_server("ada")
                hub.start_server("ada")
                far.goto("http://lab.test/user/ada/doc/tree/a.ipynb")
                far.run(0)
                far.run(1)
                box.get_by_text("unfinished, ").get_by_text(" of 300 MB").wait_for()
                far.drop(1, large)
                box.get_by_text("succeeded · 300 MB of 300 MB").wait_for()
                assert sha256(home / "large.bin") == sha256(large)
        finally:
            end_shared_servers(tmp_path)
