"""PUT of a whole file."""

from __future__ import annotations

from collections.abc import Awaitable

from tornado.web import stream_request_body

from holdfast.wire import FileInfo, FileName
from tornado_app import problems
from tornado_app.files.published.service import PutRequest
from tornado_app.files.uploads.digest_check import given_block_digest
from tornado_app.files.uploads.small_files.requests import SMALL as SMALL_UPLOAD
from tornado_app.files.uploads.small_files.requests import SmallUpload
from tornado_app.handlers.files.named import NamedHandler
from tornado_app.handlers.forms import file_field
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.handlers.streaming import StreamingHandler
from tornado_app.protocols import conditionals, digests, resumable_uploads

_DIGESTS = ("Block-Digest", "Content-Digest", "Repr-Digest")


@stream_request_body
class FilePutHandler(StreamingHandler, NamedHandler):
    """`/v1/files/{name}`: PUT."""

    ONLY = ("PUT",)

    _put: PutRequest
    _small: SmallUpload | None = None

    async def begin(self) -> None:
        self._check_whole()
        self.check_encoding()
        form = file_field(self.request.headers, self.server_url)
        size = self.body_size
        if form is None and size is not None and size <= SMALL_UPLOAD and "Expect" not in self.request.headers:
            self._small = self.services.files.published.begin_small_put(
                self.path_kwargs["name"],
                length=size,
                digests=self._given_digests(),
                block_digest=given_block_digest(self.request.headers.get("Block-Digest")).get(digests.BLOCK_ALGORITHM),
                client=self.client,
            )
            return
        self._put = await self.services.files.published.put(
            self.path_kwargs["name"],
            self.request.headers,
            length=self.body_size if form is None else None,
            digests=self._given_digests(),
            block_digest=given_block_digest(self.request.headers.get("Block-Digest")),
            on_release_requested=self.on_release_requested,
            client=self.client,
        )
        self.writer, self.decoder = self._put.writer, form
        self.writer.creates_upload = True

    def data_received(self, chunk: bytes | memoryview) -> Awaitable[None] | None:
        if self._small is None or self.refused:
            return super().data_received(chunk)
        self.received_bytes()
        self._small.data += chunk
        return None

    def on_lost(self) -> None:
        if self._small is not None:
            self.services.files.published.cancel_small_put(self._small)
        super().on_lost()

    def on_finish(self) -> None:
        if self._small is not None:
            self.services.files.published.cancel_small_put(self._small)
        super().on_finish()

    def _check_whole(self) -> None:
        """Refuse a part of a file (RFC 9110, section 14.5), as `curl -C -` sends it. Raises BAD_REQUEST."""
        given, size = self.request.headers.get("Content-Range"), self.body_size
        if given is not None and (not size or given != f"bytes 0-{size - 1}/{size}"):
            raise problems.BAD_REQUEST(
                f"a PUT is of a whole file, not of the part {given[:100]!r}; "
                "create an upload that can be resumed with POST /v1/uploads"
            )
        headers = self.request.headers
        if resumable_uploads.Fields.read(headers).complete is False or resumable_uploads.is_partial_upload(
            headers.get("Content-Type", "")
        ):
            raise problems.BAD_REQUEST(
                "a PUT is of a whole file, and the headers describe a part; "
                "create an upload that can be resumed with POST /v1/uploads"
            )

    def _given_digests(self) -> dict[str, bytes]:
        """Return the digests of the file by hashlib name. In a PUT both fields have the same meaning."""
        found: dict[str, bytes] = {}
        for field in ("Content-Digest", "Repr-Digest"):
            value = self.request.headers.get(field)
            given = {} if value is None else digests.read(value)
            if given is None:
                raise problems.BAD_REQUEST(
                    f"{field} can't be read. It looks like sha-256=:BASE64:, not {(value or '')[:100]!r}"
                )
            for algorithm, digest in given.items():
                if found.setdefault(digests.HASHLIB[algorithm], digest) != digest:
                    raise problems.DIGEST_MISMATCH(f"Content-Digest and Repr-Digest have two values for {algorithm}")
        return found

    @operation(
        "put_file",
        {
            200: Content(type=FileInfo, headers=("ETag", "Block-Digest")),
            201: Content(type=FileInfo, headers=("ETag", "Block-Digest", "Location")),
        },
        problems.BAD_NAME,
        problems.DIGEST_MISMATCH,
        problems.BROKEN,
        problems.CONFLICT,
        problems.PRECONDITION_FAILED,
        problems.UNAVAILABLE,
        problems.TOO_LARGE,
        problems.UNSUPPORTED_MEDIA_TYPE,
        problems.TOO_MANY,
        problems.NO_SPACE,
        headers=("If-Match", "If-None-Match", "If-Unmodified-Since", *_DIGESTS),
        body=(Content("*/*"),),
    )
    async def put(self, name: FileName) -> None:
        """Create or replace a file in one step. A request that is cut leaves nothing behind.

        A form (`multipart/form-data`) may carry the file; its name there is ignored.
        """
        if self.refused or (self.writer is None and self._small is None):
            return
        await self.body_ended()
        published = self.services.files.published
        if self._small is not None:
            file, replaces = await published.finish_small_put(self._small, self.request.headers)
        else:
            file, replaces = await published.finish_put(self._put), self._put.replaces
        self.set_header("ETag", conditionals.quoted(file.etag))
        if file.block_digest is not None:
            self.set_header("Block-Digest", digests.write_block(bytes.fromhex(file.block_digest)))
        if not replaces:
            below = self.request.path.removeprefix(self.services.settings.base_url)
            self.set_header("Location", self.address(f"/{below}"))
        self.respond(file, 200 if replaces else 201)
