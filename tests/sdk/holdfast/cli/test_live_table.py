"""The live table that `holdfast watch` shows in a terminal."""

from __future__ import annotations

import io
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from rich.console import Console, RenderableType

import holdfast
from holdfast import wire
from holdfast.cli import _watch
from holdfast.cli._context import Context
from holdfast.cli._watch import KEEP, LiveTable
from holdfast.errors import TransportError
from holdfast.wire import ProgressInfo, State
from tests.support.servers import ServerProcess, wait_until

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def text(shown: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_board_takes_what_happens(client: holdfast.Client) -> None:
    """Progress of what it knows, states of what it did not, and nothing of what is gone."""
    table = LiveTable(client)
    id = f"table-{uuid.uuid4().hex}"
    process = client.processes.start("steps", id=id, to=3)
    process.wait(30)

    def event(**fields: object) -> wire.Event:
        return wire.Event(**{"type": "progress", "id": id, "time": NOW, **fields})  # type: ignore[arg-type]

    table.apply(event(progress=ProgressInfo(done=1, total=4)))
    assert id not in text(table.render())
    table.apply(event(type="state", state=State.SUCCEEDED))
    assert "100%" in text(table.render())
    table.apply(event(progress=ProgressInfo(done=1, total=4, note="a quarter")))
    assert "25%" in text(table.render())
    table.apply(event(type="log"))
    assert "1 succeeded" in text(table.render())
    process.forget()
    table.apply(event(type="state", state=State.SUCCEEDED))
    assert id not in text(table.render()), "it was deleted before it could be asked for"


def test_what_has_ended_leaves_the_board_after_a_while(
    client: holdfast.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = LiveTable(client)
    id = f"table-{uuid.uuid4().hex}"
    client.processes.start("steps", id=id, to=1).wait(30)
    table.apply(wire.Event(type="state", id=id, time=NOW, state=State.SUCCEEDED))
    assert id in text(table.render())
    monkeypatch.setattr("holdfast.cli._watch.KEEP", -KEEP)
    assert id not in text(table.render())


@pytest.mark.slow
def test_watching_ends_with_the_error_when_the_server_stays_away(spawn_server: Callable[..., ServerProcess]) -> None:
    server = spawn_server()
    screen = io.StringIO()
    context = Context(out=Console(file=screen, force_terminal=True, width=100))
    raised: list[BaseException] = []

    def watch() -> None:
        try:
            _watch.watch_all(context, client)
        except holdfast.HoldfastError as error:
            raised.append(error)

    with holdfast.Client(server.url, retries=1) as client:
        watching = threading.Thread(target=watch)
        watching.start()
        wait_until(lambda: server.url in screen.getvalue())
        server.kill()
        watching.join(30)
    assert isinstance(raised[0], TransportError)
