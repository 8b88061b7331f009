"""The feed of a client: one connection for all its views, and only while there are views."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.notebook._feed import _feed as feed_module
from holdfast.notebook._feed import _stream
from holdfast.notebook._feed._registry import feed_of
from holdfast.widgets import ProcessCard
from tests.sdk.holdfast.notebook.conftest import Message, button_of, card_of, enabled, shows, text_of
from tests.support.servers import ServerProcess

Spawn = Callable[..., ServerProcess]


@pytest.mark.slow
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


async def test_the_last_card_that_closes_ends_the_connection(
    client: holdfast.AsyncClient, messages: list[Message], app: Any
) -> None:
    one, two = await card_of(client, "p", seconds=0.01), await card_of(client, "q", seconds=0.01)
    broker = app.services.engine.broker
    await shows(lambda: len(broker) == 1)
    one.close()
    await asyncio.sleep(0)
    assert len(broker) == 1
    two.close()
    await shows(lambda: len(broker) == 0)


@pytest.mark.slow
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
    await shows(lambda: len(app.services.engine.broker) == 0)
    card.request("pause")
    feed_of(client).request_bulk(["p"], "pause", lambda said: None)
    again = ProcessCard(client, "p")
    assert "running" in text_of(again)
    assert not [t for t in threading.enumerate() if t.name == "holdfast-feed"]
