"""Resumable Uploads for HTTP (draft-ietf-httpbis-resumable-upload, interop version 8): its fields. Pure.

An ill-formed field counts as if it were not there (section 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tornado_app.protocols import structured_fields

INTEROP_VERSION = 8
MEDIA_TYPE = "application/partial-upload"


@dataclass(frozen=True)
class Fields:
    """Upload fields of a request."""

    complete: bool | None = None
    offset: int | None = None
    length: int | None = None

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> Fields:
        """Return the fields in the headers of a request."""
        offset = structured_fields.integer(headers.get("Upload-Offset"))
        length = structured_fields.integer(headers.get("Upload-Length"))
        return cls(
            structured_fields.boolean(headers.get("Upload-Complete")),
            offset if offset is not None and offset >= 0 else None,
            length if length is not None and length >= 0 else None,
        )

    def lengths(self, offset: int, content_length: int | None) -> set[int]:
        """Return every length that the request indicates (section 4.1.3); they must agree.

        `offset` is where its content starts; `content_length` is None when it is not known.
        """
        found = set() if self.length is None else {self.length}
        if self.complete and content_length is not None:
            found.add(offset + content_length)
        return found


def is_partial_upload(content_type: str) -> bool:
    """Return whether a Content-Type is that of an append; it may have parameters and any case."""
    return content_type.partition(";")[0].strip().lower() == MEDIA_TYPE


def takes_interim(version: str, headers: Mapping[str, str]) -> bool:
    """Return whether 104 responses may be sent: to HTTP/1.1 alone, and to clients of this interop version."""
    return (
        version == "HTTP/1.1"
        and structured_fields.integer(headers.get("Upload-Draft-Interop-Version")) == INTEROP_VERSION
    )


def interim(fields: Mapping[str, str]) -> bytes:
    """Return a 104 (Upload Resumption Supported) response."""
    lines = [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join(
        ["HTTP/1.1 104 Upload Resumption Supported", f"Upload-Draft-Interop-Version: {INTEROP_VERSION}", *lines, "", ""]
    ).encode("ascii")


def limits(max_size: int, max_age: float | None = None) -> str:
    """Return an Upload-Limit field; `max_size` 0 is no limit."""
    members = []
    if max_size:
        members.append(f"max-size={max_size}")
    if max_age is not None:
        members.append(f"max-age={max(0, int(max_age))}")
    return ", ".join(members) or "min-size=0"


def boolean(value: bool) -> str:
    """Return a boolean as a structured field."""
    return "?1" if value else "?0"
