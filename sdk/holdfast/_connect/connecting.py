"""`holdfast.connect` and `holdfast.aio.connect`."""

from __future__ import annotations

from holdfast._async.client import AsyncClient
from holdfast._connect.finding import Found, find
from holdfast._http import Token
from holdfast._http._threads import in_thread
from holdfast._sync.client import Client
from holdfast.errors import ConnectFailed
from holdfast.plans import Retries


def connect(
    url: str | None = None,
    *,
    token: Token = None,
    quiet: bool = False,
    timeout: float = 30.0,
    retries: int | Retries | None = None,
) -> Client:
    """Return a client of the server that is meant here, and print in one line which one it is.

    In this order: `url`; `HOLDFAST_URL`; the server of the Jupyter extension, where this kernel's Jupyter has it; the
    newest running server of the same user on this machine; else a new `local_server()`, which ends with this Python.
    A server proves which one it is before anything is sent to it, unless its URL was given.

    Args:
        url: URL of the server, as for `Client`.
        token: its token, as for `Client`; needs a URL.
        quiet: print nothing.
        timeout: as for `Client`.
        retries: as for `Client`.

    Raises:
        TransportError: nothing answers at the URL that was given.
        ServerDidNotStart: no server runs, and none could be started. The message says why.
        ValueError: the URL is not one of a server, or there is a token without one.
    """
    found = find(url, token)
    client = Client(found.url, found.token, timeout=timeout, retries=retries)
    client.page_url = found.page_url
    try:
        if found.given:
            client.live()
    except ConnectFailed as error:
        client.close()
        raise _in_words(error, url) from None
    if not quiet:
        _tell(found, client)
    return client


async def connect_async(
    url: str | None = None,
    *,
    token: Token = None,
    quiet: bool = False,
    timeout: float = 30.0,
    retries: int | Retries | None = None,
) -> AsyncClient:
    """Return an async client of the server that is meant here, as `holdfast.connect` finds it."""
    found = await in_thread(find, url, token)
    client = AsyncClient(found.url, found.token, timeout=timeout, retries=retries)
    client.page_url = found.page_url
    try:
        if found.given:
            await client.live()
    except ConnectFailed as error:
        await client.close()
        raise _in_words(error, url) from None
    if not quiet:
        _tell(found, client)
    return client


def _in_words(error: ConnectFailed, url: str | None) -> ConnectFailed:
    where = "HOLDFAST_URL: correct it, or unset it" if url is None else "the URL, and whether the server runs"
    return ConnectFailed(f"nothing answers: {error}. Check {where}")


def _tell(found: Found, client: Client | AsyncClient) -> None:
    print(found.sentence(client._core.connection.shown_url))  # noqa: T201 - the one line
