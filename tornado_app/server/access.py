"""Admission of requests: by the token, or on this machine as the user who runs the server."""

from __future__ import annotations

import hmac
import weakref

from tornado.iostream import BaseIOStream, IOStream

from tornado_app import private
from tornado_app.server.peers import Peers
from tornado_app.settings import Settings

TOKEN_FILE = "token"  # noqa: S105 - a file name


class Access:
    """Rules that admit a request."""

    def __init__(self, token: str, peers: Peers | None = None, metrics_token: str = "") -> None:
        """`token` is the server's, "" for none. With `peers` the server's own user is admitted without it."""
        self.token = token
        self.metrics_token = metrics_token
        self.peers = peers
        self._own_streams: weakref.WeakSet[BaseIOStream] = weakref.WeakSet()

    @classmethod
    def open(cls, settings: Settings) -> Access:
        """Return the rules of the settings. Creates a token on a system that can't identify users. Raises `OSError`."""
        token = settings.auth_token
        if settings.auth or (token and not settings.same_user):
            return cls(token, None, settings.metrics_token.strip())
        if settings.socket is not None:
            return cls(token, Peers(None), settings.metrics_token.strip())
        peers = Peers.open()
        if not token and not peers.knows_tcp_owners:
            token = private.secret(settings.data_dir / TOKEN_FILE)
        return cls(token, peers, settings.metrics_token.strip())

    def close(self) -> None:
        """Close the lookup of peers."""
        if self.peers is not None:
            self.peers.close()

    @property
    def admits_the_user(self) -> bool:
        """Return whether programs of the server's own user are admitted without a token that only a person knows."""
        return self.peers is not None

    @property
    def token_for_the_user(self) -> str:
        """Return the token that programs of the same user send where the system can't identify them; "" for none."""
        return self.token if self.peers is not None and not self.peers.knows_tcp_owners else ""

    def has_token(self, authorization: str, further: str = "") -> bool:
        """Return whether an `Authorization` header carries the token, or `further`."""
        scheme, _, given = authorization.partition(" ")
        bearer = given.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
        return any(token and hmac.compare_digest(bearer, token.encode()) for token in (self.token, further))

    def refusal(self, authorization: str, stream: BaseIOStream, *, further: str = "") -> str:
        """Return why a request is refused and what to do; "" if it is admitted. `further` is one more valid token."""
        if authorization and self.has_token(authorization, further):
            return ""
        why = self._refusal_without_token(stream)
        return f"the token was not accepted; {why}" if why and authorization else why

    def _refusal_without_token(self, stream: BaseIOStream) -> str:
        if self.peers is None:
            return "send the server's token as Authorization: Bearer TOKEN"
        if stream in self._own_streams:
            return ""
        # Its socket is None once it is closed.
        if isinstance(stream, IOStream) and stream.socket is not None and self.peers.is_own(stream.socket):
            self._own_streams.add(stream)
            return ""
        return self._advice(self.peers.knows_tcp_owners)

    def _advice(self, knows_owners: bool) -> str:
        if not self.token:
            return (
                "without a token only the user who runs the server may call it, and this connection is not known to be "
                "that user's: start the server with --token-file FILE, and send the token in it as "
                "Authorization: Bearer TOKEN"
            )
        if not knows_owners:
            return (
                "this system does not report which user a connection belongs to; "
                "send the token in the server's data directory as Authorization: Bearer TOKEN"
            )
        return "only the user who runs the server may call it without the token. Send it as Authorization: Bearer TOKEN"
