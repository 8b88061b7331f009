"""multipart/form-data (RFC 7578) with one part that matters, out of a body that comes in pieces. Memory is bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tornado_app.protocols import content_disposition, parameters
from tornado_app.protocols.forms.decoder import BodyError

MEDIA_TYPE = "multipart/form-data"
_HEADER_BYTES = 8192
_BLANK = b" \t"
_AS_IT_IS = ("", "binary", "8bit", "7bit", "identity")


class FormPart(NamedTuple):
    """A field of a form, before its content. `file_name` is None for a field that is not a file."""

    name: str
    file_name: str | None


class OnePart:
    """The content of the one part of a form. `on_part` is called with it, and raises `BodyError` to refuse it."""

    def __init__(self, boundary: bytes, on_part: Callable[[FormPart], None]) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._held = b"\r\n"  # so that the first boundary is like the others
        self._where = "preamble"
        self._on_part = on_part

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        seen = len(self._held)
        self._held += data
        out: list[bytes] = []
        while self._where != "epilogue":
            if self._where in ("preamble", "content"):
                more = self._up_to_delimiter(out)
            elif self._where == "boundary":
                more = self._after_delimiter()
            else:
                more = self._headers(seen)
            if not more:
                break
            seen = 0
        else:
            self._held = b""
        return b"".join(out)

    def finish(self) -> bytes:
        """See `Decoder`."""
        if self._where != "epilogue":
            raise BodyError("the multipart body ends without its closing boundary")
        return b""

    def _up_to_delimiter(self, out: list[bytes]) -> bool:
        before, delimiter, after = self._held.partition(self._delimiter)
        if not delimiter:
            # What could be the start of a delimiter waits.
            keep = min(len(self._delimiter) - 1, len(before))
            while keep and not self._delimiter.startswith(before[-keep:]):
                keep -= 1
            before, after = before[: len(before) - keep], before[len(before) - keep :]
        if self._where == "content":
            out.append(before)
        self._held = after
        if delimiter:
            self._where = "boundary"
        return bool(delimiter)

    def _after_delimiter(self) -> bool:
        self._held = self._held.lstrip(_BLANK)  # padding is dropped as it comes, however long
        if len(self._held) < 2:
            return False
        if self._held.startswith(b"--"):
            self._where = "epilogue"
        elif self._held.startswith(b"\r\n"):
            self._where = "headers"  # and the blank line may follow at once
        else:
            raise BodyError("the multipart body has something after a boundary")
        return True

    def _headers(self, seen: int) -> bool:
        end = self._held.find(b"\r\n\r\n", max(0, seen - 3))
        if end < 0 or end > _HEADER_BYTES:
            if len(self._held) > _HEADER_BYTES:
                raise BodyError("the multipart body has a part whose headers do not end")
            return False
        block, self._held = self._held[:end], self._held[end + 4 :]
        self._on_part(_part(block))
        self._where = "content"
        return True


class FileField:
    """The bytes of a form's file. `file_name` is None until its part has begun; there must be no other field."""

    def __init__(self, boundary: bytes) -> None:
        self.file_name: str | None = None
        self._parts = OnePart(boundary, self._begin)

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        return self._parts.feed(data)

    def finish(self) -> bytes:
        """See `Decoder`."""
        out = self._parts.finish()
        if self.file_name is None:
            raise BodyError("the form has no field. Send one file: curl -F file=@PATH")
        return out

    def _begin(self, part: FormPart) -> None:
        if self.file_name is not None:
            raise BodyError(
                f"the form has a second field, {part.name[:80]!r}. Send one file in a request, and nothing beside it"
            )
        if not part.file_name:
            raise BodyError(
                f"the field {part.name[:80]!r} of the form is not a file. Send one file: curl -F file=@PATH"
            )
        self.file_name = part.file_name


def boundary(content_type: str) -> bytes:
    """The boundary of a multipart Content-Type. Raises `BodyError`."""
    found = parameters.parameter(content_type, "boundary")
    if not found or len(found) > 70:
        raise BodyError(f"{MEDIA_TYPE} needs a boundary of 1 to 70 characters in Content-Type")
    return found.encode("utf-8")


def _part(headers: bytes) -> FormPart:
    name, file_name = "", None
    for line in headers.split(b"\r\n"):
        key, _, octets = line.partition(b":")
        try:
            value = octets.decode("utf-8").strip()
        except UnicodeDecodeError:
            value = octets.decode("latin-1").strip()
        match key.strip().lower():
            case b"content-disposition":
                name = parameters.parameter(value, "name") or ""
                file_name = _file_name(value)
            case b"content-transfer-encoding" | b"content-encoding":
                if value.lower() not in _AS_IT_IS:
                    raise BodyError(f"a part of the form is encoded as {value[:80]}. Send it as it is")
    return FormPart(name, file_name)


def _file_name(disposition: str) -> str | None:
    extended = parameters.parameter(disposition, "filename*")  # forbidden by RFC 7578, and sent all the same
    name = None if extended is None else content_disposition.extended(extended)
    if name is None:
        name = parameters.parameter(disposition, "filename")
    # Browsers and curl write a quotation mark so (HTML standard, "multipart/form-data encoding algorithm").
    return None if name is None else name.replace("%22", '"')
