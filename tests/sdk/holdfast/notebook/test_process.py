"""Card of a process: it shows what the server says, and its buttons send requests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import holdfast
from holdfast.widgets import ProcessCard
from tests.sdk.holdfast.notebook.conftest import Message, button_of, card_of, enabled, shows, text_of
from tests.support.servers import ServerProcess

Spawn = Callable[..., ServerProcess]


@pytest.mark.slow
async def test_a_card_follows_its_process_to_the_end(client: holdfast.AsyncClient, messages: list[Message]) -> None:
    card = await card_of(client, "p", to=30, seconds=0.01)
    await shows(lambda: "succeeded" in text_of(card))
    await shows(lambda: "{&#x27;walked&#x27;: 30}" in text_of(card))
    assert "100% · 30 of 30" in text_of(card)
    await shows(lambda: "step 30 of 30 is done" in text_of(card))
    await shows(lambda: enabled(card) == set())


@pytest.mark.slow
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
    await shows(lambda: enabled(card) == set())
    assert (await client.processes.get("p")).state == "cancelled"


async def test_what_someone_else_does_is_shown(client: holdfast.AsyncClient, messages: list[Message]) -> None:
    card = await card_of(client, "p", to=10_000, seconds=0.005)
    await client.processes.pause("p")
    await shows(lambda: "paused" in text_of(card))


async def test_a_failure_is_shown_with_its_detail(client: holdfast.AsyncClient, messages: list[Message]) -> None:
    card = await card_of(client, "p", to=5, seconds=0.01, fail_at=3)
    await shows(lambda: "WorkError: there is &lt;b&gt;no&lt;/b&gt; step 3" in text_of(card))
    await shows(lambda: enabled(card) == {"Resume", "Cancel"})


async def test_a_process_that_is_not_there_is_said_so(client: holdfast.AsyncClient, messages: list[Message]) -> None:
    card = ProcessCard(client, "nobody")
    assert "loading" in text_of(card)
    await shows(lambda: "has no process &#x27;nobody&#x27;" in text_of(card))
    await shows(lambda: enabled(card) == set())


@pytest.mark.slow
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
    await shows(lambda: enabled(card) == {"Pause", "Cancel"})


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


async def test_a_wait_that_is_to_notify_works_where_there_is_no_notebook(
    client: holdfast.AsyncClient,
    messages: list[Message],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = await client.processes.start("walk", id="p", to=3, seconds=0.001)
    await process.wait(notify=True)
    assert process.state == "succeeded"
    assert capsys.readouterr().err == "", "there is no terminal"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    await client.processes.wait("p", notify=True)
    assert capsys.readouterr().err == "\awalk p: succeeded\n"
