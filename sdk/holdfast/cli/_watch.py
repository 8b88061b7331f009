"""`watch`: one process as a live bar, or all processes as a live table."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import click
import msgspec
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from holdfast import wire
from holdfast._client.core import core_of
from holdfast._sync.client import Client, Process
from holdfast.cli._completion._offers import process_ids
from holdfast.cli._context import Context, Exit, command
from holdfast.cli._printing import _records
from holdfast.cli._printing._output import Grid, escaped, is_terminal, tabbed, write_line
from holdfast.errors import HoldfastError, NotFound
from holdfast.wire import State

KEEP = timedelta(minutes=1)  # time that an ended process stays on the screen
EVERY = 0.25


@click.command()
@click.argument("id", required=False, shell_complete=process_ids)
@command
def watch(context: Context, id: str | None) -> None:
    """Show one process until it has ended, or all processes live. Ctrl-C ends the display only."""
    with context.client() as client:
        if id is not None:
            until_ended(context, client.processes.get(id))
        elif is_terminal() and not context.json:
            watch_all(context, client)
        else:
            for event in client.events():
                _print_event(context, event)


def _print_event(context: Context, event: wire.Event) -> None:
    """Print an event as one line, for programs and pipes."""
    if context.json:
        context.print_json(event)
    elif event.type in ("state", "deleted"):
        write_line(tabbed([_records.stamp(event.time), event.id, event.state or event.type]))


def print_process(context: Context, info: wire.ProcessInfo) -> None:
    """Print all details of one process."""
    if context.json:
        context.print_json(info)
        return
    person = is_terminal()
    rows = _records.details(info, person=person)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        if person:
            line = Text.assemble((name.ljust(width + 2), "bold"), value if isinstance(value, Text) else escaped(value))
            context.out.print(line, soft_wrap=True)
        else:
            write_line(tabbed([name, str(value)]))


def verdict(context: Context, info: wire.ProcessInfo, wanted: Collection[State] = (State.SUCCEEDED,)) -> Exit:
    """Return the exit code of a command that waited: OK only if the process is in a wanted state.

    For any other state it prints the reason on stderr.
    """
    if info.state in wanted:
        return Exit.OK
    why = f": {info.error.message}" if info.error is not None else ""
    context.note(f"{info.id} is {info.state}, not {' or '.join(wanted)}{why}")
    if info.state is State.FAILED:
        context.note(f"To see why: holdfast log {info.id}")
    return Exit.FAILED


def until_ended(context: Context, process: Process, timeout: float | None = None) -> None:
    """Show a process until it has ended. Exit with 1 unless it succeeded. Ctrl-C leaves it running.

    With a timeout there is no bar. Raises `WaitTimeout`.
    """
    try:
        if timeout is None:
            follow_process(context, process)
        process.wait(timeout)
    except KeyboardInterrupt:
        context.note(f"{process.id} keeps running. To see it again: holdfast watch {process.id}")
        raise
    print_process(context, process.info)
    if code := verdict(context, process.info):
        raise click.exceptions.Exit(code)


def follow_process(context: Context, process: Process) -> None:
    """Show a progress bar on a terminal until the process has ended."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    shown = not context.json and context.err.is_terminal
    with Progress(*columns, console=context.err, disable=not shown, transient=True) as bar:
        task = bar.add_task(f"{process.id} {process.state}", total=None, note="")
        for event in process.events():
            if event.type == "state" and event.state is not None:
                bar.update(task, description=f"{process.id} {event.state}")
            if event.progress is not None:
                progress = event.progress
                bar.update(task, completed=progress.done or 0, total=progress.total, note=progress.note)


def watch_all(context: Context, client: Client) -> None:
    """Show a table of all processes, kept current by the event stream."""
    table = LiveTable(client)
    context.notice = table.show_notice
    thread = threading.Thread(target=table.follow, daemon=True)
    thread.start()
    with Live(table.render(), console=context.out, auto_refresh=False, screen=True) as live:
        while thread.is_alive():
            live.update(table.render(), refresh=True)
            time.sleep(EVERY)
    if table.failure is not None:
        raise table.failure


class LiveTable:
    """Table of `holdfast watch`. `follow` runs on one thread, `render` on another."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._found: dict[str, wire.ProcessInfo] = {}
        self.failure: HoldfastError | None = None
        self._notice = ""
        self._refresh()

    def _refresh(self) -> None:
        live = [state for state in State if state not in wire.ENDED]
        found = {process.id: process.info for process in self._client.processes.list(state=live)}
        with self._lock:
            ended = {id: info for id, info in self._found.items() if info.has_ended}
            self._found = {**ended, **found}

    def follow(self) -> None:
        """Apply events until the connection fails for good."""
        try:
            for event in self._client.events():
                self.apply(event)
        except HoldfastError as error:
            self.failure = error

    def show_notice(self, notice: str) -> None:
        """Show a line until the next event."""
        self._notice = notice

    def apply(self, event: wire.Event) -> None:
        """Apply one event."""
        self._notice = ""
        with self._lock:
            known = self._found.get(event.id)
        if event.type == "progress" and known is not None and event.progress is not None:
            with self._lock:
                self._found[event.id] = msgspec.structs.replace(known, progress=event.progress)
        elif event.type in ("state", "deleted"):
            try:
                info = self._client.processes.get(event.id).info
            except NotFound:  # it was deleted
                with self._lock:
                    self._found.pop(event.id, None)
                return
            with self._lock:
                self._found[event.id] = info

    def render(self) -> Group:
        """Return the table, and the number of processes in each state."""
        now = datetime.now(UTC)
        with self._lock:
            self._found = {
                id: info for id, info in self._found.items() if info.ended is None or now - info.ended < KEEP
            }
            found = sorted(self._found.values(), key=lambda info: info.created, reverse=True)
        counts = {state: sum(info.state is state for info in found) for state in State}
        line = Text(core_of(self._client).connection.shown_url + "  ", style="bold")
        for state, count in counts.items():
            if count:
                line.append(f"{count} {state}  ", _records.COLOURS[state])
        notice = [Text(escaped(self._notice), "yellow")] if self._notice else []
        return Group(line, *notice, Grid(_records.PROCESSES, found))


COMMANDS = (watch,)
