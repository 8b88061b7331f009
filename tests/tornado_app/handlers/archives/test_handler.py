"""`/v1/archives`: folders as archives that resume, and tars whose members become files."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import random
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.servers import ServerProcess, wait_until
from tornado_app.app import App
from tornado_app.files.archives import reading
from tornado_app.server import sendfile
from tornado_app.settings import Settings

_RANDOM = random.Random(12)
TREE = {
    "empty": b"",
    "small.txt": b"hello\n",
    "Grüße €.txt": b"utf-8",
    ".hidden/file": b"hidden",
    "deep/er/copied.bin": _RANDOM.randbytes(reading.SMALL),
    "deep/er/sent.bin": _RANDOM.randbytes(reading.SMALL + 1),
    "deep/" + "n" * 120 + "/" + "m" * 120: b"long",
    "big.bin": _RANDOM.randbytes((2 << 20) + 7),
}
MODIFIED = 1_700_000_000


def write_tree(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (MODIFIED, MODIFIED))


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(data: bytes, format: str) -> dict[str, bytes]:
    if format == "zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def tar_of(files: dict[str, bytes] | list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def folder(settings: Settings) -> Path:
    write_tree(settings.files_dir / "data", TREE)
    write_tree(settings.files_dir, {"outside": b"o", "data2/x": b"x"})
    return settings.files_dir / "data"


@pytest.fixture(params=["sendfile", "pieces"])
def way_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pieces":
        monkeypatch.setattr(sendfile, "plain_stream", lambda connection: None)
    return str(request.param)


async def get(http: httpx.AsyncClient, name: str, **headers: str) -> httpx.Response:
    fields = {field.replace("_", "-"): value for field, value in headers.items()}
    return await http.get(f"/v1/archives/{name}", headers={"Accept-Encoding": "identity"} | fields)


async def put(http: httpx.AsyncClient, folder: str, data: bytes, **headers: str) -> httpx.Response:
    fields = {field.replace("_", "-"): value for field, value in headers.items()}
    return await http.put(f"/v1/archives/{folder}", content=data, headers=fields)


# -- reading


@pytest.mark.parametrize("format", ["zip", "tar"])
async def test_a_folder_comes_as_one_archive(http: httpx.AsyncClient, folder: Path, way_out: str, format: str) -> None:
    answer = await get(http, f"data.{format}")
    assert answer.status_code == 200
    assert unpacked(answer.content, format) == TREE
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert answer.headers["Content-Disposition"] == f'attachment; filename="data.{format}"'
    assert answer.headers["Content-Type"] == {"zip": "application/zip", "tar": "application/x-tar"}[format]
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Last-Modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    again = await get(http, f"data.{format}")
    assert (again.content, again.headers["ETag"]) == (answer.content, answer.headers["ETag"])
    head = await http.head(f"/v1/archives/data.{format}")
    assert head.content == b""
    same = ("Content-Length", "ETag", "Content-Type", "Last-Modified", "Accept-Ranges", "Content-Disposition")
    assert all(head.headers[field] == answer.headers[field] for field in same)


async def test_the_root_is_an_archive_without_a_name(http: httpx.AsyncClient, folder: Path) -> None:
    answer = await get(http, ".tar")
    assert set(unpacked(answer.content, "tar")) == {"outside", "data2/x", *(f"data/{name}" for name in TREE)}
    assert answer.headers["Content-Disposition"] == 'attachment; filename="files.tar"'


@pytest.mark.parametrize("format", ["zip", "tar"])
async def test_the_same_files_in_another_place_make_the_same_bytes(
    http: httpx.AsyncClient, folder: Path, format: str
) -> None:
    write_tree(folder.parent / "copy/of it", dict(reversed(TREE.items())))
    assert (await get(http, f"copy/of it.{format}")).content == (await get(http, f"data.{format}")).content


@pytest.mark.parametrize("format", ["zip", "tar"])
async def test_any_range_is_that_part_of_the_whole(
    http: httpx.AsyncClient, folder: Path, way_out: str, format: str
) -> None:
    whole = (await get(http, f"data.{format}")).content
    size = len(whole)
    chosen = random.Random(5)
    ranges = [(chosen.randrange(size), chosen.choice([1, 100, 70_000, 5 << 20])) for _ in range(12)]
    for first, count in [*ranges, (size - 1, 1), (size - 600, 600), (0, 1)]:
        last = min(first + count, size) - 1
        answer = await get(http, f"data.{format}", Range=f"bytes={first}-{last}")
        assert answer.status_code == 206
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
        assert answer.content == whole[first : last + 1], (first, last)
    answer = await get(http, f"data.{format}", Range=f"bytes={size}-")
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{size}")


async def test_several_ranges_come_in_one_answer(http: httpx.AsyncClient, folder: Path) -> None:
    whole = (await get(http, "data.zip")).content
    answer = await get(http, "data.zip", Range="bytes=5-9,100000-200000")
    assert answer.status_code == 206
    assert answer.headers["Content-Type"].startswith("multipart/byteranges")
    assert whole[5:10] in answer.content
    assert whole[100000:200001] in answer.content
    assert len(answer.content) == int(answer.headers["Content-Length"])


async def test_a_changed_member_makes_another_archive(http: httpx.AsyncClient, folder: Path) -> None:
    first = await get(http, "data.zip")
    etag = first.headers["ETag"]
    assert (await get(http, "data.zip", If_None_Match=etag)).status_code == 304
    assert (await get(http, "data.zip", If_Match=etag, Range="bytes=9-")).status_code == 206
    (folder / "small.txt").write_bytes(b"HELLO\n")
    os.utime(folder / "small.txt", (MODIFIED, MODIFIED))
    changed = await get(http, "data.zip", If_Match=etag, Range="bytes=9-")
    assert (changed.status_code, changed.json()["type"]) == (412, "/problems/precondition-failed")
    resumed = await get(http, "data.zip", If_Range=etag, Range="bytes=9-")
    assert resumed.status_code == 200
    assert unpacked(resumed.content, "zip") == TREE | {"small.txt": b"HELLO\n"}


async def test_a_date_never_says_that_an_archive_is_the_same(http: httpx.AsyncClient, folder: Path) -> None:
    """A file that was removed leaves no time behind."""
    first = await get(http, "data.tar")
    date = first.headers["Last-Modified"]
    (folder / "small.txt").unlink()
    assert (await get(http, "data.tar", If_Range=date, Range="bytes=9-")).status_code == 200
    assert (await get(http, "data.tar", If_Modified_Since=date)).status_code == 200
    assert (await get(http, "data.tar", If_Unmodified_Since=date)).status_code == 412


@pytest.mark.parametrize("change", ["write", "replace", "remove"])
@pytest.mark.parametrize("format", ["zip", "tar"])
async def test_a_member_that_changes_meanwhile_cuts_the_connection(
    http: httpx.AsyncClient,
    folder: Path,
    way_out: str,
    format: str,
    change: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "BATCH", 1 << 20)
    write_tree(folder, {"z-last": b"l" * 50_000})
    write_tree(folder, {f"many/{number:03}": bytes(500_000) for number in range(30)})

    def apply() -> None:
        last = folder / "z-last"
        if change == "write":
            last.write_bytes(b"L" * 50_000)
        elif change == "replace":
            (folder / "new").write_bytes(b"L" * 50_000)
            (folder / "new").rename(last)
        else:
            last.unlink()

    async def read_and_change() -> None:
        came = 0
        async with http.stream("GET", f"/v1/archives/data.{format}") as answer:
            assert answer.status_code == 200
            async for piece in answer.aiter_raw(65536):
                if not came:
                    apply()
                came += len(piece)

    with pytest.raises(httpx.RemoteProtocolError):
        await read_and_change()
    assert (await get(http, f"data.{format}")).status_code == 200


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("none.zip", "no-such-file"),
        ("outside.zip", "no-such-file"),
        ("da.tar", "no-such-file"),
        ("..%2Fdata.zip", "no-such-file"),
        (".holdfast.zip", "no-such-file"),
        ("data", "not-found"),
        ("data.rar", "not-found"),
    ],
)
async def test_what_is_no_folder_has_no_archive(http: httpx.AsyncClient, folder: Path, name: str, type: str) -> None:
    answer = await get(http, name)
    assert (answer.status_code, answer.json()["type"]) == (404, f"/problems/{type}")


async def test_a_link_opens_one_archive_without_a_token(http: httpx.AsyncClient, app: App, folder: Path) -> None:
    links = app.services.links
    access = app.services.access
    assert access.peers is not None
    access.peers.close()
    access.token, access.peers = "t", None
    link = links.sign("data", 60, archive="zip")
    assert unpacked((await http.get(link.url)).content, "zip") == TREE
    assert (await http.head(link.url)).status_code == 200
    query = link.url.partition("?")[2]
    for other in ("archives/data.tar", "archives/data2.zip", "files/data.zip"):
        assert (await http.get(f"/v1/{other}?{query}")).status_code == 401
    file_link = links.sign("data.zip", 60)
    assert (await http.get(f"/v1/archives/data.zip?{file_link.url.partition('?')[2]}")).status_code == 401
    assert (await http.put(link.url, content=tar_of({}))).status_code == 401


async def test_a_cut_client_leaves_nothing_open(http: httpx.AsyncClient, app: App, folder: Path) -> None:
    write_tree(folder, {f"many/{number:03}": bytes(300_000) for number in range(100)})
    before = len(os.listdir("/proc/self/fd"))
    for format in ("zip", "tar"):
        async with http.stream("GET", f"/v1/archives/data.{format}") as answer:
            async for _ in answer.aiter_raw(65536):
                break
    for _ in range(500):
        if len(os.listdir("/proc/self/fd")) <= before:
            break
        await asyncio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.slow
def test_other_programs_read_and_resume_the_archives(
    spawn_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = spawn_server()
    write_tree(server.files_dir / "data", TREE)
    for format in ("zip", "tar"):
        url, path = f"{server.url}/v1/archives/data.{format}", tmp_path / f"data.{format}"
        run("curl", "-sS", "-o", str(path), url)
        whole = path.read_bytes()
        path.write_bytes(whole[: 1 << 20])
        run("curl", "-sS", "-C", "-", "-o", str(path), url)
        assert path.read_bytes() == whole
        listed = run("bsdtar", "-tf", str(path)).splitlines()
        assert len(listed) == len(TREE)
        by_bsdtar = tmp_path / f"bsdtar-{format}"
        by_bsdtar.mkdir()
        run("bsdtar", "-C", str(by_bsdtar), "-xf", str(path))
        assert read_tree(by_bsdtar) == TREE
        assert {int(p.stat().st_mtime) for p in by_bsdtar.rglob("*") if p.is_file()} == {MODIFIED}
    run("unzip", "-tq", str(tmp_path / "data.zip"))
    run("unzip", "-q", str(tmp_path / "data.zip"), "-d", str(tmp_path / "unzip"))
    assert read_tree(tmp_path / "unzip") == TREE
    (tmp_path / "tar").mkdir()
    run("tar", "-C", str(tmp_path / "tar"), "-xf", str(tmp_path / "data.tar"))
    assert read_tree(tmp_path / "tar") == TREE


@pytest.mark.slow
@pytest.mark.parametrize("format", ["zip", "tar"])
def test_memory_does_not_grow_with_the_folder(
    spawn_server: Callable[..., ServerProcess], tmp_path: Path, format: str
) -> None:
    server = spawn_server()
    write_tree(server.files_dir / "warm", {"a": bytes(40 << 20)})
    for number in range(4):
        path = server.files_dir / "large" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(256 << 20)  # without blocks on the disk: 1 GiB in all

    def most_memory() -> int:
        status = Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    run("curl", "-sS", "-o", os.devnull, f"{server.url}/v1/archives/warm.{format}")
    before = most_memory()
    run("curl", "-sSf", "-o", os.devnull, f"{server.url}/v1/archives/large.{format}")
    assert most_memory() - before < 24 << 20


def run(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.fail(f"no {command[0]} here: tests/tools.sh installs it")
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    return subprocess.run(command, check=True, capture_output=True, env=environment).stdout.decode("utf-8")


# -- writing


async def test_the_files_of_a_tar_are_published(http: httpx.AsyncClient, settings: Settings) -> None:
    answer = await put(http, "in/here", tar_of({f"./{name}": content for name, content in TREE.items()}))
    assert answer.status_code == 200
    assert answer.json() == {
        "folder": "in/here",
        "files": len(TREE),
        "bytes": sum(map(len, TREE.values())),
        "refused_count": 0,
        "refused": {},
        "landed": [],
    }
    assert read_tree(settings.files_dir / "in/here") == TREE
    assert unpacked((await get(http, "in/here.zip")).content, "zip") == TREE


async def test_the_top_takes_a_tar_too(http: httpx.AsyncClient, settings: Settings) -> None:
    assert (await put(http, "", tar_of({"a/b": b"1", ".holdfast/uploads/x": b"2"}))).json()["files"] == 1
    assert (settings.files_dir / "a/b").read_bytes() == b"1"


async def test_the_receipt_describes_files_on_request(http: httpx.AsyncClient, settings: Settings) -> None:
    answer = await put(http, "in?landed=true", tar_of({"a": b"1", "b": b"22"}))
    landed = answer.json()["landed"]
    assert [(one["name"], one["size"]) for one in landed] == [("in/a", 1), ("in/b", 2)]
    for one in landed:
        assert (await http.head(f"/v1/files/{one['name']}")).headers["ETag"] == f'"{one["etag"]}"'


async def test_nothing_that_is_no_plain_file_lands(http: httpx.AsyncClient, settings: Settings) -> None:
    (settings.files_dir / "in/folder").mkdir(parents=True)
    (settings.files_dir / "in/folder/x").touch()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in [
            ("link", tarfile.SYMTYPE),
            ("hard", tarfile.LNKTYPE),
            ("null", tarfile.CHRTYPE),
            ("disk", tarfile.BLKTYPE),
            ("pipe", tarfile.FIFOTYPE),
            ("some folder", tarfile.DIRTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    members = [("../up", b"1"), ("a/../../up", b"2"), ("/etc/abs", b"3"), ("back\\slash", b"4"), ("folder", b"5")]
    data = buffer.getvalue()[: 6 * 512] + tar_of([*members, ("good", b"6"), ("link/below", b"7")])
    answer = (await put(http, "in", data)).json()
    assert answer["files"] == 2
    assert answer["refused_count"] == len(answer["refused"]) == 10
    assert set(answer["refused"]) == {"link", "hard", "null", "disk", "pipe", *(name for name, _ in members)}
    assert answer["refused"]["link"] == "it is a symbolic link"
    assert "absolute" in answer["refused"]["/etc/abs"]
    assert read_tree(settings.files_dir / "in") == {"folder/x": b"", "good": b"6", "link/below": b"7"}
    assert not (settings.files_dir / "up").exists()
    assert not (settings.files_dir.parent / "up").exists()


async def test_a_name_that_is_not_utf_8_is_refused(http: httpx.AsyncClient, settings: Settings) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("Gr\xfc\xdfe"))
    answer = (await put(http, "in", data.getvalue())).json()
    assert answer["refused"] == {"Gr\\xfc\\xdfe": "its name is not UTF-8"}


async def test_of_duplicates_the_last_one_wins(http: httpx.AsyncClient, settings: Settings) -> None:
    data = tar_of([("a", b"first"), ("b", b"x"), ("a", b"second"), ("./a", b"third")])
    assert (await put(http, "in", data)).json()["files"] == 4
    assert (settings.files_dir / "in/a").read_bytes() == b"third"
    # Also where nothing that was there before may be replaced.
    write_tree(settings.files_dir / "kept", {"b": b"before"})
    answer = (await put(http, "kept", data, If_None_Match="*")).json()
    assert (answer["files"], answer["refused"]) == (3, {"b": "there is a file of this name already"})
    assert read_tree(settings.files_dir / "kept") == {"a": b"third", "b": b"before"}


async def test_conditions_on_one_file_are_refused(http: httpx.AsyncClient, settings: Settings) -> None:
    data = tar_of({"a": b"1"})
    for headers in ({"If_Match": '"x"'}, {"If_None_Match": '"x"'}, {"Content_Range": "bytes 0-9/20"}):
        answer = await put(http, "in", data, **headers)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request")
    assert (await put(http, "%2E%2E%2Fin", data)).status_code == 400
    assert (await put(http, ".holdfast/x", data)).status_code == 400
    assert read_tree(settings.files_dir / "in") == {}


async def test_a_compressed_tar_is_refused(http: httpx.AsyncClient, settings: Settings) -> None:
    data = gzip.compress(tar_of({"a": b"1"}))
    answer = await put(http, "in", data)
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert "gzip" in answer.json()["detail"]
    assert (await put(http, "in", tar_of({"a": b"1"}), Content_Encoding="gzip")).status_code == 415


async def test_a_tar_that_ends_early_leaves_what_was_whole(http: httpx.AsyncClient, settings: Settings) -> None:
    data = tar_of({"a": b"1", "b": bytes(5000)})
    answer = await put(http, "in", data[:3000])
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-body")
    assert (answer.json()["files"], answer.json()["bytes"]) == (1, 1)
    assert "'b'" in answer.json()["detail"]
    assert read_tree(settings.files_dir / "in") == {"a": b"1"}
    assert os.listdir(settings.files_dir / ".holdfast/uploads") == []
    without_end = await put(http, "in", data[: 512 * 13])
    assert (without_end.status_code, without_end.json()["files"]) == (400, 2)


@pytest.mark.slow
async def test_a_cut_leaves_what_was_whole(server: App, settings: Settings) -> None:
    data = tar_of({"a": b"1", "b": bytes(100_000)})
    head = f"PUT /v1/archives/in HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head + data[:50_000])
    await writer.drain()
    uploads = settings.files_dir / ".holdfast/uploads"
    for _ in range(1000):
        if read_tree(settings.files_dir / "in") and any(uploads.iterdir()):
            break
        await asyncio.sleep(0.01)
    writer.close()
    for _ in range(1000):
        if not any(uploads.iterdir()):
            break
        await asyncio.sleep(0.01)
    assert not any(uploads.iterdir())
    assert read_tree(settings.files_dir / "in") == {"a": b"1"}


async def test_a_member_that_is_too_large_is_refused_and_the_rest_lands(
    http: httpx.AsyncClient, app: App, settings: Settings
) -> None:
    app.services.files.uploads.limits.most = 1000
    answer = (await put(http, "in", tar_of({"large": bytes(1001), "fits": bytes(1000)}))).json()
    assert (answer["files"], [*answer["refused"]]) == (1, ["large"])


async def test_a_full_disk_ends_the_request_and_keeps_what_landed(
    http: httpx.AsyncClient, app: App, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.services.files.store, "free_space", lambda: 1 << 20)
    app.services.files.uploads.limits.reserve = 0
    answer = await put(http, "in", tar_of({"fits": b"1", "huge": bytes(2 << 20)}))
    assert (answer.status_code, answer.json()["type"]) == (507, "/problems/no-space")
    assert answer.json()["files"] == 1
    assert read_tree(settings.files_dir / "in") == {"fits": b"1"}
    assert os.listdir(settings.files_dir / ".holdfast/uploads") == []


async def test_the_answer_names_a_limited_number_of_refused_members(
    http: httpx.AsyncClient, settings: Settings
) -> None:
    answer = (await put(http, "in", tar_of({f"/{number:04}": b"" for number in range(700)}))).json()
    assert (answer["files"], answer["refused_count"], len(answer["refused"])) == (0, 700, 500)


async def test_each_file_is_an_event(http: httpx.AsyncClient, app: App, settings: Settings) -> None:
    events = []
    before = app.services.files.on_event
    app.services.files.on_event = lambda event: (events.append(event), before and before(event))[0]
    await put(http, "in", tar_of({"a": b"1", "b": b"2"}))
    assert [(event.type, event.id, event.data["what"]) for event in events] == [
        ("file", "in/a", "published"),
        ("file", "in/b", "published"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        *("append.written", "publish.before-rename", "publish.after-rename"),
        *("small.written", "small.before-rename"),
    ],
)
def test_a_killed_server_has_whole_files_alone(
    spawn_server: Callable[..., ServerProcess], tmp_path: Path, point: str
) -> None:
    server = spawn_server(HOLDFAST_FAULT=f"{point}:3")
    size = 2000 if point.startswith("small") else 300_000
    content = {f"f{number}": bytes([number]) * size for number in range(6)}
    with pytest.raises(httpx.HTTPError):
        httpx.put(f"{server.url}/v1/archives/in", content=tar_of(content), timeout=60)
    server.wait_for_death()
    server.environment.clear()
    server.restart()
    there = read_tree(server.files_dir / "in")
    assert len(there) < 6
    assert there or not point.endswith("rename")
    assert all(content[name] == data for name, data in there.items())
    wait_until(lambda: not os.listdir(server.files_dir / ".holdfast/uploads"), what="staged bytes are removed")
    missing = {name: data for name, data in content.items() if name not in there}
    assert httpx.put(f"{server.url}/v1/archives/in", content=tar_of(missing), timeout=60).status_code == 200
    assert read_tree(server.files_dir / "in") == content
