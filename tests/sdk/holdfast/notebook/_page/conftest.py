"""A page that asks the kernel's side of its widgets."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.notebook._page._widget import PageWidget
from tests.sdk.holdfast.notebook.conftest import Message, open_widgets, shows


class Page:
    """Asks widgets, and finds the answers among the messages to the browser."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages
        self._numbers = itertools.count(1)

    async def ask(self, widget: PageWidget, question: dict[str, Any], *buffers: bytes) -> dict[str, Any]:
        """The answer to a question."""
        number = f"{next(self._numbers)}"
        widget._handle_custom_msg({**question, "ask": number}, [memoryview(data) for data in buffers])
        message = await shows(lambda: self._answer(number))
        content = {name: value for name, value in message.data["content"].items() if name != "answers"}
        return content | ({"buffers": message.buffers} if message.buffers else {})

    def _answer(self, number: str) -> Message | None:
        custom = [message for message in self._messages if message.data["method"] == "custom"]
        return next((message for message in custom if message.data["content"].get("answers") == number), None)

    async def is_quiet(self) -> None:
        """Wait until no thread answers any more."""
        await shows(lambda: not [t for t in threading.enumerate() if t.name == "holdfast-page"])


@pytest.fixture
async def page(messages: list[Message]) -> AsyncIterator[Page]:
    """At the end no thread is left."""
    page = Page(messages)
    yield page
    for widget in list(open_widgets().values()):
        widget.close()
    await page.is_quiet()
