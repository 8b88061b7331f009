"""`Accept` (RFC 9110, section 12.5.1), as far as choosing between two media types needs it."""

from __future__ import annotations

import re

_QUALITY = re.compile(r"\s*q\s*=\s*(1(?:\.0{0,3})?|0(?:\.\d{0,3})?)\s*", re.IGNORECASE)


def prefers(accept: str, wanted: str, other: str) -> bool:
    """Return whether the header names `wanted`, and does not name `other` with a higher weight.

    A wildcard names nothing: browsers list the type of a page, and programs that take anything get the other type.
    """
    qualities = _named(accept)
    return qualities.get(wanted, 0.0) > 0 and qualities.get(wanted, 0.0) >= qualities.get(other, 0.0)


def _named(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in accept.split(","):
        media_type, *parameters = part.split(";")
        quality = 1.0
        for parameter in parameters:
            match = _QUALITY.fullmatch(parameter)
            if match is not None:
                quality = float(match[1])
        found[media_type.strip().lower()] = quality
    return found
