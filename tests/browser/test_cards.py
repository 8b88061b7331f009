"""Cards of processes where people see them: in JupyterLab and Notebook 7, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import holdfast
from holdfast.notebook._html._appearance import VERBS
from holdfast.wire import State
from tests.browser.conftest import NotebookPage
from tests.sdk.holdfast.notebook.conftest import forget_everything
from tests.support.servers import ServerProcess, wait_until
from tornado_app.processes.states import legal

Open = Callable[..., NotebookPage]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all tests, with work to look at."""
    server = ServerProcess(tmp_path_factory.mktemp("server"), ["--import", "tests.support.widget_work"])
    server.start()
    yield server
    server.end()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[holdfast.Client]:
    """The test's own client: what the page shows is compared with what it is told."""
    with holdfast.Client(server.url) as client:
        yield client
        forget_everything(client)


def connect(server: ServerProcess) -> str:
    """The first cell of every notebook."""
    return f"import holdfast, time\nclient = holdfast.Client({server.url!r})"


def start(**params: Any) -> str:
    """A cell that starts a process and shows it."""
    params = {"to": 2000, "seconds": 0.05} | params
    return f"client.processes.start('walk', id='p', **{params!r})"


def button(output: Any, name: str) -> Any:
    return output.get_by_role("button", name=name, exact=True)


def pressable(output: Any) -> list[str]:
    """The buttons that can be pressed."""
    return [name for name in ("Pause", "Resume", "Cancel") if button(output, name).is_enabled()]


def test_a_process_is_paused_resumed_and_cancelled_by_hand(
    server: ServerProcess, client: holdfast.Client, open_notebook: Open
) -> None:
    notebook = open_notebook(connect(server), start())
    notebook.run_all()
    shown = notebook.output(1)
    shown.get_by_text("/s").wait_for()  # live: it has a rate
    assert pressable(shown) == ["Pause", "Cancel"]
    assert float(shown.get_by_role("progressbar", name="walk p").get_attribute("aria-valuenow")) <= 100
    notebook.theme("JupyterLab Light")

    button(shown, "Pause").click()
    shown.get_by_role("status").get_by_text("paused").wait_for()
    assert client.processes.get("p").state == "paused"
    wait_until(lambda: pressable(shown) == ["Resume", "Cancel"])

    button(shown, "Resume").focus()
    notebook.page.keyboard.press("Enter")
    shown.get_by_role("status").get_by_text("running").wait_for()
    assert client.processes.get("p").state == "running"
    wait_until(lambda: pressable(shown) == ["Pause", "Cancel"])

    notebook.theme("JupyterLab Dark")
    button(shown, "Cancel").click()
    shown.get_by_role("status").get_by_text("cancelled").wait_for()
    assert client.processes.get("p").state == "cancelled"
    wait_until(lambda: pressable(shown) == [])


def test_a_view_outlives_server_page_and_kernel(
    spawn_server: Callable[..., ServerProcess], open_notebook: Open
) -> None:
    server = spawn_server("--import", "tests.support.widget_work")
    client = holdfast.Client(server.url)
    notebook = open_notebook(connect(server), start())
    notebook.run_all()
    shown = notebook.output(1)
    shown.get_by_text("/s").wait_for()

    server.kill()
    shown.get_by_role("status").get_by_text("reconnecting").wait_for()
    notebook.shoot(reconnecting=1)
    server.restart()
    shown.get_by_role("status").get_by_text("running").wait_for()
    shown.get_by_text("attempt 2").wait_for()

    notebook.reload()
    shown = notebook.output(1)
    shown.get_by_role("status").get_by_text("running").wait_for()
    button(shown, "Pause").click()
    shown.get_by_role("status").get_by_text("paused").wait_for()

    notebook.restart_kernel()
    assert client.processes.get("p").state == "paused"
    notebook.run_all()  # the same lines again
    shown.get_by_role("status").get_by_text("paused").wait_for()
    button(shown, "Resume").click()
    shown.get_by_role("status").get_by_text("running").wait_for()
    assert client.processes.get("p").state == "running"
    client.close()


def test_two_pages_show_one_process(server: ServerProcess, client: holdfast.Client, open_notebook: Open) -> None:
    one = open_notebook(connect(server), start())
    one.run_all()
    one.output(1).get_by_text("/s").wait_for()
    one.save()
    two = open_notebook(app="doc/tree")
    two.output(1).get_by_text("/s").wait_for()
    button(two.output(1), "Pause").click()
    for page in (one, two):
        page.output(1).get_by_role("status").get_by_text("paused").wait_for()
        wait_until(lambda page=page: pressable(page.output(1)) == ["Resume", "Cancel"])
    button(one.output(1), "Cancel").click()
    two.output(1).get_by_role("status").get_by_text("cancelled").wait_for()


@pytest.mark.parametrize("busy", ["client.processes.get('p').wait()", "time.sleep(600)"])
def test_a_card_moves_and_its_buttons_work_while_a_cell_keeps_the_kernel_busy(
    busy: str, server: ServerProcess, client: holdfast.Client, open_notebook: Open
) -> None:
    notebook = open_notebook(connect(server), start())
    notebook.run_all()
    shown = notebook.output(1)
    shown.get_by_text("/s").wait_for()
    notebook.begin(busy)
    for _ in range(2):  # the bar moves on, and on again
        before = done(shown)
        wait_until(lambda before=before: done(shown) > before)
    button(shown, "Pause").click()
    shown.get_by_role("status").get_by_text("paused").wait_for()
    assert client.processes.get("p").state == "paused"
    button(shown, "Resume").click()
    shown.get_by_role("status").get_by_text("running").wait_for()
    notebook.interrupt()


def done(shown: Any) -> int:
    """Return the number of steps that the card shows as done."""
    found = re.search(r"([0-9]+) of 2 k", shown.inner_text())
    return int(found[1]) if found else 0


STATES: dict[str, dict[str, Any]] = {
    "failed": {"to": 40, "seconds": 0.01, "fail_at": 20},
    "succeeded": {"to": 40, "seconds": 0.01},
    "cancelled": {"to": 40, "seconds": 0.05, "stuck_at": 40},
    "paused": {"to": 4000, "seconds": 0.01},
    "running": {"to": 400, "seconds": 0.1},
    "pausing": {"to": 40, "seconds": 0.01, "stuck_at": 20},
    "cancelling": {"to": 40, "seconds": 0.01, "stuck_at": 30},
    "queued": {"to": 40},
}
"""How a walk comes to stand in each state, on a server that runs three at once."""


def test_every_state_is_shown_by_its_name_with_the_buttons_that_are_legal(
    spawn_server: Callable[..., ServerProcess], open_notebook: Open
) -> None:
    server = spawn_server("--import", "tests.support.widget_work", "--max-running", "3")
    with holdfast.Client(server.url) as client:
        for state, params in STATES.items():
            process = client.processes.start("walk", id=state, **params)
            if "stuck_at" in params:
                stuck = params["stuck_at"] - 1
                wait_until(lambda process=process, stuck=stuck: process.refresh().progress.done == stuck)
            if state in ("pausing", "paused"):
                process.pause()
            elif state.startswith("cancel"):
                process.cancel()
            if state == "cancelled":
                server.kill()  # what is stuck in a thread ends with its server
                server.restart()
            process.wait(20, until=state)
        notebook = open_notebook(connect(server), *(f"client.processes.get({state!r})" for state in STATES))
        notebook.run_all()
        for cell, state in enumerate(STATES, 1):
            shown = notebook.output(cell)
            shown.get_by_role("status").locator("span").get_by_text(state, exact=True).wait_for()
            possible = [verb.capitalize() for verb in VERBS if verb in legal(State(state))]
            wait_until(lambda shown=shown, possible=possible: pressable(shown) == possible)
        notebook.shoot(**{state: cell for cell, state in enumerate(STATES, 1)})


def test_failures_and_ends_are_shown_in_notebook_7(
    server: ServerProcess, client: holdfast.Client, open_notebook: Open
) -> None:
    notebook = open_notebook(connect(server), start(to=40, fail_at=20), app="notebooks")
    notebook.run_all()
    shown = notebook.output(1)
    shown.get_by_role("alert").get_by_text("WorkError: there is <b>no</b> step 20").wait_for()
    wait_until(lambda: pressable(shown) == ["Resume", "Cancel"])
    button(shown, "Cancel").click()
    shown.get_by_role("status").get_by_text("cancelled").wait_for()
