"""Parameters of header fields such as Content-Type (RFC 9110, section 5.6.6), in one pass over the field."""

from __future__ import annotations

import re

# Possessive throughout: no character is matched twice. Each match ends at the next semicolon that is not in quotes.
_PARAMETER = re.compile(
    r';[ \t]*+(?P<name>[^\s;="]*+)[ \t]*+'
    r'(?:=[ \t]*+(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"?|(?P<token>[^;]*+)))?[^;]*+',
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def media_type(field: str) -> str:
    """Return the type of a Content-Type field, in lower case, without its parameters."""
    return field.partition(";")[0].strip().lower()


def parameter(field: str, name: str) -> str | None:
    """Return the first parameter of this (lower-case) name, or None. Ill-formed parameters are ignored."""
    start = field.find(";")
    if start < 0:
        return None
    for match in _PARAMETER.finditer(field, start):
        if match["name"].lower() == name:
            if match["quoted"] is not None:
                return _ESCAPED.sub(r"\1", match["quoted"])
            return (match["token"] or "").strip(" \t\r\n")
    return None
