"""Clients, processes and transfers look their display up when they are displayed."""

from __future__ import annotations

import html
import inspect
import subprocess
import sys
import uuid
from typing import Any

import pytest

import holdfast
from holdfast._client import display
from holdfast._client.core import core_of
from holdfast.notebook._display import NotebookDisplay


@pytest.mark.slow
def test_nothing_of_the_notebook_is_imported_before_something_is_displayed() -> None:
    code = """
import sys, holdfast
client = holdfast.Client("http://127.0.0.1:1", retries=0)
print("holdfast.notebook" in sys.modules)
client._repr_mimebundle_()
print("holdfast.notebook._display" in sys.modules, "ipywidgets" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True", "False"]


def test_the_notebook_has_the_registered_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(display.current(), NotebookDisplay)
    monkeypatch.setattr(display, "_load", None)
    with pytest.raises(RuntimeError, match="no display is registered"):
        display.current()


def test_what_belongs_to_a_client_shares_its_core() -> None:
    with holdfast.Client("http://127.0.0.1:1") as client:
        core = core_of(client)
        assert core_of(core) is core
        assert (core.base_url, repr(core)) == ("http://127.0.0.1:1", repr(client))
        assert not core.closed.is_set()
    assert core.closed.is_set()


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
