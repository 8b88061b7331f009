"""Upload of small files, many in one request: cuts, crashes, refusals, and servers that can't do it."""

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
from holdfast import errors
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, wait_until
from tests.support.small_folders import CLIENT, Counting, contents, filled

pytestmark = pytest.mark.slow

Faulty = Callable[..., FaultyProxy]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path / "mine", 100)


def test_many_small_files_take_few_requests_both_ways(served: ServerProcess, folder: Path, tmp_path: Path) -> None:
    transport, prefix = Counting(), uuid.uuid4().hex
    with holdfast.Client(served.url, transport=transport) as client:
        transfer = client.files.upload_folder(folder, prefix)
        sent = transfer.wait(60)
        assert [file.name for file in sent.sent] == sorted(f"{prefix}/{name}" for name in contents(folder))
        assert transfer.sent == transfer.progress.done == transfer.progress.total
        assert len([one for one in transport.requests if one == ("PUT", "archives")]) == 1
        assert ("PUT", "files") not in transport.requests
        transport.requests.clear()
        down = client.files.download_folder(prefix, tmp_path / "down")
        paths = down.wait(60)
        assert contents(tmp_path / "down") == contents(folder)
        assert sorted(paths) == sorted(path for path in (tmp_path / "down").rglob("*") if path.is_file())
        assert down.progress.done == down.progress.total
        assert transport.requests.count(("GET", "archives")) == 1
        assert transport.requests.count(("GET", "files")) <= 3  # the listing, and the large one
        transport.requests.clear()
        assert len(client.files.upload_folder(folder, prefix).wait(60).same) == len(sent.sent)
        client.files.download_folder(prefix, tmp_path / "down").wait(60)
        assert not [kind for _, kind in transport.requests if kind == "archives"]


def test_a_server_without_archives_gets_each_by_itself(served: ServerProcess, folder: Path, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex
    with holdfast.Client(served.url, transport=Counting(archives=False)) as client:
        assert len(client.files.upload_folder(folder, prefix).wait(60).sent) == 103
        client.files.download_folder(prefix, tmp_path / "down").wait(60)
    assert contents(tmp_path / "down") == contents(folder)


def test_a_prefix_that_no_name_can_have_is_refused_and_nothing_lands(client: holdfast.Client, folder: Path) -> None:
    prefix = uuid.uuid4().hex
    for wrong in (f"/{prefix}", "/", f"{prefix}//"):
        before = {file.name for file in client.files.list()}
        with pytest.raises(errors.BadRequest):
            client.files.upload_folder(folder, wrong, overwrite=True).wait(60)
        assert {file.name for file in client.files.list()} == before


def test_what_exists_and_differs_is_refused_by_name_and_the_others_are_there(
    client: holdfast.Client, folder: Path, tmp_path: Path
) -> None:
    prefix = uuid.uuid4().hex
    client.files.upload(b"another", f"{prefix}/in1/f0001.bin").wait(60)
    with pytest.raises(errors.FileExists, match="f0001"):
        client.files.upload_folder(folder, prefix).wait(60)
    assert len([*client.files.list(f"{prefix}/")]) >= 100
    assert client.files.read(f"{prefix}/in1/f0001.bin") == b"another"
    client.files.upload_folder(folder, prefix, overwrite=True).wait(60)
    target = tmp_path / "down"
    (target / "in1").mkdir(parents=True)
    (target / "in1/f0001.bin").write_text("mine")
    with pytest.raises(errors.LocalExists, match="f0001"):
        client.files.download_folder(prefix, target).wait(60)
    assert (target / "in1/f0001.bin").read_text() == "mine"
    client.files.download_folder(prefix, target, overwrite=True).wait(60)
    assert contents(target) == contents(folder)


def test_a_bad_name_does_not_harm_the_others(client: holdfast.Client, folder: Path) -> None:
    (folder / "bad\x01name").write_text("x")
    prefix = uuid.uuid4().hex
    result = client.files.upload_folder(folder, prefix).wait(60)
    assert result.left_out == ["bad\x01name"]
    assert len(result.sent) == len(contents(folder)) - 1


@pytest.mark.parametrize(
    "fault",
    [Fault(when=b"PUT ", cut_up=60_000), Fault(when=b"PUT ", swallow_answer=True), Fault(when=b"PUT ", duplicate=True)],
    ids=["cut", "answer lost", "twice"],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_request_that_goes_wrong_is_mended_without_sending_what_has_landed(
    faulty: Faulty, folder: Path, fault: Fault, overwrite: bool
) -> None:
    prefix, proxy = uuid.uuid4().hex, faulty(fault)
    with holdfast.Client(proxy.url) as client:
        result = client.files.upload_folder(folder, prefix, overwrite=overwrite).wait(60)
        names = [*result.same, *(file.name for file in result.sent)]
        assert sorted(names) == sorted(f"{prefix}/{name}" for name in contents(folder))
        there = {file.name: file.size for file in client.files.list(f"{prefix}/")}
    assert there == {f"{prefix}/{name}": len(data) for name, data in contents(folder).items()}
    assert proxy.happened
    if fault.swallow_answer:
        assert proxy.bytes_up < 900_000  # the tar went up once


def test_two_uploads_at_once_to_one_prefix_both_end(
    client: holdfast.Client, served: ServerProcess, tmp_path: Path
) -> None:
    prefix = uuid.uuid4().hex
    one, other = filled(tmp_path / "one", 600), filled(tmp_path / "other", 600)
    with holdfast.Client(served.url) as second:
        first, then = client.files.upload_folder(one, prefix), second.files.upload_folder(other, prefix)
        for transfer in (first, then):
            result = transfer.wait(120)
            assert len(result.sent) + len(result.same) == len(contents(one))
    assert len([*client.files.list(f"{prefix}/")]) == len(contents(one))


def test_a_server_killed_within_a_group_loses_no_file_that_was_answered(
    spawn_server: Callable[..., ServerProcess], folder: Path
) -> None:
    server = spawn_server(HOLDFAST_FAULT="small.before-rename:40")
    with holdfast.Client(server.url) as client:
        transfer = client.files.upload_folder(folder, "p")
        server.wait_for_death()
        server.environment.pop("HOLDFAST_FAULT")
        server.restart()
        result = transfer.wait(60)
        assert len(result.sent) == len(contents(folder))
    assert contents(server.files_dir / "p") == contents(folder)
    assert not [name for name in os.listdir(server.files_dir / ".holdfast/uploads") if name.startswith(".")]


async def test_the_async_client_does_the_same(aclient: holdfast.AsyncClient, folder: Path, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex
    sent = await aclient.files.upload_folder(folder, prefix)
    assert len(sent.sent) == len(contents(folder))
    await aclient.files.download_folder(prefix, tmp_path / "down")
    assert contents(tmp_path / "down") == contents(folder)


def test_a_killed_client_leaves_whole_files_and_the_next_sends_the_rest(
    client: holdfast.Client, served: ServerProcess, tmp_path: Path
) -> None:
    root, prefix = filled(tmp_path / "data", 700), uuid.uuid4().hex
    process = subprocess.Popen([sys.executable, "-c", CLIENT, "up", served.url, str(root), prefix])
    wait_until(lambda: len([*client.files.list(f"{prefix}/")]) > 50)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    before = len([*client.files.list(f"{prefix}/")])
    assert before < len(contents(root))
    result = client.files.upload_folder(root, prefix).wait(60)
    assert len(result.same) >= before
    assert len(result.sent) + len(result.same) == len(contents(root))


def test_a_small_file_that_arrives_damaged_is_removed_and_sent_again(
    client: holdfast.Client, served: ServerProcess, faulty: Faulty, tmp_path: Path
) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    for number in range(20):
        (root / f"{number:02}").write_bytes(os.urandom(100_000))
    prefix, proxy = uuid.uuid4().hex, faulty(Fault(when=b"PUT /v1/archives", flip_up=150_000))
    with holdfast.Client(proxy.url) as through:
        result = through.files.upload_folder(root, prefix).wait(60)
    assert proxy.happened == 1
    assert len(result.sent) == 20
    assert contents(served.files_dir / prefix) == contents(root)
