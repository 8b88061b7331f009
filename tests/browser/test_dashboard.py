"""The dashboard where people see it: in JupyterLab and Notebook 7, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from tests.browser.conftest import NotebookPage
from tests.sdk.holdfast.notebook.conftest import forget_everything
from tests.support.servers import ServerProcess, wait_until

Open = Callable[..., NotebookPage]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all tests, with work to look at."""
    server = ServerProcess(
        tmp_path_factory.mktemp("server"), ["--import", "tests.support.widget_work", "--max-running", "4"]
    )
    server.start()
    yield server
    server.end()


@pytest.fixture
def client(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[holdfast.Client]:
    """The test's own client, with something of each kind on the server."""
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    with holdfast.Client(server.url) as client:
        client.files.write("flights/2013-01.csv", b"a,b\n" * 700_000)
        client.files.write("airports.csv", b"a,b\n" * 20_000)
        client.processes.start("walk", id="morning-report", to=40, seconds=0.001).wait()
        client.processes.start("walk", id="broken", to=40, seconds=0.001, fail_at=20).wait()
        for n, name in enumerate(("east", "north", "south", "west", "waiting")):
            client.processes.start("walk", id=f"import-{name}", to=3000, seconds=0.02 * (n + 1), note="row {n}")
        upload = client.files.upload(bytes(30_000_000), "video.mp4", limit=1_000_000, segments=1)
        yield client
        upload.cancel()
        forget_everything(client)


def button(shown: Any, name: str) -> Any:
    return shown.get_by_role("button", name=name)


def states(client: holdfast.Client) -> dict[str, str]:
    return {process.id.removeprefix("import-"): str(process.state) for process in client.processes.list()}


def connect(server: ServerProcess) -> str:
    return f"import holdfast\nclient = holdfast.Client({server.url!r})"


def test_many_are_filtered_paused_resumed_and_cancelled_by_hand(
    server: ServerProcess, client: holdfast.Client, open_notebook: Open
) -> None:
    notebook = open_notebook(connect(server), "client.dashboard()")
    notebook.run_all()
    panel = notebook.output(1)
    processes = panel.get_by_role("table", name="processes")
    assert processes.get_by_role("row").count() == 8  # and the head
    processes.locator("polyline").first.wait_for(state="attached")  # its rates are drawn
    panel.get_by_role("table", name="uploads").get_by_role("row").nth(1).wait_for()
    panel.get_by_role("table", name="files").get_by_text("flights/2013-01.csv").wait_for()
    processes.get_by_text("WorkError: there is <b>no</b> step 20").wait_for()
    notebook.shoot(dashboard=1)

    panel.get_by_label("Filter").fill("import-")
    button(panel, "Pause 5").click()
    panel.get_by_role("status").get_by_text("5 paused").wait_for()
    assert set(states(client).values()) == {"paused", "succeeded", "failed"}
    panel.get_by_label("Filter").fill("t import-")
    panel.get_by_text("no process matches").wait_for()
    panel.get_by_label("Filter").fill("import-west")
    button(panel, "Resume 1").focus()
    notebook.page.keyboard.press("Enter")
    wait_until(lambda: states(client)["west"] == "running")
    panel.get_by_label("Filter").fill("")
    panel.get_by_label("State").select_option("paused")
    wait_until(lambda: processes.get_by_role("row").count() == 5)

    processes.get_by_role("button", name="import-south", exact=True).click()
    card = panel.locator(".hf-detail")
    card.get_by_role("status").get_by_text("import-south").wait_for()
    card.get_by_label("log").get_by_text("is done").first.wait_for()
    notebook.shoot(dashboard_details=1)
    button(card, "Resume").click()
    wait_until(lambda: states(client)["south"] == "running")

    button(panel, "Cancel 3").click()
    button(panel, "Really cancel 3?").click()
    panel.get_by_role("status").get_by_text("3 cancelled").wait_for()
    assert sorted(name for name, state in states(client).items() if state == "cancelled") == [
        "east",
        "north",
        "waiting",
    ]


def test_notebook_7_shows_the_same_panel_and_the_same_cards(
    server: ServerProcess, client: holdfast.Client, open_notebook: Open
) -> None:
    client.processes.cancel("import-waiting")  # else it takes the slot of the one that is paused here
    notebook = open_notebook(
        connect(server), "client.dashboard()", "client.processes.get('import-east')", app="notebooks"
    )
    notebook.run_all()
    panel, card = notebook.output(1), notebook.output(2)
    assert panel.get_by_role("table", name="processes").get_by_role("row").count() == 8
    card.get_by_text("/s").wait_for()
    button(card, "Pause").click()
    card.get_by_role("status").get_by_text("paused").wait_for()
    panel.get_by_role("status").get_by_text("1 paused").wait_for()
    assert states(client)["east"] == "paused"
    panel.get_by_label("Filter").fill("east")
    button(panel, "Resume 1").click()
    card.get_by_role("status").get_by_text("running").wait_for()
    wait_until(lambda: button(card, "Pause").is_enabled() and not button(card, "Resume").is_enabled())

    notebook.restart_kernel()
    assert states(client)["east"] == "running"
    notebook.run_all()  # the same lines again
    card.get_by_text("/s").wait_for()
    button(card, "Cancel").click()
    card.get_by_role("status").get_by_text("cancelled").wait_for()
    panel.get_by_role("status").get_by_text("2 cancelled").wait_for()
