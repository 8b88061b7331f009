"""The Jupyter server around this Python, and Holdfast's extension in it.

Jupyter's token admits to everything of its user, so it is sent only to a program that is shown to be this user's:
the parent of this kernel, or by the system's table of listening sockets.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from holdfast._connect.asking import get
from holdfast._environment import listeners
from holdfast._environment.jupyter import parent_server

_WILDCARDS = ("", "0.0.0.0", "::", "*")  # noqa: S104 - an address to be read, not to listen on
_STARTING = 70.0  # seconds; the extension may have to start its server


@dataclass(frozen=True)
class JupyterServer:
    """A Jupyter server of this user. `url` is `http://host:port` or `unix:/a/socket`, without `base_url`."""

    url: str
    base_url: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class ByJupyter:
    """Holdfast's server as the extension offers it. `url` is a Unix socket, or the extension's own address.

    `token` is Jupyter's, "" for a socket. `refusal` says why there is no server, where the extension can't start one.
    """

    url: str = ""
    token: str = field(default="", repr=False)
    page_url: str | None = None
    refusal: str = ""


def find() -> ByJupyter | None:
    """Return the server of the extension in this Python's Jupyter; None without Jupyter and without the extension."""
    for jupyter in _servers():
        status, info = get(jupyter.url, f"{jupyter.base_url}holdfast-info", jupyter.token, _STARTING)
        if status == 200 and isinstance(info.get("url"), str):
            return _shortest_way(jupyter, info["url"])
        if status >= 500:
            return ByJupyter(refusal=str(info.get("detail") or info.get("message") or f"it answers {status}"))
    return None


def _shortest_way(jupyter: JupyterServer, url: str) -> ByJupyter | None:
    """Return the server's socket if the same server answers there, else the way through Jupyter."""
    page_url = f"{jupyter.base_url}holdfast/"
    if url.startswith("unix:"):
        identity = f"v1/identity?nonce={secrets.token_urlsafe(24)}"
        here, there = get(url, identity), get(jupyter.url, page_url + identity, jupyter.token)
        if here[1].get("proof") and here[1]["proof"] == there[1].get("proof"):
            return ByJupyter(url, page_url=page_url)
    if jupyter.url.startswith("unix:"):
        return None  # a client takes no path on a socket
    return ByJupyter(jupyter.url + page_url, jupyter.token, page_url)


def _servers() -> Iterator[JupyterServer]:
    """Iterate over the Jupyter servers of this user: the parent of this kernel, then JupyterHub's."""
    hub_token = os.environ.get("JUPYTERHUB_API_TOKEN", "")
    parent = _of_record(parent_server(), hub_token)
    if parent is not None:
        yield parent
    spawned = _of_hub(os.environ.get("JUPYTERHUB_SERVICE_URL", ""), hub_token) if hub_token else None
    if spawned is not None and (parent is None or parent.url != spawned.url):
        yield spawned


def _of_record(record: dict[str, Any], hub_token: str) -> JupyterServer | None:
    """Return the server of a `jpserver-PID.json`, if it is shown to be this user's."""
    try:
        url, host = urlsplit(record["url"]), record.get("hostname", "")
        base_url, token, is_parent = record["base_url"], record.get("token") or hub_token, os.getppid() == record["pid"]
        if url.scheme == "http+unix":
            path = unquote(url.netloc)
            return JupyterServer(f"unix:{path}", base_url, token) if os.stat(path).st_uid == os.geteuid() else None
    except (KeyError, ValueError, TypeError, AttributeError, OSError):
        return None
    return _checked(url, host, base_url, token, is_parent)


def _of_hub(service_url: str, token: str) -> JupyterServer | None:
    """Return the single-user server of JupyterHub around this Python, if it is shown to be this user's.

    Its environment (`jupyterhub.spawner.Spawner.get_env`) has the URL at which it listens, with the prefix as path.
    """
    try:
        url = urlsplit(service_url)
    except ValueError:
        return None
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX") or url.path or "/"
    return _checked(url, url.hostname or "", prefix, token, is_parent=False)


def _checked(url: SplitResult, host: str, base_url: str, token: str, is_parent: bool) -> JupyterServer | None:
    try:
        port = url.port or {"http": 80, "https": 443}[url.scheme]
    except (KeyError, ValueError):
        return None
    own = listeners.is_own(port)
    if own is False or (own is None and not is_parent):
        return None
    # What listens everywhere is asked here: the listeners that were looked at are this machine's.
    host = "127.0.0.1" if host in _WILDCARDS else (url.hostname or "")
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return JupyterServer(f"{url.scheme}://{authority}", f"/{base_url.strip('/')}/".replace("//", "/"), token)
