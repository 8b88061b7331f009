"""Every view: the same one while it is open, nothing left after it is closed, and a note where it is not live."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import types
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

import holdfast
from holdfast.notebook._card import WidgetTree
from holdfast.notebook._feed._registry import feed_of
from holdfast.widgets import Dashboard, ProcessCard, TransferCard
from tests.sdk.holdfast.notebook.conftest import Message, button_of, card_of, open_widgets, shows, text_of
from tests.support.servers import ServerProcess

Spawn = Callable[..., ServerProcess]


@pytest.mark.slow
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


@pytest.mark.slow
async def test_500_views_made_and_closed_leave_nothing(
    spawn_server: Spawn, messages: list[Message], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    client = holdfast.AsyncClient(spawn_server("--import", "tests.support.widget_work").url)
    process = await client.processes.start("walk", id="p", to=100_000, seconds=0.01)
    upload = client.files.upload(b"a,b", "done.csv")
    await upload
    models = open_widgets()
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


@pytest.mark.slow
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
            open_widgets().pop(widget.model_id, None)  # styles are shared
        return weakref.ref(view)

    gone = await shown_and_let_go()
    await shows(lambda: (gc.collect(), gone())[1] is None)
    assert not feed_of(client).has_subscriptions
    await shows(lambda: not [t for t in threading.enumerate() if t.name.startswith("holdfast")])


@pytest.mark.slow
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
