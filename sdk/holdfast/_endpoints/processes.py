"""Endpoints of processes and of their events."""

from __future__ import annotations

from holdfast import wire
from holdfast._endpoints.call import Parts, endpoint, read_nothing


@endpoint("GET", "/v1/work-types", wire.WorkTypeList)
def list_work_types() -> Parts:
    """List the work types, with the JSON Schema of their parameters."""
    return Parts()


@endpoint("POST", "/v1/processes", wire.ProcessInfo, takes=wire.StartRequest, repeatable=True)
def start_process(request: wire.StartRequest) -> Parts:
    """Start a process. Repeatable, because the SDK always sends an id: the same request starts no second process."""
    return Parts(body=request)


@endpoint("GET", "/v1/processes", wire.ProcessPage)
def list_processes(
    *,
    state: list[str] | None = None,
    work_type: str | None = None,
    label: list[str] | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> Parts:
    """List a page of processes, newest first. `label` is a list of NAME=VALUE, all of which must match."""
    states = ",".join(state) if state else None
    return Parts(query={"state": states, "work_type": work_type, "label": label, "cursor": cursor, "limit": limit})


@endpoint("GET", "/v1/processes/{id}", wire.ProcessInfo)
def get_process(id: str, *, wait: float = 0.0, after: int | None = None) -> Parts:
    """Read a process; with `wait`, as soon as its version is greater than `after`, at most `wait` seconds later."""
    return Parts(path={"id": id}, query={"wait": wait or None, "after": after}, wait=wait)


@endpoint("POST", "/v1/processes/{id}/pause", wire.ProcessInfo)
def pause_process(id: str) -> Parts:
    """Stop the process at its next yield and keep the checkpoint."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/{id}/resume", wire.ProcessInfo)
def resume_process(id: str) -> Parts:
    """Continue from the last checkpoint; a failed process is tried again."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/{id}/cancel", wire.ProcessInfo)
def cancel_process(id: str) -> Parts:
    """Stop the process at its next yield, then roll it back."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/{id}/kill", wire.ProcessInfo)
def kill_process(id: str) -> Parts:
    """End a process that does not yield. Refused if its place can't be killed, as a thread can't."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/pause", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def pause_processes(which: wire.BulkRequest) -> Parts:
    """Pause all processes that match. The response names those that can't be paused."""
    return Parts(body=which)


@endpoint("POST", "/v1/processes/resume", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def resume_processes(which: wire.BulkRequest) -> Parts:
    """Resume all processes that match."""
    return Parts(body=which)


@endpoint("POST", "/v1/processes/cancel", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def cancel_processes(which: wire.BulkRequest) -> Parts:
    """Cancel all processes that match."""
    return Parts(body=which)


@endpoint("POST", "/v1/processes/kill", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def kill_processes(which: wire.BulkRequest) -> Parts:
    """Kill all processes that match. The response names those that can't be killed (in a thread)."""
    return Parts(body=which)


@endpoint("DELETE", "/v1/processes/{id}", type(None), read=read_nothing)
def forget_process(id: str) -> Parts:
    """Delete a process that has ended."""
    return Parts(path={"id": id})


@endpoint("GET", "/v1/processes/{id}/log", wire.LogPage)
def process_log(id: str, *, after: int | None = None, limit: int | None = None, last: int | None = None) -> Parts:
    """Read log lines of a process, in order; `last` selects that many lines at the end."""
    return Parts(path={"id": id}, query={"after": after, "limit": limit, "last": last})


@endpoint("GET", "/v1/processes/{id}/events", wire.Event)
def process_events(id: str, *, last_event_id: int | None = None) -> Parts:
    """Stream the events of one process, beginning after `last_event_id`."""
    return Parts(path={"id": id}, headers=_event_headers(last_event_id))


@endpoint("GET", "/v1/events", wire.Event)
def all_events(
    *,
    work_type: str | None = None,
    label: list[str] | None = None,
    id: list[str] | None = None,
    last_event_id: int | None = None,
) -> Parts:
    """Stream all events, or those of the processes that match a filter; each label as `KEY=VALUE`."""
    return Parts(query={"work_type": work_type, "label": label, "id": id}, headers=_event_headers(last_event_id))


def _event_headers(last_event_id: int | None) -> dict[str, str | None]:
    return {
        "Accept": "text/event-stream",
        "Cache-Control": "no-cache",
        "Last-Event-ID": None if last_event_id is None else str(last_event_id),
    }
