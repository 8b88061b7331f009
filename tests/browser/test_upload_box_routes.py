"""Ways of the upload box to the server, straight or through the kernel, and how the page knows the server."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast_examples.wire_cutter import WireCutter
from tests.browser.conftest import Jupyter, NotebookPage, end_kernels, launch, new_page, write_notebook
from tests.browser.test_upload_box import SHOW, Open, Spawn, connect, sha256
from tests.support.servers import ServerProcess, wait_until

Elsewhere = Callable[..., NotebookPage]
AnotherServer = Callable[..., ServerProcess]

ASKED = re.compile(r"GET /v1/identity \d")
"""The line of a server's log that is no harm: it was asked who it is."""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """3 MB that are nowhere the same."""
    path = tmp_path / "small.bin"
    path.write_bytes(random.Random(7).randbytes(3_000_000))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """150 MB that are nowhere the same."""
    path = tmp_path / "large.bin"
    path.write_bytes(random.Random(8).randbytes(150_000_000))
    return path


@pytest.fixture
def elsewhere(playwright: Any, jupyter: Jupyter, request: pytest.FixtureRequest) -> Iterator[Elsewhere]:
    """Opens a notebook in a browser for which names and ports lead elsewhere."""
    browsers: list[Any] = []

    def open(addresses: str, url: str, *cells: str) -> NotebookPage:
        path = jupyter.root / f"{request.node.name}.ipynb"
        write_notebook(path, *cells)
        browsers.append(launch(playwright, addresses))
        notebook = NotebookPage(new_page(browsers[-1]))
        notebook.goto(f"{url}/doc/tree/{path.name}")
        return notebook

    yield open
    for browser in browsers:
        browser.close()
    end_kernels(jupyter)


@pytest.fixture
def another_server(tmp_path: Path) -> Iterator[AnotherServer]:
    """Starts a second server for the pages of a Jupyter server."""
    server = ServerProcess(tmp_path / "another", environment={"HOLDFAST_TOKEN": "of another"})

    def start(jupyter: Jupyter) -> ServerProcess:
        server.flags = ["--allow-origin", jupyter.url]
        server.start()
        return server

    yield start
    server.end()


def address_of(server: ServerProcess) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return host, int(port)


def uploaded(server: ServerProcess, name: str, path: Path) -> bool:
    with holdfast.Client(server.url) as client:
        return client.files.info(name, sha256=True).sha256 == sha256(path)


# -- the right server


def test_another_server_at_a_forwarded_port_gets_no_byte_and_no_token(
    jupyter: Jupyter, spawn_server: Spawn, elsewhere: Elsewhere, another_server: AnotherServer, small: Path
) -> None:
    server = spawn_server("--allow-origin", jupyter.url, HOLDFAST_TOKEN="s3cret")
    other = another_server(jupyter)
    forwarded = server.url.removeprefix("http://"), other.url.removeprefix("http://")
    cells = connect(server, token="s3cret"), SHOW, "client.files.download_link('small.bin')"
    notebook = elsewhere("MAP {} {}".format(*forwarded), jupyter.url, *cells)
    sent: list[Any] = []
    notebook.page.on("request", lambda request: sent.append(request) if request.url.startswith(server.url) else None)
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_label("Choose files to upload").set_input_files(small)
    box.get_by_text("succeeded · 3 MB of 3 MB").wait_for()
    said = "another Holdfast server than the kernel's answers"
    box.get_by_role("status").get_by_text(said).wait_for()
    with notebook.page.expect_download() as download:
        notebook.output(2).get_by_role("button", name="Download small.bin through the kernel").click()
    assert sha256(Path(download.value.path())) == sha256(small)
    with holdfast.Client(server.url, token="s3cret") as client:
        assert client.files.info("small.bin", sha256=True).sha256 == sha256(small)
    assert sent, "it was asked who it is"
    for request in sent:
        assert request.url.startswith(f"{server.url}/v1/identity?nonce=")
        assert request.method == "GET"
        assert not {"authorization", "cookie"} & set(request.headers)
        assert "s3cret" not in f"{request.url} {request.headers}"
    assert [path.name for path in other.files_dir.iterdir()] == [".holdfast"], "its own folder"
    assert ASKED.search(other.log)
    assert not [line for line in other.log.splitlines() if "/v1/" in line and not ASKED.search(line)]


def test_an_upload_does_not_follow_a_port_that_leads_to_another_server_now(
    jupyter: Jupyter, spawn_server: Spawn, elsewhere: Elsewhere, another_server: AnotherServer, large: Path
) -> None:
    server = spawn_server("--allow-origin", jupyter.url)
    other = another_server(jupyter)

    def lead_away(carried: int) -> None:
        wire.target = address_of(other)

    with WireCutter(address_of(server), lead_away) as wire:
        rule = f"MAP {':'.join(map(str, address_of(server)))} {wire.url.removeprefix('http://')}"
        notebook = elsewhere(rule, jupyter.url, connect(server), SHOW)
        notebook.run_all()
        box = notebook.output(1)
        box.get_by_label("Choose files to upload").set_input_files(large)
        box.get_by_text("B/s").wait_for()
        assert box.get_by_role("status").first.inner_text() == "", "it goes straight to the server"
        wire.cut_after(1)  # and leads away from then on: before, the page may use what it has just proved
        box.get_by_text("succeeded · 150 MB of 150 MB").wait_for()
        box.get_by_role("status").get_by_text("another Holdfast server than the kernel's answers").wait_for()
    assert ASKED.search(other.log)
    assert not [line for line in other.log.splitlines() if "/v1/" in line and not ASKED.search(line)]
    with holdfast.Client(server.url) as client:
        assert len(list(client.files.uploads())) == 1, "it was one upload, on two ways"
    assert uploaded(server, "large.bin", large)


def test_where_only_one_port_is_reached_the_page_says_so_and_files_go_through_the_kernel(
    jupyter: Jupyter, spawn_server: Spawn, elsewhere: Elsewhere, small: Path
) -> None:
    server = spawn_server("--allow-origin", "http://lab.test")
    cells = connect(server), SHOW, "client.files.download_link('small.bin')"
    notebook = elsewhere(f"MAP lab.test:80 127.0.0.1:{jupyter.port}, MAP * ~NOTFOUND", "http://lab.test", *cells)
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_label("Choose files to upload").set_input_files(small)
    box.get_by_text("succeeded · 3 MB of 3 MB").wait_for()
    note = box.get_by_role("status").get_by_text(f"nothing answers at {server.url} from this browser")
    note.get_by_text("install holdfast[jupyter] beside JupyterLab").wait_for()
    assert uploaded(server, "small.bin", small)
    with notebook.page.expect_download() as download:
        notebook.output(2).get_by_role("button", name="Download small.bin through the kernel").click()
    assert sha256(Path(download.value.path())) == sha256(small)
    assert download.value.suggested_filename == "small.bin"


# -- through the kernel


def test_a_page_that_the_server_refuses_is_told_the_remedy_and_files_go_through_the_kernel(
    jupyter: Jupyter, spawn_server: Spawn, open_notebook: Open, small: Path, tmp_path: Path
) -> None:
    server = spawn_server()  # it allows no other origin
    (huge := tmp_path / "huge.bin").write_bytes(bytes(4_000_000))
    limited = "from holdfast.widgets import UploadBox\nbox = UploadBox(client, 'raw/', limit=3_500_000); box"
    notebook = open_notebook(connect(server), limited)
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_label("Choose files to upload").set_input_files([small, huge])
    box.get_by_text("succeeded · 3 MB of 3 MB").wait_for()
    box.get_by_role("status").get_by_text(f"Start it with --allow-origin {jupyter.url}").wait_for()
    box.locator(".failed").get_by_text("at most 3500000 go through the kernel").wait_for()
    assert uploaded(server, "raw/small.bin", small)
    wait_until(lambda: notebook.value("[file.name for file in box.files]") == "['raw/small.bin']")


def test_through_the_kernel_a_restart_of_it_is_told_at_once_and_the_cell_goes_on(
    spawn_server: Spawn, open_notebook: Open, large: Path
) -> None:
    server = spawn_server()
    notebook = open_notebook(connect(server), SHOW)
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_label("Choose files to upload").set_input_files(large)
    box.get_by_text("B/s").wait_for()
    notebook.begin_restart()
    box.locator(".interrupted").get_by_text("the kernel was restarted: run the cell of this box again").wait_for()
    notebook.ready()
    with holdfast.Client(server.url) as client:
        (upload,) = client.files.uploads()
        assert 0 < upload.offset < 150_000_000
        notebook.run_all()
        box.get_by_text("succeeded · 150 MB of 150 MB").wait_for()
        assert [again.id for again in client.files.uploads()] == [upload.id], "it was one upload"
    assert uploaded(server, "large.bin", large)
    wait_until(lambda: notebook.value("[file.name for file in box.files]") == "['large.bin']")


def test_through_the_kernel_a_reload_of_the_page_lists_what_is_unfinished(
    spawn_server: Spawn, open_notebook: Open, large: Path
) -> None:
    server = spawn_server()
    notebook = open_notebook(connect(server), SHOW)
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_label("Choose files to upload").set_input_files(large)
    box.get_by_text("B/s").wait_for()
    notebook.reload()
    box.get_by_text("unfinished, ").get_by_text(" of 150 MB").wait_for()
    notebook.drop(1, large)
    box.get_by_text("succeeded · 150 MB of 150 MB").wait_for()
    with holdfast.Client(server.url) as client:
        assert len(list(client.files.uploads())) == 1
    assert uploaded(server, "large.bin", large)


def test_a_busy_kernel_takes_files_on_a_subshell_and_without_one_the_row_says_that_it_waits(
    spawn_server: Spawn, open_notebook: Open, small: Path, tmp_path: Path
) -> None:
    server = spawn_server()
    notebook = open_notebook(connect(server), SHOW, "import time, os")
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_text("Drop files or folders here").wait_for()
    flag = tmp_path / "flag"
    busy = f"while not os.path.exists({str(flag)!r}): time.sleep(0.05)"
    notebook.begin(busy)
    box.get_by_label("Choose files to upload").set_input_files(small)
    box.get_by_text("succeeded · 3 MB of 3 MB").wait_for()
    assert not flag.exists(), "the cell was running all the while"
    kernel = f"{notebook.PANEL}.context.sessionContext.session.kernel"
    notebook.page.evaluate(f"() => {{ {kernel}.commsOverSubshells = 'disabled'; }}")
    (third := tmp_path / "third.bin").write_bytes(small.read_bytes())
    box.get_by_label("Choose files to upload").set_input_files(third)
    box.get_by_text("waits for the kernel, which is busy").wait_for()
    box.get_by_role("button", name="Cancel third.bin").click()
    (second := tmp_path / "second.bin").write_bytes(small.read_bytes())
    box.get_by_label("Choose files to upload").set_input_files(second)
    box.get_by_text("waits for the kernel, which is busy").wait_for()
    flag.touch()
    wait_until(lambda: box.locator(".succeeded").count() == 2)
    assert uploaded(server, "second.bin", small)
    with holdfast.Client(server.url) as client:
        wait_until(lambda: all(upload.complete for upload in client.files.uploads()))


def test_a_server_that_is_down_when_the_file_is_chosen_gets_it_later(
    spawn_server: Spawn, open_notebook: Open, small: Path
) -> None:
    server = spawn_server()
    notebook = open_notebook(connect(server), SHOW)
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_text("Drop files or folders here").wait_for()
    server.kill()
    box.get_by_label("Choose files to upload").set_input_files(small)
    box.get_by_text("the kernel's server does not answer").wait_for()
    server.restart()
    box.get_by_text("succeeded · 3 MB of 3 MB").wait_for()
    assert uploaded(server, "small.bin", small)
