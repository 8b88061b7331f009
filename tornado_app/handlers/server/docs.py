"""The API description: `/openapi.json`, the page `/docs` that shows it, and the types of problems."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from tornado_app import problems
from tornado_app.handlers.base import BaseHandler, PublicHandler
from tornado_app.handlers.openapi.document import Contract, ProblemType
from tornado_app.handlers.openapi.operation import Content, operation

VIEWER = Path(__file__).parents[2] / "viewer"

ViewerFile = Annotated[
    Literal["page.js", "swagger-ui-bundle.js", "swagger-ui.css"], Meta(description="A part of the page.")
]
Slug = Annotated[str, Meta(description="The last part of the `type` of a problem.")]
_MEDIA_TYPES = {
    "page.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Holdfast: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{base}swagger-ui.css">
<div id="docs"><noscript>This page needs scripts; openapi.json has the same content.</noscript></div>
<script nonce="{nonce}" src="{base}swagger-ui-bundle.js"></script>
<script nonce="{nonce}" src="{base}page.js"></script>
</html>
"""
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def contract_of(handler: BaseHandler) -> Contract:
    """Return the contract of a handler's application."""
    contract: Contract = handler.application.settings["contract"]
    return contract


class OpenApiHandler(PublicHandler):
    """`GET /openapi.json`."""

    @operation("openapi", Content("application/json", dict[str, Any]))
    def get(self) -> None:
        """Return this contract, as OpenAPI 3.1."""
        self.respond(contract_of(self).document(self.address("")))


class DocsHandler(PublicHandler):
    """`GET /docs`."""

    @operation("docs", Content("text/html"))
    def get(self) -> None:
        """Show this contract as a page that can send requests. It loads nothing from other sites."""
        nonce = secrets.token_urlsafe(16)
        self.set_header("Content-Security-Policy", _POLICY.format(nonce=nonce))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(_PAGE.format(nonce=nonce, base="docs/"))


class ViewerHandler(PublicHandler):
    """`GET /docs/{file}`."""

    @operation("docs_file", Content("text/*"), problems.NOT_FOUND)
    async def get(self, file: ViewerFile) -> None:
        """Return a script or style of the page at `/docs`."""
        media_type = _MEDIA_TYPES.get(file)
        if media_type is None:
            raise problems.NOT_FOUND(f"there is nothing at {self.request.path}. The page is at {self.address('/docs')}")
        data = await asyncio.get_running_loop().run_in_executor(None, (VIEWER / file).read_bytes)
        self.set_header("Content-Type", f"{media_type}; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")  # the ETag changes with the version
        self.finish(data)


class ProblemHandler(PublicHandler):
    """`GET /problems/{type}`."""

    @operation("problem_type", ProblemType, problems.NOT_FOUND)
    def get(self, type: Slug) -> None:
        """Show a type of problem, and the operations that may answer with it."""
        found = contract_of(self).problem_types(self.address("")).get(type)
        if found is None:
            raise problems.NOT_FOUND(f"there is no type of problem {type!r}")
        self.respond(found)
