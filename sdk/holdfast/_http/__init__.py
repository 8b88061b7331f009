"""The only package that imports httpx: one sync and one async driver of the plans.

A driver carries out the effects that a plan yields, translates httpx's exceptions into those of `holdfast.errors`, and
closes streams that a plan left open. The sync driver can be shared between threads, the async one between the tasks of
a loop.
"""

# ruff: noqa: E402 - what has to happen before httpx is imported is explained there

from __future__ import annotations

import sys

# If click, rich and pygments are installed, httpx imports them for its command line: four fifths of its import time.
# None makes that one import fail, which httpx expects where they are not installed.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # the import system's own marker
import httpx  # noqa: F401

if sys.modules.get("httpx._main") is None:
    sys.modules.pop("httpx._main", None)

from holdfast._http._async import AsyncDriver
from holdfast._http._common import AsyncTransport, Connection, SyncTransport, Token, plain_client
from holdfast._http._sync import SyncDriver

__all__ = ["AsyncDriver", "AsyncTransport", "Connection", "SyncDriver", "SyncTransport", "Token", "plain_client"]
