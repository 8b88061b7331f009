"""Search for the server that `connect()` takes. Blocks; the async face calls it on a thread.

In order: the URL that was passed, `HOLDFAST_URL`, the Jupyter extension, a running server of the same user, a server of
this Python's own.
"""

from __future__ import annotations

import hmac
import os
import secrets
import threading
from dataclasses import dataclass, field

from holdfast._connect import jupyter_server
from holdfast._connect.asking import get
from holdfast._environment import known_servers
from holdfast._environment.identity import proof
from holdfast._environment.known_servers import RunningServer
from holdfast._http import Token
from holdfast.local import LocalServer, ServerDidNotStart, local_server


@dataclass(frozen=True)
class Found:
    """The server that was taken. `what` says which one it is, and `remark` what else there is to say."""

    url: str
    token: Token = field(repr=False)
    what: str
    remark: str = ""
    page_url: str | None = None
    given: bool = False
    """True for a URL of the caller, which nobody has asked yet."""

    def sentence(self, shown_url: str) -> str:
        """Return the line for the user. A socket that was found is left out: its path tells who ran the notebook."""
        where = f": {shown_url}" if self.given or not shown_url.startswith("unix:") else ""
        return f"Connected to {self.what}{where}{self.remark}"


def find(url: str | None, token: Token) -> Found:
    """Return the server to connect to; start one if there is none.

    Raises:
        ValueError: there is a token, and no URL of the server that it belongs to.
        ServerDidNotStart: no server runs, and none could be started. The message says why.
    """
    if url is not None:
        return Found(url, token, "the Holdfast server that was named", given=True)
    if url := os.environ.get("HOLDFAST_URL"):
        return Found(url, token, "the Holdfast server of HOLDFAST_URL", given=True)
    if token is not None:
        raise ValueError("a token was passed without the URL of its server. Pass both: connect(URL, token=TOKEN)")
    by_jupyter = jupyter_server.find()
    if by_jupyter is not None and by_jupyter.url:
        what = "the Holdfast server of this Jupyter"
        return Found(by_jupyter.url, by_jupyter.token, what, page_url=by_jupyter.page_url)
    remark = f". The one of this Jupyter can't be used: {by_jupyter.refusal}" if by_jupyter is not None else ""
    for server in known_servers.running():
        if (token_of_user := _proven(server)) is not None:
            return Found(server.url, token_of_user, "your running Holdfast server", remark)
    own = _own_server()
    return Found(own.url, own.token, "this Python's own Holdfast server, which ends with it, as do its files", remark)


def _proven(server: RunningServer) -> str | None:
    """Return the token for a noted server ("" for none) if the server with its key answers there; None to pass it over.

    A child of another Python is passed over, since it ends with that one. `HOLDFAST_TOKEN` is for a server that wants
    it. Whatever the token is, it is sent to nobody before the proof.
    """
    token = os.environ.get("HOLDFAST_TOKEN", "") if server.needs_token else server.token
    key = known_servers.identity_key(server)
    if server.kind == "local" or not key or (server.needs_token and not token):
        return None
    nonce = secrets.token_urlsafe(24)
    answer = str(get(server.url, f"v1/identity?nonce={nonce}")[1].get("proof"))
    return token if hmac.compare_digest(answer.encode("utf-8", "replace"), proof(key, nonce).encode()) else None


# -- the server of this Python

_lock = threading.Lock()
_own: tuple[int, LocalServer] | None = None
"""Process id of its parent, and the server. A forked child has one of its own."""


def _own_server() -> LocalServer:
    """Return the server that this Python keeps until its end, started again if it has ended."""
    global _own
    with _lock:
        if _own is None or _own[0] != os.getpid() or _own[1].pid is None:
            try:
                # The code of this user's own kernel: the server admits nobody else.
                _own = os.getpid(), local_server(flags=["--allow-code"])
            except ServerDidNotStart as error:
                raise ServerDidNotStart(f"no server was found, and none could be started: {error}") from None
        return _own[1]
