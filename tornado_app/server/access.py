"""Decides who may call: whoever brings the token, and on this machine the user who runs the server."""

from __future__ import annotations

import hmac
import logging
import weakref

from tornado.iostream import BaseIOStream, IOStream

from holdfast._environment import known_servers
from tornado_app import private
from tornado_app.server.peers import Peers
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.server")

TOKEN_FILE = "token"  # noqa: S105 - its name
_HOW = "send it as Authorization: Bearer TOKEN"


class Access:
    """Rules that admit a request. `token` is the server's, "" where it has none."""

    def __init__(self, token: str, peers: Peers | None = None, metrics_token: str = "") -> None:
        """`peers` admits the server's own user without a token."""
        self.token = token
        self.metrics_token = metrics_token
        self.peers = peers
        self._known: known_servers.KnownServer | None = None
        self._own: weakref.WeakSet[BaseIOStream] = weakref.WeakSet()

    @classmethod
    def open(cls, settings: Settings) -> Access:
        """As the settings have it. Where the owners of connections can't be told, a token is made. Raises `OSError`."""
        token = settings.auth_token
        if token and not settings.same_user:
            return cls(token, None, settings.metrics_token.strip())
        if settings.socket is not None:
            return cls(token, Peers(None), settings.metrics_token.strip())
        peers = Peers.open()
        if not token and not peers.can_tell:
            token = private.secret(settings.data_dir / TOKEN_FILE)
        return cls(token, peers, settings.metrics_token.strip())

    def close(self) -> None:
        """Give back what is held, and take the token out of the list for the user's own programs."""
        if self.peers is not None:
            self.peers.close()
        if self._known is not None:
            self._known.close()
            self._known = None

    def announce(self, port: int) -> None:
        """Let the user's own programs find the token, where they could not come in without it."""
        if self.peers is not None and not self.peers.can_tell:
            try:
                self._known = known_servers.KnownServer(port, self.token)
            except OSError as error:  # a user without a home
                log.warning("clients have to be given the token, it can't be noted for them: %s", error)

    def has_token(self, authorization: str, further: str = "") -> bool:
        """Whether an `Authorization` header carries the token, or `further`."""
        scheme, _, given = authorization.partition(" ")
        bearer = given.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
        return any(token and hmac.compare_digest(bearer, token.encode()) for token in (self.token, further))

    def refusal(self, authorization: str, stream: BaseIOStream, *, further: str = "") -> str:
        """Why a request is refused and how it could come in; "" when it may. `further` is one more token that does."""
        if self.has_token(authorization, further):
            return ""
        why = self._without_token(stream)
        return f"the token was not accepted; {why}" if why and authorization else why

    def _without_token(self, stream: BaseIOStream) -> str:
        if self.peers is None:
            return "send the server's token as Authorization: Bearer TOKEN"
        if stream in self._own:
            return ""
        # Its socket is None once it is closed.
        if isinstance(stream, IOStream) and stream.socket is not None and self.peers.is_own(stream.socket):
            self._own.add(stream)
            return ""
        return self._told(self.peers.can_tell)

    def _told(self, can_tell: bool) -> str:
        if not self.token:
            return (
                "without a token only the user who runs the server may call it, and this connection is not seen to be "
                f"that user's: start the server with --token-file FILE, and {_HOW.replace('it', 'the token in it')}"
            )
        if not can_tell:
            return (
                f"this system does not say whose connection this is; the server's data directory has the token: {_HOW}"
            )
        return f"only the user who runs the server may call it without the token: {_HOW}"
