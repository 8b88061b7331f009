"""Fixtures for views: a server with work to show, and every message that goes to the browser."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import comm
import ipywidgets
import pytest

import holdfast
from holdfast.notebook._card import WidgetTree
from holdfast.widgets import ProcessCard
from holdfast.wire import LIVE
from tests.support.servers import PATIENCE
from tornado_app.settings import Settings

T = TypeVar("T")


class Message(NamedTuple):
    """A message to the browser: when, from which thread, of which widget, and what it says."""

    at: float
    thread: str
    comm: str
    data: dict[str, Any]
    buffers: list[bytes]


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Message]]:
    """Every update of a widget, in order. At the end there is no widget left."""
    sent: list[Message] = []

    class Recorder(comm.DummyComm):
        def publish_msg(self, msg_type: str, data: Any = None, *args: Any, **kwargs: Any) -> None:
            if msg_type == "comm_msg":
                buffers = kwargs.get("buffers") or []
                sent.append(Message(time.monotonic(), threading.current_thread().name, self.comm_id, data, buffers))

    monkeypatch.setattr(comm, "create_comm", Recorder)
    yield sent
    ipywidgets.Widget.close_all()


@pytest.fixture(autouse=True)
def plain_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views of the widgets of every front end, whose text can be read here. Tests of `_live` set it otherwise."""
    monkeypatch.setenv("HOLDFAST_WIDGETS", "plain")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With something to look at."""
    return dataclasses.replace(settings, import_=("tests.support.widget_work",), journal_interval=0.05)


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[holdfast.AsyncClient]:
    """An async client, since the server runs on the same loop."""
    async with holdfast.AsyncClient(base_url) as client:
        yield client


async def shows(condition: Callable[[], T], within: float = PATIENCE) -> T:
    """The first true value of `condition`, while the loop goes on."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.01)


async def card_of(client: holdfast.AsyncClient, id: str, **params: Any) -> ProcessCard:
    """The card of a new process."""
    process = await client.processes.start("walk", id=id, **params)
    return ProcessCard.of(client, process.info)


def open_widgets() -> dict[str, ipywidgets.Widget]:
    """Every widget of this kernel that is not closed, by its model's id. ipywidgets has no public name for it."""
    found: dict[str, ipywidgets.Widget] = ipywidgets.widgets.widget._instances
    return found


def text_of(widget: ipywidgets.Widget) -> str:
    """All that a view says, as HTML."""
    own = widget.value if isinstance(widget, ipywidgets.HTML) else ""
    return own + "".join(map(text_of, getattr(widget, "children", ())))


def button_of(widget: ipywidgets.Widget, name: str) -> ipywidgets.Button:
    """The button that begins with this name."""
    return next(b for b in buttons_in(widget) if b.description.startswith(name))


def buttons_in(widget: ipywidgets.Widget) -> list[ipywidgets.Button]:
    """All of them."""
    if isinstance(widget, ipywidgets.Button):
        return [widget]
    return [button for child in getattr(widget, "children", ()) for button in buttons_in(child)]


def field_of(view: WidgetTree, description: str) -> ipywidgets.Widget:
    """The field with this label."""
    return next(widget for widget in view.widgets() if getattr(widget, "description", "") == description)


def enabled(widget: ipywidgets.Widget) -> set[str]:
    """Return the buttons that can be pressed."""
    return {button.description for button in buttons_in(widget) if not button.disabled}


def forget_everything(client: holdfast.Client) -> None:
    """Make a server that tests share as if it were new."""
    client.processes.cancel_all(state=LIVE)
    for process in list(client.processes.list(page_size=1000)):
        process.wait().forget()
    for file in list(client.files.list()):
        client.files.delete(file.name)
