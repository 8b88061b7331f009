"""A POST without a resumable protocol: the whole body in one request, or nothing."""

from __future__ import annotations

from typing import NoReturn, cast

import msgspec

from tornado_app import problems
from tornado_app.files.store.interface import FileStat
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.uploads.messages import Receiver, UploadResponse
from tornado_app.handlers.uploads.protocol import UploadProtocol


class SingleRequest(UploadProtocol):
    """The name comes from Content-Disposition or from the file's part of a form; else it is the upload's id."""

    async def begin_creation(self) -> Receiver:
        form = self.request.form()
        if form is not None:
            return Receiver(form=form)  # the upload is created when its file begins
        check = self.content_check()  # an ill-formed digest creates nothing
        request = self.request
        self.upload = await self.uploads.create(
            self.record("plain", length=request.content_length), client=request.client
        )
        self.writer = await self.uploads.write(self.upload, 0, request.on_release_requested, check)
        return Receiver(self.writer)

    async def begin_file(self, name: str) -> Writer:
        record = self.record("plain")
        self.upload = await self.uploads.create(
            record if record.name else msgspec.structs.replace(record, name=name), client=self.request.client
        )
        self.writer = await self.uploads.write(self.upload, 0, self.request.on_release_requested)
        return self.writer

    async def created(self) -> UploadResponse:
        upload = await self.uploads.finish(cast(Writer, self.writer), last=True)
        return self.file_response(cast(FileStat, upload.published))

    async def begin_append(self, id: str) -> NoReturn:
        raise problems.UNSUPPORTED_MEDIA_TYPE("an append needs a protocol's media type")

    async def appended(self) -> NoReturn:
        """`begin_append` has refused."""
        raise NotImplementedError

    async def head(self, id: str) -> NoReturn:
        """A HEAD is always of the IETF draft or of tus."""
        raise NotImplementedError
