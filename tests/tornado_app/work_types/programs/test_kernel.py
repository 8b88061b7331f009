"""Kernels beside the server: started, connected to, interrupted and ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.work import WorkError
from tests.support.processes import eventually
from tests.support.servers import wait_until
from tests.support.work_runs import gone
from tornado_app.processes.supervision import claims
from tornado_app.work_types.programs.kernel import Kernel


@pytest.fixture(autouse=True)
def jupyter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Folders of Jupyter and IPython that are the test's own."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


def install(name: str, *arguments: str) -> None:
    """Install a kernel that is this command."""
    folder = Path(os.environ["JUPYTER_DATA_DIR"], "kernels", name)
    folder.mkdir(parents=True)
    spec = {"argv": list(arguments), "display_name": name, "language": "Text"}
    (folder / "kernel.json").write_text(json.dumps(spec))


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    claim = claims.path_of(tmp_path, "notebook", "p")
    kernel = Kernel("python3", tmp_path / "kernels/p.json", folder=tmp_path, grace=5, claim=claim)
    yield kernel
    kernel.close()


@pytest.mark.slow
async def test_it_computes_is_interrupted_and_computes_on(kernel: Kernel, tmp_path: Path) -> None:
    lines: list[str] = []
    client = await kernel.connect(lines.append)
    assert kernel.language == "python"
    await client.execute_interactive("import os; os.write(1, b'hello\\n'); open('made', 'w').close()", timeout=60)
    assert (tmp_path / "made").exists(), "it runs in its folder"
    await eventually(lambda: lines)
    assert lines == ["hello"]
    client.execute("open('begun', 'w').close()\nwhile True: pass")
    await eventually((tmp_path / "begun").exists)
    kernel.interrupt()
    reply = await client.execute_interactive("1 + 1", timeout=60)
    assert reply["content"]["status"] in ("ok", "aborted")
    await kernel.disconnect()
    assert kernel.program.exit_code is None, "it lives on without a client"


@pytest.mark.slow
async def test_it_is_asked_to_end_and_leaves_no_connection_file(kernel: Kernel) -> None:
    await kernel.connect(lambda line: None)
    assert kernel.connection_file.stat().st_mode & 0o77 == 0, "its key is secret"
    await kernel.shut_down()
    await kernel.disconnect()
    kernel.close()
    assert gone(kernel.program.pid)
    assert not kernel.connection_file.exists()


def test_a_kill_ends_it(kernel: Kernel) -> None:
    kernel.kill()
    wait_until(lambda: gone(kernel.program.pid))


def test_a_kernel_that_is_not_installed_is_refused_with_those_that_are(tmp_path: Path) -> None:
    install("other", "true")
    with pytest.raises(WorkError, match=r"there is no kernel 'moon' on the server; there is .*other"):
        Kernel("moon", tmp_path / "p.json", folder=tmp_path, grace=1, claim=tmp_path / "claim")


@pytest.mark.slow
async def test_a_kernel_that_dies_before_it_is_ready_fails_with_the_end_of_its_output(tmp_path: Path) -> None:
    install("dies", "sh", "-c", "echo oh no; exit 3")
    kernel = Kernel("dies", tmp_path / "p.json", folder=tmp_path, grace=1, claim=tmp_path / "claim")
    try:
        with pytest.raises(WorkError, match="the kernel died before it was ready") as failure:
            await kernel.connect(lambda line: None)
        assert str(failure.value).endswith("The last it wrote:\noh no")
    finally:
        await kernel.disconnect()
        kernel.close()


def test_a_command_that_can_not_be_started_leaves_no_connection_file(tmp_path: Path) -> None:
    install("missing", str(tmp_path / "nothing"))
    with pytest.raises(WorkError, match="can't be started: No such file or directory"):
        Kernel("missing", tmp_path / "p.json", folder=tmp_path, grace=1, claim=tmp_path / "claim")
    assert not (tmp_path / "p.json").exists()
