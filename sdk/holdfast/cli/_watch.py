"""`watch`: one process as a bar, or all of them as a table, live."""

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

KEEP = timedelta(minutes=1)  # that ended processes stay on the screen
EVERY = 0.25


@click.command()
@click.argument("id", required=False, shell_complete=process_ids)
@command
def watch(context: Context, id: str | None) -> None:
    """Show one process until it has ended, or all processes live. Ctrl-C ends the watching, and nothing else."""
    with context.client() as client:
        if id is not None:
            until_ended(context, client.processes.get(id))
        elif is_terminal() and not context.json:
            _all(context, client)
        else:
            for event in client.events():
                _say(context, event)


def _say(context: Context, event: wire.Event) -> None:
    """A line for an event, for programs and pipes."""
    if context.json:
        context.print_json(event)
    elif event.type in ("state", "deleted"):
        write_line(tabbed([_records.stamp(event.time), event.id, event.state or event.type]))


def print_process(context: Context, info: wire.Process) -> None:
    """Everything about one process."""
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


def verdict(context: Context, info: wire.Process, wanted: Collection[State] = (State.SUCCEEDED,)) -> Exit:
    """The exit status of every command that has waited: 0 only when the process came to a state that was waited for.

    Of any other state the reader is told on stderr, and where to look.
    """
    if info.state in wanted:
        return Exit.OK
    why = f": {info.error.message}" if info.error is not None else ""
    context.note(f"{info.id} is {info.state}, not {' or '.join(wanted)}{why}")
    if info.state is State.FAILED:
        context.note(f"holdfast log {info.id} shows what it logged")
    return Exit.FAILED


def until_ended(context: Context, process: Process, timeout: float | None = None) -> None:
    """Show it until it has ended; exit 1 unless it succeeded. Ctrl-C leaves it running.

    With a timeout there is no bar. Raises `WaitTimeout`.
    """
    try:
        if timeout is None:
            follow_process(context, process)
        process.wait(timeout)
    except KeyboardInterrupt:
        context.note(f"{process.id} goes on without being watched; holdfast watch {process.id} shows it again")
        raise
    print_process(context, process.info)
    if code := verdict(context, process.info):
        raise click.exceptions.Exit(code)


def follow_process(context: Context, process: Process) -> None:
    """Events of a process until it has ended: a bar on a terminal, JSON lines where those are asked for."""
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


def _all(context: Context, client: Client) -> None:
    """The table of all that run, kept up to date by the stream of events."""
    board = Board(client)
    context.notice = board.say
    feed = threading.Thread(target=board.feed, daemon=True)
    feed.start()
    with Live(board.render(), console=context.out, auto_refresh=False, screen=True) as live:
        while feed.is_alive():
            live.update(board.render(), refresh=True)
            time.sleep(EVERY)
    if board.failure is not None:
        raise board.failure


class Board:
    """What `holdfast watch` shows. `feed` runs on a thread, `render` on another."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._found: dict[str, wire.Process] = {}
        self.failure: HoldfastError | None = None
        self._notice = ""
        self._refresh()

    def _refresh(self) -> None:
        live = [state for state in State if state not in wire.ENDED]
        found = {process.id: process.info for process in self._client.processes.list(state=live)}
        with self._lock:
            ended = {id: info for id, info in self._found.items() if info.has_ended}
            self._found = {**ended, **found}

    def feed(self) -> None:
        """Follow what happens until the connection is given up."""
        try:
            for event in self._client.events():
                self.take(event)
        except HoldfastError as error:
            self.failure = error

    def say(self, notice: str) -> None:
        """Show a line until something comes."""
        self._notice = notice

    def take(self, event: wire.Event) -> None:
        """Bring one event onto the board."""
        self._notice = ""
        with self._lock:
            known = self._found.get(event.id)
        if event.type == "progress" and known is not None and event.progress is not None:
            with self._lock:
                self._found[event.id] = msgspec.structs.replace(known, progress=event.progress)
        elif event.type in ("state", "deleted"):
            try:
                info = self._client.processes.get(event.id).info
            except NotFound:  # or deleted since
                with self._lock:
                    self._found.pop(event.id, None)
                return
            with self._lock:
                self._found[event.id] = info

    def render(self) -> Group:
        """The table, and how many there are of each state."""
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
