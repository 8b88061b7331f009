"""Headers that every answer carries, also those that are written before a handler exists."""

from __future__ import annotations

SECURITY_HEADERS = {
    "Server": "Holdfast",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}
