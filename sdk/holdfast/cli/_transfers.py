"""`transfers`, and the run of one transfer: its progress bar, Ctrl-C, and what is printed at the end."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from holdfast._local_files.records import ResumeRecord
from holdfast._local_files.walk import in_one_line
from holdfast._sync.client import Client
from holdfast._transfers.folder.upload import SentFolder
from holdfast._transfers.handles import Transfer, TransferState
from holdfast.cli._completion._offers import pending_names
from holdfast.cli._context import Context, Exit, command, report
from holdfast.cli._printing import _records
from holdfast.cli._printing._output import write_records
from holdfast.errors import HoldfastError, WaitTimeout

Begin = Callable[[], Transfer[Any]]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=pending_names)
@click.option("--resume", "verb", flag_value="resume", help="Resume them, one after the other.")
@click.option("--cancel", "verb", flag_value="cancel", help="Cancel them, here and on the server.")
@command
def transfers(context: Context, names: tuple[str, ...], verb: str | None) -> None:
    """List unfinished transfers of this machine: all, or those of the named files."""
    with context.client() as client:
        wanted = {name.rstrip("/") for name in names}
        found = [r for r in client.transfers.pending() if not names or r.name.rstrip("/") in wanted]
        if verb is not None and found:
            _apply_to_each(context, client, found, verb)
        elif context.json:
            for record in found:
                context.print_json(_summary(record))
        elif write_records(context.out, _records.TRANSFERS, found, as_json=False):
            context.note("To continue: holdfast transfers --resume. To give up: holdfast transfers --cancel.")
        else:
            context.note("There are no unfinished transfers.")


def _apply_to_each(context: Context, client: Client, found: list[ResumeRecord], verb: str) -> None:
    """Resume or cancel all. If one fails, the others go on, and its error decides the exit code."""
    codes: list[Exit] = []
    for record in found:
        try:
            if verb == "resume":
                print_result(context, run_transfer(context, partial(client.transfers.resume, record)))
            else:
                client.transfers.cancel(record)
                print_result(context, _summary(record))
                context.note(f"{record.name}  {record.kind} cancelled")
        except BrokenPipeError:  # the reader of the output has closed the pipe
            raise
        except (HoldfastError, OSError) as error:
            codes.append(report(context, error, name=record.name))
    if codes:
        raise click.exceptions.Exit(codes[0])


def print_result(context: Context, result: Any) -> None:
    """Print the result of one transfer as JSON. Without --json a note was printed already."""
    if context.json:
        context.print_json(result)


def _summary(record: ResumeRecord) -> dict[str, Any]:
    return {
        "kind": record.kind,
        "name": record.name,
        "path": record.path,
        "folder": record.folder,
        "size": record.size,
        "begun": record.created,
    }


def run_transfer(
    context: Context, begin: Begin, *, resumable: bool = True, stop_reading: Callable[[], None] | None = None
) -> Any:
    """Start a transfer, show it until it ends, and return its result.

    Ctrl-C pauses it, or cancels one that is not resumable. `stop_reading` ends the wait for more input.
    """
    transfer: Transfer[Any] | None = None
    while True:
        try:
            if transfer is None:
                with _defer_interrupts():
                    transfer = begin()
            with _progress_bar(context, transfer) as refresh:
                while True:
                    refresh()
                    try:
                        result = transfer.wait(0.1)
                        break
                    except WaitTimeout:
                        continue
            context.note(f"{transfer.name}  {transfer.kind} done{_what_was_sent(transfer)}")
            if isinstance(result, SentFolder) and result.reasons:
                context.note(f"{transfer.name}  {in_one_line(result.reasons.items())}")
            return result
        except KeyboardInterrupt:
            if stop_reading is not None:
                stop_reading()
            if transfer is None:
                raise
            transfer.pause()
            if transfer.state is TransferState.SUCCEEDED:
                context.note(f"{transfer.name}  {transfer.kind} done")
                raise
            if not resumable:
                transfer.cancel()
                context.note(f"{transfer.name}: cancelled, because a stream can't be resumed")
                raise
            _ask_to_continue(context, transfer)
            transfer.resume()


def _what_was_sent(transfer: Transfer[Any]) -> str:
    """Return how much of an upload was sent, if the server had the rest."""
    done = transfer.progress.done
    if transfer.kind != "upload" or transfer.sent >= done:
        return ""
    return f", sent {decimal(transfer.sent)} of {decimal(done)}"


@contextmanager
def _defer_interrupts() -> Iterator[None]:
    """Defer Ctrl-C until the transfer has started, so that it can be paused and resumed."""
    held: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield  # the caller handles the signal itself
        return
    signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


def _ask_to_continue(context: Context, transfer: Transfer[Any]) -> None:
    """Ask whether to continue now. Return to continue, else say how to resume later, and exit."""
    share = transfer.progress.fraction
    at = "" if share is None else f" at {share:.0%}"
    later = (
        "the same command, or holdfast transfers --resume, continues from there"
        if transfer._job.is_recorded()
        else "nothing is kept yet, so the same command starts again"
    )
    if context.json:
        problem = {"error": "Interrupted", "message": f"paused{at}; {later}", "exit_code": int(Exit.INTERRUPTED)}
        context.print_problem({**problem, "kind": transfer.kind, "name": transfer.name})
        raise click.exceptions.Exit(Exit.INTERRUPTED)
    if not (sys.stdin.isatty() and context.err.is_terminal):
        context.err.print(f"{transfer.name}: paused{at}; {later}", markup=False, soft_wrap=True)
        raise click.exceptions.Exit(Exit.INTERRUPTED)
    context.err.print(
        f"\nPaused{at}. Press Enter to continue, or Ctrl-C again to stop ({later}).", markup=False, soft_wrap=True
    )
    try:
        sys.stdin.readline()
    except KeyboardInterrupt:
        raise click.exceptions.Exit(Exit.INTERRUPTED) from None


@contextmanager
def _progress_bar(context: Context, transfer: Transfer[Any]) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal. Yield the function that updates it."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    shown = not context.json and context.err.is_terminal
    with Progress(*columns, console=context.err, disable=not shown, transient=True) as bar:
        task = bar.add_task(transfer.name, total=None)

        def refresh() -> None:
            progress = transfer.progress
            if progress.total and progress.done >= progress.total:  # all bytes are there; the digest is computed
                bar.update(task, description=f"{transfer.name}: checking", completed=0, total=None)
            else:
                bar.update(task, description=transfer.name, completed=progress.done, total=progress.total)

        yield refresh


COMMANDS = (transfers,)
