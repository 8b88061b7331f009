"""Cards of transfers: bytes that move, buttons that stop them, and what came of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

import holdfast
from holdfast.widgets import TransferCard
from tests.sdk.holdfast.notebook.conftest import Message, button_of, enabled, shows, text_of


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transfers keep their records in this test's folder."""
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    path.write_bytes(os.urandom(2_000_000))
    return path


@pytest.mark.slow
async def test_an_async_upload_is_paused_resumed_and_done(
    client: holdfast.AsyncClient, messages: list[Message], big: Path
) -> None:
    transfer = client.files.upload(big, limit=1_500_000)
    card = TransferCard.of(transfer)
    await shows(lambda: "of 2 MB" in text_of(card) and "/s" in text_of(card))
    assert enabled(card) == {"Pause", "Cancel"}
    button_of(card, "Pause").click()
    await shows(lambda: "paused" in text_of(card) and enabled(card) == {"Resume", "Cancel"})
    assert transfer.state == "paused"
    button_of(card, "Resume").click()
    await shows(lambda: "running" in text_of(card))
    await transfer
    await shows(lambda: "succeeded" in text_of(card) and "100%" in text_of(card))
    assert enabled(card) == set()
    assert TransferCard.of(transfer) is card


@pytest.mark.slow
async def test_a_download_on_a_thread_is_cancelled_and_leaves_nothing(
    client: holdfast.AsyncClient, messages: list[Message], big: Path, tmp_path: Path
) -> None:
    await client.files.upload(big)
    with holdfast.Client(client.base_url) as plain:
        transfer = plain.files.download("big.bin", tmp_path / "again.bin", limit=300_000)
        card = TransferCard.of(transfer)
        await shows(lambda: "download" in text_of(card) and "of 2 MB" in text_of(card))
        button_of(card, "Cancel").click()
        await shows(lambda: "cancelled" in text_of(card))
        assert transfer.state == "cancelled"
        await shows(lambda: not list(tmp_path.glob("again.bin*")))


@pytest.mark.slow
async def test_a_failed_transfer_says_why_and_can_be_resumed(
    client: holdfast.AsyncClient, messages: list[Message], tmp_path: Path
) -> None:
    with holdfast.Client(client.base_url) as plain:
        transfer = plain.files.download("nothing.bin", tmp_path / "nothing.bin")
        card = TransferCard.of(transfer)
        await shows(lambda: "failed" in text_of(card))
        assert "NotFound" in text_of(card)
        await client.files.upload(b"now it is there", "nothing.bin")
        await shows(lambda: enabled(card) == {"Resume", "Cancel"})
        button_of(card, "Resume").click()
        await shows(lambda: "succeeded" in text_of(card) and "NotFound" not in text_of(card))
        assert (tmp_path / "nothing.bin").read_bytes() == b"now it is there"
        await asyncio.to_thread(transfer.wait)
