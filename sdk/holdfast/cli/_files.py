"""`upload`, `download`, `ls`, `rm`, `transfers`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import click
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from holdfast._local_files.pipes import PipeReader, comes_once, is_of_this_process
from holdfast._local_files.records import ResumeRecord
from holdfast._local_files.walk import Links, in_one_line
from holdfast._sync.client import Client
from holdfast._transfers.folder import SentFolder
from holdfast._transfers.handles import Transfer, TransferState
from holdfast.cli._cat import write_out
from holdfast.cli._completion._offers import file_names, pending_names
from holdfast.cli._context import Context, Exit, command, report
from holdfast.cli._printing import _records
from holdfast.cli._printing._output import write_records
from holdfast.errors import APIError, Forbidden, HoldfastError, NotFound, ServerError, Unauthorized, WaitTimeout

Begin = Callable[[], Transfer[Any]]

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


class Size(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases
    """Bytes, with k, M or G for thousands, millions and thousands of millions."""

    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip().lower().removesuffix("b").removesuffix("/s").removesuffix("b")
        number, unit = (text[:-1], text[-1]) if text[-1:] in ("k", "m", "g") else (text, "")
        try:
            found = float(number) * UNITS[unit]
        except ValueError:
            found = 0.0
        if not found > 0:
            self.fail(f"{value!r} is not a size such as 500k or 2.5M", param, ctx)
        return found


overwrite = click.option("--overwrite", is_flag=True, help="Replace another file that is there.")
restart = click.option("--restart", is_flag=True, help="Begin at byte 0, whatever there is.")
allow_dangerous = click.option(
    "--allow-dangerous",
    is_flag=True,
    help="Let files land where programs run or trust them, such as .bashrc and .ssh/ in a home folder.",
)
segments = click.option(
    "--segments",
    type=click.IntRange(1, 64),
    help="Connections at once for a file; of a folder some files go at once in any case.  [as many as pay]",
)
limit = click.option("--limit", type=Size(), help="Bytes a second at most, such as 2M.")


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(allow_dash=True))
@click.option(
    *("--to", "--name", "to"),
    default="",
    help="The name there; with several paths or a folder, what names begin with.",
    shell_complete=file_names,
)
@click.option(
    "--links",
    type=click.Choice(get_args(Links)),
    default="inside",
    show_default=True,
    help="Symbolic links in a folder: follow those that stay inside it, all, none; or any is an error.",
)
@overwrite
@restart
@segments
@limit
@command
def upload(
    context: Context,
    paths: tuple[str, ...],
    to: str,
    links: Links,
    overwrite: bool,
    restart: bool,
    segments: int | None,
    limit: float | None,
) -> None:
    """Send files or folders. What was sent before a cut or Ctrl-C is not sent again.

    What comes once, - for the standard input, /dev/stdin, a FIFO or <(COMMAND), is sent as it comes.
    """
    with context.client() as client:
        for path in paths:
            stream = _stream_at(path)
            if (path == "-" or is_of_this_process(path)) and (not to or to.endswith("/") or len(paths) > 1):
                what = "the standard input" if path == "-" else path
                raise click.UsageError(f"{what} needs a name: --to NAME, and to be sent alone")
            if stream is not None:
                name = (to if to and not to.endswith("/") else to + Path(path).name).removeprefix("/")
                pieces = stream.pieces()
                begin: Begin = partial(client.files.upload, pieces, name, overwrite=overwrite, limit=limit)
            elif path == "-":
                begin = partial(client.files.upload, sys.stdin.buffer, to, overwrite=overwrite, limit=limit)
            elif Path(path).is_dir():
                prefix = to or os.path.basename(os.path.abspath(path))
                begin = partial(
                    client.files.upload_folder,
                    path,
                    prefix,
                    overwrite=overwrite,
                    restart=restart,
                    links=links,
                    limit=limit,
                )
            else:
                name = to if to and len(paths) == 1 and not to.endswith("/") else to.rstrip("/") + "/" + Path(path).name
                options: dict[str, Any] = {"overwrite": overwrite, "restart": restart, "segments": segments}
                begin = partial(client.files.upload, path, name.removeprefix("/"), limit=limit, **options)
            give_up = stream.give_up if stream is not None else None
            _print_result(context, _carry(context, begin, again=path != "-" and stream is None, give_up=give_up))


def _stream_at(path: str) -> StandardStream | None:
    """A path, or - for the standard input, that can be read once alone; None for another. Raises `OSError`."""
    if path != "-":
        return StandardStream(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) if comes_once(path) else None
    try:
        number = sys.stdin.fileno()
    except (OSError, ValueError):  # not a file, or closed
        return None
    return StandardStream(os.dup(number)) if comes_once(f"/dev/fd/{number}") else None


class StandardStream(PipeReader):
    """A descriptor of its own, closed when it is no longer needed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        weakref.finalize(self, os.close, number)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=file_names)
@click.option(
    "--to",
    type=click.Path(allow_dash=True),
    help="A file or folder; with several names a folder; - is the standard output.  [the working directory]",
)
@click.option("--folder", is_flag=True, help="The names are folders: fetch all that is in them.")
@overwrite
@restart
@allow_dangerous
@segments
@limit
@command
def download(
    context: Context,
    names: tuple[str, ...],
    to: str | None,
    folder: bool,
    overwrite: bool,
    restart: bool,
    allow_dangerous: bool,
    segments: int | None,
    limit: float | None,
) -> None:
    """Fetch files. What came before a cut, a crash or Ctrl-C is not fetched again; two versions are never mixed."""
    if to == "-":
        _write_out(context, names, folder, limit)
        return
    if to and len(names) > 1:
        to += "/"
    options: dict[str, Any] = {
        "overwrite": overwrite,
        "restart": restart,
        "allow_dangerous": allow_dangerous,
        "limit": limit,
    }
    with context.client() as client:
        for name in names:
            if folder or name.endswith("/"):
                begin: Begin = partial(client.files.download_folder, name, to, **options)
            else:
                begin = partial(client.files.download, name, to, segments=segments, **options)
            _print_result(context, _carry(context, begin))


def _write_out(context: Context, names: tuple[str, ...], folder: bool, limit: float | None) -> None:
    """`download --to -`."""
    if folder or any(name.endswith("/") for name in names):
        raise click.UsageError("a folder can't go to the standard output: name files")
    with context.client() as client:
        for name in names:
            write_out(context, client, name, limit)


@click.command()
@click.argument("prefix", default="", shell_complete=file_names)
@click.option("-n", "--limit", "most", type=click.IntRange(min=1), help="At most so many.")
@click.option("--level", is_flag=True, help="One level: the files in the folder PREFIX, and its folders with a slash.")
@command
def ls(context: Context, prefix: str, most: int | None, level: bool) -> None:
    """List the server's files whose names begin with PREFIX."""
    with context.client() as client:
        found = islice(client.files.list_folder(prefix) if level else client.files.list(prefix), most)
        if not write_records(context.out, _records.FILES, found, as_json=context.json):
            context.note("There are no files, or none of such a name.")


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=file_names)
@click.option("-r", "--recursive", is_flag=True, help="The names are folders: remove all that is in them.")
@command
def rm(context: Context, names: tuple[str, ...], recursive: bool) -> None:
    """Remove files from the server. One that can't be removed does not keep the others."""
    codes: list[Exit] = []
    with context.client() as client:
        for name in names:
            try:
                found = _in_folder(client, name) if recursive else [name]
            except NotFound as error:
                codes.append(report(context, error, name=name))
                continue
            for each in found:
                try:
                    client.files.delete(each)
                except APIError as error:
                    if isinstance(error, (Unauthorized, Forbidden, ServerError)):  # so would the others be
                        raise
                    codes.append(report(context, error, name=each))
                    if not recursive and next(iter(client.files.list(_as_folder(name), page_size=1)), None):
                        context.note(f"{name} is a folder: holdfast rm -r {name} removes all that is in it")
                else:
                    _print_result(context, {"name": each})
    if codes:
        raise click.exceptions.Exit(codes[0])


def _as_folder(name: str) -> str:
    return name.rstrip("/") + "/"


def _in_folder(client: Client, name: str) -> list[str]:
    """Names of all files in a folder. Raises `NotFound` when there are none."""
    prefix = _as_folder(name)
    if prefix == "/":
        raise click.UsageError("rm -r takes the name of a folder, and would remove everything without one")
    found = [file.name for file in client.files.list(prefix)]
    if not found:
        raise NotFound(404, "No such folder", f"there is no file in {prefix}")
    return found


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=pending_names)
@click.option("--resume", "verb", flag_value="resume", help="Go on with them, one after the other.")
@click.option("--cancel", "verb", flag_value="cancel", help="Give them up, here and on the server.")
@command
def transfers(context: Context, names: tuple[str, ...], verb: str | None) -> None:
    """Transfers from this machine that were begun and are not over: all, or those of the files that are named."""
    with context.client() as client:
        wanted = {name.rstrip("/") for name in names}
        found = [r for r in client.transfers.pending() if not names or r.name.rstrip("/") in wanted]
        if verb is not None and found:
            _go_over(context, client, found, verb)
        elif context.json:
            for record in found:
                context.print_json(_brief(record))
        elif write_records(context.out, _records.TRANSFERS, found, as_json=False):
            context.note("holdfast transfers --resume goes on with them, --cancel gives them up")
        else:
            context.note("Nothing is pending.")


def _go_over(context: Context, client: Client, found: list[ResumeRecord], verb: str) -> None:
    """Resume or cancel all. One that can't be does not keep the others from it; it decides the exit code."""
    codes: list[Exit] = []
    for record in found:
        try:
            if verb == "resume":
                _print_result(context, _carry(context, partial(client.transfers.resume, record)))
            else:
                client.transfers.cancel(record)
                _print_result(context, _brief(record))
                context.note(f"{record.name}  {record.kind} given up")
        except BrokenPipeError:  # whoever reads what is printed has gone
            raise
        except (HoldfastError, OSError) as error:
            codes.append(report(context, error, name=record.name))
    if codes:
        raise click.exceptions.Exit(codes[0])


def _print_result(context: Context, result: Any) -> None:
    """Result for one of several, for programs; people have been told."""
    if context.json:
        context.print_json(result)


def _brief(record: ResumeRecord) -> dict[str, Any]:
    return {
        "kind": record.kind,
        "name": record.name,
        "path": record.path,
        "folder": record.folder,
        "size": record.size,
        "begun": record.created,
    }


def _carry(context: Context, begin: Begin, *, again: bool = True, give_up: Callable[[], None] | None = None) -> Any:
    """Begin a transfer and show it until it is over; what came of it.

    Ctrl-C pauses it, or ends what can't be gone on with again. `give_up` lets a source stop waiting for more.
    """
    transfer: Transfer[Any] | None = None
    while True:
        try:
            if transfer is None:
                with _interrupts_held():
                    transfer = begin()
            with _bar(context, transfer) as move:
                while True:
                    move()
                    try:
                        result = transfer.wait(0.1)
                        break
                    except WaitTimeout:
                        continue
            context.note(f"{transfer.name}  {transfer.kind} done")
            if isinstance(result, SentFolder) and result.reasons:
                context.note(f"{transfer.name}  {in_one_line(result.reasons.items())}")
            return result
        except KeyboardInterrupt:
            if give_up is not None:
                give_up()
            if transfer is None:
                raise
            transfer.pause()
            if transfer.state is TransferState.SUCCEEDED:
                context.note(f"{transfer.name}  {transfer.kind} done")
                raise
            if not again:
                transfer.cancel()
                context.note(f"{transfer.name}: given up; what comes only once can't be gone on with")
                raise
            _ask_whether_to_go_on(context, transfer)
            transfer.resume()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C come a moment later: a transfer that has begun is one that it pauses, and that a hint tells of."""
    held: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield  # whoever runs this has a way of his own
        return
    signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


def _ask_whether_to_go_on(context: Context, transfer: Transfer[Any]) -> None:
    """Return to go on at once; else exit, having said how to go on later."""
    share = transfer.progress.fraction
    at = "" if share is None else f" at {share:.0%}"
    later = (
        "the same command, or holdfast transfers --resume, goes on from there"
        if transfer._job.is_recorded()
        else "nothing of it is kept yet, and the same command begins again"
    )
    if context.json:
        problem = {"error": "Interrupted", "message": f"paused{at}; {later}", "exit_code": int(Exit.INTERRUPTED)}
        context.print_problem({**problem, "kind": transfer.kind, "name": transfer.name})
        raise click.exceptions.Exit(Exit.INTERRUPTED)
    if not (sys.stdin.isatty() and context.err.is_terminal):
        context.err.print(f"{transfer.name}: paused{at}; {later}", markup=False, soft_wrap=True)
        raise click.exceptions.Exit(Exit.INTERRUPTED)
    context.err.print(f"\nPaused{at}. Enter goes on; Ctrl-C again stops ({later}).", markup=False, soft_wrap=True)
    try:
        sys.stdin.readline()
    except KeyboardInterrupt:
        raise click.exceptions.Exit(Exit.INTERRUPTED) from None


@contextmanager
def _bar(context: Context, transfer: Transfer[Any]) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; what comes from it brings it up to date."""
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

        def move() -> None:
            progress = transfer.progress
            if progress.total and progress.done >= progress.total:  # all is there; its digest is made, or the file
                bar.update(task, description=f"{transfer.name}: checking", completed=0, total=None)
            else:
                bar.update(task, description=transfer.name, completed=progress.done, total=progress.total)

        yield move


COMMANDS = (upload, download, ls, rm, transfers)
