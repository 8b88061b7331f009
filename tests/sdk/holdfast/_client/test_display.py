"""What the command shows in a terminal."""

from __future__ import annotations

import html
import inspect
import io
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

import holdfast
from holdfast import wire
from holdfast.cli import _watch
from holdfast.cli._context import Context
from holdfast.cli._printing import _records
from holdfast.cli._watch import KEEP, Board
from holdfast.errors import TransportError
from holdfast.wire import ProgressInfo, State
from tests.support.servers import ServerProcess, wait_until

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def text(shown: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (ProgressInfo(), ""),
        (ProgressInfo(done=1500), "1500"),
        (ProgressInfo(done=3, total=0), "3"),
        (ProgressInfo(done=3, total=4), "75%"),
    ],
)
def test_how_far_is_a_share_where_the_whole_is_known(progress: ProgressInfo, shown: str) -> None:
    assert _records.share(progress) == shown


@pytest.mark.parametrize(
    ("since", "shown"),
    [
        (timedelta(seconds=-3), "0s"),
        (timedelta(seconds=59), "59s"),
        (timedelta(minutes=59, seconds=59), "59m"),
        (timedelta(hours=23), "23h"),
        (timedelta(days=400), "400d"),
    ],
)
def test_an_age_is_one_unit(since: timedelta, shown: str) -> None:
    assert _records.ago(NOW - since, NOW) == shown


def test_no_time_has_no_age() -> None:
    assert _records.ago(None) == ""
    assert _records.moment(None) == ""


def test_the_board_takes_what_happens(client: holdfast.Client) -> None:
    """Progress of what it knows, states of what it did not, and nothing of what is gone."""
    board = Board(client)
    id = f"board-{uuid.uuid4().hex}"
    process = client.processes.start("steps", id=id, to=3)
    process.wait(30)

    def event(**fields: object) -> wire.Event:
        return wire.Event(**{"type": "progress", "id": id, "time": NOW, **fields})  # type: ignore[arg-type]

    board.take(event(progress=ProgressInfo(done=1, total=4)))
    assert id not in text(board.render())
    board.take(event(type="state", state=State.SUCCEEDED))
    assert "100%" in text(board.render())
    board.take(event(progress=ProgressInfo(done=1, total=4, note="a quarter")))
    assert "25%" in text(board.render())
    board.take(event(type="log"))
    assert "1 succeeded" in text(board.render())
    process.forget()
    board.take(event(type="state", state=State.SUCCEEDED))
    assert id not in text(board.render()), "it was deleted before it could be asked for"


def test_what_has_ended_leaves_the_board_after_a_while(
    client: holdfast.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(client)
    id = f"board-{uuid.uuid4().hex}"
    client.processes.start("steps", id=id, to=1).wait(30)
    board.take(wire.Event(type="state", id=id, time=NOW, state=State.SUCCEEDED))
    assert id in text(board.render())
    monkeypatch.setattr("holdfast.cli._watch.KEEP", -KEEP)
    assert id not in text(board.render())


@pytest.mark.slow
def test_watching_ends_with_the_error_when_the_server_stays_away(spawn_server: Callable[..., ServerProcess]) -> None:
    server = spawn_server()
    screen = io.StringIO()
    context = Context(out=Console(file=screen, force_terminal=True, width=100))
    raised: list[BaseException] = []

    def watch() -> None:
        try:
            _watch._all(context, client)
        except holdfast.HoldfastError as error:
            raised.append(error)

    with holdfast.Client(server.url, retries=1) as client:
        watching = threading.Thread(target=watch)
        watching.start()
        wait_until(lambda: server.url in screen.getvalue())
        server.kill()
        watching.join(30)
    assert isinstance(raised[0], TransportError)


def test_outside_a_kernel_things_show_themselves_as_text_and_html(client: holdfast.Client) -> None:
    id = f"shown-{uuid.uuid4().hex}"
    process = client.processes.start("steps", id=id, to=2)
    process.wait(30)
    name = f"{uuid.uuid4().hex}<b>.txt"
    transfer = client.files.upload(b"12345", name)
    transfer.wait(30)
    shown: dict[Any, dict[str, str]] = {
        thing: thing._repr_mimebundle_() for thing in (process, transfer, client, client.processes, client.files)
    }
    for thing in (process, client, client.processes):
        assert id in shown[thing]["text/plain"]
        assert "succeeded" in shown[thing]["text/html"]
    for thing in (transfer, client, client.files):
        assert name in shown[thing]["text/plain"]
        assert html.escape(name) in shown[thing]["text/html"]
    assert id not in shown[client.files]["text/plain"]
    assert name not in shown[client.processes]["text/plain"]


def test_a_client_without_a_server_says_so_instead_of_failing() -> None:
    with holdfast.Client("http://127.0.0.1:1") as client:
        assert "no answer: " in client._repr_mimebundle_()["text/plain"]


async def test_watching_without_a_kernel_waits_and_prints(
    client: holdfast.Client, aclient: holdfast.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, processes in enumerate((client.processes, aclient.processes)):
        id = f"watched-{number}-{uuid.uuid4().hex}"
        started: Any = processes.start("steps", id=id, to=2)
        process = await started if inspect.isawaitable(started) else started
        await process.watch()
        said = capsys.readouterr().out
        assert id in said
        assert "succeeded" in said
