"""The dashboard: everything on a server in one panel, and cheap."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import holdfast
from holdfast._endpoints.call import Call, T
from holdfast.notebook import _dashboard as module
from holdfast.notebook._feed._registry import feed_of
from holdfast.notebook._renderer import MESSAGES_PER_SECOND
from holdfast.widgets import Dashboard, ProcessCard
from tests.sdk.holdfast.notebook.conftest import (
    Message,
    button_of,
    enabled,
    field_of,
    forget_everything,
    open_widgets,
    shows,
    text_of,
)
from tests.support.servers import ServerProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """In a process of its own, since a panel waits a moment for its first answer; one for all tests."""
    folder = tmp_path_factory.mktemp("server")
    server = ServerProcess(folder, ["--import", "tests.support.widget_work", "--max-running", "200"])
    server.start()
    yield server
    server.end()


@pytest.fixture
def client(server: ServerProcess, messages: list[Message]) -> Iterator[holdfast.Client]:
    with holdfast.Client(server.url) as client:
        yield client
        forget_everything(client)


async def send(client: holdfast.Client, call: Call[T]) -> T:
    """The answer to a call that the client has no method for."""
    return await asyncio.to_thread(client._core.request, call)


def walks(client: holdfast.Client, count: int, **params: Any) -> None:
    for n in range(count):
        client.processes.start("walk", id=f"walk-{n}", **{"to": 10_000, "seconds": 0.02, **params})


def rows(panel: Dashboard) -> list[str]:
    """Return the ids in the table of processes, in order."""
    [html] = [w.value for w in panel.widgets() if 'aria-label="processes"' in str(getattr(w, "value", ""))] or [""]
    return [part.partition(" <small>")[0] for part in html.split('<th scope="row">')[1:]]


def detail_of(panel: Dashboard) -> ProcessCard | None:
    """The card in the panel, if there is one."""
    return next((widget for widget in panel.widgets() if isinstance(widget, ProcessCard)), None)


async def test_it_begins_with_all_there_is_and_follows_what_happens(
    client: holdfast.Client, server: ServerProcess
) -> None:
    walks(client, 2)
    (server.files_dir / "old.csv").write_text("a,b\n")
    panel = client.dashboard()
    assert rows(panel) == ["walk-1", "walk-0"]
    assert "old.csv" in text_of(panel)

    await asyncio.to_thread(lambda: client.processes.start("walk", id="later", to=5, seconds=0.01).wait())
    await shows(lambda: rows(panel) == ["walk-1", "walk-0", "later"])  # what has ended is below
    await shows(lambda: "1 succeeded" in text_of(panel))
    await shows(lambda: "100%" in text_of(panel))
    (server.files_dir.parent / "new.csv").write_text("c" * 2000)
    await asyncio.to_thread(lambda: client.files.upload(server.files_dir.parent / "new.csv").wait())
    await shows(lambda: "new.csv" in text_of(panel) and "2 kB" in text_of(panel))
    await asyncio.to_thread(client.files.delete, "old.csv")
    await shows(lambda: "old.csv" not in text_of(panel))


async def test_uploads_are_shown_while_they_are_made(client: holdfast.Client) -> None:
    panel = Dashboard(client, ["uploads"])
    create = holdfast.calls.create_upload(length=1000, metadata=holdfast.calls.tus_metadata(filename="half.bin"))
    upload = await send(client, create)
    await send(client, holdfast.calls.append(upload.id, 0, b"x" * 500))
    await shows(lambda: "half.bin" in text_of(panel) and "50%" in text_of(panel))
    await send(client, holdfast.calls.delete_upload(upload.id))
    await shows(lambda: "half.bin" not in text_of(panel))
    part = await send(client, holdfast.calls.create_upload(length=1000, partial=True))
    await shows(lambda: "part of a file" in text_of(panel))
    assert "upload part of a file: 0 B of 1 kB" in panel._repr_mimebundle_()[0]["text/plain"]
    await send(client, holdfast.calls.delete_upload(part.id))


async def test_the_filter_and_the_state_narrow_what_is_shown_and_meant(client: holdfast.Client) -> None:
    walks(client, 3)
    client.processes.start("manifest", id="sums").wait()
    panel = client.dashboard()
    assert button_of(panel, "Pause").description == "Pause 3"
    field_of(panel, "Filter").value = "WALK-2"
    await shows(lambda: rows(panel) == ["walk-2"])
    await shows(lambda: button_of(panel, "Pause").description == "Pause 1")
    button_of(panel, "Pause").click()
    await shows(lambda: client.processes.get("walk-2").state == "paused")
    assert client.processes.get("walk-1").state == "running"
    field_of(panel, "Filter").value = ""
    field_of(panel, "State").value = "paused"
    await shows(lambda: rows(panel) == ["walk-2"])
    await shows(lambda: enabled(panel) == {"Resume 1", "Cancel 1"})
    field_of(panel, "State").value = "live"
    await shows(lambda: len(rows(panel)) == 3)
    field_of(panel, "Filter").value = "manifest"
    field_of(panel, "State").value = ""
    await shows(lambda: rows(panel) == ["sums"])


async def test_many_are_cancelled_by_a_second_click_only(
    client: holdfast.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONFIRM_SECONDS", 2.5)
    walks(client, 3)
    panel = client.dashboard()
    button_of(panel, "Cancel 3").click()
    await shows(lambda: "Really cancel 3?" in enabled(panel))
    await shows(lambda: "Cancel 3" in enabled(panel))  # it is not asked forever
    assert client.processes.get("walk-0").state == "running"
    monkeypatch.setattr(module, "_CONFIRM_SECONDS", 10)
    button_of(panel, "Cancel 3").click()
    await shows(lambda: "Really cancel 3?" in enabled(panel))
    button_of(panel, "Really").click()
    await shows(lambda: "3 cancelled" in text_of(panel))
    await shows(lambda: enabled(panel) == set())


async def test_what_is_refused_is_said(client: holdfast.Client) -> None:
    walks(client, 2)
    panel = client.dashboard()
    client.processes.pause_all(ids=["walk-0"])
    panel.request(["walk-0", "walk-1", "gone"], "resume")
    await shows(lambda: "walk-1: cannot resume a process that is running" in text_of(panel))
    assert "gone: there is no process" in text_of(panel)


async def test_details_show_the_card_of_a_process_and_then_of_another(client: holdfast.Client) -> None:
    walks(client, 2)
    panel = client.dashboard()
    field_of(panel, "Details").value = "walk-0"
    card = await shows(lambda: detail_of(panel))
    await shows(lambda: "step 10 of" in text_of(card))
    field_of(panel, "Details").value = "walk-1"
    await shows(lambda: "<b>walk-1</b>" in text_of(card))
    button_of(card, "Pause").click()
    await shows(lambda: "paused" in text_of(card))
    assert client.processes.get("walk-1").state == "paused"
    assert client.processes.get("walk-0").state == "running"
    field_of(panel, "Details").value = ""
    await shows(lambda: detail_of(panel) is None)


async def test_a_server_that_does_not_answer_is_said_so_and_shown_when_it_is_back(
    spawn_server: Callable[..., ServerProcess], messages: list[Message]
) -> None:
    server = spawn_server("--import", "tests.support.widget_work")
    with holdfast.Client(server.url) as client:
        walks(client, 1)
        server.kill()
        panel = client.dashboard()
        assert "no connection" in text_of(panel)
        server.restart()
        await shows(lambda: rows(panel) == ["walk-0"] and "no connection" not in text_of(panel))
        panel.close()


async def test_it_is_kept_as_html_and_text_too(client: holdfast.Client) -> None:
    walks(client, 1)
    data, _ = client.dashboard()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert 'aria-label="processes"' in data["text/html"]
    assert "walk walk-0: running" in data["text/plain"]


async def test_200_processes_take_little_of_the_loop_and_ten_messages_a_second(
    client: holdfast.Client, messages: list[Message]
) -> None:
    walks(client, 200, seconds=0.1)
    panel = client.dashboard()
    assert len(rows(panel)) == 200
    messages.clear()
    assert await longest_hold_of_the_loop(5.0) < 0.05
    assert len(messages) > 2, "it is live"
    for first, later in zip(messages, messages[MESSAGES_PER_SECOND:], strict=False):
        assert later.at - first.at >= 0.99


async def longest_hold_of_the_loop(seconds: float) -> float:
    """The longest that the loop was busy between two looks at it.

    In seconds of the processor, of this thread alone, not traced: what views cost the loop, whatever else the machine
    does meanwhile.
    """
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        worst, end = 0.0, time.monotonic() + seconds
        while time.monotonic() < end:
            before = time.thread_time()
            await asyncio.sleep(0.005)
            worst = max(worst, time.thread_time() - before)
        return worst
    finally:
        sys.settrace(trace)


async def test_closed_dashboards_leave_nothing(client: holdfast.Client) -> None:
    walks(client, 2)
    models = open_widgets()
    before = len(models)
    panels = [client.dashboard() for _ in range(5)]
    field_of(panels[0], "Details").value = "walk-0"
    await shows(lambda: detail_of(panels[0]))
    for panel in panels:
        panel.close()
    assert len(models) == before
    assert not feed_of(client).has_subscriptions
    await shows(lambda: not [t for t in threading.enumerate() if t.name == "holdfast-feed"])
