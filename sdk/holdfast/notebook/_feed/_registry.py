"""Feed of each client, and the driver for requests of its views."""

from __future__ import annotations

import threading
import weakref

from holdfast._client.core import AnyClient, AnyCore, SyncCore, core_of
from holdfast._http import SyncDriver
from holdfast.notebook._feed._feed import Feed

_feeds: weakref.WeakKeyDictionary[object, Feed] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def feed_of(client: AnyClient | AnyCore) -> Feed:
    """Return the feed of a client. The first call makes it."""
    core = core_of(client)
    with _lock:
        feed = _feeds.get(core)
        if feed is None:
            feed = _feeds[core] = Feed(driver_of(core))
            core.closed.then(feed.close)
        return feed


def driver_of(client: AnyClient | AnyCore) -> SyncDriver:
    """Return the driver for requests of views, which run on threads."""
    core = core_of(client)
    # The connections of an async client belong to its loop. Views have their own, to the same server and with the
    # same token, in sessions, so that they are closed in the end.
    return core.driver if isinstance(core, SyncCore) else SyncDriver(core.connection)
