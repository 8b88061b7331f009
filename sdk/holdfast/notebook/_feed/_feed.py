"""What a server says, kept up to date by one event stream for as long as someone looks. Knows nothing of widgets.

A thread reads the stream and a second one, now and then, asks for what events do not carry; views read what the feed
knows, on the kernel's loop. After every connection all that is followed is asked for anew, so nothing that happened
in between is missed, and a server that came back with another journal is believed as well.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from holdfast import calls, plans, wire
from holdfast._endpoints.call import Call
from holdfast._http import SyncDriver
from holdfast.errors import HoldfastError, NotFound, TransportError
from holdfast.notebook._feed._listing import ServerListing
from holdfast.notebook._feed._tracked import LOG_LINES, Tracked
from holdfast.plans import Open, Plan, Retries, Sleep, Stop, Stopped
from holdfast.wire import ENDED, State

if TYPE_CHECKING:
    from holdfast._async.client import AsyncClient
    from holdfast._sync.client import Client

PERSISTENT = Retries(attempts=1_000_000_000, base=0.2, cap=3.0)
"""A view that is open waits for its server, however long that takes."""

CLOSED = "the client was closed: this is how it stood then"

REFUSED_PAUSE = 10.0  # seconds until a server that refuses the stream (a token, say) is asked again
NEWEST = 500  # processes that a listing of all brings at first
_LOOK_PAUSE = 0.2  # seconds between two rounds of asking
_FEW = 8  # processes that are asked for one by one, rather than by a page
_MOST = 2000  # processes that are kept in mind when someone looks at all

VERB_CALLS: dict[str, Callable[[str], Call[wire.Process]]] = {
    "pause": calls.pause_process,
    "resume": calls.resume_process,
    "cancel": calls.cancel_process,
}

_BULK_CALLS: dict[str, Callable[[wire.BulkRequest], Call[wire.BulkAnswer]]] = {
    "pause": calls.pause_processes,
    "resume": calls.resume_processes,
    "cancel": calls.cancel_processes,
}


class Follow:
    """Someone's interest in one process, or in all (`id` None). Ends with `close`, or with its owner."""

    def __init__(self, feed: Feed, owner: object, id: str | None, on_change: Callable[[], None]) -> None:
        self.feed = feed
        self.id = id
        self.on_change = on_change
        self.tracked = Tracked(id or "")
        # Not at exit: the threads are daemons and end by themselves.
        self._end = weakref.finalize(owner, feed._leave, self)
        self._end.atexit = False

    def close(self) -> None:
        """Look no more."""
        self._end()


class Feed:
    """The one background connection of a client. Made by `feed_of`; every method may be called from any thread."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver
        self._live = driver  # with connections that end with the last view
        self.url = driver.connection.shown_url
        self.lock = threading.RLock()
        self.offline = ""  # why there is no connection
        self.trouble = ""  # what the server does not answer
        self.closed = False  # the client was closed: all is shown as it was then
        self.revision = 0
        self.listed = threading.Event()  # everything was listed, or can't be
        self.processes: dict[str, Tracked] = {}
        self.stock = ServerListing()
        self._follows: set[Follow] = set()
        self._stop: Stop | None = None
        self._wanted: set[str] = set()
        self._want_all = False
        self._looking = False

    # -- who looks

    def follow(
        self, owner: object, on_change: Callable[[], None], id: str | None = None, info: wire.Process | None = None
    ) -> Follow:
        """Keep one process (all, without `id`) up to date until `owner` is gone or the follow is closed.

        `on_change` is called from other threads, and must not hold `owner`. `info` is what is known already.
        """
        follow = Follow(self, owner, id, on_change)
        with self.lock:
            self._follows.add(follow)
            self._begin()
            if id is not None:
                follow.tracked = self.processes.setdefault(id, follow.tracked)
                if info is not None:
                    follow.tracked.learn(info)
            self._want([id] if id is not None else [], all=id is None)
        return follow

    def _begin(self) -> None:
        if self._stop is None and not self.closed:
            self._stop, session = Stop(), ExitStack()
            self._live = session.enter_context(self._driver.session(self._stop))
            work = (self._live, self._stop, session)
            threading.Thread(target=self._read, args=work, name="holdfast-feed", daemon=True).start()

    def _leave(self, follow: Follow) -> None:
        with self.lock:
            self._follows.discard(follow)
            if not any(other.id is None for other in tuple(self._follows)):
                kept = {other.id for other in tuple(self._follows)}
                self.processes = {id: tracked for id, tracked in self.processes.items() if id in kept}
            if not self._follows and self._stop is not None:
                self._stop.set()
                self._stop = None
                self.listed.clear()

    def close(self) -> None:
        """Look no more, whoever follows: what is known stays."""
        with self.lock:
            self.closed, self.offline, self.trouble = True, "", ""
            if self._stop is not None:
                self._stop.set()
                self._stop = None
            self.listed.set()
            for tracked in self.processes.values():
                tracked.asking = ""
                self._changed(tracked)
            self._changed()

    @property
    def follows_all(self) -> bool:
        """Whether someone looks at all processes."""
        return any(follow.id is None for follow in tuple(self._follows))

    def _changed(self, tracked: Tracked | None = None) -> None:
        """With the lock held."""
        self.revision += 1
        if tracked is not None:
            tracked.revision = self.revision
        for on_change in {follow.on_change for follow in tuple(self._follows)}:
            on_change()

    # -- the stream

    def _read(self, driver: SyncDriver, stop: Stop, session: ExitStack) -> None:
        with session, suppress(Stopped):
            while True:
                # Without a last id: after each connection everything is asked for anyway.
                plan = plans.events(lambda last: calls.all_events(), None, None, PERSISTENT)
                try:
                    for event in driver.iterate(self._noticed(plan, stop), stop):
                        self._take(event, stop)
                except HoldfastError as error:
                    self._lost(f"{self.url} refuses: {error}", stop)
                stop.sleep(REFUSED_PAUSE)

    def _noticed(self, plan: Plan[None], stop: Stop) -> Plan[None]:
        """The same plan; the feed notices when the stream is open and when it is broken."""
        value: Any = None
        failure: BaseException | None = None
        try:
            while True:
                effect = plan.send(value) if failure is None else plan.throw(failure)
                value = failure = None
                if isinstance(effect, Sleep):
                    self._lost(f"no connection to {self.url}, trying again", stop)
                try:
                    value = yield effect
                except HoldfastError as error:
                    failure = error
                if isinstance(effect, Open) and failure is None:
                    self._found(stop)
        except StopIteration:
            return
        finally:
            plan.close()

    def _lost(self, why: str, stop: Stop) -> None:
        with self.lock:
            if not stop.is_set() and self.offline != why:
                self.offline = why
                self._changed()
        self.listed.set()

    def _found(self, stop: Stop) -> None:
        with self.lock:
            if stop.is_set():
                return
            self.offline = self.trouble = ""
            for tracked in self.processes.values():
                tracked.stale = True
            self._changed()
            self.look_again()

    def _take(self, event: wire.Event, stop: Stop) -> None:
        with self.lock:
            if stop.is_set():
                return
            if event.type in ("file", "upload"):
                if self.follows_all:
                    self.stock.take(event)
                    self._changed()
                return
            tracked = self.processes.get(event.id)
            if tracked is None:
                if self.follows_all and event.type not in ("log", "deleted"):
                    self._make_room()
                    self.processes[event.id] = Tracked(event.id)
                    self._want([event.id])
                return
            tracked.take(event)
            if event.type in ("state", "deleted"):
                self._want([event.id])  # for what an event does not carry: the result, the last progress
            self._changed(tracked)

    def _make_room(self) -> None:
        """Forget the oldest of those that have ended, when there are too many."""
        if len(self.processes) < _MOST:
            return
        closely = {follow.id for follow in tuple(self._follows)}
        ended = [t.info for t in self.processes.values() if t.info and t.info.has_ended and t.id not in closely]
        for info in sorted(ended, key=lambda info: info.created)[: _MOST // 4]:
            del self.processes[info.id]

    # -- what is asked for

    def _want(self, ids: Iterable[str], *, all: bool = False) -> None:
        """With the lock held: have these asked for, soon."""
        self._wanted |= set(ids)
        self._want_all |= all
        if not self._looking and (self._wanted or self._want_all):
            self._looking = True
            self.spawn(self._look)

    def _look(self) -> None:
        """Ask until nothing is wanted, a few times a second at most."""
        pause = 0.0
        while True:
            time.sleep(pause)
            pause = _LOOK_PAUSE
            with self.lock:
                ids, all = self._wanted, self._want_all
                self._wanted, self._want_all = set(), False
                self._looking = bool(ids or all) and self._stop is not None
                if not self._looking:
                    return
            try:
                if all or len(ids) > _FEW:
                    self._look_at_all(ids)
                else:
                    for id in ids:
                        self._look_at(id)
            except (TransportError, Stopped):
                continue  # the stream is lost as well, and everything is wanted when it is back
            except HoldfastError as error:
                with self.lock:
                    self.trouble = f"{self.url} refuses: {error}"
                    self._changed()
                self.listed.set()

    def _look_at(self, id: str) -> None:
        try:
            info = self._run(calls.get_process(id))
        except NotFound:
            with self.lock:
                if (tracked := self.processes.get(id)) is not None:
                    tracked.forget()
                    self._changed(tracked)
            return
        with self.lock:
            tracked = self.processes.get(id)
            if tracked is None:
                return
            tracked.learn(info)
            self._changed(tracked)
            if not any(follow.id == id for follow in tuple(self._follows)):
                return
        page = self._run(calls.process_log(id, last=LOG_LINES))
        with self.lock:
            tracked.add_lines((line.seq, line.message) for line in page.items)
            self._changed(tracked)

    def _look_at_all(self, ids: set[str]) -> None:
        """What has not ended and the newest of all else; files and uploads, too, when someone looks at everything."""
        found: dict[str, wire.Process] = {}
        for states in ([str(state) for state in State if state not in ENDED], None):
            cursor: str | None = None
            while True:
                page = self._run(calls.list_processes(state=states, cursor=cursor, limit=NEWEST))
                found |= {info.id: info for info in page.items}
                cursor = page.next
                if cursor is None or states is None:
                    break
        with self.lock:
            closely = {follow.id for follow in tuple(self._follows) if follow.id is not None}
            if self.follows_all:
                known = self.processes
                self.processes = {id: known.get(id) or Tracked(id) for id in [*found, *closely, *self._wanted]}
            for id, info in found.items():
                if (tracked := self.processes.get(id)) is not None:
                    tracked.learn(info)
                    tracked.revision = self.revision + 1
            everything = self.follows_all
            self._changed()
        for id in (ids - found.keys()) | closely:
            self._look_at(id)
        if everything:
            self._look_at_stock()

    def _look_at_stock(self) -> None:
        with self.lock:
            self.stock.ask()
        files = self._run(calls.list_files(limit=1000))
        uploads = self._run(calls.list_uploads(limit=1000))
        with self.lock:
            self.stock.learn(files.items, uploads.items, files.next is not None)
            self.trouble = ""
            self._changed()
        self.listed.set()

    def _run(self, call: Call[plans.T]) -> plans.T:
        with self.lock:
            driver, stop = self._live, self._stop
        if stop is None:
            raise Stopped
        return driver.run(plans.request(call, Retries(attempts=1)), stop)

    def learn(self, info: wire.Process) -> None:
        """Take what someone else was answered about a process that is followed."""
        with self.lock:
            if (tracked := self.processes.get(info.id)) is not None:
                tracked.learn(info)
                self._changed(tracked)

    def look_again(self) -> None:
        """Ask anew for everything that someone looks at."""
        with self.lock:
            self._want((follow.id for follow in tuple(self._follows) if follow.id is not None), all=self.follows_all)

    def fetch(self, id: str) -> wire.Process:
        """A process as it stands, asked for now. Blocks. Raises `NotFound`."""
        with self._driver.session(Stop()) as driver:
            return driver.run(plans.request(calls.get_process(id), driver.connection.retries))

    # -- what people ask for

    def ask(self, id: str, verb: str) -> None:
        """Send a request to pause, resume or cancel; a refusal is shown with the process."""
        with self.lock:
            tracked = self.processes.get(id)
            driver, stop = self._live, self._stop
            if tracked is None or tracked.asking or self.closed:
                return
            tracked.asking, tracked.refusal = verb, ""
            self._changed(tracked)

        def ask() -> None:
            refusal, info = "", None
            try:
                plan = plans.verb(verb, VERB_CALLS[verb](id), calls.get_process(id), Retries(attempts=3))
                info = driver.run(plan, stop)
            except Stopped:
                return
            except HoldfastError as error:
                refusal = f"{verb} was not done: {error}"
            with self.lock:
                tracked.asking, tracked.refusal = "", refusal
                if info is not None:
                    tracked.learn(info)
                self._changed(tracked)

        self.spawn(ask)

    def ask_all(self, ids: list[str], verb: str, done: Callable[[str], None]) -> None:
        """Send one request for many; `done` gets a sentence about what was not done, from another thread."""
        with self.lock:
            driver, stop = self._live, self._stop
        if stop is None:
            return

        def ask() -> None:
            try:
                call = _BULK_CALLS[verb](wire.BulkRequest(ids=ids))
                answer = driver.run(plans.request(call, Retries(attempts=3)), stop)
            except Stopped:
                return
            except HoldfastError as error:
                done(f"{verb} was not done: {error}")
            else:
                done("\n".join(f"{id}: {why}" for id, why in answer.refused.items()))

        self.spawn(ask)

    def spawn(self, work: Callable[[], None]) -> None:
        """Do what blocks on a thread of its own."""
        threading.Thread(target=work, name="holdfast-look", daemon=True).start()


_feeds: weakref.WeakKeyDictionary[object, Feed] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def feed_of(client: Client | AsyncClient) -> Feed:
    """The feed of a client, made when it is first asked for."""
    with _lock:
        feed = _feeds.get(client)
        if feed is None:
            feed = _feeds[client] = Feed(driver_of(client))
            client._closed.then(feed.close)
        return feed


def driver_of(client: Client | AsyncClient) -> SyncDriver:
    """What sends requests of views, from threads of theirs."""
    driver = client._driver
    # An async client's connections belong to its loop: views have their own, to the same server and by the same token,
    # in sessions, so that they are closed in the end.
    return driver if isinstance(driver, SyncDriver) else SyncDriver(client._connection)
