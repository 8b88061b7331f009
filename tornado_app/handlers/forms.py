"""Forms that carry a file in place of the plain bytes of a body. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tornado_app import problems
from tornado_app.protocols import parameters
from tornado_app.protocols.forms import multipart
from tornado_app.protocols.forms.decoder import BodyError
from tornado_app.protocols.forms.multipart import FileField


def file_field(headers: Mapping[str, str], server_url: str) -> FileField | None:
    """Return a reader of the body if it is a form with a file, else None. Raises UNSUPPORTED_MEDIA_TYPE.

    `server_url` is the URL of the server as the client wrote it, for the commands in the error's detail.
    """
    kind = headers.get("Content-Type", "")
    if parameters.media_type(kind) != multipart.MEDIA_TYPE:
        return None
    for name in ("Content-Digest", "Repr-Digest"):
        if name in headers:
            raise problems.UNSUPPORTED_MEDIA_TYPE(
                f"{name} is of the file, and the body is a form around it. Send the bytes themselves: "
                f"curl -T PATH {server_url}/v1/files/NAME"
            )
    try:
        return FileField(multipart.boundary(kind))
    except BodyError as error:
        raise problems.UNSUPPORTED_MEDIA_TYPE(
            f"{error}. Send a form with curl -F file=@PATH {server_url}/v1/uploads, "
            f"or the bytes themselves with curl -T PATH {server_url}/v1/files/NAME"
        ) from None
