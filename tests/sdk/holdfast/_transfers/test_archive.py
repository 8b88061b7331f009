"""Folders as archives by the SDK and the command, against a real server, through a line that breaks."""

from __future__ import annotations

import io
import os
import random
import tarfile
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import holdfast
from holdfast import errors
from holdfast.cli._context import Exit
from tests.support.cli_shell import Shell
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, wait_until

MIB = 1 << 20
pytestmark = pytest.mark.slow

Files = dict[str, bytes]


@pytest.fixture
def folder(served: ServerProcess) -> tuple[str, Files]:
    """A folder on the server, and what is in it."""
    name = uuid.uuid4().hex
    chosen = random.Random(3)
    files = {f"sub/{number}": chosen.randbytes(chosen.choice([0, 10, 50_000])) for number in range(50)}
    files["big"] = chosen.randbytes(6 * MIB)
    for path, content in files.items():
        place = served.files_dir / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return name, files


def unpacked(path: Path) -> Files:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path, "r:") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def tar_of(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["zip", "tar"])
def test_a_folder_comes_down_as_one_file_over_a_line_that_breaks(
    folder: tuple[str, Files], faulty: Callable[..., FaultyProxy], tmp_path: Path, format: str
) -> None:
    name, files = folder
    proxy = faulty(*[Fault(cut_down=size, reset=False) for size in (100, 70_000, 3 * MIB, MIB)])
    with holdfast.Client(proxy.url) as through:
        path = through.files.download_archive(name, tmp_path, format=format, segments=1).wait(60)  # type: ignore[arg-type]
    assert path == tmp_path / f"{name}.{format}"
    assert unpacked(path) == files
    assert proxy.bytes_down < path.stat().st_size + MIB
    assert os.listdir(tmp_path / "state" / "transfers") == []


async def test_the_async_client_has_it_too(
    aclient: holdfast.AsyncClient, folder: tuple[str, Files], tmp_path: Path
) -> None:
    name, files = folder
    path = await aclient.files.download_archive(name, tmp_path / "mine.tar", format="tar")
    assert unpacked(path) == files
    receipt = await aclient.files.upload_archive(path, f"{name}-again")
    assert (receipt.files, receipt.refused) == (len(files), {})


def test_a_paused_download_is_resumed_by_another_process(
    client: holdfast.Client, folder: tuple[str, Files], faulty: Callable[..., FaultyProxy], tmp_path: Path
) -> None:
    name, files = folder
    proxy = faulty(Fault(stall_down=2 * MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.download_archive(name, tmp_path)
        wait_until(lambda: transfer.progress.done > MIB)
        transfer.pause()
        record = through.transfers.pending()[0]
        assert (record.name, record.archive) == (f"{name}.zip", True)
        path = through.transfers.resume(record).wait(60)
    assert unpacked(path) == files


def test_a_change_meanwhile_is_an_error_and_no_mixture(
    client: holdfast.Client, folder: tuple[str, Files], faulty: Callable[..., FaultyProxy], tmp_path: Path
) -> None:
    name, _ = folder
    proxy = faulty(Fault(stall_down=2 * MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.download_archive(name, tmp_path)
        wait_until(lambda: transfer.progress.done > MIB)
        transfer.pause()
        client.files.write(f"{name}/sub/3", b"other", overwrite=True)
        transfer.resume()
        with pytest.raises(errors.RemoteChanged):
            transfer.wait(60)
    assert not (tmp_path / f"{name}.zip").exists()


def test_a_folder_without_files_is_not_found(client: holdfast.Client, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="nowhere"):
        client.files.download_archive("nowhere", tmp_path).wait(60)


def test_a_tar_becomes_files(client: holdfast.Client, tmp_path: Path) -> None:
    folder, files = uuid.uuid4().hex, {"a": b"1", "b/c": b"22", "/d": b"3"}
    path = tmp_path / "some.tar"
    path.write_bytes(tar_of(files))
    receipt = client.files.upload_archive(path, folder)
    assert (receipt.folder, receipt.files, receipt.bytes, [*receipt.refused]) == (folder, 2, 3, ["/d"])
    assert client.files.read(f"{folder}/b/c") == b"22"
    again = client.files.upload_archive(tar_of({"a": b"new", "e": b"5"}), folder)
    assert (again.files, [*again.refused]) == (1, ["a"])
    data = tar_of({"a": b"new"})
    assert client.files.upload_archive((data[:100], data[100:]), folder, overwrite=True).files == 1
    assert client.files.read(f"{folder}/a") == b"new"
    with pytest.raises(errors.BadRequest, match="tar"):
        client.files.upload_archive(b"something else" * 100, folder)


def test_a_link_opens_a_folder(client: holdfast.Client, folder: tuple[str, Files], tmp_path: Path) -> None:
    link = client.files.download_link(folder[0], archive="zip")
    assert f"/v1/archives/{folder[0]}.zip?" in link.url


def test_the_command_downloads_a_folder_as_one_archive(shell: Shell, folder: tuple[str, Files], tmp_path: Path) -> None:
    name, files = folder
    shell("download", "--archive", "zip", f"{name}/", "--to", str(tmp_path / "x.zip"))
    assert unpacked(tmp_path / "x.zip") == files
    shell("download", "--archive", "tar", name, "--to", "-", code=Exit.USAGE)
