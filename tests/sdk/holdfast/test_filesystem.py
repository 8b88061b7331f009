"""`holdfast://`: fsspec's own suite against a real server, and what goes beyond it."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pandas
import pytest
from fsspec.callbacks import Callback
from fsspec.tests import abstract

import holdfast
from holdfast import errors
from holdfast.filesystem import BLOCK, HoldfastFileSystem
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess

MIB = 1 << 20


@pytest.fixture
def fs(served: ServerProcess) -> Iterator[HoldfastFileSystem]:
    found = HoldfastFileSystem(base_url=served.url, skip_instance_cache=True)
    yield found
    found.client.close()


def in_the_making(fs: HoldfastFileSystem) -> list[str]:
    return [upload.name for upload in fs.client.files.uploads() if not upload.complete]


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, served: ServerProcess) -> Iterator[HoldfastFileSystem]:
        found = HoldfastFileSystem(base_url=served.url, skip_instance_cache=True)
        yield found
        found.client.close()

    @pytest.fixture
    def fs_path(self, tmp_path: Path) -> str:
        return f"suite/{tmp_path.name}"  # a folder of each test's own: the server keeps empty ones

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(map(str, parts))

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


@pytest.mark.slow
class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


@pytest.mark.slow
class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


@pytest.mark.slow
class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass


def test_fsspec_finds_it_by_its_protocol(served: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_URL", served.url)
    with fsspec.open("holdfast://found/by protocol.txt", "wt") as file:
        file.write("grüße")
    assert fsspec.filesystem("holdfast").cat_file("/found/by protocol.txt") == "grüße".encode()
    assert (served.files_dir / "found/by protocol.txt").read_text(encoding="utf-8") == "grüße"


def test_another_server_in_the_environment_is_another_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_URL", "http://127.0.0.1:1")
    first = fsspec.filesystem("holdfast")
    assert fsspec.filesystem("holdfast") is first
    monkeypatch.setenv("HOLDFAST_URL", "http://127.0.0.1:2")
    second = fsspec.filesystem("holdfast")
    assert (first.client.base_url, second.client.base_url) == ("http://127.0.0.1:1", "http://127.0.0.1:2")


@pytest.mark.slow
def test_importing_holdfast_does_not_import_fsspec() -> None:
    code = "import sys, holdfast; holdfast.Client; assert 'fsspec' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_pandas_reads_and_writes_tables(served: ServerProcess) -> None:
    options = {"base_url": served.url}
    table = pandas.DataFrame({"name": ["a", "b"], "value": [1, 2]})
    table.to_csv("holdfast://tables/small.csv", index=False, storage_options=options)
    table.to_csv("holdfast://tables/small.csv", index=False, header=False, mode="a", storage_options=options)
    again = pandas.read_csv("holdfast://tables/small.csv", storage_options=options)
    pandas.testing.assert_frame_equal(again, pandas.concat([table, table], ignore_index=True))


def test_what_is_there_is_listed(fs: HoldfastFileSystem) -> None:
    for name in ("tree/a.txt", "tree/sub/b.txt", "tree/sub/deep/c.txt", "treetop.txt"):
        fs.pipe_file(name, name.encode())
    assert fs.ls("tree", detail=False) == ["tree/a.txt", "tree/sub"]
    assert fs.ls("holdfast://tree/a.txt")[0]["sha256"] == fs.info("tree/a.txt")["sha256"]
    assert {"tree", "treetop.txt"} <= set(fs.ls("", detail=False))
    assert fs.find("tree", maxdepth=2) == ["tree/a.txt", "tree/sub/b.txt"]
    assert fs.glob("tree/**/*.txt") == ["tree/a.txt", "tree/sub/b.txt", "tree/sub/deep/c.txt"]
    assert [fs.isdir(name) for name in ("tree/sub", "", "tree/a.txt")] == [True, True, False]
    assert fs.modified("tree/a.txt") == fs.info("tree/a.txt")["modified"]
    before = fs.checksum("tree/a.txt")
    fs.pipe_file("tree/a.txt", b"other")
    assert fs.checksum("tree/a.txt") != before
    fs.mkdir("empty")
    fs.makedirs("empty/too")
    assert not fs.exists("empty")
    fs.rmdir("empty")
    with pytest.raises(ValueError, match="at least 1"):
        fs.find("tree", maxdepth=0)
    fs.rm("tree", recursive=True)
    assert not fs.exists("tree")
    fs.rm("treetop.txt")


def test_ranges_are_those_of_a_slice(fs: HoldfastFileSystem) -> None:
    data = os.urandom(1000)
    fs.pipe_file("ranges.bin", data)
    for start, end in [(0, 10), (990, None), (-10, None), (None, -990), (500, 400), (2000, 3000)]:
        assert fs.cat_file("ranges.bin", start, end) == data[start:end]
    assert fs.read_block("ranges.bin", 10, None) == data[10:]
    with fs.open("ranges.bin") as file:
        assert (file.size, file.read(), file.name) == (1000, data, "ranges.bin")


@pytest.mark.slow
def test_errors_are_those_of_open(fs: HoldfastFileSystem, spawn_server: Callable[..., ServerProcess]) -> None:
    for missing in (fs.info, fs.ls, fs.cat_file, fs.rm, fs.open):
        with pytest.raises(FileNotFoundError):
            missing("there/is none")
    with pytest.raises(FileNotFoundError):
        fs.rm("there/is none", recursive=True)
    for never in (".holdfast/x", "a/../b", "a//b", "a\\b", "a\nb", "x" * 300, "a\u202eb"):
        with pytest.raises(OSError) as caught:
            fs.pipe_file(never, b"")
        assert caught.value.errno == errno.EINVAL, never
        assert not fs.exists(never)
        for ask in (fs.info, fs.ls, fs.cat_file, fs.rm, fs.open, fs.rm_file, fs.created, fs.modified):
            with pytest.raises(FileNotFoundError):
                ask(never)
    guarded = HoldfastFileSystem(spawn_server(HOLDFAST_TOKEN="right").url, token="wrong", skip_instance_cache=True)
    with pytest.raises(PermissionError) as caught:
        guarded.ls("")
    assert isinstance(caught.value.__cause__, errors.Unauthorized)
    away = HoldfastFileSystem("http://127.0.0.1:1", retries=0, skip_instance_cache=True)
    with pytest.raises(errors.ConnectFailed):
        away.exists("a")


@pytest.mark.slow
def test_signed_links_need_no_token(spawn_server: Callable[..., ServerProcess]) -> None:
    fs = HoldfastFileSystem(spawn_server(HOLDFAST_TOKEN="secret").url, token="secret", skip_instance_cache=True)
    fs.pipe_file("signed.txt", b"for anyone")
    assert httpx.get(fs.sign("signed.txt", expiration=60)).content == b"for anyone"


@pytest.mark.slow
def test_what_is_big_goes_up_while_it_is_written(fs: HoldfastFileSystem) -> None:
    pieces = [os.urandom(BLOCK), os.urandom(BLOCK), os.urandom(1000)]
    with fs.open("big.bin", "wb") as file:
        for piece in pieces:
            file.write(piece)
        assert not fs.exists("big.bin")
    assert fs.cat_file("big.bin") == b"".join(pieces)


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 3 * BLOCK], ids=["small", "big"])
def test_a_block_that_fails_publishes_nothing(fs: HoldfastFileSystem, served: ServerProcess, size: int) -> None:

    def fail() -> None:
        with fs.open("half.bin", "wb") as file:
            file.write(bytes(size))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert not fs.exists("half.bin")
    assert in_the_making(fs) == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 2 * BLOCK + 1], ids=["small", "big"])
def test_a_transaction_publishes_all_or_nothing(fs: HoldfastFileSystem, size: int) -> None:
    with fs.transaction:
        with fs.open("first.bin", "wb") as file:
            file.write(bytes(size))
        assert not fs.exists("first.bin")
    assert fs.info("first.bin")["size"] == size

    def fail() -> None:
        with fs.transaction:
            with fs.open("second.bin", "wb") as file:
                file.write(bytes(size))
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert not fs.exists("second.bin")
    assert in_the_making(fs) == []
    fs.rm("first.bin")


@pytest.mark.slow
def test_a_name_that_was_taken_meanwhile_is_not_replaced(fs: HoldfastFileSystem) -> None:
    file = fs.open("taken.bin", "xb")
    file.write(bytes(2 * BLOCK))
    fs.pipe_file("taken.bin", b"quicker")
    with pytest.raises(FileExistsError):
        file.close()
    assert fs.cat_file("taken.bin") == b"quicker"
    with pytest.raises(FileExistsError):
        fs.put_file(__file__, "taken.bin", mode="create")


def test_an_upload_that_is_refused_ends_the_writing(fs: HoldfastFileSystem) -> None:
    file = fs.open(".holdfast/refused", "wb", block_size=1000)
    with pytest.raises(OSError, match="reserved"):
        [file.write(bytes(1000)) for _ in range(10)]
    file.discard()


def test_a_failed_write_is_not_tried_again_when_it_is_closed(fs: HoldfastFileSystem) -> None:
    file = fs.open(".holdfast/refused", "wb")
    file.write(b"x")
    with pytest.raises(OSError, match="reserved"):
        file.close()
    assert file.closed


@pytest.mark.slow
def test_whole_files_come_and_go_over_cuts_and_tell_how_far_they_are(
    served: ServerProcess, faulty: Callable[..., FaultyProxy], tmp_path: Path
) -> None:
    data = os.urandom(3 * MIB)
    (tmp_path / "here.bin").write_bytes(data)
    proxy = faulty(Fault(when=b"PATCH ", cut_up=MIB), Fault(when=b"GET ", cut_down=MIB))
    fs = HoldfastFileSystem(proxy.url, skip_instance_cache=True)
    up, down = Callback(), Callback()
    fs.put(str(tmp_path / "here.bin"), "there/file.bin")
    fs.put_file(tmp_path / "here.bin", "there/file.bin", callback=up)
    fs.get_file("there/file.bin", tmp_path / "again.bin", callback=down)
    assert (tmp_path / "again.bin").read_bytes() == data
    assert proxy.happened == 2
    assert (up.size, up.value, down.size, down.value) == (3 * MIB,) * 4
    with (tmp_path / "open.bin").open("wb") as target:
        fs.get_file("there/file.bin", target)
    assert (tmp_path / "open.bin").read_bytes() == data
    fs.get("there", str(tmp_path / "folder"), recursive=True)
    assert (tmp_path / "folder/file.bin").read_bytes() == data


def test_ctrl_c_keeps_what_has_come_for_the_next_time(
    fs: HoldfastFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(transfer: holdfast.Transfer[Any], timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    fs.pipe_file("interrupted.bin", os.urandom(MIB))
    with monkeypatch.context() as patched:
        patched.setattr(holdfast.Transfer, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fs.get_file("interrupted.bin", tmp_path / "here.bin")
    fs.get_file("interrupted.bin", tmp_path / "here.bin")
    assert (tmp_path / "here.bin").stat().st_size == MIB


def test_it_can_be_pickled_and_makes_connections_of_its_own_after_a_fork(fs: HoldfastFileSystem) -> None:
    fs.pipe_file("pickled.txt", b"the same")
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat_file("pickled.txt") == b"the same"
    first = fs.client
    assert fs.client is first
    fs._process = 0  # as in a child
    assert fs.client is not first


def test_names_with_a_leading_dot_go_there_and_back(fs: HoldfastFileSystem, tmp_path: Path) -> None:
    here = tmp_path / "site"
    (here / ".well-known").mkdir(parents=True)
    wanted = {".nojekyll": b"", ".gitattributes": b"* text=auto\n", ".well-known/.x": b"x", "index.html": b"<p>"}
    for name, content in wanted.items():
        (here / name).write_bytes(content)
    fs.put(f"{here}/", "dotted", recursive=True)
    assert fs.find("dotted") == sorted(f"dotted/{name}" for name in wanted)
    top = (".gitattributes", ".nojekyll", ".well-known", "index.html")
    assert fs.ls("dotted", detail=False) == [f"dotted/{name}" for name in top]
    assert {name: fs.cat_file(f"dotted/{name}") for name in wanted} == wanted
    fs.get("dotted/", f"{tmp_path}/back/", recursive=True)
    back = tmp_path / "back"
    assert {path.relative_to(back).as_posix() for path in back.rglob("*") if path.is_file()} == {*wanted}


def test_one_level_is_one_request(fs: HoldfastFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("levels/a", "levels/b/c", "levels/b/d/e", "levels/f/g"):
        fs.pipe_file(name, b"")
    asked: list[str] = []
    ask = fs.client._core.run
    monkeypatch.setattr(fs.client._core, "iterate", watched(fs.client._core.iterate, asked))
    monkeypatch.setattr(fs.client._core, "run", watched(ask, asked))
    assert fs.ls("levels", detail=False) == ["levels/a", "levels/b", "levels/f"]
    assert fs.glob("levels/*") == ["levels/a", "levels/b", "levels/f"]
    assert len(asked) == 2
    assert [(root, sorted(folders), sorted(files)) for root, folders, files in fs.walk("levels")] == [
        ("levels", ["b", "f"], ["a"]),
        ("levels/b", ["d"], ["c"]),
        ("levels/b/d", [], ["e"]),
        ("levels/f", [], ["g"]),
    ]
    assert len(asked) == 6


def test_what_is_below_a_level_costs_no_request(
    fs: HoldfastFileSystem, served: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = served.files_dir / "level/below"
    below.mkdir(parents=True)
    for number in range(250):  # pages of 100
        (below / str(number)).touch()
    (served.files_dir / "level/file").touch()
    asked: list[str] = []
    monkeypatch.setattr(httpx.Client, "send", watched(httpx.Client.send, asked))
    assert fs.ls("level", detail=False) == ["level/below", "level/file"]
    assert fs.glob("level/*") == ["level/below", "level/file"]
    assert len(asked) == 2


def watched(call: Callable[..., Any], asked: list[str]) -> Callable[..., Any]:
    """The call, which notes that it was made."""

    def noted(*args: Any, **kwargs: Any) -> Any:
        asked.append(call.__name__)
        return call(*args, **kwargs)

    return noted


def test_an_open_file_has_what_caches_and_readers_ask_for(fs: HoldfastFileSystem) -> None:
    data = b"".join(b"%d\n" % number for number in range(100_000))
    fs.pipe_file("lines.txt", data)
    with fs.open("lines.txt") as file:
        assert (file.size, file.blocksize > 0, file.details["size"], file.info()["name"]) == (
            len(data),
            True,
            len(data),
            "lines.txt",
        )
        assert file._fetch_range(5, 10) == data[5:10]
        assert [next(file) for _ in range(3)] == [b"0\n", b"1\n", b"2\n"]
        assert (file.readline(1), file.readline()) == (b"3", b"\n")
        assert file.readlines() == data.splitlines(keepends=True)[4:]
        assert (file.read(), file.readline()) == (b"", b"")
        buffer = bytearray(6)
        file.seek(-6, 2)
        assert (file.readinto(buffer), bytes(buffer)) == (6, data[-6:])
        again = pickle.loads(pickle.dumps(file))
        assert again.read(10) == file.read(10)
        file.seek(0)
        fs.pipe_file("lines.txt", b"other")
        with pytest.raises(errors.RemoteChanged):
            file.read()
    with fs.open("lines.txt", "r") as text:
        assert text.read() == "other"
    fs.pipe_file("lines/a", b"")
    with pytest.raises(IsADirectoryError):
        fs.open("lines")
