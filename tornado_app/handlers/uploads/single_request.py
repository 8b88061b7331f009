"""A POST without a resumable protocol: the whole body, in one request or not at all."""

from __future__ import annotations

from typing import NoReturn, cast

import msgspec

from tornado_app import problems
from tornado_app.files.store.interface import FileStat
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.uploads.protocol import UploadProtocol


class SingleRequest(UploadProtocol):
    """The name comes from Content-Disposition, or from the form that the file comes in; else it is the upload's id."""

    async def begin_creation(self) -> Writer | None:
        form = self.handler.form = self.handler.form_of()
        if form is not None:
            return None  # until its file begins
        check = self.content_check()  # what can't be read makes nothing
        self.upload = await self.uploads.create(
            self.record("plain", length=self.handler.body_size), client=self.handler.client
        )
        return await self.uploads.write(self.upload, 0, self.handler.on_release_requested, check)

    async def begin_file(self, name: str) -> Writer:
        record = self.record("plain")
        self.upload = await self.uploads.create(
            record if record.name else msgspec.structs.replace(record, name=name), client=self.handler.client
        )
        return await self.uploads.write(self.upload, 0, self.handler.on_release_requested)

    async def created(self) -> None:
        upload = await self.uploads.finish(cast(Writer, self.handler.writer), last=True)
        self.answer_file(cast(FileStat, upload.published))

    async def begin_append(self, id: str) -> NoReturn:
        raise problems.UNSUPPORTED_MEDIA_TYPE("an append needs a protocol's media type")

    async def appended(self) -> None:
        """`begin_append` has refused."""

    async def head(self, id: str) -> None:
        """A HEAD is always the draft's."""
