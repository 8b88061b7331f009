"""The renderer: updates from the loop alone, few enough for a browser, the newest first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import ipywidgets
import pytest

import holdfast
from holdfast.notebook._renderer import MESSAGES_PER_SECOND, Renderer, UpdateWidget, assign_traits
from tests.sdk.holdfast.notebook.conftest import Message, button_of, card_of, shows, text_of
from tests.support.servers import ServerProcess

Spawn = Callable[..., ServerProcess]


@pytest.mark.slow
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
    assert all({w.comm.comm_id for w in card.widgets()} & moved for card in cards), "none is left behind"


class Counter:
    """A view of one label, which counts up at every render."""

    def __init__(self, label: ipywidgets.Widget, *, urgent: bool = False, polled: bool = False) -> None:
        self.label, self.urgent, self.polled = label, urgent, polled
        self.count = 0

    def render(self, update: UpdateWidget) -> None:
        self.count += 1
        update(self.label, urgent=self.urgent, value=str(self.count))


@pytest.mark.slow
async def test_a_render_needs_a_request_unless_the_view_is_polled(messages: list[Message]) -> None:
    renderer = Renderer(asyncio.get_running_loop())
    still, polled = Counter(ipywidgets.Label()), Counter(ipywidgets.Label(), polled=True)
    renderer.add(still)
    await renderer.next_tick()
    await shows(lambda: still.count == 1)
    renderer.add(polled)
    await shows(lambda: polled.count > 2)
    renderer.remove(polled)
    renderer.request_render()
    await renderer.next_tick()
    count = still.count
    renderer.request_render()
    await renderer.next_tick()
    assert still.count == count + 1


@pytest.mark.slow
async def test_when_there_is_no_room_for_all_the_newest_values_are_sent(messages: list[Message]) -> None:
    renderer = Renderer(asyncio.get_running_loop())
    views = [Counter(ipywidgets.Label()) for _ in range(2 * MESSAGES_PER_SECOND)]
    for view in views:
        renderer.add(view)
    sent = len(messages)
    for _ in range(5):
        renderer.request_render()
        await renderer.next_tick()
    assert len(messages) - sent < MESSAGES_PER_SECOND
    late = views[-1]
    await shows(lambda: late.label.value == str(late.count))


async def test_urgent_updates_are_sent_before_progress(messages: list[Message]) -> None:
    renderer = Renderer(asyncio.get_running_loop())
    views = [Counter(ipywidgets.Label()) for _ in range(2 * MESSAGES_PER_SECOND)]
    urgent = Counter(ipywidgets.Label(), urgent=True)
    for view in [*views, urgent]:
        renderer.add(view)
    await renderer.next_tick()
    assert urgent.label.value == "1"


async def test_a_view_that_fails_does_not_stop_the_others(messages: list[Message]) -> None:
    class Broken(Counter):
        def render(self, update: UpdateWidget) -> None:
            raise RuntimeError("a bug")

    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: failures.append(context))
    try:
        renderer = Renderer(loop)
        broken, good = Broken(ipywidgets.Label()), Counter(ipywidgets.Label())
        for view in (broken, good):
            renderer.add(view)
        for _ in range(2):
            renderer.request_render()
            await renderer.next_tick()
    finally:
        loop.set_exception_handler(None)
    assert good.count == 2
    assert [str(failure["exception"]) for failure in failures] == ["a bug"]


async def test_only_traits_that_differ_are_sent(messages: list[Message]) -> None:
    label = ipywidgets.Label("a")
    sent = len(messages)
    assert not assign_traits(label, {"value": "a"})
    assert len(messages) == sent
    assert assign_traits(label, {"value": "b", "description": "c"})
    assert len(messages) == sent + 1
    label.close()
    assert not assign_traits(label, {"value": "d"})
