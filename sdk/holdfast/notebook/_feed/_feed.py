"""State of a server, kept current by one event stream while views are open. Knows nothing of widgets.

One thread reads the stream. A second one runs when needed and requests what events do not carry. Views read the state
on the kernel's loop. After each connection the feed requests the state of everything that is followed, so it misses
nothing that happened without a connection, and it accepts a server that came back with another journal.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from holdfast import calls, plans, wire
from holdfast._endpoints.call import Call
from holdfast._http import SyncDriver
from holdfast.errors import HoldfastError, NotFound, TransportError
from holdfast.notebook._feed._listing import ServerListing
from holdfast.notebook._feed._stream import read_events
from holdfast.notebook._feed._tracked import DETAIL_LINES, Tracked
from holdfast.plans import Retries, Stop, Stopped
from holdfast.wire import ENDED, State

CLOSED = "the client was closed: this is the last known state"

NEWEST = 500  # processes that a listing of all brings at first
_REFRESH_PAUSE = 0.2  # seconds between two rounds of requests
_MAX_SINGLE_REQUESTS = 8  # processes that are requested one by one; more are requested by a listing
_MAX_TRACKED = 2000  # processes that are kept while a view shows all of them

VERB_CALLS: dict[str, Callable[[str], Call[wire.ProcessInfo]]] = {
    "pause": calls.pause_process,
    "resume": calls.resume_process,
    "cancel": calls.cancel_process,
}

_BULK_CALLS: dict[str, Callable[[wire.BulkRequest], Call[wire.BulkAnswer]]] = {
    "pause": calls.pause_processes,
    "resume": calls.resume_processes,
    "cancel": calls.cancel_processes,
}


class Subscription:
    """Subscription of one view to one process, or to all of them (`id` None). Ends by `close`, or with its owner."""

    def __init__(self, feed: Feed, owner: object, id: str | None, on_change: Callable[[], None]) -> None:
        self.feed = feed
        self.id = id
        self.on_change = on_change
        self.tracked = Tracked(id or "")
        # Not at exit: the threads are daemons and end by themselves.
        self._end = weakref.finalize(owner, feed._unsubscribe, self)
        self._end.atexit = False

    def close(self) -> None:
        """End the subscription."""
        self._end()


class Feed:
    """The one background connection of a client, made by `feed_of`. Every method is callable from any thread."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver
        self._session_driver = driver  # its connections are closed with the last view
        self.url = driver.connection.shown_url
        self.lock = threading.RLock()
        self.offline = ""  # the reason why there is no connection
        self.offline_since: float | None = None  # by the monotonic clock
        self.error = ""  # the last request that the server refused
        self.closed = False  # the client was closed: the state does not change any more
        self.revision = 0
        self.listed = threading.Event()  # the first listing has arrived, or has failed
        self.processes: dict[str, Tracked] = {}
        self.listing = ServerListing()
        self._subscriptions: set[Subscription] = set()
        self._stop: Stop | None = None
        self._stale_ids: set[str] = set()
        self._all_stale = False
        self._refreshing = False

    # -- subscriptions

    def subscribe(
        self, owner: object, on_change: Callable[[], None], id: str | None = None, info: wire.ProcessInfo | None = None
    ) -> Subscription:
        """Keep one process (all, without `id`) current until `owner` is collected or the subscription is closed.

        `on_change` is called from other threads and must not refer to `owner`. `info` is the process as known so far.
        """
        subscription = Subscription(self, owner, id, on_change)
        with self.lock:
            self._subscriptions.add(subscription)
            self._start_reader()
            if id is not None:
                subscription.tracked = self.processes.setdefault(id, subscription.tracked)
                subscription.tracked.kept_lines = DETAIL_LINES
                if info is not None:
                    subscription.tracked.apply_answer(info)
            self._request_refresh([id] if id is not None else [], all=id is None)
        return subscription

    def _start_reader(self) -> None:
        if self._stop is None and not self.closed:
            self._stop, session = Stop(), ExitStack()
            self._session_driver = session.enter_context(self._driver.session(self._stop))
            work = (self._session_driver, self._stop, session)
            threading.Thread(target=self._read, args=work, name="holdfast-feed", daemon=True).start()

    def _read(self, driver: SyncDriver, stop: Stop, session: ExitStack) -> None:
        with session:
            read_events(driver, self.url, stop, self)

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self.lock:
            self._subscriptions.discard(subscription)
            if not self.follows_all:
                kept = self._followed_ids()
                self.processes = {id: tracked for id, tracked in self.processes.items() if id in kept}
            if not self._subscriptions and self._stop is not None:
                self._stop.set()
                self._stop = None
                self.listed.clear()

    def close(self) -> None:
        """Stop reading, whoever is subscribed. The last known state stays."""
        with self.lock:
            self.closed, self.offline, self.offline_since, self.error = True, "", None, ""
            if self._stop is not None:
                self._stop.set()
                self._stop = None
            self.listed.set()
            for tracked in self.processes.values():
                tracked.pending_verb = ""
                self._changed(tracked)
            self._changed()

    @property
    def has_subscriptions(self) -> bool:
        """Return whether any view is subscribed."""
        return bool(self._subscriptions)

    @property
    def follows_all(self) -> bool:
        """Return whether a view is subscribed to all processes."""
        return any(subscription.id is None for subscription in tuple(self._subscriptions))

    def _followed_ids(self) -> set[str]:
        """Return the ids of processes that have a subscription of their own."""
        return {subscription.id for subscription in tuple(self._subscriptions) if subscription.id is not None}

    def _changed(self, tracked: Tracked | None = None) -> None:
        """Notify the subscribers. The caller holds the lock."""
        self.revision += 1
        if tracked is not None:
            tracked.revision = self.revision
        for on_change in {subscription.on_change for subscription in tuple(self._subscriptions)}:
            on_change()

    # -- events, on the thread that reads the stream

    def on_disconnected(self, reason: str, stop: Stop) -> None:
        with self.lock:
            if not stop.is_set() and self.offline != reason:
                self.offline = reason
                self.offline_since = self.offline_since or time.monotonic()
                self._changed()
        self.listed.set()

    def on_connected(self, stop: Stop) -> None:
        with self.lock:
            if stop.is_set():
                return
            self.offline, self.offline_since, self.error = "", None, ""
            for tracked in self.processes.values():
                tracked.stale = True
            self._changed()
            self.refresh()

    def on_event(self, event: wire.Event, stop: Stop) -> None:
        with self.lock:
            if stop.is_set():
                return
            if event.type in ("file", "upload"):
                if self.follows_all:
                    self.listing.apply_event(event)
                    self._changed()
                return
            tracked = self.processes.get(event.id)
            if tracked is None:
                if self.follows_all and event.type not in ("log", "deleted"):
                    self._evict_ended()
                    self.processes[event.id] = Tracked(event.id)
                    self._request_refresh([event.id])
                return
            tracked.apply_event(event)
            if event.type in ("state", "deleted"):
                self._request_refresh([event.id])  # for the result and the last progress, which events do not carry
            self._changed(tracked)

    def _evict_ended(self) -> None:
        """Drop the oldest ended processes when too many are tracked."""
        if len(self.processes) < _MAX_TRACKED:
            return
        followed = self._followed_ids()
        ended = [t.info for t in self.processes.values() if t.info and t.info.has_ended and t.id not in followed]
        for info in sorted(ended, key=lambda info: info.created)[: _MAX_TRACKED // 4]:
            del self.processes[info.id]

    # -- requests for state

    def refresh(self) -> None:
        """Request the state of everything that has a subscription."""
        with self.lock:
            self._request_refresh(self._followed_ids(), all=self.follows_all)

    def _request_refresh(self, ids: Iterable[str], *, all: bool = False) -> None:
        """Have these requested soon, by a thread. The caller holds the lock."""
        self._stale_ids |= set(ids)
        self._all_stale |= all
        if not self._refreshing and (self._stale_ids or self._all_stale):
            self._refreshing = True
            _start_thread(self._refresh_loop)

    def _refresh_loop(self) -> None:
        """Send requests until nothing is stale, a few rounds a second at most."""
        pause = 0.0
        while True:
            time.sleep(pause)
            pause = _REFRESH_PAUSE
            with self.lock:
                ids, all = self._stale_ids, self._all_stale
                self._stale_ids, self._all_stale = set(), False
                self._refreshing = bool(ids or all) and self._stop is not None
                if not self._refreshing:
                    return
            try:
                if all or len(ids) > _MAX_SINGLE_REQUESTS:
                    self._refresh_all(ids)
                else:
                    for id in ids:
                        self._refresh_process(id)
            except Stopped:
                continue
            except TransportError:
                with self.lock:
                    if not self.offline:  # else everything is requested when the stream is open again
                        self._stale_ids |= ids
                        self._all_stale |= all
            except HoldfastError as error:
                with self.lock:
                    self.error = f"{self.url} refused the request: {error}"
                    self._changed()
                self.listed.set()

    def _refresh_process(self, id: str) -> None:
        try:
            info = self._run(calls.get_process(id))
        except NotFound:
            with self.lock:
                if (tracked := self.processes.get(id)) is not None:
                    tracked.mark_missing()
                    self._changed(tracked)
            return
        with self.lock:
            tracked = self.processes.get(id)
            if tracked is None:
                return
            tracked.apply_answer(info)
            self._changed(tracked)
            if id not in self._followed_ids():
                return
        page = self._run(calls.process_log(id, last=DETAIL_LINES))
        with self.lock:
            tracked.add_lines((line.seq, line.message) for line in page.items)
            self._changed(tracked)

    def _refresh_all(self, ids: set[str]) -> None:
        """Request all live processes and the newest others; files and uploads too, if a view shows everything."""
        found: dict[str, wire.ProcessInfo] = {}
        for states in ([str(state) for state in State if state not in ENDED], None):
            cursor: str | None = None
            while True:
                page = self._run(calls.list_processes(state=states, cursor=cursor, limit=NEWEST))
                found |= {info.id: info for info in page.items}
                cursor = page.next
                if cursor is None or states is None:
                    break
        with self.lock:
            followed = self._followed_ids()
            if self.follows_all:
                known = self.processes
                self.processes = {id: known.get(id) or Tracked(id) for id in [*found, *followed, *self._stale_ids]}
            for id, info in found.items():
                if (tracked := self.processes.get(id)) is not None:
                    tracked.apply_answer(info)
                    tracked.revision = self.revision + 1
            everything = self.follows_all
            self._changed()
        for id in (ids - found.keys()) | followed:
            self._refresh_process(id)
        if everything:
            self._refresh_listing()

    def _refresh_listing(self) -> None:
        with self.lock:
            self.listing.begin_request()
        files = self._run(calls.list_files(limit=1000))
        uploads = self._run(calls.list_uploads(limit=1000))
        with self.lock:
            self.listing.replace(files.items, uploads.items, files.next is not None)
            self.error = ""
            self._changed()
        self.listed.set()

    def _run(self, call: Call[plans.T]) -> plans.T:
        with self.lock:
            driver, stop = self._session_driver, self._stop
        if stop is None:
            raise Stopped
        return driver.run(plans.request(call, Retries(attempts=1)), stop)

    def apply_answer(self, info: wire.ProcessInfo) -> None:
        """Take the answer to another request about a process that is followed."""
        with self.lock:
            if (tracked := self.processes.get(info.id)) is not None:
                tracked.apply_answer(info)
                self._changed(tracked)

    def fetch(self, id: str) -> wire.ProcessInfo:
        """Request a process and return it. Blocks. Raises `NotFound`."""
        with self._driver.session(Stop()) as driver:
            return driver.run(plans.request(calls.get_process(id), driver.connection.retries))

    def set_notify(self, id: str, notify: bool) -> None:
        """Have the browser announce the end of this process, or not."""
        with self.lock:
            if (tracked := self.processes.get(id)) is not None and tracked.notify != notify:
                tracked.notify = notify
                self._changed(tracked)

    # -- verbs

    def request(self, id: str, verb: str) -> None:
        """Send a request to pause, resume or cancel. A refusal is kept with the process."""
        with self.lock:
            tracked = self.processes.get(id)
            driver, stop = self._session_driver, self._stop
            if tracked is None or tracked.pending_verb or self.closed:
                return
            tracked.pending_verb, tracked.refusal = verb, ""
            self._changed(tracked)

        def send() -> None:
            refusal, info = "", None
            try:
                plan = plans.verb(verb, VERB_CALLS[verb](id), calls.get_process(id), Retries(attempts=3))
                info = driver.run(plan, stop)
            except Stopped:
                return
            except HoldfastError as error:
                refusal = f"{verb} was not done: {error}"
            with self.lock:
                tracked.pending_verb, tracked.refusal = "", refusal
                if info is not None:
                    tracked.apply_answer(info)
                self._changed(tracked)

        _start_thread(send)

    def request_bulk(self, ids: list[str], verb: str, done: Callable[[str], None]) -> None:
        """Send one request for many. `done` gets the refusals as text, or an empty text, on another thread."""
        with self.lock:
            driver, stop = self._session_driver, self._stop
        if stop is None:
            return

        def send() -> None:
            try:
                call = _BULK_CALLS[verb](wire.BulkRequest(ids=ids))
                answer = driver.run(plans.request(call, Retries(attempts=3)), stop)
            except Stopped:
                return
            except HoldfastError as error:
                done(f"{verb} was not done: {error}")
            else:
                done("\n".join(f"{id}: {why}" for id, why in answer.refused.items()))

        _start_thread(send)


def _start_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="holdfast-feed-request", daemon=True).start()
