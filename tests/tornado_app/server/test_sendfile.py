"""Downloads whose connection ends at an awkward moment: a cut that is counted, and nothing for the log of errors."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.uploads import Raw, until
from tornado_app.files import metrics
from tornado_app.handlers.files.reading import FileHandler
from tornado_app.server import sendfile
from tornado_app.settings import Settings

BIG = os.urandom(3 << 20)


@pytest.fixture
def files(settings: Settings) -> Path:
    (settings.files_dir / "big.bin").write_bytes(BIG)
    return settings.files_dir


def closed_under_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client resets while the head is written: the stream is closed, and the handler not told yet."""
    flush = FileHandler.flush

    def flush_and_close(self: FileHandler, *args: Any, **kwargs: Any) -> Any:
        written = flush(self, *args, **kwargs)
        self.request.connection.stream.close()  # type: ignore[union-attr]
        return written

    monkeypatch.setattr(FileHandler, "flush", flush_and_close)


def broken_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sendfile meets the end of the connection before the stream does."""

    def sendfile(*_: int) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(os, "sendfile", sendfile)


@pytest.mark.parametrize("end", [closed_under_the_head, broken_pipe])
async def test_an_end_that_comes_at_an_awkward_moment_is_a_cut(
    base_url: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    end: Callable[[pytest.MonkeyPatch], None],
) -> None:
    end(monkeypatch)
    cuts = metrics.DOWNLOADS.labels("cut")._value.get()
    raw = Raw(base_url)
    with caplog.at_level(logging.WARNING):
        await raw.send("GET /v1/files/big.bin", {})
        await raw.reader.read()
        await until(lambda: asyncio.sleep(0, metrics.DOWNLOADS.labels("cut")._value.get() == cuts + 1))
    raw.close()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_without_a_descriptor_for_sendfile_pieces_go(
    http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dup(self: socket.socket) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "dup", dup)
    assert (await http.get("/v1/files/big.bin")).content == BIG


@pytest.mark.parametrize("is_fast", [True, False])
async def test_a_socket_is_filled_only_for_a_client_that_reads_fast(
    http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch, is_fast: bool
) -> None:
    limits: list[int] = []
    monkeypatch.setattr(sendfile, "limit_unsent", lambda sock, most: limits.append(most))
    monkeypatch.setattr(sendfile, "FAST", 0 if is_fast else 1 << 60)
    monkeypatch.setattr(sendfile, "WINDOW", 1 << 20)
    monkeypatch.setattr(sendfile, "FIRST_WINDOW", 1 << 20)
    assert (await http.get("/v1/files/big.bin")).content == BIG
    assert limits == [sendfile.UNSENT, *[sendfile.UNSENT_OF_FAST if is_fast else sendfile.UNSENT] * 2]
