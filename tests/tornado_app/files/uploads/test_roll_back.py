"""A store that fails while the bytes of a request are rolled back: the upload is broken, and nothing is hidden."""

from __future__ import annotations

import base64
import dataclasses
import errno
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.support.files import file_service
from tests.support.uploads import OCTETS, TUS, metadata, shown
from tornado_app import problems
from tornado_app.app import App
from tornado_app.files.service import FileService
from tornado_app.files.store.local.staged.data import LocalStagedData
from tornado_app.files.uploads.digest_check import DigestCheck
from tornado_app.files.uploads.upload import UploadRecord
from tornado_app.settings import Settings

MIB = 1 << 20
WRONG = {"Upload-Checksum": "sha256 " + base64.b64encode(b"x" * 32).decode()}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, reserve_space=0)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a method of the store fail."""

    def fail(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    return lambda method: monkeypatch.setattr(LocalStagedData, method, fail)


@pytest.fixture
async def files(settings: Settings) -> AsyncIterator[FileService]:
    service = file_service(settings)
    await service.open()
    yield service
    await service.close()


class TestOverHttp:
    async def create(self, http: httpx.AsyncClient) -> str:
        headers = {**TUS, "Upload-Length": str(10 * MIB), **metadata(filename="a")}
        url = str((await http.post("/v1/uploads", headers=headers)).headers["Location"])
        answer = await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=b"good")
        assert answer.status_code == 204
        return url

    @pytest.mark.parametrize("method", ["truncate", "commit"])
    async def test_a_wrong_checksum_that_can_not_be_rolled_back_breaks_the_upload(
        self,
        app: App,
        http: httpx.AsyncClient,
        broken: Callable[[str], None],
        method: str,
        caplog: pytest.LogCaptureFixture,
        settings: Settings,
    ) -> None:
        url = await self.create(http)
        broken(method)
        bad = os.urandom(6 * MIB)
        with caplog.at_level(logging.ERROR):
            answer = await http.patch(url, headers={**OCTETS, **WRONG, "Upload-Offset": "4"}, content=bad)
        assert (answer.status_code, answer.json()["type"]) == (410, "/problems/upload-broken")
        assert "could not be removed: [Errno 5]" in answer.json()["detail"]
        assert "the sha256 of what came is" in answer.json()["detail"], "the first error is named, too"
        assert "Upload-Offset" not in answer.headers
        assert any("can't go on" in record.message for record in caplog.records)
        head = await http.head(url, headers=TUS)
        assert (head.status_code, "Upload-Offset" in head.headers) == (410, False)
        again = await http.patch(url, headers={**OCTETS, "Upload-Offset": "4"}, content=b"x")
        assert again.status_code == 410
        # A server that is started anew knows it, too.
        record = app.services.files.store.load(url.rpartition("/")[2]).info
        assert b"could not be removed" in record
        assert (await http.delete(url, headers=TUS)).status_code == 204
        assert shown(settings.files_dir) == {}

    async def test_a_form_that_can_not_be_rolled_back_breaks_the_upload_of_the_seed(
        self, http: httpx.AsyncClient, broken: Callable[[str], None], settings: Settings
    ) -> None:
        await http.post("/upload/?file_name=a", content=b"good")
        broken("truncate")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await http.post(
            "/upload/?file_name=a&bytes_read=4", headers=form, content=b"text=" + b"a" * 9 * MIB + b"%zz"
        )
        assert answer.status_code == 400
        assert "could not be removed" in answer.json()["detail"]
        assert (await http.get("/upload/?file_name=a")).json().get("bytes_read") != 9 * MIB + 4
        answer = await http.post("/upload/?file_name=a", content=b"anew")
        assert (answer.status_code, answer.json()["bytes_read"]) == (200, 4)


class TestInTheService:
    async def test_bytes_that_may_not_be_durable_do_not_count(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a sync that failed the kernel may forget the bytes and say that all is well."""
        calls = []

        def sync(self: LocalStagedData) -> None:
            calls.append(self.offset)
            if len(calls) == 2:
                raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(LocalStagedData, "sync", sync)
        files = file_service(dataclasses.replace(settings, durable=True))
        await files.open()
        try:
            upload = await files.uploads.create(UploadRecord("tus", "a", 0.0, length=9))
            for data, stands in ((b"abc", 3), (b"def", 3), (b"def", 6)):
                writer = await files.uploads.write(upload, 3 if data == b"def" else 0)
                writer.write(data)
                try:
                    await files.uploads.finish(writer)
                except OSError:
                    assert len(calls) == 2
                assert upload.offset == stands
            assert upload.staged.read(0, 9) == b"abcdef"
        finally:
            await files.close()

    async def test_a_cut_request_with_a_checksum_that_can_not_be_rolled_back_breaks_it_too(
        self, files: FileService, broken: Callable[[str], None]
    ) -> None:
        upload = await files.uploads.create(UploadRecord("tus", "a", 0.0, length=9 * MIB))
        check = DigestCheck({"sha256": hashlib.sha256(b"other").digest()})
        writer = await files.uploads.write(upload, 0, lambda: None, check)
        room = writer.write(b"x" * 8 * MIB)
        if room is not None:
            await room
        broken("truncate")
        await files.uploads.abandon(writer, "connection lost")
        with pytest.raises(problems.ProblemError) as refused:
            files.uploads.get(upload.id)
        assert refused.value.kind is problems.BROKEN
        with pytest.raises(problems.ProblemError):
            await files.uploads.write(upload, upload.offset)

    async def test_one_that_can_not_be_removed_keeps_the_first_error_and_no_place(
        self, files: FileService, broken: Callable[[str], None]
    ) -> None:
        upload = await files.uploads.create(
            UploadRecord("put", "a", 0.0, digests={"sha-256": hashlib.sha256(b"other").digest()})
        )
        writer = await files.uploads.write(upload, 0)
        writer.write(b"this")
        broken("discard")
        with pytest.raises(problems.ProblemError, match="nothing was published"):
            await files.uploads.finish(writer, last=True)
        assert files.uploads.registry.in_the_making == 0

    async def test_what_is_published_is_a_success_though_its_leavings_stay(
        self, files: FileService, broken: Callable[[str], None]
    ) -> None:
        upload = await files.uploads.create(UploadRecord("put", "a", 0.0))
        writer = await files.uploads.write(upload, 0)
        writer.write(b"this")
        broken("discard")
        await files.uploads.finish(writer, last=True)
        assert files.store.stat("a").size == 4
