"""`/`: links to every resource, as a page for people and as JSON for programs."""

from __future__ import annotations

import html
import secrets
from collections.abc import Awaitable, Sequence

from holdfast._environment.extras import install_hint
from holdfast.wire import Index
from tornado_app.handlers.base import BaseHandler, PublicHandler
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.identity.principal import SCOPES
from tornado_app.protocols.accept import prefers

ABOUT = "Long processes and big transfers that can be paused, resumed and cancelled, and survive a crash."

PLACES = {
    "docs": ("docs", "Every request that this server answers, to read and to try out."),
    "openapi": ("openapi.json", "The same for programs, as OpenAPI 3.1."),
    "work_types": ("v1/work-types", "The work that this server can run."),
    "processes": ("v1/processes", "The processes, newest first."),
    "files": ("v1/files", "The published files."),
    "uploads": ("v1/uploads", "The uploads that are in the making."),
    "events": ("v1/events", "All that happens, as server-sent events."),
    "health": ("health", "Whether the server can work."),
    "metrics": ("metrics", "Figures for Prometheus."),
}
"""Links by name: a reference relative to `/`, so that a proxy's prefix is kept, and what it leads to."""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Holdfast</title>
<link rel="icon" href="data:,">
<style nonce="{nonce}">
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1.5rem; }}
dd {{ margin: 0; }}
</style>
<h1>Holdfast</h1>
<p>{about} This is its server: programs talk to it over HTTP, people by the command <code>holdfast</code> and from notebooks.</p>
{note}<dl>
{places}
</dl>
</html>
"""  # noqa: E501 - a paragraph is one line
_NOTE = """<p><strong>You come by jupyter-server-proxy, which holds whole files in memory and fails above some
100 MB. For big files: <code>{hint}</code></strong></p>
"""
_POLICY = "default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; base-uri 'none'; frame-ancestors 'none'"


class IndexHandler(PublicHandler):
    """`GET /`."""

    MAY_BE_VISITED = True

    def needed_scopes(self) -> Sequence[str]:
        return sorted(SCOPES)

    def _admit(self) -> Awaitable[None] | None:
        """Admit every program. Where there are logins, a person logs in first: what the page links to needs it."""
        is_page = prefers(self.request.headers.get("Accept", ""), "text/html", "application/json")
        return BaseHandler._admit(self) if is_page and self.services.settings.auth else None

    @operation("index", {200: Content("application/json", Index)})
    def get(self) -> None:
        """Return links to every resource: JSON for a program, a page for a browser."""
        self.set_header("Vary", "Accept")
        if prefers(self.request.headers.get("Accept", ""), "text/html", "application/json"):
            self._show()
        else:
            self.respond(Index("Holdfast", ABOUT, {name: place for name, (place, _) in PLACES.items()}))

    def _show(self) -> None:
        nonce = secrets.token_urlsafe(16)
        places = "\n".join(
            f'<dt><a href="{place}">{html.escape(self.address(f"/{place}"))}</a></dt><dd>{html.escape(what)}</dd>'
            for place, what in PLACES.values()
        )
        self.set_header("Content-Security-Policy", _POLICY.format(nonce=nonce))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(_PAGE.format(nonce=nonce, about=html.escape(ABOUT), note=self._note(), places=places))

    def _note(self) -> str:
        """Return a warning for who comes by jupyter-server-proxy, which says so in a header of its own."""
        if not self.services.settings.trust_proxy or "X-ProxyContextPath" not in self.request.headers:
            return ""
        return _NOTE.format(hint=html.escape(install_hint("jupyter")))
