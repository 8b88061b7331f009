"""Text out of a body that arrives in pieces: form field `text`, JSON `{"text": ...}`, base64. Memory stays bounded.

Each decoder takes any split of its input: `feed` gives the bytes that are certain by now, `finish` what was held back.
Both raise `BodyError` for a body that can't be what it says. Text comes out as UTF-8.
"""

from __future__ import annotations

import binascii
import json
import re
from urllib.parse import unquote_to_bytes

from tornado_app.protocols import parameters
from tornado_app.protocols.forms import multipart
from tornado_app.protocols.forms.decoder import BodyError, Decoder
from tornado_app.protocols.forms.multipart import FormPart, OnePart

FIELD = "text"
_KEY_BYTES = 256
_BLANK = b" \t\r\n"


class Raw:
    """The body itself."""

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        return data

    def finish(self) -> bytes:
        """See `Decoder`."""
        return b""


class UrlencodedText:
    """The field `text` of an application/x-www-form-urlencoded body (URL standard, section 5.1).

    An empty body is an empty text: it is what clients send, under this type, when they have nothing to say.
    """

    _BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")

    def __init__(self) -> None:
        self._held = b""
        self._in_value = False
        self._found = False
        self._any = False

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        self._any = self._any or bool(data)
        data = self._held + data
        self._held = b""
        out: list[bytes] = []
        while data:
            if not self._in_value:
                key, equals, data = data.partition(b"=")
                if not equals and b"&" not in key:
                    self._hold_key(key)
                    break
                self._start(key)
            value, ampersand, data = data.partition(b"&")
            if not ampersand and (escape := value.rfind(b"%", -2)) >= 0:
                value, self._held = value[:escape], value[escape:]
            out.append(self._decoded(value))
            self._in_value = not ampersand
        return b"".join(out)

    def finish(self) -> bytes:
        """See `Decoder`."""
        if self._in_value and self._held:
            raise BodyError(f"the form ends in the middle of the escape {self._held!r}")
        if self._held.strip(_BLANK):
            self._start(self._held)
        if self._any and not self._found:
            raise BodyError(f"the form has no field {FIELD!r}. Send {FIELD}=... or the bytes as text/plain")
        return b""

    def _hold_key(self, key: bytes) -> None:
        if len(key) > _KEY_BYTES:
            raise BodyError(f"the form's first field is not {FIELD!r}. Send {FIELD}=... or the bytes as text/plain")
        self._held = key

    def _start(self, key: bytes) -> None:
        name = unquote_to_bytes(key.replace(b"+", b" ")).strip(_BLANK).decode("utf-8", "replace")
        if name != FIELD:
            raise BodyError(
                f"the form has a field {name[:80]!r}; the only field is {FIELD!r} "
                f"(send {FIELD}=..., or the bytes as text/plain)"
            )
        if self._found:
            raise BodyError(f"the form has the field {FIELD!r} twice. Send it once")
        self._found = True

    def _decoded(self, value: bytes) -> bytes:
        bad = self._BAD_ESCAPE.search(value)
        if bad is not None:
            raise BodyError(f"the form has a % that starts no escape: {value[bad.start() : bad.start() + 3]!r}")
        return unquote_to_bytes(value.replace(b"+", b" "))


class JsonText:
    """The member `text` of a JSON object that has no other (RFC 8259)."""

    _SPACE = re.compile(rb"[ \t\r\n]*+")
    _START = re.compile(rb'[ \t\r\n]*+\{[ \t\r\n]*+("(?:[^"\\]|\\.)*+")[ \t\r\n]*+:[ \t\r\n]*+"')
    _STRING = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
    _PART_OF_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
    _END = re.compile(rb"[ \t\r\n]*+\}[ \t\r\n]*+\Z")
    _HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")

    def __init__(self) -> None:
        self._held = b""
        self._where = "start"

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        data = self._held + data
        self._held = b""
        if self._where == "start":
            started = self._START.match(data)
            if started is None:
                self._hold_start(data)
                return b""
            self._check_key(started.group(1))
            self._where = "string"
            data = data[started.end() :]
        if self._where == "string":
            return self._string(data)
        self._hold_end(data)
        return b""

    def finish(self) -> bytes:
        """See `Decoder`."""
        if self._where == "start":
            raise BodyError(f'the body is not a JSON object like {{"{FIELD}": "..."}}')
        if self._where == "string":
            raise BodyError("the JSON ends in the middle of the text")
        if not self._END.match(self._held):
            raise BodyError(f'the JSON object must end after "{FIELD}"')
        return b""

    def _hold_start(self, data: bytes) -> None:
        lead = data.lstrip(_BLANK)
        if (
            len(lead) > _KEY_BYTES
            or (lead and not lead.startswith(b"{"))
            or re.match(rb'\{[ \t\r\n]*+[^" \t\r\n]', lead)
        ):
            raise BodyError(f'the body is not a JSON object like {{"{FIELD}": "..."}}. Other bytes go as text/plain')
        if re.match(rb'\{\s*+"(?:[^"\\]|\\.)*+"\s*+(?:[^:\s]|:\s*+[^"\s])', lead):
            raise BodyError(f'the body is not a JSON object like {{"{FIELD}": "..."}}: its value must be a string')
        self._held = lead

    @staticmethod
    def _check_key(quoted: bytes) -> None:
        try:
            key = json.loads(quoted)
        except ValueError:
            key = quoted.decode("utf-8", "replace")
        if key != FIELD:
            raise BodyError(f'the JSON object has a member {key[:80]!r}. Its only member is "{FIELD}"')

    def _string(self, data: bytes) -> bytes:
        match = self._STRING.match(data)
        end = match.end() if match is not None else 0
        text, rest = data[:end], data[end:]
        closed = rest.startswith(b'"')
        if not closed:
            if rest and not self._PART_OF_ESCAPE.match(rest):
                raise BodyError(f"the JSON text has what no JSON string may have: {rest[:6]!r}")
            text, held = self._whole(text)
            self._held = held + rest
        try:
            out: bytes = json.loads(b'"' + text + b'"').encode("utf-8")
        except ValueError as error:  # bytes that are not UTF-8, or half of a surrogate pair
            raise BodyError(f"the JSON text is not Unicode: {error}") from None
        if closed:
            self._where = "end"
            self._hold_end(rest[1:])
        return out

    def _whole(self, text: bytes) -> tuple[bytes, bytes]:
        """Cut before a character that may go on in the next piece."""
        surrogate = self._HIGH_SURROGATE.search(text, max(0, len(text) - 6))
        # A backslash before it makes it text: count how many there are.
        if surrogate is not None and _backslashes(text, surrogate.start()) % 2 == 0:
            return text[: surrogate.start()], text[surrogate.start() :]
        for back in range(1, min(4, len(text) + 1)):
            byte = text[-back]
            if byte >= 0xC0:
                length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                return (text[:-back], text[-back:]) if back < length else (text, b"")
            if byte < 0x80:
                break
        return text, b""

    def _hold_end(self, data: bytes) -> None:
        self._held = (self._held + data).strip(_BLANK)
        if self._held not in (b"", b"}"):
            raise BodyError(f'the JSON object must end after "{FIELD}", its only member. It goes on with {data[:20]!r}')


class MultipartText:
    """The part named `text` of a multipart/form-data body that has no other (RFC 7578)."""

    def __init__(self, boundary: bytes) -> None:
        self._parts = OnePart(boundary, self._begin)
        self._found = False

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        return self._parts.feed(data)

    def finish(self) -> bytes:
        """See `Decoder`."""
        out = self._parts.finish()
        if not self._found:
            raise BodyError(f"the form has no field {FIELD!r}")
        return out

    def _begin(self, part: FormPart) -> None:
        if part.name != FIELD:
            raise BodyError(f"the form has a field {part.name[:80]!r}; the only field is {FIELD!r}")
        if self._found:
            raise BodyError(f"the form has the field {FIELD!r} twice. Send it once")
        self._found = True


class Base64:
    """Bytes that come as base64 (RFC 4648, section 4), with line breaks or without, out of another decoder."""

    def __init__(self, inner: Decoder) -> None:
        self._inner = inner
        self._held = b""
        self._ended = False

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        return self._decode(self._inner.feed(data))

    def finish(self) -> bytes:
        """See `Decoder`."""
        out = self._decode(self._inner.finish())
        if self._held:
            raise BodyError("the base64 ends in the middle of a group of four. It must be padded with =")
        return out

    def _decode(self, data: bytes) -> bytes:
        data = self._held + data.translate(None, _BLANK)
        whole = len(data) // 4 * 4
        data, self._held = data[:whole], data[whole:]
        if not data:
            return b""
        if self._ended:
            raise BodyError("the base64 goes on after its padding")
        self._ended = data.endswith(b"=")
        try:
            return binascii.a2b_base64(data, strict_mode=True)
        except binascii.Error as error:
            raise BodyError(f"the body is not base64: {error}") from None


def decoder(content_type: str, encoding: str = "") -> Decoder:
    """Return the decoder of a body of this Content-Type; `encoding` is "base64" or "". Raises `BodyError`."""
    inner: Decoder
    match parameters.media_type(content_type):
        case "application/x-www-form-urlencoded":
            inner = UrlencodedText()
        case "application/json":
            inner = JsonText()
        case multipart.MEDIA_TYPE:
            inner = MultipartText(multipart.boundary(content_type))
        case _:
            inner = Raw()
    return Base64(inner) if encoding == "base64" else inner


def _backslashes(text: bytes, before: int) -> int:
    return before - len(text[:before].rstrip(b"\\"))
