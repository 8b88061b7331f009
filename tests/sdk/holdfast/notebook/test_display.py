"""Display of SDK objects in a kernel: views, and the card that announces the end of a process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import holdfast
from holdfast._client.core import core_of
from holdfast.notebook import _display
from holdfast.widgets import ProcessCard
from tests.sdk.holdfast.notebook.conftest import Message, card_of

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Make this Python look like a kernel, and collect what it displays."""
    shown: list[Any] = []
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setattr("IPython.display.display", shown.append)
    return shown


def test_a_terminal_with_ipython_is_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: SimpleNamespace())
    assert not _display.in_kernel()
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: SimpleNamespace(kernel=object()))
    assert _display.in_kernel()


@pytest.mark.slow
async def test_in_a_kernel_things_show_themselves_as_views_with_a_text(
    client: holdfast.AsyncClient, messages: list[Message], displayed: list[Any]
) -> None:
    process = await client.processes.start("walk", id="p", to=3, seconds=0.001)
    await process.wait()
    for thing in (process, client, client.processes, client.files):
        bundle: tuple[dict[str, Any], dict[str, Any]] = thing._repr_mimebundle_()
        assert VIEW in bundle[0]
        assert bundle[0]["text/plain"]
    assert displayed == [], "IPython shows what it is given"


@pytest.mark.parametrize(("front_end", "said"), [("module", ""), ("plain", "walk p: succeeded\n")])
async def test_in_a_kernel_a_wait_that_is_to_notify_shows_the_card_of_the_process(
    client: holdfast.AsyncClient,
    messages: list[Message],
    displayed: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    front_end: str,
    said: str,
) -> None:
    monkeypatch.setenv("HOLDFAST_WIDGETS", front_end)
    process = await client.processes.start("walk", id="p", to=3, seconds=0.001)
    await process.wait(notify=True)
    (card,) = displayed
    assert isinstance(card, ProcessCard)
    assert card.id == "p"
    assert capsys.readouterr() == (said, ""), "the browser announces it where it can"


async def test_without_the_extra_there_is_text_in_place_of_a_view(
    client: holdfast.AsyncClient, messages: list[Message], displayed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*arguments: Any) -> Any:
        raise ImportError("No module named 'ipywidgets'")

    card = await card_of(client, "p", to=3, seconds=0.001)
    monkeypatch.setattr(ProcessCard, "of", missing)
    bundle = _display.NotebookDisplay().process(core_of(client), (await client.processes.wait("p")).info)
    assert set(bundle) == {"text/plain", "text/html"}
    assert "succeeded" in bundle["text/plain"]
    card.close()
