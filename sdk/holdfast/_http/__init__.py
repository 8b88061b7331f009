"""The only package that imports httpx: one sync and one async driver of the plans.

A driver carries out the effects that a plan yields, turns httpx's exceptions into those of `holdfast.errors`, and
closes what a plan left open. Both are safe to share: the sync one between threads, the async one between the tasks of
a loop.
"""

# ruff: noqa: E402 - what has to happen before httpx is imported is explained there

from __future__ import annotations

import sys

# httpx imports click, rich and pygments for its own command line, where they are: four fifths of its import time.
# None makes that one import fail, as it does where they are not, which httpx is prepared for.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # the import system's own sign
import httpx  # noqa: F401

if sys.modules.get("httpx._main") is None:
    sys.modules.pop("httpx._main", None)

from holdfast._http._async import AsyncDriver
from holdfast._http._common import AsyncTransport, Connection, SyncTransport, Token, plain_client
from holdfast._http._sync import SyncDriver

__all__ = ["AsyncDriver", "AsyncTransport", "Connection", "SyncDriver", "SyncTransport", "Token", "plain_client"]
