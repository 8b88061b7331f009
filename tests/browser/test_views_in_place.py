"""Views that change in place, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import holdfast
from tests.browser.conftest import NotebookPage
from tests.support.servers import ServerProcess

Open = Callable[..., NotebookPage]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Server of one test, which ends it by SIGKILL: work that is stuck hears nothing."""
    server = ServerProcess(tmp_path, ["--import", "tests.support.widget_work"])
    server.start()
    yield server
    server.kill()
    server.end()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[holdfast.Client]:
    with holdfast.Client(server.url) as client:
        yield client


def connect(server: ServerProcess) -> str:
    return f"import holdfast\nclient = holdfast.Client({server.url!r})"


def test_what_does_not_move_has_an_age_and_no_rate(
    server: ServerProcess, client: holdfast.Client, open_notebook: Open
) -> None:
    client.processes.start("walk", id="stuck", to=100_000, seconds=0.02, stuck_at=100)
    notebook = open_notebook(connect(server), "client.processes.get('stuck')")
    notebook.run_all()
    shown = notebook.output(1)
    shown.get_by_text("no progress for").wait_for()
    assert "/s" not in shown.inner_text()
    assert " left" not in shown.inner_text()
    shown.get_by_label("log").get_by_text("step 90 of 100000 is done").wait_for()
