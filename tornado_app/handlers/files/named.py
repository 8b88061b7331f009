"""Names of files in paths, the headers of files, and signed links."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tornado_app.handlers.base import BaseHandler

FILE_EXPOSED = (
    "Accept-Ranges",
    "Block-Digest",
    "Content-Disposition",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Last-Modified",
    "Location",
    "Repr-Digest",
    "Retry-After",
)
FILE_ACCEPTED = (
    "Block-Digest",
    "Content-Digest",
    "Content-Type",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Range",
    "Repr-Digest",
    "Want-Repr-Digest",
)


class LinkQuery(msgspec.Struct):
    """Parameters of a signed link, which replace a token."""

    expires: Annotated[str, Meta(description="Until when, in seconds since the epoch.")] | None = None
    signature: Annotated[str, Meta(description="By which the server knows its link.")] | None = None
    user: Annotated[str, Meta(description="Whose file it is, where users are kept apart.")] | None = None


class NamedHandler(BaseHandler):
    """`/v1/files/{name}`, also for names that are not UTF-8."""

    EXPOSED = FILE_EXPOSED
    ACCEPTED = FILE_ACCEPTED

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """Decode a part of the path. A name that is not UTF-8 is answered with 404, because no file has it."""
        return value.decode("utf-8", "surrogateescape")


class LinkedHandler(NamedHandler):
    """Also for whoever has a signed link, to read."""

    def link_owner(self) -> str | None:
        if self.request.method not in ("GET", "HEAD"):
            return None
        link = self.query_as(LinkQuery)
        return None if link.signature is None else link.user or ""
