"""A real nginx, with the configuration of docs/behind-nginx.md, sends the files that Holdfast decides about."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import free_port
from tornado_app.app import App
from tornado_app.files.published.service import PublishedFiles
from tornado_app.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "behind-nginx.md"
TOKEN = "t0ken-of-this-test"
CONTENT = bytes(range(256)) * 1000
NAMES = ["big.bin", "a b/ü%3F?#&+;=.bin", "..a/%2e%2e.txt"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    for name in NAMES:
        path = settings.files_dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(CONTENT)
    return dataclasses.replace(settings, token=TOKEN, trust_proxy=True, accel_redirect="/published/")


@pytest.fixture
async def nginx(server: App, settings: Settings, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the token, of an nginx in front of `server`."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        pytest.fail("no nginx here: tests/tools.sh installs it")
    port = free_port()
    proxy, _, maps, location = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    proxy = proxy.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("8080", f"127.0.0.1:{port}")
    location = location.replace("/srv/holdfast/files", str(settings.files_dir))
    temporary = "".join(
        f"{kind}_temp_path {tmp_path / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = f"user {'root' if os.geteuid() == 0 else os.environ.get('USER', 'nobody')};\n"
    (tmp_path / "nginx.conf").write_text(
        f"{user}daemon off; worker_processes 1; pid {tmp_path / 'pid'}; error_log {tmp_path / 'error'};\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{maps}{proxy.rstrip().removesuffix('}')}{location}}}\n}}\n"
    )
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], stderr=subprocess.DEVNULL
    )
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}/holdfast/v1/files/", headers={"Authorization": f"Bearer {TOKEN}"}
        ) as client:
            while True:
                try:
                    await client.head("big.bin")
                    break
                except httpx.TransportError:
                    assert process.poll() is None, (tmp_path / "error").read_text()
            yield client
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(30)


@pytest.fixture
def redirected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that were left to nginx."""
    from tornado_app.handlers.files.reading import FileHandler

    names: list[str] = []
    redirect = FileHandler._redirect

    async def noted(self: FileHandler, answer: Any, reader: Any) -> None:
        names.append(answer.stat.name)
        await redirect(self, answer, reader)

    monkeypatch.setattr(FileHandler, "_redirect", noted)
    return names


def quoted(name: str) -> str:
    return "/".join("".join(f"%{byte:02X}" for byte in part.encode()) for part in name.split("/"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
async def test_a_file_has_the_bytes_and_headers_that_holdfast_gives_it(
    nginx: httpx.AsyncClient, server: App, redirected: list[str], name: str
) -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as past_nginx:
        own = await past_nginx.get(f"http://127.0.0.1:{server.port}/v1/files/{quoted(name)}")
    assert (own.content, redirected) == (CONTENT, [])
    answer = await nginx.get(quoted(name))
    assert (answer.status_code, answer.content, redirected) == (200, CONTENT, [name])
    kept = ("ETag", "Last-Modified", "Content-Type", "Content-Disposition", "Cache-Control", "Accept-Ranges")
    for field in (*kept, "X-Content-Type-Options", "Content-Security-Policy", "Cross-Origin-Resource-Policy"):
        assert answer.headers.get_list(field) == own.headers.get_list(field), field
    assert not any(field.startswith(("x-accel", "x-holdfast")) for field in answer.headers)


@pytest.mark.slow
async def test_ranges_and_preconditions_hold(nginx: httpx.AsyncClient, redirected: list[str]) -> None:
    etag = (await nginx.head("big.bin")).headers["ETag"]
    for fields, status, content in (
        ({"Range": "bytes=10-19"}, 206, CONTENT[10:20]),
        ({"Range": "bytes=100000-"}, 206, CONTENT[100_000:]),
        ({"Range": "bytes=100000-", "If-Range": etag}, 206, CONTENT[100_000:]),
        ({"Range": "bytes=100000-", "If-Range": '"another"'}, 200, CONTENT),
        ({"Range": "bytes=900000-"}, 416, None),
        ({"If-None-Match": etag}, 304, b""),
        ({"If-None-Match": '"another"'}, 200, CONTENT),
        ({"If-Match": etag}, 200, CONTENT),
        ({"If-Match": '"another"'}, 412, None),
        ({"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200, CONTENT),
        ({"Authorization": "Bearer another"}, 401, None),
    ):
        answer = await nginx.get("big.bin", headers=fields)
        assert answer.status_code == status, fields
        if content is not None:
            assert answer.content == content
        if status < 400:
            assert answer.headers["ETag"] == etag, fields
    assert redirected


@pytest.mark.slow
async def test_nothing_leads_into_the_location_from_outside(nginx: httpx.AsyncClient) -> None:
    base = str(nginx.base_url).partition("/holdfast")[0]
    assert (await nginx.get(f"{base}/published/big.bin")).status_code == 404


@pytest.mark.slow
async def test_a_signed_link_needs_no_token(nginx: httpx.AsyncClient, server: App, redirected: list[str]) -> None:
    link = server.services.links.sign("big.bin", 60)
    base = str(nginx.base_url).partition("/v1/")[0]
    async with httpx.AsyncClient() as anybody:
        answer = await anybody.get(base + link.url)
        assert (answer.status_code, answer.content, redirected) == (200, CONTENT, ["big.bin"])
        assert (await anybody.get(base + link.url.replace("big", "bag"))).status_code == 401


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"Range": "bytes=100-"}, {"Range": "bytes=100-", "If-Range": "ETAG"}])
async def test_a_file_that_is_replaced_in_between_is_not_taken_for_the_other(
    nginx: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str]
) -> None:
    etag = (await nginx.head("big.bin")).headers["ETag"]
    get, other = PublishedFiles.get, b"x" * 70_000

    async def replace_then(self: PublishedFiles, *arguments: Any) -> Any:
        answer = await get(self, *arguments)
        (settings.files_dir / "other").write_bytes(other)
        os.replace(settings.files_dir / "other", settings.files_dir / "big.bin")
        return answer

    monkeypatch.setattr(PublishedFiles, "get", replace_then)
    answer = await nginx.get("big.bin", headers={name: value.replace("ETAG", etag) for name, value in fields.items()})
    assert "ETag" not in answer.headers
    assert answer.content == (other if "If-Range" in fields or not fields else other[100:])


def test_the_setting_needs_a_location_and_a_trusted_proxy() -> None:
    from tornado_app import settings

    for flags in (["--accel-redirect", "/published/"], ["--accel-redirect", "x", "--trust-proxy", "--token", "t"]):
        with pytest.raises(settings.SettingsError, match="--accel-redirect"):
            settings.read(flags, {})
