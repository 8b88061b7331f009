"""Content-Disposition (RFC 6266) with file names of any script (RFC 8187): written for downloads, read from uploads."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

_ATTR_CHARS = "!#$&+-.^_`|~"  # beside letters and digits (RFC 8187, section 3.2.1)
_PLAIN = re.compile(r"[A-Za-z0-9 !#$&'()+,\-./:;<=>?@\[\]^_`{|}~]*")
_UNSAFE = re.compile(r'[^\x20-\x7e]|["\\%]')
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?P<quoted>(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*)"'
_TYPE = re.compile(rf"[ \t]*{_WORD}[ \t]*")
_PARAM = re.compile(rf";[ \t]*(?:(?P<name>{_WORD})[ \t]*=[ \t]*(?:(?P<token>{_WORD})|{_QUOTED}))?[ \t]*")
_EXTENDED = re.compile(
    r"(?P<charset>[A-Za-z0-9\-]+)'[A-Za-z0-9\-]*'(?P<value>(?:[A-Za-z0-9!#$&+\-.^_`|~]|%[0-9A-Fa-f]{2})*)"
)


def attachment(name: str) -> str:
    """`attachment` with this file name; names beyond plain ASCII get `filename*` and a fallback (section 4.3)."""
    if _PLAIN.fullmatch(name):
        return f'attachment; filename="{name}"'
    extended = quote(name, safe=_ATTR_CHARS, errors="replace")
    return f"attachment; filename=\"{_UNSAFE.sub('_', name)}\"; filename*=UTF-8''{extended}"


def file_name(field: str) -> str | None:
    """The file name of a Content-Disposition field, exactly as it was sent; None when it has none or is malformed.

    `filename*` goes before `filename`. A name may hold folders: whoever uses it has to check it. UTF-8 in a plain
    `filename`, which some clients send, is taken as what it is.
    """
    params = _params(field)
    if params is None:
        return None
    if "filename*" in params:
        name = extended(params["filename*"])
        if name is not None:
            return name
    return _utf8(params["filename"]) if "filename" in params else None


def _params(field: str) -> dict[str, str] | None:
    kind = _TYPE.match(field)
    if kind is None:
        return None
    found: dict[str, str] = {}
    at = kind.end()
    while at < len(field):
        match = _PARAM.match(field, at)
        if match is None:
            return None
        at = match.end()
        if match["name"] is None:
            continue  # an empty parameter, as in a trailing semicolon
        name = match["name"].lower()
        if name in found:
            return None  # a parameter stands at most once (section 4.1)
        found[name] = match["token"] if match["token"] is not None else re.sub(r"\\(.)", r"\1", match["quoted"])
    return found


def extended(text: str) -> str | None:
    """The value of an extended parameter (RFC 8187), like UTF-8''%C3%A4; None when it is malformed."""
    match = _EXTENDED.fullmatch(text)
    if match is None or match["charset"].lower() not in ("utf-8", "iso-8859-1"):
        return None
    try:
        return unquote_to_bytes(match["value"]).decode(match["charset"].lower())
    except UnicodeDecodeError:
        return None


def _utf8(text: str) -> str:
    # Header octets reach us as ISO-8859-1.
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
