"""`connect()` in a kernel of a real Jupyter Server that has the extension."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.support.jupyter_server import BASE_URL, TOKEN, JupyterServer
from tests.support.servers import PATIENCE, ServerProcess, wait_until

pytestmark = pytest.mark.slow

CONNECT = "import holdfast\nclient = holdfast.connect()\nprint(client.base_url, client.page_url, bool(client.token))"


class Kernel:
    """A kernel that Jupyter has started."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def printed(self, code: str) -> str:
        """Run code that works; return what it prints."""
        parts: list[str] = []
        reply = self._client.execute_interactive(
            code, output_hook=lambda message: parts.append(message["content"].get("text", "")), timeout=PATIENCE
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(parts)


@contextmanager
def kernel_of(jupyter: JupyterServer, folder: Path) -> Iterator[Kernel]:
    """Let Jupyter start a kernel, as opening a notebook does."""
    made = httpx.post(f"{jupyter.url}/api/kernels", headers=jupyter.headers, json={}, timeout=PATIENCE)
    assert made.status_code == 201, jupyter.log
    file = folder / "jupyter_runtime_dir" / f"kernel-{made.json()['id']}.json"
    wait_until(file.exists, PATIENCE, "the kernel's connection file")
    client = BlockingKernelClient(connection_file=str(file))
    client.load_connection_file()
    client.start_channels()
    try:
        client.kernel_info(reply=True, timeout=PATIENCE)
        yield Kernel(client)
    finally:
        client.stop_channels()
        httpx.delete(f"{jupyter.url}/api/kernels/{made.json()['id']}", headers=jupyter.headers, timeout=PATIENCE)


def test_its_server_is_taken_by_its_socket_and_found_again_after_jupyter_has_ended(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("j")  # short: a socket's path is
    with JupyterServer(folder) as jupyter:
        with kernel_of(jupyter, folder) as kernel:
            line, found = kernel.printed(CONNECT).splitlines()
            assert line == "Connected to the Holdfast server of this Jupyter"
            url, page_url, has_token = found.split()
            assert url.startswith("unix:")
            assert (page_url, has_token) == (f"{BASE_URL}holdfast/", "False")
            kernel.printed("client.files.write('from a kernel.txt', b'1')")
            assert (jupyter.root / "from a kernel.txt").read_bytes() == b"1"
            listed = httpx.get(f"{jupyter.holdfast}/v1/files", headers=jupyter.headers, timeout=PATIENCE).json()
            assert "from a kernel.txt" in [file["name"] for file in listed["items"]]
            assert TOKEN not in kernel.printed("print(repr(client), vars(client))")
            instance = kernel.printed("print(client.identity('A' * 32).instance)")
        jupyter.stop()
        jupyter.start()
        with kernel_of(jupyter, folder) as kernel:
            assert kernel.printed(CONNECT).splitlines()[1] == found
            assert kernel.printed("print(client.identity('A' * 32).instance)") == instance


def test_a_central_server_is_reached_through_jupyter_with_its_token(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("j")
    central = ServerProcess(folder / "central", ["--same-user"], {"HOLDFAST_STATE_DIR": str(folder / "elsewhere")})
    central.start()
    try:
        jupyter = JupyterServer(folder, f"--HoldfastExtension.url={central.url}")
        with jupyter, kernel_of(jupyter, folder) as kernel:
            _, found = kernel.printed(CONNECT).splitlines()
            assert found == f"{jupyter.holdfast} {BASE_URL}holdfast/ True"
            kernel.printed("client.files.write('there.txt', b'1')")
        assert (central.files_dir / "there.txt").exists()
    finally:
        central.end()
