"""Addresses of this server as a client has to write them: every path that leaves the server is made here.

A path begins with the base URL (`--base-url`), and before that with the prefix under which a trusted proxy serves it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tornado_app.settings import Settings

# RFC 3986, section 3.3: segments of pchar, without the comma, which separates the prefixes of several proxies.
_SEGMENT = r"(?:[A-Za-z0-9._~!$&'()*+;=:@-]|%(?!(?:[01][0-9A-Fa-f]|7[Ff]))[0-9A-Fa-f]{2})+"
_PREFIX = re.compile(rf"(?:/(?!\.\.?(?:/|\Z)){_SEGMENT})*")


def root(settings: Settings, headers: Mapping[str, str]) -> str:
    """Return the path before every address for the sender of a request, without a slash at its end."""
    prefix = _forwarded_prefix(headers) if settings.trust_proxy else ""
    return prefix + settings.base_url[:-1]


def host(settings: Settings, headers: Mapping[str, str], given: str) -> str:
    """Return the host and port that the client wrote: the first X-Forwarded-Host of a trusted proxy, else `given`."""
    forwarded = headers.get("X-Forwarded-Host", "") if settings.trust_proxy else ""
    return forwarded.partition(",")[0].strip() or given


def _forwarded_prefix(headers: Mapping[str, str]) -> str:
    """Return the first path of X-Forwarded-Prefix without its last slash; "" for anything else than a plain path."""
    prefix = headers.get("X-Forwarded-Prefix", "").partition(",")[0].strip().removesuffix("/")
    return prefix if _PREFIX.fullmatch(prefix) else ""
