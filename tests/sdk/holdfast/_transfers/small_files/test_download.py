"""Download of small files as one stream: cuts, crashes, and what is not worth reading within it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

import holdfast
from holdfast._local_files import small_files
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, wait_until
from tests.support.small_folders import CLIENT, contents, filled

pytestmark = pytest.mark.slow

Faulty = Callable[..., FaultyProxy]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path / "mine", 100)


def test_a_download_goes_on_after_a_cut(faulty: Faulty, client: holdfast.Client, folder: Path, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex
    client.files.upload_folder(folder, prefix).wait(60)
    proxy = faulty(
        Fault(when=b"GET /v1/archives", cut_down=50_000), Fault(when=b"GET /v1/archives", cut_down=40_000, reset=False)
    )
    with holdfast.Client(proxy.url) as through:
        through.files.download_folder(prefix, tmp_path / "down").wait(60)
    assert proxy.happened == 2
    assert contents(tmp_path / "down") == contents(folder)
    assert proxy.bytes_down < 1_500_000  # the large file once within the archive, and once by itself


def test_what_is_large_is_not_read_within_the_archive(faulty: Faulty, folder: Path, tmp_path: Path) -> None:
    (folder / "in1/f0001.zip").write_bytes(os.urandom(6_000_000))
    prefix, proxy = uuid.uuid4().hex, faulty()
    with holdfast.Client(proxy.url) as client:
        client.files.upload_folder(folder, prefix).wait(60)
        before = proxy.bytes_down
        client.files.download_folder(prefix, tmp_path / "down").wait(60)
        assert proxy.bytes_down - before < 11_000_000
    assert contents(tmp_path / "down") == contents(folder)


def test_a_system_without_unnamed_files_downloads_each_by_itself(
    client: holdfast.Client, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = uuid.uuid4().hex
    client.files.upload_folder(folder, prefix).wait(60)
    monkeypatch.setattr(small_files, "_UNNAMED", 0)
    client.files.download_folder(prefix, tmp_path / "down").wait(60)
    assert contents(tmp_path / "down") == contents(folder)


def test_a_killed_client_leaves_whole_files_and_the_next_fetches_the_rest(
    client: holdfast.Client, served: ServerProcess, tmp_path: Path
) -> None:
    root, prefix, down = filled(tmp_path / "data", 700), uuid.uuid4().hex, tmp_path / "down"
    client.files.upload_folder(root, prefix).wait(60)
    process = subprocess.Popen([sys.executable, "-c", CLIENT, "down", served.url, str(down), prefix])
    wait_until(lambda: down.exists() and len(contents(down)) > 50)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    whole, there = contents(root), contents(down)
    assert len(there) < len(whole)
    assert all(whole[name] == data for name, data in there.items() if ".holdfast-" not in name)
    inodes = {path: path.stat().st_ino for path in down.rglob("*.bin")}
    client.files.download_folder(prefix, down).wait(60)
    assert contents(down) == whole
    assert {path: path.stat().st_ino for path in inodes} == inodes


def test_what_a_pause_has_kept_in_memory_is_not_taken_for_the_version_that_replaced_it(
    client: holdfast.Client, faulty: Faulty, tmp_path: Path
) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    for number in range(30):
        (root / f"{number:02}").write_bytes(b"old %d " % number * 2000)
    prefix = uuid.uuid4().hex
    client.files.upload_folder(root, prefix).wait(60)
    proxy = faulty(Fault(when=b"GET /v1/archives", stall_down=200_000))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.download_folder(prefix, tmp_path / "down")
        proxy.wait_for(lambda p: p.happened == 1)
        wait_until(lambda: transfer.progress.done > 0)  # some have come whole, too few to be written yet
        transfer.pause()
        for number in range(30):
            client.files.write(f"{prefix}/{number:02}", b"new %d " % number * 2000, overwrite=True)
            (root / f"{number:02}").write_bytes(b"new %d " % number * 2000)
        transfer.resume()
        transfer.wait(60)
    assert contents(tmp_path / "down") == contents(root)
