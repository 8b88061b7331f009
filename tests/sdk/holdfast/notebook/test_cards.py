"""Cards of processes: they show what the server says, their buttons ask, and nothing of them stays."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets
import pytest

import holdfast
from holdfast.notebook._card import WidgetTree
from holdfast.notebook._feed import _feed as feed_module
from holdfast.notebook._feed import _stream
from holdfast.notebook._feed._feed import feed_of
from holdfast.notebook._renderer import MESSAGES_PER_SECOND
from holdfast.widgets import Dashboard, ProcessCard, TransferCard
from tests.sdk.holdfast.notebook.conftest import Message, button_of, enabled, shows, text_of
from tests.support.servers import ServerProcess

Spawn = Callable[..., ServerProcess]


async def card_of(client: holdfast.AsyncClient, id: str, **params: Any) -> ProcessCard:
    process = await client.processes.start("walk", id=id, **params)
    return ProcessCard.of(client, process.info)


async def test_a_card_follows_its_process_to_the_end(client: holdfast.AsyncClient, messages: list[Message]) -> None:
    card = await card_of(client, "p", to=30, seconds=0.01)
    await shows(lambda: "succeeded" in text_of(card))
    await shows(lambda: "{&#x27;walked&#x27;: 30}" in text_of(card))
    assert "100% · 30 of 30" in text_of(card)
    await shows(lambda: "step 30 of 30 is done" in text_of(card))
    assert enabled(card) == set()


async def test_its_buttons_ask_and_show_what_is_legal_then(
    client: holdfast.AsyncClient, messages: list[Message]
) -> None:
    card = await card_of(client, "p", to=10_000, seconds=0.005)
    assert enabled(card) == {"Pause", "Cancel"}
    button_of(card, "Pause").click()
    await shows(lambda: enabled(card) == {"Resume", "Cancel"} and "paused" in text_of(card))
    assert (await client.processes.get("p")).state == "paused"
    button_of(card, "Resume").click()
    await shows(lambda: enabled(card) == {"Pause", "Cancel"} and "running" in text_of(card))
    button_of(card, "Cancel").click()
    await shows(lambda: "cancelled" in text_of(card))
    assert enabled(card) == set()
    assert (await client.processes.get("p")).state == "cancelled"


async def test_what_someone_else_does_is_shown(client: holdfast.AsyncClient, messages: list[Message]) -> None:
    card = await card_of(client, "p", to=10_000, seconds=0.005)
    await client.processes.pause("p")
    await shows(lambda: "paused" in text_of(card))


async def test_a_refusal_is_shown_in_the_card_until_something_happens(
    client: holdfast.AsyncClient, messages: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = await card_of(client, "p", to=10_000, seconds=0.005)
    monkeypatch.setitem(feed_module.VERB_CALLS, "pause", feed_module.VERB_CALLS["resume"])  # not legal now
    button_of(card, "Pause").click()
    await shows(lambda: "pause was not done" in text_of(card))
    assert "cannot resume a process that is running" in text_of(card)
    await client.processes.pause("p")
    await shows(lambda: "was not done" not in text_of(card))


async def test_a_failure_is_shown_with_its_detail(client: holdfast.AsyncClient, messages: list[Message]) -> None:
    card = await card_of(client, "p", to=5, seconds=0.01, fail_at=3)
    await shows(lambda: "WorkError: there is &lt;b&gt;no&lt;/b&gt; step 3" in text_of(card))
    assert enabled(card) == {"Resume", "Cancel"}


async def test_a_process_that_is_not_there_is_said_so(client: holdfast.AsyncClient, messages: list[Message]) -> None:
    card = ProcessCard(client, "nobody")
    assert "loading" in text_of(card)
    await shows(lambda: "has no process &#x27;nobody&#x27;" in text_of(card))
    assert enabled(card) == set()


async def test_a_process_that_was_forgotten_and_started_again_is_another_one(
    client: holdfast.AsyncClient, messages: list[Message]
) -> None:
    """Its versions begin again, below those that the card has seen."""
    process = await client.processes.start("walk", id="p", to=20, seconds=0.005)
    card = ProcessCard.of(client, process.info)
    await shows(lambda: "succeeded" in text_of(card) and "step 20 of 20 is done" in text_of(card))
    await (await client.processes.get("p")).forget()
    await client.processes.start("walk", id="p", to=10_000, seconds=0.05)
    await shows(lambda: "running" in text_of(card) and "of 10 k" in text_of(card))
    await shows(lambda: "step 20 of 20" not in text_of(card))
    assert enabled(card) == {"Pause", "Cancel"}


async def test_shown_again_it_is_the_same_card_and_after_closing_a_new_one(
    client: holdfast.AsyncClient, messages: list[Message]
) -> None:
    process = await client.processes.start("walk", id="p", to=10_000, seconds=0.005)
    card = ProcessCard.of(client, process.info)
    assert ProcessCard.of(client, process.info) is card
    card.close()
    assert ProcessCard.of(client, process.info) is not card
    panel = client.dashboard()
    assert client.dashboard() is panel
    panel.close()
    assert client.dashboard() is not panel


async def test_a_card_made_from_the_id_alone_shows_log_and_state_of_before(
    client: holdfast.AsyncClient, messages: list[Message]
) -> None:
    """As in a kernel that was restarted."""
    process = await client.processes.start("walk", id="p", to=20, seconds=0.005)
    await process.wait()
    async with holdfast.AsyncClient(client.base_url) as another:
        card = ProcessCard(another, "p")
        await shows(lambda: "succeeded" in text_of(card))
        await shows(lambda: "step 20 of 20 is done" in text_of(card))
        assert "step 10 of 20 is done" in text_of(card)


async def test_every_message_comes_from_the_loop_and_at_most_ten_in_any_second(
    client: holdfast.AsyncClient, messages: list[Message]
) -> None:
    cards = [await card_of(client, f"p{n}", to=10_000, seconds=0.005) for n in range(6)]
    await shows(lambda: len(messages) > 3 * MESSAGES_PER_SECOND)
    button_of(cards[0], "Pause").click()
    await shows(lambda: "paused" in text_of(cards[0]))  # a change of state does not wait for bars to move
    assert {message.thread for message in messages} == {threading.current_thread().name}
    for first, later in zip(messages, messages[MESSAGES_PER_SECOND:], strict=False):
        assert later.at - first.at >= 0.99
    moved = {message.comm for message in messages}
    assert all({card._meter.comm.comm_id} <= moved for card in cards), "none is left behind"


async def test_a_process_watches_itself_to_its_end(client: holdfast.AsyncClient, messages: list[Message]) -> None:
    process = await client.processes.start("walk", id="p", to=20, seconds=0.005)
    await process.watch()
    assert process.state == "succeeded"
    assert process.info.result == {"walked": 20}


@pytest.mark.slow
async def test_a_card_says_reconnecting_and_goes_on_when_the_server_is_back(
    spawn_server: Spawn, messages: list[Message]
) -> None:
    server = spawn_server("--import", "tests.support.widget_work")
    async with holdfast.AsyncClient(server.url) as client:
        card = await card_of(client, "p", to=10_000, seconds=0.01)
        await shows(lambda: "running" in text_of(card))
        server.kill()
        await shows(lambda: "reconnecting" in text_of(card))
        assert "trying again" in text_of(card)
        server.restart()
        await shows(lambda: "running" in text_of(card) and "trying again" not in text_of(card))
        await shows(lambda: "attempt 2" in text_of(card))
        card.close()


@pytest.mark.slow
async def test_a_server_with_another_journal_is_believed(
    spawn_server: Spawn, tmp_path: Path, messages: list[Message]
) -> None:
    server = spawn_server("--import", "tests.support.widget_work")
    async with holdfast.AsyncClient(server.url) as client:
        card, other = await card_of(client, "p", to=10, seconds=0.01), await card_of(client, "q", seconds=0.01)
        await shows(lambda: "succeeded" in text_of(card))
        server.kill()
        server.data_dir = tmp_path / "another"
        server.restart()
        await shows(lambda: "gone" in text_of(card) and "gone" in text_of(other))
        await client.processes.start("walk", id="q", to=10_000, seconds=0.01)
        feed_of(client).refresh()
        await shows(lambda: "running" in text_of(other))


@pytest.mark.slow
async def test_a_token_that_is_refused_is_said_and_another_one_is_taken(
    spawn_server: Spawn, messages: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stream, "REFUSED_PAUSE", 0.2)
    server = spawn_server("--import", "tests.support.widget_work", HOLDFAST_TOKEN="right")
    async with holdfast.AsyncClient(server.url, token="right") as client:
        await client.processes.start("walk", id="p", to=10_000, seconds=0.01)
    async with holdfast.AsyncClient(server.url, token="wrong") as client:
        card = ProcessCard(client, "p")
        await shows(lambda: "refused" in text_of(card))
        client.token = "right"
        await shows(lambda: "running" in text_of(card) and "refused" not in text_of(card))
        card.close()


@pytest.mark.slow
async def test_500_views_made_and_closed_leave_nothing(
    spawn_server: Spawn, messages: list[Message], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    client = holdfast.AsyncClient(spawn_server("--import", "tests.support.widget_work").url)
    process = await client.processes.start("walk", id="p", to=100_000, seconds=0.01)
    upload = client.files.upload(b"a,b", "done.csv")
    await upload
    models = ipywidgets.widgets.widget._instances
    before, tasks = len(models), asyncio.all_tasks()
    fds = open_sockets()
    for _ in range(10):
        cards: list[WidgetTree] = [ProcessCard(client, "p", process.info) for _ in range(40)]
        cards += [TransferCard(upload) for _ in range(5)]
        cards += [Dashboard(client) for _ in range(5)]
        sent = len(messages)
        await shows(lambda sent=sent: len(messages) > sent + 2)  # they are at work
        for card in cards:
            card.close()
        del card, cards
    await shows(lambda: not [t.name for t in threading.enumerate() if t.name.startswith("holdfast")])
    assert len(models) == before
    assert asyncio.all_tasks() == tasks
    feed = feed_of(client)
    assert not feed.has_subscriptions
    assert not feed.processes
    await shows(lambda: open_sockets() <= fds)
    await client.close()
    gc.collect()
    assert not [thing for thing in gc.get_objects() if isinstance(thing, WidgetTree)]


@pytest.mark.parametrize("kind", ["card", "panel"])
async def test_a_view_that_ipywidgets_lets_go_is_gone_and_looks_no_more(
    kind: str, client: holdfast.AsyncClient, messages: list[Message]
) -> None:
    """Nothing of ours holds it: neither its buttons, nor the feed, nor what brings it up to date."""

    async def shown_and_let_go() -> weakref.ref[WidgetTree]:
        view: WidgetTree = await card_of(client, "p", to=10_000, seconds=0.01)
        if kind == "panel":
            view.close()
            view = client.dashboard()
        await shows(lambda: "running" in text_of(view))
        button_of(view, "Pause").click()
        await shows(lambda: "paused" in text_of(view))
        for widget in list(view.widgets()):  # what has them but for who made them
            widget.comm.on_msg(None)
            ipywidgets.widgets.widget._instances.pop(widget.model_id, None)  # styles are shared
        return weakref.ref(view)

    gone = await shown_and_let_go()
    await shows(lambda: (gc.collect(), gone())[1] is None)
    assert not feed_of(client).has_subscriptions
    await shows(lambda: not [t for t in threading.enumerate() if t.name.startswith("holdfast")])


@pytest.mark.parametrize("kind", ["process", "transfer", "panel"])
async def test_where_nothing_moves_by_itself_a_view_says_so(
    kind: str, client: holdfast.AsyncClient, messages: list[Message], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Colab, whose front end takes updates only while a cell runs."""
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    if kind == "process":
        card = await card_of(client, "p", to=10, seconds=0.05)
        assert "run `await p.watch()` in a cell" in text_of(card)
        await shows(lambda: "succeeded" in text_of(card))
        assert "watch" not in text_of(card)
    elif kind == "transfer":
        assert "only while a cell runs" in text_of(TransferCard(client.files.upload(b"a,b" * 1000, "a", limit=1000)))
    else:
        panel = client.dashboard()
        assert "only while a cell runs" in text_of(panel)
        assert "only while a cell runs" in panel._repr_mimebundle_()[0]["text/html"]


async def test_the_last_card_that_closes_ends_the_connection(
    client: holdfast.AsyncClient, messages: list[Message], app: Any
) -> None:
    one, two = await card_of(client, "p", seconds=0.01), await card_of(client, "q", seconds=0.01)
    hub = app.services.processes.hub
    await shows(lambda: len(hub) == 1)
    one.close()
    await asyncio.sleep(0)
    assert len(hub) == 1
    two.close()
    await shows(lambda: len(hub) == 0)


async def test_when_the_client_is_closed_its_views_stand_still_and_ask_for_nothing(
    base_url: str, messages: list[Message], app: Any
) -> None:
    """As at the end of a notebook, whose server stops then: no card goes on looking for it."""
    client = holdfast.AsyncClient(base_url)
    card, ended = await card_of(client, "p", to=10_000, seconds=0.01), await card_of(client, "q", to=1)
    panel = client.dashboard()
    await shows(lambda: "succeeded" in text_of(ended) and "running" in text_of(panel))
    await client.close()
    await shows(lambda: "the client was closed: this is the last known state" in text_of(card))
    await shows(lambda: "the client was closed" in text_of(panel))
    assert "the client was closed" not in text_of(ended)
    await shows(lambda: enabled(card) == enabled(panel) == set())
    assert "running" in text_of(card)
    await shows(lambda: len(app.services.processes.hub) == 0)
    card.request("pause")
    feed_of(client).request_bulk(["p"], "pause", lambda said: None)
    again = ProcessCard(client, "p")
    assert "running" in text_of(again)
    assert not [t for t in threading.enumerate() if t.name == "holdfast-feed"]


def open_sockets() -> set[str]:
    """Sockets that this process has open."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found
