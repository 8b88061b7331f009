"""A kernel without a front end: what is shown is text, and true."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.support.servers import PATIENCE, ServerProcess

pytestmark = pytest.mark.slow


class Kernel:
    """A real kernel, and nobody who shows widgets."""

    def __init__(self, folder: Path) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self.client: BlockingKernelClient = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def shown(self, code: str) -> str:
        """Everything that a cell shows, as text."""
        parts: list[str] = []

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            parts.append(content.get("text") or content.get("data", {}).get("text/plain", ""))

        reply = self.client.execute_interactive(code, output_hook=take, timeout=PATIENCE)
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(parts)

    def completed(self, line: str) -> list[str]:
        found: list[str] = self.client.complete(line, reply=True, timeout=PATIENCE)["content"]["matches"]
        return found

    def help(self, line: str) -> str:
        """Return the text that `line?` shows in the pager."""
        reply = self.client.execute(f"{line}?", reply=True, timeout=PATIENCE)
        text: str = reply["content"]["payload"][0]["data"]["text/plain"]
        return text

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture
def kernel(kernel_home: Path) -> Iterator[Kernel]:
    kernel = Kernel(kernel_home)
    yield kernel
    kernel.stop()


def test_everything_shows_itself_as_text_that_is_true(
    kernel: Kernel, spawn_server: Callable[..., ServerProcess]
) -> None:
    server = spawn_server("--import", "tests.support.widget_work", "--allow-code")
    (server.files_dir / "here.csv").write_text("a,b\n1,2\n")
    kernel.shown(f"import holdfast\nclient = holdfast.Client({server.url!r})\n%load_ext holdfast")
    kernel.shown("p = client.processes.start('walk', id='w', to=1000, seconds=0.02)")
    kernel.shown("p.pause().wait(until='paused')")
    assert kernel.shown("p").startswith("walk w: paused")
    assert kernel.shown("%holdfast show w") == kernel.shown("client.processes.get('w')")
    assert "here.csv" in kernel.shown("client.files")
    for line in ("client", "client.dashboard()", "%holdfast"):
        everything = kernel.shown(line)
        assert "walk w: paused" in everything
        assert "file here.csv: 8 B" in everything
    assert kernel.shown("%%process square of=4\nyield Progress(1, 1)\nreturn of ** 2").startswith("code square-")
    assert "result 16" in kernel.shown("square.wait(30)")
    down = kernel.shown("down = client.files.download('here.csv')\ndown.wait()\ndown")
    assert "download here.csv: succeeded" in down
    assert "100% · 8 B of 8 B" in down
    assert "here.csv" in kernel.shown("client.files.download_link('here.csv')")
    assert "UploadBox" in kernel.shown("client.files.upload_box()")
    assert kernel.shown("await client.processes.start('walk', to=3, seconds=0.01).watch()").count("walk walk-") == 1
    assert kernel.completed("%holdfast resume ") == ["w"]
    assert "kill ID..." in kernel.help("%holdfast")
    assert "--deadline SECONDS" in kernel.help("%%process")
