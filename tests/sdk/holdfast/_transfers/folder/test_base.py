"""Folder transfers that end before they are over: what is pending, and how it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import holdfast
from holdfast import errors
from holdfast._transfers.handles import Transfer, TransferState
from holdfast.wire import UploadInfo
from tests.support.cli_shell import COMMAND, Shell
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import PATIENCE, ServerProcess, wait_until

MIB = 1 << 20

pytestmark = pytest.mark.slow

Faulty = Callable[..., FaultyProxy]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some small files and some that take a while."""
    root = tmp_path / "data"
    (root / "in").mkdir(parents=True)
    for number in range(6):
        (root / f"{number}.txt").write_text(str(number))
        (root / "in" / f".{number}.bin").write_bytes(os.urandom(MIB + number))
    os.mkfifo(root / "pipe")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def in_the_making(client: holdfast.Client, prefix: str) -> list[UploadInfo]:
    return [up for up in client.files.uploads() if up.name.startswith(prefix) and not up.complete]


def paused(transfer: Transfer[object], at: int) -> None:
    wait_until(lambda: transfer.progress.done > at)
    transfer.pause()
    assert transfer.state is TransferState.PAUSED


def test_a_folder_is_pending_as_one_and_goes_on_both_ways(
    client: holdfast.Client, folder: Path, faulty: Faulty, tmp_path: Path, state_dir: Path
) -> None:
    prefix = uuid.uuid4().hex
    paused(client.files.upload_folder(folder, prefix, limit=3 * MIB), 2 * MIB)
    [record] = client.transfers.pending()
    assert (record.kind, record.name, record.path, record.folder) == ("upload", f"{prefix}/", str(folder), True)
    result = client.transfers.resume(record).wait(PATIENCE)
    assert {*result.same, *(file.name for file in result.sent)} == {f"{prefix}/{name}" for name in contents(folder)}
    assert result.left_out == ["pipe"]
    assert client.transfers.pending() == []

    down = tmp_path / "down"
    paused(client.files.download_folder(prefix, down, limit=3 * MIB), 2 * MIB)
    [record] = client.transfers.pending()
    assert (record.kind, record.name, record.path, record.folder) == ("download", f"{prefix}/", str(down), True)
    paths = client.transfers.resume(record).wait(PATIENCE)
    assert sorted(paths) == sorted(path for path in down.rglob("*") if path.is_file())
    assert contents(down) == contents(folder)
    assert client.transfers.pending() == []
    assert list((state_dir / "transfers").iterdir()) == []


def test_what_has_come_is_not_asked_for_again(
    client: holdfast.Client, served: ServerProcess, folder: Path, faulty: Faulty, tmp_path: Path
) -> None:
    """Nor is it taken for another file where the server knows no digest to compare it by."""
    prefix = uuid.uuid4().hex
    for name, data in contents(folder).items():
        path = served.files_dir / prefix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    proxy = faulty()
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.download_folder(prefix, tmp_path / "down", limit=3 * MIB)
        paused(transfer, 4 * MIB)
        before = proxy.bytes_down
        [record] = through.transfers.pending()
        through.transfers.resume(record).wait(PATIENCE)
        assert proxy.bytes_down - before < sum(map(len, contents(folder).values())) - 3 * MIB
    assert contents(tmp_path / "down") == contents(folder)


def test_what_came_and_was_changed_since_is_not_passed_over(
    client: holdfast.Client, folder: Path, tmp_path: Path
) -> None:
    prefix, down = uuid.uuid4().hex, tmp_path / "down"
    client.files.upload_folder(folder, prefix).wait(PATIENCE)
    paused(client.files.download_folder(prefix, down, limit=2 * MIB), 2 * MIB)
    (down / "0.txt").unlink()
    [record] = client.transfers.pending()
    client.transfers.resume(record).wait(PATIENCE)
    assert contents(down) == contents(folder)


@pytest.mark.parametrize("way", ["upload", "download"])
def test_giving_up_a_folder_leaves_nothing_half(
    client: holdfast.Client, folder: Path, tmp_path: Path, state_dir: Path, way: str
) -> None:
    prefix, down = uuid.uuid4().hex, tmp_path / "down"
    if way == "upload":
        transfer = client.files.upload_folder(folder, prefix, limit=2 * MIB)
        # Not while a creation waits for its answer: of an upload that the pause cut there, nobody knows the id.
        wait_until(lambda: (ups := in_the_making(client, prefix)) and all(up.offset for up in ups))
        paused(transfer, MIB)
    else:
        client.files.upload_folder(folder, prefix).wait(PATIENCE)
        paused(client.files.download_folder(prefix, down, limit=2 * MIB), MIB)
    [record] = client.transfers.pending()
    client.transfers.cancel(record)
    assert client.transfers.pending() == []
    assert list((state_dir / "transfers").iterdir()) == []
    assert not in_the_making(client, prefix)
    assert not list(down.rglob(".holdfast-*"))


def test_one_that_runs_is_busy(client: holdfast.Client, folder: Path) -> None:
    prefix = uuid.uuid4().hex
    first = client.files.upload_folder(folder, prefix, limit=2 * MIB)
    wait_until(lambda: first.progress.done > 0)
    with pytest.raises(errors.TransferBusy):
        client.files.upload_folder(folder, prefix).wait(PATIENCE)
    [record] = client.transfers.pending()
    with pytest.raises(errors.TransferBusy):
        client.transfers.cancel(record)
    first.limit = None
    first.wait(PATIENCE)


def test_what_failed_before_anything_came_is_not_pending(client: holdfast.Client, tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        client.files.upload_folder(tmp_path / "nowhere", "x").wait(PATIENCE)
    with pytest.raises(errors.NotFound, match=r"below 'nowhere/'"):
        client.files.download_folder("nowhere", tmp_path / "down").wait(PATIENCE)
    assert client.transfers.pending() == []
    assert not (tmp_path / "down").exists()


async def test_the_async_face_does_the_same(aclient: holdfast.AsyncClient, folder: Path, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex
    transfer = aclient.files.upload_folder(folder, prefix)
    await transfer.pause()
    await aclient.transfers.resume(aclient.transfers.pending()[0]) if aclient.transfers.pending() else None
    await aclient.files.upload_folder(folder, prefix)
    down = aclient.files.download_folder(prefix, tmp_path / "down")
    await down.cancel()
    assert aclient.transfers.pending() == []
    await aclient.files.download_folder(prefix, tmp_path / "down")
    assert contents(tmp_path / "down") == contents(folder)
    assert aclient.transfers.pending() == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("way", ["upload", "download"])
def test_the_hint_at_the_terminal_is_true(
    client: holdfast.Client,
    served: ServerProcess,
    folder: Path,
    tmp_path: Path,
    shell: Shell,
    way: str,
    end: signal.Signals,
) -> None:
    prefix, down = uuid.uuid4().hex, tmp_path / "down"
    arguments = [str(folder), "--to", prefix, "--limit", "2M"]
    if way == "download":
        client.files.upload_folder(folder, prefix).wait(PATIENCE)
        arguments = ["--folder", prefix, "--to", str(down), "--limit", "2M"]
    with subprocess.Popen(
        [*COMMAND, "--url", served.url, way, *arguments], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as child:
        begun = (lambda: list(down.rglob(".holdfast-*"))) if way == "download" else (lambda: sent(client, prefix))
        wait_until(begun)
        child.send_signal(end)
        said = child.communicate(timeout=PATIENCE)[1].decode()
    if end == signal.SIGINT:
        assert child.returncode == 130
        assert "holdfast transfers --resume, continues from there" in said
    assert [line.split("\t")[:2] for line in shell("transfers").splitlines()] == [[way, f"{prefix}/"]]
    shell("transfers", "--resume")
    assert ("left out 1: 1 pipe (pipe)" in shell.err) == (way == "upload")
    assert shell("transfers") == ""
    if way == "download":
        assert contents(down) == contents(folder)
    else:
        assert {file.name for file in client.files.list(prefix)} == {f"{prefix}/{name}" for name in contents(folder)}


def sent(client: holdfast.Client, prefix: str) -> bool:
    return any(up.name.startswith(prefix) and up.offset for up in client.files.uploads())


def test_a_hint_does_not_promise_what_is_not_kept(
    served: ServerProcess, client: holdfast.Client, faulty: Faulty, tmp_path: Path, shell: Shell
) -> None:
    """A small file goes in one request: there is nothing to go on with."""
    path = tmp_path / f"{uuid.uuid4().hex}.txt"
    path.write_bytes(b"x" * 1000)
    proxy = faulty(Fault(when=b"PUT ", stall_up=100))
    with subprocess.Popen(
        [*COMMAND, "--url", proxy.url, "upload", str(path)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as child:
        proxy.wait_for(lambda p: p.happened == 1)
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=PATIENCE)[1].decode()
    assert child.returncode == 130
    assert "transfers --resume" not in said
    assert "the same command starts again" in said
    assert shell("transfers") == ""


def test_the_command_names_what_it_leaves_out_in_one_line(
    client: holdfast.Client, folder: Path, tmp_path: Path, shell: Shell
) -> None:
    prefix = uuid.uuid4().hex
    (tmp_path / "secret").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "broken").symlink_to("nowhere")
    (folder / "void").mkdir()
    shell("upload", str(folder), "--to", prefix)
    [line] = [line for line in shell.err.splitlines() if "left out" in line]
    assert line == (
        f"{prefix}  left out 4: 1 broken link (broken); 1 link that leads out of the folder (out); 1 pipe (pipe); "
        "1 empty folder (void/)"
    )
    assert "out" not in {file.name.rpartition("/")[2] for file in client.files.list(prefix)}
    shell("upload", str(folder), "--to", prefix, "--links", "skip")
    assert "2 links (broken, out)" in shell.err
    shell("upload", str(folder), "--to", prefix, "--links", "error", code=1)
    assert "is a link" in shell.err
    shell("upload", str(folder), "--to", prefix, "--links", "follow")
    assert client.files.read(f"{prefix}/out") == b"secret"
    sent = shell.json("upload", str(folder), "--to", prefix)
    assert sent["reasons"]["out"] == "a link that leads out of the folder"


def test_a_folder_that_is_not_there_is_not_found_for_the_command(shell: Shell, tmp_path: Path) -> None:
    shell("download", "--folder", uuid.uuid4().hex, "--to", str(tmp_path / "down"), code=3)


def test_the_name_of_a_folder_is_found_whatever_way_it_is_given(
    client: holdfast.Client, folder: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = folder.with_name(uuid.uuid4().hex)
    folder.rename(renamed)
    monkeypatch.chdir(renamed / "in")
    shell("upload", "..")
    assert len([*client.files.list(f"{renamed.name}/")]) == 12


def test_what_had_just_become_whole_leaves_no_record(
    client: holdfast.Client, served: ServerProcess, tmp_path: Path, state_dir: Path
) -> None:
    """Ctrl-C may come when the server has the whole file and its record is not removed yet."""
    folder, prefix = tmp_path / "data", uuid.uuid4().hex
    folder.mkdir()
    (folder / "a").write_bytes(os.urandom(3 * MIB))
    paused(client.files.upload_folder(folder, prefix, limit=MIB), MIB // 2)
    httpx.put(f"{served.url}/v1/files/{prefix}/a", content=(folder / "a").read_bytes()).raise_for_status()
    [record] = client.transfers.pending()
    assert client.transfers.resume(record).wait(PATIENCE).same == [f"{prefix}/a"]
    assert client.transfers.pending() == []
    assert all(not upload.name.startswith(prefix) for upload in client.files.uploads())
