"""The upload box in JupyterLab: files of the person's own machine, resumed after a reload of the page."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import holdfast
from tests.browser.conftest import Jupyter, NotebookPage
from tests.support.servers import ServerProcess, wait_until

Open = Callable[..., NotebookPage]
Spawn = Callable[..., ServerProcess]

LOCAL = "import holdfast\nserver = holdfast.local_server()\nclient = server.client()"
SHOW = "box = client.files.upload_box(); box"


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """50 MB that are nowhere the same."""
    path = tmp_path / "big.bin"
    path.write_bytes(random.Random(6).randbytes(50_000_000))
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def connect(server: ServerProcess, **options: Any) -> str:
    return f"import holdfast\nclient = holdfast.Client({server.url!r}, **{options!r})"


def drop(notebook: NotebookPage, cell: int, path: Path) -> None:
    """Drop a file of this machine on a box."""
    page = notebook.page
    page.evaluate(
        "() => document.body.append(Object.assign(document.createElement('input'), {type: 'file', id: 'hand'}))"
    )
    page.locator("#hand").set_input_files(path)
    data = page.evaluate_handle(
        """() => {
            const data = new DataTransfer();
            data.items.add(document.querySelector('#hand').files[0]);
            document.querySelector('#hand').remove();
            return data;
        }"""
    )
    notebook.output(cell).locator(".drop").dispatch_event("drop", {"dataTransfer": data})


def slow_down(notebook: NotebookPage, bytes_a_second: float) -> None:
    """As on a slower line; -1 is as fast as it goes."""
    session = notebook.page.context.new_cdp_session(notebook.page)
    session.send("Network.enable")
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_a_second}
    session.send("Network.emulateNetworkConditions", conditions)


def test_a_dropped_file_is_paused_and_goes_on_after_a_reload(
    jupyter: Jupyter, spawn_server: Spawn, open_notebook: Open, big: Path
) -> None:
    server = spawn_server("--allow-origin", jupyter.url, HOLDFAST_TOKEN="s3cret")
    notebook = open_notebook(connect(server, token="s3cret"), SHOW)
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_text("Drop files here").wait_for()
    slow_down(notebook, 3_000_000)  # there is time to press a button, however busy this machine is
    drop(notebook, 1, big)
    box.get_by_text("B/s").wait_for()
    box.get_by_role("button", name="Pause big.bin").click()
    box.get_by_text("paused · ").wait_for()
    client = holdfast.Client(server.url, token="s3cret")
    (upload,) = client.files.uploads()
    assert 0 < upload.offset < 50_000_000

    notebook.reload()
    box.get_by_text("unfinished, 50 MB").wait_for()
    slow_down(notebook, -1)
    drop(notebook, 1, big)
    box.get_by_text("succeeded · 50 MB of 50 MB").wait_for()
    assert client.files.info("big.bin", sha256=True).sha256 == sha256(big)
    assert [upload.id for upload in client.files.uploads()] == [upload.id], "it was one upload"
    wait_until(lambda: notebook.value("[file.name for file in box.files]") == "['big.bin']")
    client.close()


def test_a_box_goes_on_with_what_it_began_and_with_nothing_of_another_box(
    jupyter: Jupyter, spawn_server: Spawn, open_notebook: Open, big: Path
) -> None:
    server = spawn_server("--allow-origin", jupyter.url)
    notebook = open_notebook(connect(server), SHOW, "client.files.upload_box('other/')")
    notebook.run_all()
    box, other = notebook.output(1), notebook.output(2)
    box.get_by_text("Drop files here").wait_for()
    slow_down(notebook, 3_000_000)  # there is time to press a button, however busy this machine is
    drop(notebook, 1, big)
    box.get_by_text("B/s").wait_for()
    drop(notebook, 1, big)  # it is on its way: this begins nothing
    box.get_by_role("button", name="Pause big.bin").click()
    box.get_by_text("paused · ").wait_for()
    slow_down(notebook, -1)
    drop(notebook, 2, big)
    other.get_by_text("succeeded · 50 MB of 50 MB").wait_for()
    drop(notebook, 1, big)  # as good as Resume
    box.get_by_text("succeeded · 50 MB of 50 MB").wait_for()
    assert box.get_by_role("listitem").count() == 1
    with holdfast.Client(server.url) as client:
        assert [file.name for file in client.files.list()] == ["big.bin", "other/big.bin"]
        for name in ("big.bin", "other/big.bin"):
            assert client.files.info(name, sha256=True).sha256 == sha256(big)

    notebook.restart_kernel()
    drop(notebook, 1, big)
    box.locator(".failed").get_by_text("the kernel was restarted: run the cell of this box again").wait_for()
    notebook.run_all()
    wait_until(lambda: box.get_by_role("listitem").count() == 0)
    box.get_by_text("Drop files here").wait_for()


def test_a_local_server_takes_files_from_the_page_and_a_restart_of_it_costs_nothing(
    open_notebook: Open, big: Path
) -> None:
    notebook = open_notebook(LOCAL, SHOW)
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_text("Drop files here").wait_for()
    slow_down(notebook, 10_000_000)
    box.get_by_label("Choose files to upload").set_input_files(big)
    box.get_by_text("MB/s").wait_for()
    notebook.value("(server.kill(), server.start())")
    slow_down(notebook, -1)
    box.get_by_text("succeeded · 50 MB of 50 MB").wait_for()
    assert notebook.value("client.files.info('big.bin', sha256=True).sha256") == sha256(big)
    box.get_by_label("Choose files to upload").set_input_files(big)
    box.locator(".failed").get_by_text(
        "there is a file 'big.bin' already"
    ).wait_for()  # refused by the server, in its words
    notebook.theme("JupyterLab Light")
    notebook.shoot(upload_box=1)
    box.get_by_role("button", name="Cancel big.bin").last.click()
    box.get_by_text("cancelled · ").wait_for()


def test_where_the_page_can_not_reach_the_server_files_go_through_the_kernel(
    spawn_server: Spawn, open_notebook: Open, tmp_path: Path
) -> None:
    server = spawn_server()  # it allows no other origin
    small = tmp_path / "small.bin"
    small.write_bytes(random.Random(7).randbytes(3_000_000))
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(4_000_000))
    limited = "from holdfast.widgets import UploadBox\nbox = UploadBox(client, 'raw/', limit=3_500_000); box"
    notebook = open_notebook(connect(server), limited)
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_label("Choose files to upload").set_input_files([small, large])
    box.get_by_text("succeeded · 3 MB of 3 MB").wait_for()
    box.get_by_role("status").get_by_text("files go through the kernel, at most 3.5 MB each").wait_for()
    box.locator(".failed").get_by_text("this file has 4 MB, and at most 3.5 MB go through the kernel").wait_for()
    with holdfast.Client(server.url) as client:
        assert client.files.info("raw/small.bin", sha256=True).sha256 == sha256(small)
        assert [file.name for file in client.files.list()] == ["raw/small.bin"]
    wait_until(lambda: notebook.value("[file.name for file in box.files]") == "['raw/small.bin']")


def test_a_download_link_is_followed_by_the_browser_without_the_token(spawn_server: Spawn, open_notebook: Open) -> None:
    server = spawn_server(HOLDFAST_TOKEN="s3cret")
    cell = "client.files.write('a folder/née.csv', b'a,b'); client.files.download_link('a folder/née.csv')"
    notebook = open_notebook(connect(server, token="s3cret"), cell)
    notebook.run_all()
    with notebook.page.expect_download() as download:
        notebook.output(1).get_by_role("link", name="Download née.csv").click()
    assert Path(download.value.path()).read_bytes() == b"a,b"
    assert download.value.suggested_filename == "née.csv"
