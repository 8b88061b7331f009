"""The upload box in JupyterLab: files of the person's own machine, resumed after a reload of the page."""

from __future__ import annotations

import hashlib
import random
import re
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
    box.get_by_text("Drop files or folders here").wait_for()
    slow_down(notebook, 3_000_000)  # there is time to press a button, however busy this machine is
    notebook.drop(1, big)
    box.get_by_text("B/s").wait_for()
    box.get_by_role("button", name="Pause big.bin").click()
    box.get_by_text("paused · ").wait_for()
    client = holdfast.Client(server.url, token="s3cret")
    (upload,) = client.files.uploads()
    assert 0 < upload.offset < 50_000_000

    notebook.reload()
    box.get_by_text("unfinished, ").get_by_text(" of 50 MB").wait_for()
    slow_down(notebook, -1)
    asked: list[str] = []
    of_interest = re.compile(r"PATCH \S+/v1/uploads/|GET \S+/v1/identity\?")
    notebook.page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
    notebook.drop(1, big)
    box.get_by_text("succeeded · 50 MB of 50 MB").wait_for()
    verbs = "".join(found[0][0] for each in asked if (found := of_interest.match(each)))
    assert verbs.count("P") > 2
    assert "PP" not in verbs, "the server proves before each piece who it is"
    assert client.files.info("big.bin", sha256=True).sha256 == sha256(big)
    assert [upload.id for upload in client.files.uploads()] == [upload.id], "it was one upload"
    wait_until(lambda: notebook.value("[file.name for file in box.files]") == "['big.bin']")
    client.close()


def test_a_box_goes_on_with_what_it_began_and_with_nothing_of_another_box(
    jupyter: Jupyter, spawn_server: Spawn, open_notebook: Open, big: Path, tmp_path: Path
) -> None:
    server = spawn_server("--allow-origin", jupyter.url)
    (other_file := tmp_path / "other.bin").write_bytes(b"a,b")
    notebook = open_notebook(connect(server), SHOW, "client.files.upload_box('other/')")
    notebook.run_all()
    box, other = notebook.output(1), notebook.output(2)
    box.get_by_text("Drop files or folders here").wait_for()
    slow_down(notebook, 3_000_000)  # there is time to press a button, however busy this machine is
    notebook.drop(1, big)
    box.get_by_text("B/s").wait_for()
    notebook.drop(1, big)  # it is on its way: this begins nothing
    box.get_by_role("button", name="Pause big.bin").click()
    box.get_by_text("paused · ").wait_for()
    slow_down(notebook, -1)
    notebook.drop(2, big)
    other.get_by_text("succeeded · 50 MB of 50 MB").wait_for()
    notebook.drop(1, big)  # as good as Resume
    box.get_by_text("succeeded · 50 MB of 50 MB").wait_for()
    assert box.get_by_role("listitem").count() == 1
    with holdfast.Client(server.url) as client:
        assert [file.name for file in client.files.list()] == ["big.bin", "other/big.bin"]
        for name in ("big.bin", "other/big.bin"):
            assert client.files.info(name, sha256=True).sha256 == sha256(big)

    notebook.restart_kernel()
    notebook.drop(1, other_file)
    box.locator(".interrupted").get_by_text("the kernel was restarted: run the cell of this box again").wait_for()
    notebook.run_all()
    box.get_by_text("succeeded · 3 B of 3 B").wait_for()  # it was kept for the cell
    assert box.get_by_role("listitem").count() == 1


def test_a_local_server_takes_files_from_the_page_and_a_restart_of_it_costs_nothing(
    open_notebook: Open, big: Path
) -> None:
    notebook = open_notebook(LOCAL, SHOW)
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_text("Drop files or folders here").wait_for()
    slow_down(notebook, 10_000_000)
    box.get_by_label("Choose files to upload").set_input_files(big)
    box.get_by_text("MB/s").wait_for()
    notebook.value("(server.kill(), server.start())")
    slow_down(notebook, -1)
    box.get_by_text("succeeded · 50 MB of 50 MB").wait_for()
    assert notebook.value("client.files.info('big.bin', sha256=True).sha256") == sha256(big)
    box.get_by_label("Choose files to upload").set_input_files(big)
    box.locator(".conflict").get_by_text("there is a file 'big.bin' already").wait_for()
    notebook.theme("JupyterLab Light")
    notebook.shoot(upload_box=1)
    box.get_by_role("button", name="Cancel big.bin").last.click()
    box.locator(".cancelled").wait_for()
    box.get_by_role("button", name="Clear finished").click()
    wait_until(lambda: box.get_by_role("listitem").count() == 0)


def test_of_a_conflict_the_person_chooses_what_becomes(
    jupyter: Jupyter, spawn_server: Spawn, open_notebook: Open, tmp_path: Path
) -> None:
    server = spawn_server("--allow-origin", jupyter.url)
    notebook = open_notebook(connect(server), SHOW)
    notebook.run_all()
    box = notebook.output(1)
    (path := tmp_path / "a.tar.gz").write_bytes(b"new")
    (server.files_dir / "a.tar.gz").write_bytes(b"old")
    box.get_by_label("Choose files to upload").set_input_files(path)
    box.get_by_text("there is a file 'a.tar.gz' already").wait_for()
    box.get_by_role("button", name="Rename a.tar.gz").click()
    name = box.get_by_label("New name of a.tar.gz")
    assert name.input_value() == "a (2).tar.gz"
    name.press("Enter")
    box.locator(".succeeded").get_by_text("a (2).tar.gz", exact=True).wait_for()
    box.get_by_label("Choose files to upload").set_input_files(path)
    box.get_by_role("button", name="Replace a.tar.gz").click()
    wait_until(lambda: box.locator(".succeeded").count() == 2)
    with holdfast.Client(server.url) as client:
        assert {file.name: client.files.read(file.name) for file in client.files.list()} == {
            "a (2).tar.gz": b"new",
            "a.tar.gz": b"new",
        }


def test_folders_keep_their_structure_and_many_files_scroll_inside(
    jupyter: Jupyter, spawn_server: Spawn, open_notebook: Open, tmp_path: Path
) -> None:
    server = spawn_server("--allow-origin", jupyter.url)
    notebook = open_notebook(connect(server), "client.files.upload_box('raw/')")
    notebook.run_all()
    box = notebook.output(1)
    box.get_by_text("Drop files or folders here").wait_for()
    wanted = {}
    for number in range(30):
        path = tmp_path / "days" / f"day {number % 3}" / f"née-{number}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
        wanted[f"raw/{path.relative_to(tmp_path)}"] = path.read_bytes()
    (tmp_path / "days" / "empty").mkdir()
    (single := tmp_path / "single.csv").write_bytes(b"alone")
    notebook.drop(1, tmp_path / "days", single)
    box.get_by_text("31 files · 31 succeeded").wait_for()
    assert box.locator(".holdfast-upload").bounding_box()["height"] < 600
    assert box.get_by_role("listitem").count() == 31
    with holdfast.Client(server.url) as client:
        found = {file.name: client.files.read(file.name) for file in client.files.list()}
        assert found == wanted | {"raw/single.csv": b"alone"}
        box.get_by_role("button", name="Clear finished").click()
        wait_until(lambda: box.get_by_role("listitem").count() == 0)
        (chosen := tmp_path / "chosen" / "below").mkdir(parents=True)
        (chosen / "a.csv").write_bytes(b"a")
        box.get_by_label("Choose a folder to upload").set_input_files(tmp_path / "chosen")
        box.locator(".succeeded").get_by_text("chosen/below/a.csv").wait_for()
        assert client.files.read("raw/chosen/below/a.csv") == b"a"


@pytest.mark.parametrize(("allowed", "name"), [(True, "Download née.csv"), (False, "directly")])
def test_a_download_link_is_followed_by_the_browser_without_the_token(
    jupyter: Jupyter, spawn_server: Spawn, open_notebook: Open, allowed: bool, name: str
) -> None:
    server = spawn_server(*(["--allow-origin", jupyter.url] if allowed else []), HOLDFAST_TOKEN="s3cret")
    cell = "client.files.write('a folder/née.csv', b'a,b'); client.files.download_link('a folder/née.csv')"
    notebook = open_notebook(connect(server, token="s3cret"), cell)
    notebook.run_all()
    with notebook.page.expect_download() as download:
        notebook.output(1).get_by_role("link", name=name).click()
    assert Path(download.value.path()).read_bytes() == b"a,b"
    assert download.value.suggested_filename == "née.csv"
