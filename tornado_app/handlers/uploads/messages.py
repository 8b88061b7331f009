"""Values between the upload handler and the upload protocols: a request, where its body goes, a response. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta

from tornado_app.files.uploads.upload import Upload
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.forms import file_field
from tornado_app.handlers.openapi import query
from tornado_app.protocols.forms.multipart import FileField


class CreationQuery(msgspec.Struct):
    """Parameters of a creation."""

    overwrite: Annotated[bool, Meta(description="Whether a published file of this name may be replaced.")] = False


def _never() -> bool:
    return False


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class UploadRequest:
    """One request for an upload, before its body is read.

    `content_length` is 0 without a body and None while it is unknown. `server_url` is the URL of this server as the
    client wrote it, and `root` its path, without a slash at the end. `client` identifies the sender for its share of
    uploads. `is_lost` returns whether the connection is gone, and `on_release_requested` ends it.
    """

    method: str
    headers: Mapping[str, str]
    version: str = "HTTP/1.1"
    arguments: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    content_length: int | None = 0
    server_url: str = ""
    root: str = ""
    client: str = ""
    is_lost: Callable[[], bool] = _never
    on_release_requested: Callable[[], None] = _nothing

    @property
    def has_content(self) -> bool:
        """Return whether a body follows the headers."""
        return self.content_length != 0

    @property
    def overwrite(self) -> bool:
        """Return whether `?overwrite=true` allows to replace a file. Raises BAD_PARAMETERS."""
        return query.read(CreationQuery, query.texts(self.arguments)).overwrite

    def form(self) -> FileField | None:
        """Return a reader of the body if it is a form with a file. Raises UNSUPPORTED_MEDIA_TYPE."""
        return file_field(self.headers, self.server_url)

    def address(self, path: str) -> str:
        """Return a path of this server as the client has to write it."""
        return self.root + path

    def location_of(self, upload: Upload) -> str:
        """Return the URL of an upload, as an absolute path."""
        return self.address(f"/v1/uploads/{upload.id}")

    def location_of_file(self, name: str) -> str:
        """Return the URL of a published file, as an absolute path."""
        return self.address(f"/v1/files/{quote(name)}")


@dataclass(frozen=True)
class Receiver:
    """Destination of an accepted body: a writer, or a form until its file begins.

    `interim` are responses to send before the body is read. With `has_progress` the protocol is asked for further ones
    whenever bytes have been written.
    """

    writer: Writer | None = None
    form: FileField | None = None
    interim: tuple[bytes, ...] = ()
    has_progress: bool = False


@dataclass(frozen=True)
class UploadResponse:
    """A final response."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
