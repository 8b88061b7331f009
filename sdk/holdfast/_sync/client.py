"""The sync face: `Client`. Every method is one plan, run in the calling thread.

with holdfast.Client("http://127.0.0.1:8000") as client:
    process = client.processes.start("import-csv", file_name="flights.csv", table="flights")
    print(process.wait().result())
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, Unpack

from holdfast import calls, plans, wire
from holdfast._client import display
from holdfast._client.core import SyncCore, Values
from holdfast._client.process_view import ProcessView, Which, all_events, bulk, listing, new_id, process_events, states
from holdfast._client.sent_code import code_request
from holdfast._endpoints.call import Call
from holdfast._http import Connection, SyncDriver, SyncTransport, Token
from holdfast._sync.files import Files
from holdfast._sync.seed import Seed
from holdfast._sync.transfers import Transfers
from holdfast._transfers.job import TransferJob as TransferJob
from holdfast.plans import Retries
from holdfast.wire import ENDED, State
from holdfast.work import Job

if TYPE_CHECKING:
    from holdfast.notebook._dashboard import Dashboard

P = ParamSpec("P")

__all__ = ["Client", "Process"]


class Client:
    """A Holdfast server. Safe to share between threads; a context manager that closes its connections.

    Args:
        base_url: URL of the server; default `HOLDFAST_URL`, else http://127.0.0.1:8000. It may have a path, behind a
            proxy. A Unix socket is `unix:/run/holdfast.sock`, or `http+unix://%2Frun%2Fholdfast.sock`.
        token: sent as `Authorization: Bearer`; default `HOLDFAST_TOKEN`. A function is called before every request.
        timeout: seconds without a byte after which a request fails.
        retries: how often a request that is safe to repeat is sent again; see `holdfast.plans.Retries`.
        transport: an httpx transport in place of the network.

    Raises:
        ValueError: `base_url` is no http, https or unix URL. Requests raise it for a token that is no valid header.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: Token = None,
        *,
        timeout: float = 30.0,
        retries: int | Retries | None = None,
        transport: SyncTransport | None = None,
    ) -> None:
        driver = SyncDriver(Connection.of(base_url, token, timeout, retries), transport)
        self._core = SyncCore(type(self).__name__, driver)
        self.processes = Processes(self._core)
        self.files = Files(self._core)
        self.transfers = Transfers(self._core)
        self.seed = Seed(self._core)

    @property
    def base_url(self) -> str:
        """URL of the server, without a slash at the end."""
        return self._core.base_url

    @property
    def token(self) -> Token:
        """Token in use. Assign another one when it has changed."""
        return self._core.connection.token

    @token.setter
    def token(self, token: Token) -> None:
        self._core.connection.token = token

    @property
    def page_url(self) -> str | None:
        """URL of the server for the page of this notebook, such as `/user/ann/holdfast/`; None if `base_url` is it.

        `holdfast.connect()` sets it where the Jupyter extension is. Set it if the browser reaches the server elsewhere.
        """
        return self._core.page_url

    @page_url.setter
    def page_url(self, url: str | None) -> None:
        self._core.page_url = url

    def live(self) -> bool:
        """Return True if the server answers. Raises `TransportError` if it does not."""
        return (self._core.request(calls.live())).status == "live"

    def ready(self) -> bool:
        """Return True if the server can work. Raises `Unavailable`, with the reason, if it can't."""
        return (self._core.request(calls.ready())).status == "ready"

    def identity(self, nonce: str) -> wire.Identity:
        """Return the server's proof that it is the one that another client has reached, which gets the same proof.

        `nonce`: 22 to 128 random characters of base64url, such as `secrets.token_urlsafe()`, used once.
        """
        return self._core.request(calls.identity(nonce))

    def metrics(self) -> str:
        """Return the metrics in the text format of Prometheus."""
        return self._core.request(calls.metrics())

    def openapi(self) -> dict[str, Any]:
        """Return the server's contract as an OpenAPI 3.1 document."""
        return self._core.request(calls.openapi())

    def process(self, function: Callable[Concatenate[Job[Any], P], Any]) -> SentFunction[P]:
        """Decorator: a call of the function starts it on the server and returns its process.

            @client.process
            def count(job, to):
                for i in range((job.checkpoint or {"i": 0})["i"], to):
                    yield Progress(i + 1, to, {"i": i + 1})
                return {"counted": to}

            count(1000).result()

        The server has to be started with `--allow-code`, and with the same minor version of Python as here.
        """
        return SentFunction(self._core, function)

    def work_types(self) -> list[wire.WorkTypeInfo]:
        """Return the work types that this server can run."""
        return self._core.request(calls.list_work_types()).items

    def events(
        self,
        *,
        work_type: str | None = None,
        labels: Mapping[str, str] | None = None,
        ids: Iterable[str] | None = None,
        after: int | None = None,
    ) -> Iterator[wire.Event]:
        """Iterate over the events of processes, files and uploads, without end. Reconnects by itself.

        A work type, labels or ids select the processes that match them all; files and uploads are left out then.
        `after` is the `seq` of the last known event; None begins with the next event.
        """
        return self._core.iterate(plans.events(all_events(work_type, labels, ids), after, None, self._core.patience))

    def dashboard(self) -> Dashboard:
        """Return a live panel of all processes, uploads and files, for a notebook; the same one while it is open.

        `holdfast.widgets.Dashboard(client)` makes another one, with a filter of its own. Needs the extra `notebook`.
        """
        panel: Dashboard = display.current().dashboard(self._core)
        return panel

    def close(self) -> None:
        """Close every connection. It does not wait for running transfers; notebook views stop updating."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._core)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return display.current().server(self._core, "client")


class Process(ProcessView):
    """A process on the server, in the state of the last response."""

    _core: SyncCore

    def __init__(self, core: SyncCore, info: wire.ProcessInfo) -> None:
        super().__init__(core, info)

    def refresh(self) -> Self:
        """Fetch the current state."""
        self._info = self._core.request(calls.get_process(self.id))
        return self

    def pause(self) -> Self:
        """Stop the process at its next yield and keep the checkpoint. Raises `IllegalState`."""
        return self._verb("pause", calls.pause_process(self.id))

    def resume(self) -> Self:
        """Continue from the last checkpoint; a failed process is tried again. Raises `IllegalState`."""
        return self._verb("resume", calls.resume_process(self.id))

    def cancel(self) -> Self:
        """Stop the process at its next yield, then roll it back. Raises `IllegalState`."""
        return self._verb("cancel", calls.cancel_process(self.id))

    def kill(self) -> Self:
        """End a process that does not yield. Raises `Conflict` if its place can't be killed, as a thread can't."""
        return self._verb("kill", calls.kill_process(self.id))

    def forget(self) -> None:
        """Delete the process from the server. It must have ended. Raises `IllegalState`."""
        self._core.run(plans.forget(calls.forget_process(self.id), self._core.retries))

    def wait(
        self,
        timeout: float | None = None,
        *,
        until: Iterable[State | str] | State | str = ENDED,
        notify: bool = False,
    ) -> Self:
        """Wait until the process has ended or is in a state of `until`, also while the server restarts.

        With `notify`, the end is announced: in a notebook by the browser, from a card that is shown here and asks for
        permission once; in a terminal by its bell.

        Raises:
            WaitTimeout: neither happened within `timeout` seconds; the process continues.
        """
        report = display.current().notify(self._core, self._info) if notify else None
        self._info = self._core.run(plans.wait(self._info, states(until), timeout, self._core.patience))
        if report is not None:
            report(self._info)
        return self

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the result of the work.

        Raises:
            ProcessFailed, ProcessCancelled: it ended without a result.
            WaitTimeout: it has not ended within `timeout` seconds.
        """
        return plans.result_of(self.wait(timeout).info)

    def log(self, *, after: int = 0) -> Iterator[wire.LogLine]:
        """Iterate over the log lines so far, after line number `after`."""
        return self._core.iterate(plans.log(self.id, after, self._core.retries))

    def events(self, *, after: int | None = 0) -> Iterator[wire.Event]:
        """Iterate over the events of the process until it has ended: state changes, progress and log lines.

        Reconnects by itself and misses no state change. `after` is the `seq` of the last known event; 0 begins with the
        first event, None with the next.
        """
        plan = plans.events(partial(process_events, self.id), after, self.id, self._core.patience)
        return self._core.iterate(plan)

    def _verb(self, name: str, call: Call[wire.ProcessInfo]) -> Self:
        get = calls.get_process(self.id)
        self._info = self._core.run(plans.verb(name, call, get, self._core.retries))
        return self


class SentFunction(Generic[P]):
    """A function that runs on the server when it is called. `@client.process` makes it."""

    def __init__(self, core: SyncCore, function: Callable[Concatenate[Job[Any], P], Any]) -> None:
        self._core = core
        self.function = function
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self.function, '__name__', '')}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Process:
        """Start the function. Raises what `client.processes.submit` raises."""
        call = calls.start_process(code_request(self.function, args, kwargs))
        return Process(self._core, self._core.request(call))


class Processes:
    """`client.processes`."""

    def __init__(self, core: SyncCore) -> None:
        self._core = core

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._core.connection.shown_url}>"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return display.current().server(self._core, "processes")

    def start(
        self,
        work_type: str,
        /,
        *,
        id: str | None = None,
        place: wire.Place | None = None,
        priority: int = 0,
        labels: Mapping[str, str] | None = None,
        retries: int | None = None,
        deadline: float | None = None,
        **params: Any,
    ) -> Process:
        """Start a process. The same `id` with the same request returns the process that was started before.

        Args:
            work_type: name of the work type; `client.work_types()` lists them.
            id: id of the process; a random one by default.
            place: where it runs; by default as the work type says.
            priority: processes of higher priority leave the queue first.
            labels: names and values that `list` and the bulk verbs can filter by.
            retries: how often a failed attempt is tried again; by default as the work type says.
            deadline: seconds from now after which the process fails.
            params: parameters of the work type.

        Raises:
            BadRequest: the work type is unknown, or a parameter is not valid; `field` names the parameter.
            IdTaken: a process with this id was started with another request.
        """
        request = wire.StartRequest(
            work_type, params, id or new_id(work_type), place, priority, dict(labels or {}), retries, deadline
        )
        return Process(self._core, self._core.request(calls.start_process(request)))

    def submit(self, function: Callable[..., Any], /, *args: Any, id: str | None = None, **kwargs: Any) -> Process:
        """Send a generator function and start `function(job, *args, **kwargs)` in a process of its own on the server.

        The server has to be started with `--allow-code`. The same `id` with the same code again starts nothing twice.

        Raises:
            NotSendable: it is not a generator function, or it can't be pickled; the message says why.
            Forbidden: the server does not accept code.
            BadRequest: the server runs another minor version of Python.
        """
        call = calls.start_process(code_request(function, args, kwargs, id=id))
        return Process(self._core, self._core.request(call))

    def get(self, id: str) -> Process:
        """Return the process with this id. Raises `NotFound`."""
        return Process(self._core, self._core.request(calls.get_process(id)))

    def list(
        self,
        *,
        state: Iterable[State | str] | State | str | None = None,
        work_type: str | None = None,
        labels: Mapping[str, str] | None = None,
        page_size: int | None = None,
    ) -> Iterator[Process]:
        """Iterate over the processes that match, newest first. Pages are fetched as they are needed."""
        page = listing(state, work_type, labels, page_size)
        infos = self._core.iterate(plans.pages(page, self._core.retries))
        return Values(Process(self._core, info) for info in infos)

    def pause(self, id: str) -> Process:
        """As `Process.pause`, by id."""
        return self._verb("pause", id, calls.pause_process(id))

    def resume(self, id: str) -> Process:
        """As `Process.resume`, by id."""
        return self._verb("resume", id, calls.resume_process(id))

    def cancel(self, id: str) -> Process:
        """As `Process.cancel`, by id."""
        return self._verb("cancel", id, calls.cancel_process(id))

    def kill(self, id: str) -> Process:
        """As `Process.kill`, by id."""
        return self._verb("kill", id, calls.kill_process(id))

    def wait(
        self,
        id: str,
        timeout: float | None = None,
        *,
        until: Iterable[State | str] | State | str = ENDED,
        notify: bool = False,
    ) -> Process:
        """As `Process.wait`, by id."""
        return self.get(id).wait(timeout, until=until, notify=notify)

    def forget(self, id: str) -> None:
        """As `Process.forget`, by id."""
        self._core.run(plans.forget(calls.forget_process(id), self._core.retries))

    def pause_all(self, **which: Unpack[Which]) -> wire.BulkAnswer:
        """Pause all processes that match. Raises `BadRequest` without any filter."""
        return self._core.request(calls.pause_processes(bulk(which)))

    def resume_all(self, **which: Unpack[Which]) -> wire.BulkAnswer:
        """Resume all processes that match."""
        return self._core.request(calls.resume_processes(bulk(which)))

    def cancel_all(self, **which: Unpack[Which]) -> wire.BulkAnswer:
        """Cancel all processes that match."""
        return self._core.request(calls.cancel_processes(bulk(which)))

    def kill_all(self, **which: Unpack[Which]) -> wire.BulkAnswer:
        """Kill all processes that match. Those that can't be killed (in a thread) are among the refused."""
        return self._core.request(calls.kill_processes(bulk(which)))

    def _verb(self, name: str, id: str, call: Call[wire.ProcessInfo]) -> Process:
        plan = plans.verb(name, call, calls.get_process(id), self._core.retries)
        return Process(self._core, self._core.run(plan))
