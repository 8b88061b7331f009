"""Views by the browser module: small patches that add up to the content, and few bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import holdfast
from holdfast.notebook._live import _view
from holdfast.notebook._live._view import LiveView, merge_patch
from holdfast.widgets import Dashboard, ProcessCard, TransferCard
from tests.sdk.holdfast.notebook.conftest import Message, forget_everything, open_widgets, shows
from tests.support.servers import ServerProcess


@pytest.fixture(autouse=True)
def modules(plain_widgets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_WIDGETS", "module")


def merged(target: Any, patch: Any) -> Any:
    """MergePatch of RFC 7396, section 2, as the page applies it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 1, "d": 3}}, {"a": None, "b": {"d": 3}}),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, {"a": [1, 2, 3]}),
        ({"a": {"b": 1}}, {"a": "text"}, {"a": "text"}),
        ({"a": {}}, {"a": {"b": {}}}, {"a": {"b": {}}}),
    ],
)
def test_a_patch_has_only_what_differs(old: dict[str, Any], new: dict[str, Any], patch: dict[str, Any]) -> None:
    assert merge_patch(old, new) == patch
    assert merged(old, patch) == new


class Receiver:
    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def receive(self, message: dict[str, Any]) -> None:
        self.messages.append(message)


def page_says(view: LiveView, message: dict[str, Any]) -> None:
    """As a message of the browser arrives."""
    view._handle_custom_msg(message, [])


def test_a_page_that_comes_late_gets_the_whole_and_can_ask_for_it(messages: list[Message]) -> None:
    receiver = Receiver()
    view = LiveView({"live": True, "n": 1}, receiver)
    view.content = {"live": True, "n": 2}
    sent = messages[-1].data["content"]
    assert (sent["base"], sent["version"], sent["patch"]) == (0, 1, {"n": 2})
    assert view.get_state("snapshot")["snapshot"]["content"] == {"live": True, "n": 2}
    page_says(view, {"whole": True})
    assert messages[-1].data["state"]["snapshot"] == view.get_state("snapshot")["snapshot"]
    page_says(view, {"verb": "pause"})
    assert receiver.messages == [{"verb": "pause"}]
    count = len(messages)
    view.content = {"live": True, "n": 2}
    assert len(messages) == count, "nothing differs"


def test_a_live_view_is_sent_again_after_a_silence(messages: list[Message], monkeypatch: pytest.MonkeyPatch) -> None:
    view = LiveView({"live": True}, Receiver())
    assert view.is_current
    monkeypatch.setattr(_view, "MESSAGE_INTERVAL", 0.0)
    assert not view.is_current
    sent = len(messages)
    view.is_current = True
    assert "snapshot" in messages[sent].data["state"]
    view.content = {"live": False}
    assert view.is_current, "what has ended needs no message"


def contents(messages: list[Message], view: Any) -> dict[str, Any]:
    """The content that a page shows after all messages to a view."""
    content: dict[str, Any] = {}
    for message in messages:
        if message.comm != view.comm.comm_id:
            continue
        if message.data["method"] == "update" and "snapshot" in message.data["state"]:
            content = message.data["state"]["snapshot"]["content"]
        elif message.data["method"] == "custom":
            content = merged(content, message.data["content"]["patch"])
    return content


@pytest.mark.slow
async def test_a_card_follows_its_process_and_its_log_and_takes_clicks(
    client: holdfast.AsyncClient, messages: list[Message]
) -> None:
    process = await client.processes.start("walk", id="p", to=10_000, seconds=0.005)
    card = ProcessCard.of(client, process.info)
    [view] = [widget for widget in card.widgets() if isinstance(widget, LiveView)]
    page_says(view, {"whole": True})
    await shows(lambda: "/s" in contents(messages, view)["speed"])
    await shows(lambda: any("is done" in line for line in contents(messages, view)["lines"].values()))
    assert contents(messages, view)["verbs"] == ["pause", "cancel"]
    page_says(view, {"notify": True})
    await shows(lambda: contents(messages, view)["notify"])
    page_says(view, {"verb": "pause"})
    await shows(lambda: contents(messages, view)["state"] == "paused")
    await shows(lambda: contents(messages, view)["verbs"] == ["resume", "cancel"])
    assert contents(messages, view)["speed"] == ""
    page_says(view, {"verb": "format the disk"})
    page_says(view, {"verb": "cancel"})
    await shows(lambda: contents(messages, view)["over"])
    assert not contents(messages, view)["live"]


@pytest.mark.slow
async def test_a_transfer_has_the_same_card_without_a_bell(
    client: holdfast.AsyncClient, messages: list[Message], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    transfer = client.files.upload(b"a,b" * 1000, "a.csv")
    card = TransferCard(transfer)
    [view] = [widget for widget in card.widgets() if isinstance(widget, LiveView)]
    page_says(view, {"whole": True})
    await transfer
    await shows(lambda: contents(messages, view)["state"] == "succeeded")
    assert not contents(messages, view)["bell"]


@pytest.fixture(scope="module")
def busy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(
        tmp_path_factory.mktemp("server"), ["--import", "tests.support.widget_work", "--max-running", "40"]
    )
    server.start()
    yield server
    server.end()


@pytest.fixture
def plain_client(busy_server: ServerProcess, messages: list[Message]) -> Iterator[holdfast.Client]:
    with holdfast.Client(busy_server.url) as client:
        yield client
        forget_everything(client)


@pytest.mark.slow
async def test_200_rows_with_40_that_run_take_under_100_kb_a_second(
    plain_client: holdfast.Client, messages: list[Message]
) -> None:
    for n in range(200):
        plain_client.processes.start("walk", id=f"walk-{n}", to=10_000, seconds=0.02)
    panel = plain_client.dashboard()
    assert isinstance(panel, Dashboard)
    [view] = [widget for widget in panel.widgets() if isinstance(widget, LiveView)]
    await shows(lambda: sum(1 for row in view.content["processes"]["rows"].values() if "speed" in row) == 40)
    page_says(view, {"whole": True})
    seconds, begin = 12.0, len(messages)  # longer than from one whole content to the next
    await asyncio.sleep(seconds)
    sent = sum(len(json.dumps(message.data)) for message in messages[begin:])
    assert len(messages) - begin > seconds, "it is live"
    assert sent / seconds < 100_000
    print(f"{sent / seconds / 1000:.0f} kB/s")


@pytest.mark.slow
async def test_a_dashboard_sorts_filters_and_shows_details(
    plain_client: holdfast.Client, messages: list[Message]
) -> None:
    start: Callable[..., Any] = plain_client.processes.start
    start("walk", id="ended", to=3, seconds=0.001).wait()
    start("walk", id="broken", to=3, seconds=0.001, fail_at=2).wait()
    for n in range(3):
        start("walk", id=f"walk-{n}", to=1000 * (n + 1), seconds=0.02)
    panel = plain_client.dashboard()
    [view] = [widget for widget in panel.widgets() if isinstance(widget, LiveView)]
    order = lambda: view.content["processes"]["order"]  # noqa: E731
    await shows(lambda: order() == ["walk-2", "walk-1", "walk-0", "broken", "ended"])
    page_says(view, {"sort": ["processes", "name", False]})
    await shows(lambda: order() == ["broken", "ended", "walk-0", "walk-1", "walk-2"])
    page_says(view, {"sort": ["processes", "name", True]})
    await shows(lambda: order() == ["walk-2", "walk-1", "walk-0", "ended", "broken"])
    page_says(view, {"sort": ["processes", "no such column", True]})
    await shows(lambda: order() == ["walk-2", "walk-1", "walk-0", "broken", "ended"])
    page_says(view, {"filter": "WALK-1"})
    await shows(lambda: order() == ["walk-1"])
    page_says(view, {"details": "walk-1"})
    await shows(lambda: len(view.content.get("detail", {}).get("card", {}).get("lines", ())) > 6)
    page_says(view, {"verb": "pause", "id": "walk-1"})
    await shows(lambda: view.content["detail"]["card"]["state"] == "paused")
    assert plain_client.processes.get("walk-1").state == "paused"
    assert plain_client.processes.get("walk-2").state == "running"
    page_says(view, {"details": ""})
    await shows(lambda: "detail" not in view.content)
    before = len(open_widgets())
    panel.close()
    assert len(open_widgets()) < before
