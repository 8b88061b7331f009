"""The renderer: updates from one thread, few enough for a browser, the newest first."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import ipywidgets
import pytest

import holdfast
from holdfast.notebook._renderer import MESSAGES_PER_SECOND, Renderer, UpdateWidget, assign_traits
from tests.sdk.holdfast.notebook.conftest import Message, button_of, card_of, shows, text_of
from tests.support.servers import ServerProcess, wait_until

Spawn = Callable[..., ServerProcess]


@pytest.mark.slow
async def test_every_message_comes_from_one_thread_and_at_most_ten_in_any_second(
    client: holdfast.AsyncClient, messages: list[Message]
) -> None:
    cards = [await card_of(client, f"p{n}", to=10_000, seconds=0.005) for n in range(6)]
    await shows(lambda: len(messages) > 3 * MESSAGES_PER_SECOND)
    button_of(cards[0], "Pause").click()
    await shows(lambda: "paused" in text_of(cards[0]))  # a change of state does not wait for bars to move
    assert {message.thread for message in messages} == {"holdfast-renderer"}
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
    renderer = Renderer()
    still, polled = Counter(ipywidgets.Label()), Counter(ipywidgets.Label(), polled=True)
    renderer.add(still)
    await renderer.next_tick()
    assert 1 <= still.count <= 2
    renderer.add(polled)
    await renderer.next_tick()
    count = still.count
    seen = polled.count
    await shows(lambda: polled.count > seen + 4)
    assert still.count <= count + 1
    renderer.remove(polled)
    seen = polled.count
    renderer.request_render()
    await renderer.next_tick()
    assert still.count > count
    assert polled.count == seen


@pytest.mark.slow
async def test_an_observer_that_fails_stops_no_other_view(messages: list[Message]) -> None:
    renderer = Renderer()
    first, second = Counter(ipywidgets.Label()), Counter(ipywidgets.Label())

    def fail(change: object) -> None:
        raise ValueError("of somebody who observes the label")

    first.label.observe(fail, "value")
    for view in (first, second):
        renderer.add(view)
    await renderer.next_tick()
    seen = second.count
    renderer.request_render()
    await renderer.next_tick()
    await shows(lambda: int(second.label.value or 0) > seen)


@pytest.mark.slow
async def test_when_there_is_no_room_for_all_the_newest_values_are_sent(messages: list[Message]) -> None:
    renderer = Renderer()
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
    renderer = Renderer()
    views = [Counter(ipywidgets.Label()) for _ in range(2 * MESSAGES_PER_SECOND)]
    urgent = Counter(ipywidgets.Label(), urgent=True)
    for view in [*views, urgent]:
        renderer.add(view)
    await renderer.next_tick()
    assert urgent.label.value == "1"


async def test_a_view_that_fails_does_not_stop_the_others(
    messages: list[Message], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Counter):
        def render(self, update: UpdateWidget) -> None:
            raise RuntimeError("a bug")

    renderer = Renderer()
    broken, good = Broken(ipywidgets.Label()), Counter(ipywidgets.Label())
    for view in (broken, good):
        renderer.add(view)
    for _ in range(2):
        renderer.request_render()
        await renderer.next_tick()
    assert good.count >= 2
    [record] = caplog.records
    assert "could not be rendered" in record.getMessage()
    assert "a bug" in str(record.exc_info)


@pytest.mark.slow
async def test_views_are_rendered_while_the_main_thread_is_busy_and_the_thread_ends_with_the_last(
    messages: list[Message],
) -> None:
    renderer, view = Renderer(), Counter(ipywidgets.Label(), polled=True)
    renderer.add(view)
    label = view.label
    wait_until(lambda: label.value >= "3")  # it blocks this thread, which is the loop's
    assert {message.thread for message in messages} == {"holdfast-renderer"}
    del view
    gc.collect()
    await shows(lambda: "holdfast-renderer" not in {thread.name for thread in threading.enumerate()})


async def test_only_traits_that_differ_are_sent(messages: list[Message]) -> None:
    label = ipywidgets.Label("a")
    sent = len(messages)
    assert not assign_traits(label, {"value": "a"})
    assert len(messages) == sent
    assert assign_traits(label, {"value": "b", "description": "c"})
    assert len(messages) == sent + 1
    label.close()
    assert not assign_traits(label, {"value": "d"})
