"""Transfers as such: what a listener may do, and what a pause leaves, whenever it comes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast import errors
from holdfast._transfers.handles import Transfer, TransferState
from tests.support.servers import ServerProcess, wait_until

MIB = 1 << 20

pytestmark = pytest.mark.slow

Begin = Callable[[holdfast.Client | holdfast.AsyncClient], Any]


@pytest.fixture(params=["upload", "download"])
def begin(request: pytest.FixtureRequest, served: ServerProcess, tmp_path: Path) -> Begin:
    """Begins a transfer that takes a second or two, either way."""
    path = tmp_path / f"{tmp_path.name}.bin"
    if request.param == "upload":
        path.write_bytes(os.urandom(3 * MIB))
        return lambda client: client.files.upload(path, limit=MIB)
    (served.files_dir / path.name).write_bytes(os.urandom(3 * MIB))
    return lambda client: client.files.download(path.name, path, limit=MIB)


def test_a_listener_may_pause(client: holdfast.Client, begin: Begin) -> None:
    transfer = begin(client)

    def listen(transfer: Transfer[Any]) -> None:
        if transfer.state is TransferState.RUNNING and transfer.progress.done > MIB:
            transfer.pause()

    end = transfer.on_change(listen)
    wait_until(lambda: transfer.state is TransferState.PAUSED)
    end()
    transfer.limit = None
    transfer.resume()
    transfer.wait(30)


def test_a_listener_may_cancel(client: holdfast.Client, begin: Begin, tmp_path: Path) -> None:
    transfer = begin(client)
    transfer.on_change(lambda t: t.cancel() if t.progress.done > MIB else None)
    with pytest.raises(errors.TransferCancelled):
        transfer.wait(30)
    wait_until(lambda: not client.transfers.pending())
    wait_until(lambda: not list(tmp_path.glob(".holdfast-*")))
    assert all(upload.name != transfer.name for upload in client.files.uploads())


def test_a_listener_that_raises_stops_nothing(
    client: holdfast.Client, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    transfer = begin(client)

    def listen(transfer: Transfer[Any]) -> None:
        raise RuntimeError("mine")

    transfer.on_change(listen)
    transfer.limit = None
    transfer.wait(30)
    assert "RuntimeError: mine" in caplog.text


async def test_in_async_code_listeners_are_called_on_the_loop(aclient: holdfast.AsyncClient, begin: Begin) -> None:
    transfer = begin(aclient)
    heard: list[tuple[threading.Thread, int]] = []
    transfer.on_change(lambda t: heard.append((threading.current_thread(), t.progress.done)))
    await transfer
    assert {thread for thread, _ in heard} == {threading.current_thread()}
    assert any(0 < done < 3 * MIB for _, done in heard)


async def test_a_pause_before_the_first_step_is_one(aclient: holdfast.AsyncClient, begin: Begin) -> None:
    transfer = begin(aclient)
    await transfer.pause()
    assert transfer.state is TransferState.PAUSED
    transfer.limit = None
    transfer.resume()
    await transfer.wait(30)


async def test_one_that_is_cancelled_before_its_first_step_leaves_nothing_of_an_earlier_one(
    aclient: holdfast.AsyncClient, begin: Begin, tmp_path: Path
) -> None:
    transfer = begin(aclient)
    while not transfer.progress.done:
        await asyncio.sleep(0.01)
    await transfer.pause()
    [record] = aclient.transfers.pending()
    await aclient.transfers.resume(record).cancel()
    assert aclient.transfers.pending() == []
    assert [upload.name async for upload in aclient.files.uploads() if upload.name == transfer.name] == []
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".holdfast-")]


async def test_what_is_pending_can_be_given_up(
    aclient: holdfast.AsyncClient, client: holdfast.Client, begin: Begin, tmp_path: Path
) -> None:
    transfer = begin(aclient)
    while not (pending := aclient.transfers.pending()):  # a download's is written after its first piece is
        await asyncio.sleep(0.01)
    [record] = pending
    with pytest.raises(errors.TransferBusy):
        client.transfers.cancel(record)
    await transfer.pause()
    await aclient.transfers.cancel(record)
    assert aclient.transfers.pending() == []
    assert all(upload.name != transfer.name for upload in client.files.uploads())
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".holdfast-")]


async def test_many_pauses_at_once_are_one(aclient: holdfast.AsyncClient, begin: Begin) -> None:
    transfer = begin(aclient)
    while not transfer.progress.done:
        await asyncio.sleep(0.01)
    for _ in range(3):
        await asyncio.gather(*[transfer.pause() for _ in range(4)])
        assert transfer.state is TransferState.PAUSED
        transfer.resume()
        await asyncio.sleep(0.01)
    transfer.limit = None
    await transfer.wait(30)
