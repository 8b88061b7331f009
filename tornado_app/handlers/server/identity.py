"""`/v1/identity`: proof that a server is the one that a program already knows."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from holdfast.wire import Identity
from tornado_app.handlers.base import PublicHandler
from tornado_app.handlers.openapi.operation import operation


class IdentityQuery(msgspec.Struct):
    """Parameters of a proof."""

    nonce: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_-]{22,128}\Z",
            description="22 to 128 random characters of base64url, used once: 16 random bytes or more.",
        ),
    ]


class IdentityHandler(PublicHandler):
    """`GET /v1/identity`."""

    IS_PROBE = True

    def set_default_headers(self) -> None:
        super().set_default_headers()
        # Of a refusal, too: by it a page of another origin learns that something answers here, and nothing else.
        self.set_header("Cross-Origin-Resource-Policy", "cross-origin")

    @operation("identity", Identity)
    def get(self, query: IdentityQuery) -> None:
        """Prove which server this is: it signs the caller's nonce with a key that only this server has.

        A program that trusts one connection to the server compares the proofs for the same nonce over another.
        """
        self.respond(self.services.identity.prove(query.nonce))
