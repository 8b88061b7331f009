"""Transfers: Ctrl-C pauses them, and the same command or `transfers` continues or cancels them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

import holdfast
from holdfast.cli._context import Exit
from tests.support.cli_shell import Shell, Started, read_until
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, wait_until

MIB = 1 << 20
pytestmark = pytest.mark.slow
Faulty = Callable[..., FaultyProxy]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / f"{uuid.uuid4().hex}.bin"
    path.write_bytes(random.Random(9).randbytes(3 * MIB))
    return path


def test_ctrl_c_gives_up_the_standard_input_and_promises_nothing(
    served: ServerProcess, client: holdfast.Client, started: Started
) -> None:
    name = uuid.uuid4().hex
    child = started("--url", served.url, "upload", "-", "--to", name, "--limit", "2M", stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(bytes(MIB + 1))
    child.stdin.flush()
    wait_until(lambda: any(upload.name == name and upload.offset for upload in client.files.uploads()))
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == Exit.INTERRUPTED, said
    assert b"a stream can't be resumed" in said
    assert b"--resume" not in said
    assert all(upload.name != name for upload in client.files.uploads())
    assert not (served.files_dir / name).exists()


def test_ctrl_c_pauses_and_the_same_command_goes_on(
    served: ServerProcess, faulty: Faulty, file: Path, shell: Shell, started: Started
) -> None:
    proxy = faulty(Fault(when=b"PATCH ", stall_up=2 * MIB))
    through = ["--url", proxy.url]
    child = started(*through, "upload", str(file), stdin=subprocess.DEVNULL)
    proxy.wait_for(lambda p: p.happened == 1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == Exit.INTERRUPTED, said
    assert b"holdfast transfers --resume" in said
    assert file.name in shell(*through, "transfers")
    assert shell.json(*through, "transfers")["name"] == file.name
    before = proxy.bytes_up
    assert shell.json(*through, "transfers", "--resume")["size"] == 3 * MIB
    assert proxy.bytes_up - before < 3 * MIB
    shell(*through, "transfers")
    assert "There are no unfinished transfers" in shell.err
    assert (served.files_dir / file.name).read_bytes() == file.read_bytes()


def test_for_programs_a_pause_by_ctrl_c_is_json_too(faulty: Faulty, file: Path, started: Started) -> None:
    proxy = faulty(Fault(when=b"PATCH ", stall_up=2 * MIB))
    child = started("--url", proxy.url, "--json", "upload", str(file), stdin=subprocess.DEVNULL)
    proxy.wait_for(lambda p: p.happened == 1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == Exit.INTERRUPTED, said
    (problem,) = [json.loads(line) for line in said.splitlines()]
    assert problem["error"] == "Interrupted"
    assert (problem["kind"], problem["name"]) == ("upload", file.name)
    assert problem["exit_code"] == Exit.INTERRUPTED
    assert "holdfast transfers --resume" in problem["message"]


def test_what_can_not_be_gone_on_with_is_told_of_and_can_be_given_up(
    client: holdfast.Client, shell: Shell, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{uuid.uuid4().hex}.bin" for _ in range(2)]
    for path in paths:
        path.write_bytes(random.Random(path.name).randbytes(MIB))
        transfer = client.files.upload(path, limit=MIB // 8)
        wait_until(lambda transfer=transfer: transfer.progress.done > 0)
        transfer.pause()
    gone, there = paths
    gone.unlink()
    sent = shell.json("transfers", "--resume", code=Exit.NOT_FOUND)
    assert sent["name"] == there.name, "the first does not keep the second from it"
    assert gone.name in shell.err
    assert [record["name"] for record in shell.lines("transfers")] == [gone.name]
    assert shell.lines("transfers", "another", "--cancel") == []
    given_up = shell.json("transfers", gone.name, "--cancel")
    assert given_up["name"] == gone.name
    assert shell.lines("transfers") == []
    assert all(upload.name != gone.name for upload in client.files.uploads())


def test_ctrl_c_in_a_terminal_asks_and_enter_goes_on(
    served: ServerProcess, faulty: Faulty, file: Path, started: Started, terminal: tuple[int, int]
) -> None:
    proxy = faulty(Fault(when=b"PATCH ", stall_up=2 * MIB))
    main, side = terminal
    child = started("--url", proxy.url, "upload", str(file), stdin=side, stderr=side)
    proxy.wait_for(lambda p: p.happened == 1)
    child.send_signal(signal.SIGINT)
    read_until(main, b"Press Enter to continue")
    os.write(main, b"\n")
    assert child.wait(30) == 0
    assert (served.files_dir / file.name).read_bytes() == file.read_bytes()


def test_ctrl_c_twice_stops(faulty: Faulty, file: Path, started: Started, terminal: tuple[int, int]) -> None:
    proxy = faulty(Fault(when=b"PATCH ", stall_up=2 * MIB))
    main, side = terminal
    child = started("--url", proxy.url, "upload", str(file), stdin=side, stderr=side)
    proxy.wait_for(lambda p: p.happened == 1)
    child.send_signal(signal.SIGINT)
    read_until(main, b"Press Enter to continue")
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == Exit.INTERRUPTED


@pytest.fixture
def name() -> str:
    return f"{uuid.uuid4().hex}.bin"


def test_ctrl_c_ends_waiting_for_a_pipe_into_which_nobody_writes(
    started: Started, client: holdfast.Client, tmp_path: Path, name: str
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    child = started("upload", str(fifo), "--to", name)
    wait_until(lambda: any(upload.name == name for upload in client.files.uploads()))
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == Exit.INTERRUPTED
    assert b"cancelled" in said
    assert all(upload.name != name for upload in client.files.uploads())
