"""The part of a JupyterHub's API that a service calls, with tokens that a test hands out. It counts what it is asked.

with HubApi() as hub:
    hub.users["t-alice"] = hub.user("alice")
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

SERVICE = "holdfast"
ACCESS = f"access:services!service={SERVICE}"


class HubApi:
    """Listens on a free port of loopback, as a context manager. `users` has the model of each token's user.

    Whoever opens the page to log in is `logged_in`, the token of a user.
    """

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.logged_in = ""
        self.asked: list[str] = []
        self.is_broken = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HubApi:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self) -> dict[str, str]:
        """The variables by which a service finds this hub."""
        return {
            "JUPYTERHUB_SERVICE_NAME": SERVICE,
            "JUPYTERHUB_API_TOKEN": "of-the-service",
            "JUPYTERHUB_API_URL": f"{self.url}/hub/api",
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_CLIENT_ID": f"service-{SERVICE}",
        }

    def add(self, name: str, *scopes: str, kind: str = "user", admin: bool = False, access: bool = True) -> str:
        """Return the token of a user who may use the service, with further scopes."""
        token = f"token-{len(self.users)}"
        given = [*([ACCESS] if access else []), *scopes]
        self.users[token] = {"name": name, "kind": kind, "admin": admin, "groups": ["lab"], "scopes": given}
        return token

    def answer(self, method: str, path: str, query: dict[str, Sequence[str]], token: str) -> tuple[int, str, Any]:
        """Return status, location and JSON of the answer to a request."""
        if self.is_broken:
            return 503, "", {"message": "down"}
        if path == "/hub/api/user":
            self.asked.append(token)
            model = self.users.get(token)
            return (403, "", {"message": "unknown"}) if model is None else (200, "", model)
        if path == "/hub/api/oauth2/authorize":
            back = urlencode({"code": f"code-for-{self.logged_in}", "state": query["state"][0]})
            return 302, f"{query['redirect_uri'][0]}?{back}", {}
        if path == "/hub/api/oauth2/token" and method == "POST":
            return 200, "", {"access_token": query["code"][0].removeprefix("code-for-"), "token_type": "Bearer"}
        return 404, "", {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def _respond(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                query = {**parse_qs(parts.query), **parse_qs(body)}
                token = self.headers.get("Authorization", "").rpartition(" ")[2]
                status, location, value = hub.answer(self.command, parts.path, query, token)  # type: ignore[arg-type]
                data = json.dumps(value).encode()
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _respond

            def log_message(self, format: str, *arguments: Any) -> None:
                """Log nothing."""

        return Handler
