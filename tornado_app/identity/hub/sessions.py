"""Cookies of a browser that logs in: signed, read by no script, and sent to no other path."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import quote, unquote

import msgspec
from tornado.httputil import parse_cookie
from tornado.web import create_signed_value, decode_signed_value

SESSION_KEY_FILE = "session-key"
"""File of the data directory with the key that signs cookies."""

_LOGIN_S = 600  # seconds in which a login must come to its end
_SESSION_DAYS = 30.0  # the hub says before whether its token is still valid


class PendingLogin(msgspec.Struct):
    """A login that has begun in a browser: it ends with the same `state`, and then leads to `next`."""

    state: str
    verifier: str
    next: str


class Sessions:
    """Makes and reads the cookies of one service. `path` is where this server is, as browsers see it."""

    def __init__(self, secret: str, client_id: str, path: str) -> None:
        self._secret = secret
        self._name = quote(client_id, safe="")
        self._login_name = f"{self._name}-oauth-state"
        self.path = path

    def token(self, headers: Mapping[str, str]) -> str:
        """Return the hub's token in the cookie of a session; "" without one, or for one that was not signed here."""
        return self._read(headers, self._name, _SESSION_DAYS)

    def session_id(self, headers: Mapping[str, str]) -> str:
        """Return the hub's own id of the browser's session: with it the hub ends what belongs to it."""
        return parse_cookie(headers.get("Cookie", "")).get("jupyterhub-session-id", "")

    def session(self, token: str, *, secure: bool) -> str:
        """Return the Set-Cookie of a session."""
        return self._cookie(self._name, token, int(_SESSION_DAYS * 86400), secure)

    def pending_login(self, headers: Mapping[str, str]) -> PendingLogin | None:
        """Return the login that has begun in this browser."""
        text = self._read(headers, self._login_name, _LOGIN_S / 86400)
        try:
            return msgspec.json.decode(unquote(text), type=PendingLogin) if text else None
        except msgspec.MsgspecError:
            return None

    def begin_login(self, login: PendingLogin, *, secure: bool) -> str:
        """Return the Set-Cookie of a login that begins."""
        return self._cookie(self._login_name, quote(msgspec.json.encode(login)), _LOGIN_S, secure)

    def end_login(self, *, secure: bool) -> str:
        """Return the Set-Cookie that forgets a login that has ended."""
        return self._cookie(self._login_name, "", 0, secure)

    @staticmethod
    def new_state() -> str:
        """Return a value that nobody guesses."""
        return secrets.token_urlsafe(24)

    def _read(self, headers: Mapping[str, str], name: str, days: float) -> str:
        value = parse_cookie(headers.get("Cookie", "")).get(name)
        plain = None if value is None else decode_signed_value(self._secret, name, value, max_age_days=days)
        return "" if plain is None else plain.decode("utf-8", "replace")

    def _cookie(self, name: str, value: str, seconds: int, secure: bool) -> str:
        signed = create_signed_value(self._secret, name, value).decode("ascii")
        more = "; Secure" if secure else ""
        return f"{name}={signed}; Path={self.path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{more}"
