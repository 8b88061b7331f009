"""`/v1/links`: links to files that need no token."""

from __future__ import annotations

import asyncio

import msgspec

from holdfast.wire import FileLink, LinkRequest
from tornado_app import problems
from tornado_app.files import names
from tornado_app.handlers.bodies import JsonHandler
from tornado_app.handlers.openapi.operation import Content, operation


class LinksHandler(JsonHandler):
    """`/v1/links`."""

    @operation("sign_link", {201: Content(type=FileLink)}, problems.BAD_NAME)
    async def post(self, body: LinkRequest) -> None:
        """Sign a link to a file, or to a folder as one archive, by which anybody can read it until it expires."""
        names.check(body.name)
        link = self.services.links.sign(body.name, body.seconds, archive=body.archive)
        self.respond(msgspec.structs.replace(link, url=self.address(link.url)), 201)

    @operation("revoke_links", None)
    async def delete(self) -> None:
        """Revoke all links that were signed so far."""
        await asyncio.get_running_loop().run_in_executor(None, self.services.links.revoke)
        self.set_status(204)
        self.clear_header("Content-Type")
        self.finish()
