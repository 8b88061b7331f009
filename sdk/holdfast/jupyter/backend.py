"""The Holdfast server behind Jupyter: one that is given by its URL, or the user's own, started on demand."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from holdfast._environment import shared_server
from holdfast._environment.shared_server import SharedServerError
from holdfast.jupyter.exchange import NoServerError, ServerStream, connect, fetch

_RUNNING = re.compile(rb"^holdfast_attempts_running [1-9]", re.M)


class UnavailableError(Exception):
    """There is no server to talk to. The message says why, and what to do."""


class Backend:
    """Address of the server, found or made when it is first needed, and again when nobody listens there."""

    def __init__(
        self, url: str, files_dir: str, data_dir: str, idle_stop: float, flags: Sequence[str], timeout: float = 60.0
    ) -> None:
        """`url` is "" for the user's own server, to which the rest applies. Raises `ValueError` for a URL of no use."""
        self._given = address_of(url) if url else ""
        self._url = url
        self._files_dir = files_dir
        self._data_dir = data_dir or None
        self._idle_stop = idle_stop
        self._flags = list(flags)
        self._timeout = timeout
        self._starting = asyncio.Lock()
        self.address = self._given
        """`/a/socket` or `host:port`; "" until a server was needed."""

    @property
    def url(self) -> str:
        """Return the URL of the server for clients on this machine; "" until it was needed."""
        return self._url or (f"unix:{self.address}" if self.address else "")

    async def connect(self) -> ServerStream:
        """Return a new connection to the server. Raises `UnavailableError`."""
        address = self.address or await self._start("")
        try:
            return await connect(address)
        except NoServerError as error:
            if self._given:
                raise UnavailableError(f"no Holdfast server answers at {self._url}: {error}. Start that one") from error
        address = await self._start(address)
        try:
            return await connect(address)
        except NoServerError as error:
            raise UnavailableError(f"the server at {address} ends: {error}. Try again in a moment") from error

    async def info(self, nonce: str = "") -> dict[str, Any]:
        """Return the server's URL and instance, and its proof of identity for a nonce. Raises `UnavailableError`."""
        (await self.connect()).close()
        query = urlencode({"nonce": nonce or secrets.token_urlsafe(24)})
        try:
            status, body = await fetch(self.address, f"/v1/identity?{query}")
        except NoServerError as error:
            raise UnavailableError(f"the server at {self.address} ends: {error}. Try again in a moment") from error
        identity = json.loads(body) if status == 200 else {}
        return {"url": self.url, "instance": identity.get("instance", ""), "identity": identity.get("proof", "")}

    async def has_work(self) -> bool:
        """Return whether processes run; False if no server does."""
        if not self.address:
            return False
        try:
            # Not the list of processes: to ask for that is use of the server, which then never stops by itself.
            status, body = await fetch(self.address, "/metrics")
        except NoServerError:
            return False
        return status == 200 and _RUNNING.search(body) is not None

    async def _start(self, failed: str) -> str:
        """Return the address of the user's own server, after a start if it does not run; `failed` does not answer."""
        async with self._starting:
            if self.address == failed:  # else another request has found it meanwhile
                try:
                    url = await asyncio.to_thread(
                        shared_server.ensure,
                        *(self._data_dir, self._files_dir),
                        idle_stop=self._idle_stop,
                        flags=self._flags,
                        timeout=self._timeout,
                    )
                except SharedServerError as error:
                    raise UnavailableError(str(error)) from error
                self.address = address_of(url)
            return self.address


def address_of(url: str) -> str:
    """Return the address to connect to. Raises `ValueError` for a URL that is not of such a server."""
    if url.startswith("unix:/"):
        return url.removeprefix("unix:")
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        raise ValueError(f"{url!r} should look like http://127.0.0.1:8000 or unix:/a/socket, without a path")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or 80}"
