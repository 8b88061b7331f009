"""Checks of a request's Host and Origin, which are made before anything of its body is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from tornado_app import problems

_MAX_HOST = 512  # characters of Host that are compared and cached; no host that is served has as many


def check_host(host: str, served: Collection[str]) -> None:
    """Refuse a Host that is not served here (DNS rebinding). Raises MISDIRECTED."""
    name = _host_name(host[:_MAX_HOST])
    if name not in served:
        raise problems.MISDIRECTED(
            f"Host {name!r} is not served here. Start the server with --allow-host {name} to serve it"
        )


def check_origin(
    headers: Mapping[str, str], host: str, allowed: Collection[str], *, may_be_visited: bool = False
) -> str | None:
    """Return the other origin, one of `allowed`, whose page sends this request; None if it is none. Raises CROSS_SITE.

    `may_be_visited`: another site may link here.
    """
    origin = headers.get("Origin")
    if origin is not None:
        parts = split_url(origin)
        if parts.netloc.lower() == host.lower() and parts.scheme in ("http", "https"):
            return None
        if origin in allowed:
            return origin
        raise problems.CROSS_SITE(
            f"origin {origin} may not call this server. Start it with --allow-origin {origin} to allow it"
        )
    visit = may_be_visited and headers.get("Sec-Fetch-Mode") == "navigate"
    if headers.get("Sec-Fetch-Site") not in (None, "same-origin", "none") and not visit:
        raise problems.CROSS_SITE(
            "a page of another site may not call this server. Start it with --allow-origin ORIGIN to allow it"
        )
    return None


@lru_cache(maxsize=256)
def _host_name(host: str) -> str:
    return (split_url("//" + host).hostname or "").lower()


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL; empty ones if it is not a URL."""
    try:
        parts = urlsplit(url)
        parts.hostname  # noqa: B018 - raises for what is no address
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts
