"""The seed's endpoints for files: download/, upload/ and upload/cancel/."""

from __future__ import annotations

from typing import cast

from tornado.web import stream_request_body

from tornado_app import problems
from tornado_app.files.seed import Encoding
from tornado_app.handlers.seed import SeedHandler
from tornado_app.handlers.streaming import StreamingHandler
from tornado_app.protocols import form_text


class _FileHandler(SeedHandler):
    """Names a file by `file_name`."""

    @property
    def encoding(self) -> Encoding:
        """How bytes are written as text. Raises BAD_PARAMETERS."""
        encoding = self.one("encoding") or "text"
        if encoding not in ("text", "base64"):
            raise problems.BAD_PARAMETERS(f"encoding must be text or base64, not {encoding!r}", field="encoding")
        return cast(Encoding, encoding)


class DownloadHandler(_FileHandler):
    """`GET /download/`: a file in pieces of text."""

    async def get(self) -> None:
        self.seed_arguments(("file_name", "bytes_read", "encoding", "etag"))
        piece = await self.services.files.seed.piece(
            self.required("file_name"), self.count("bytes_read") or 0, self.encoding, self.one("etag") or ""
        )
        self.answer(piece)


@stream_request_body
class UploadHandler(StreamingHandler, _FileHandler):
    """`GET /upload/`: where to go on. `POST /upload/`: append a piece."""

    async def begin(self) -> None:
        if self.request.method != "POST":
            return
        self.seed_arguments(("file_name", "bytes_read", "file_size", "is_complete", "overwrite", "encoding"))
        name, bytes_read, self._is_complete = (
            self.required("file_name"),
            self.count("bytes_read"),
            self.truth("is_complete"),
        )
        file_size, overwrite = self.count("file_size"), self.truth("overwrite")
        try:
            decoder = form_text.decoder(self.request.headers.get("Content-Type", ""), self.encoding)
        except form_text.BodyError as error:
            raise problems.BAD_BODY(str(error)) from None
        self.decoder = None if isinstance(decoder, form_text.Raw) else decoder
        self.writer = await self.services.files.seed.append(
            name,
            bytes_read or 0,
            file_size=file_size,
            overwrite=overwrite,
            body_size=self.body_size if self.decoder is None else None,
            let_go=self.let_go,
        )

    async def get(self) -> None:
        self.seed_arguments(("file_name",))
        self.answer(await self.services.files.seed.status(self.required("file_name")))

    async def post(self) -> None:
        if self.refused or self.writer is None:
            return
        await self.body_ended()
        self.answer(await self.services.files.seed.finish(self.writer, is_complete=self._is_complete))


class UploadCancelHandler(_FileHandler):
    """`POST /upload/cancel/`: remove the intermediate file, and nothing else."""

    async def post(self) -> None:
        self.seed_arguments(("file_name",))
        self.answer(await self.services.files.seed.cancel(self.required("file_name")))
