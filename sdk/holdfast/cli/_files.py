"""`upload`, `download`, `ls` and `rm`."""

from __future__ import annotations

import os
import sys
import weakref
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import click

from holdfast import calls
from holdfast._local_files.pipes import PipeReader, is_of_this_process, is_stream
from holdfast._local_files.walk import Links
from holdfast._sync.client import Client
from holdfast.cli._cat import write_to_stdout
from holdfast.cli._completion._offers import file_names
from holdfast.cli._context import Context, Exit, command, report
from holdfast.cli._printing import _records
from holdfast.cli._printing._output import write_records
from holdfast.cli._transfers import Begin, print_result, run_transfer
from holdfast.errors import APIError, Forbidden, NotFound, ServerError, Unauthorized

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


class Size(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases
    """Number of bytes, with k, M or G for thousands, millions and thousands of millions."""

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


overwrite = click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
restart = click.option("--restart", is_flag=True, help="Start at byte 0, even if a part was transferred before.")
allow_dangerous = click.option(
    "--allow-dangerous",
    is_flag=True,
    help="Allow paths that programs run or trust, such as .bashrc and .ssh/ in a home folder.",
)
segments = click.option(
    "--segments",
    type=click.IntRange(1, 64),
    help="Connections for one file. A folder always transfers several files at once.  [chosen by measuring]",
)
limit = click.option("--limit", type=Size(), help="Most bytes a second, such as 2M.")


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(allow_dash=True))
@click.option(
    *("--to", "--name", "to"),
    default="",
    help="The name on the server. With several paths or a folder: the folder on the server.",
    shell_complete=file_names,
)
@click.option(
    "--links",
    type=click.Choice(get_args(Links)),
    default="inside",
    show_default=True,
    help="Symbolic links in a folder: follow those that stay inside it, follow all, skip all, or fail.",
)
@overwrite
@restart
@click.option(
    "--delta",
    is_flag=True,
    help="Replace the published version, and send only the blocks that differ from it.",
)
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
    delta: bool,
    segments: int | None,
    limit: float | None,
) -> None:
    """Upload files or folders. After a broken connection or Ctrl-C the same command continues.

    A PATH may be a stream: - for standard input, /dev/stdin, a FIFO or <(COMMAND). A stream can't be resumed later.
    """
    with context.client() as client:
        for path in paths:
            stream = _open_stream(path)
            if (path == "-" or is_of_this_process(path)) and (not to or to.endswith("/") or len(paths) > 1):
                what = "standard input" if path == "-" else path
                raise click.UsageError(f"{what} needs a name: --to NAME. Upload it alone")
            if delta and (path == "-" or stream is not None):
                raise click.UsageError(f"{path} is a stream, which can't be compared. Upload it without --delta")
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
                    delta=delta,
                    links=links,
                    limit=limit,
                )
            else:
                name = to if to and len(paths) == 1 and not to.endswith("/") else to.rstrip("/") + "/" + Path(path).name
                options: dict[str, Any] = {"overwrite": overwrite, "restart": restart, "delta": delta}
                options |= {"segments": segments, "limit": limit}
                begin = partial(client.files.upload, path, name.removeprefix("/"), **options)
            stop_reading = stream.interrupt if stream is not None else None
            print_result(
                context,
                run_transfer(context, begin, resumable=path != "-" and stream is None, stop_reading=stop_reading),
            )


def _open_stream(path: str) -> StandardStream | None:
    """Open a path, or - for standard input, if it can be read only once. Else return None. Raises `OSError`."""
    if path != "-":
        return StandardStream(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) if is_stream(path) else None
    try:
        number = sys.stdin.fileno()
    except (OSError, ValueError):  # not a file, or closed
        return None
    return StandardStream(os.dup(number)) if is_stream(f"/dev/fd/{number}") else None


class StandardStream(PipeReader):
    """Stream with a file descriptor of its own, which is closed when the stream is collected."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        weakref.finalize(self, os.close, number)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=file_names)
@click.option(
    "--to",
    type=click.Path(allow_dash=True),
    help="A file or folder; with several names a folder; - for standard output.  [the working directory]",
)
@click.option("--folder", is_flag=True, help="The names are folders: download all files in them.")
@click.option(
    "--archive", type=click.Choice(["zip", "tar"]), help="The names are folders: download each as one such archive."
)
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
    archive: calls.ArchiveFormat | None,
    overwrite: bool,
    restart: bool,
    allow_dangerous: bool,
    segments: int | None,
    limit: float | None,
) -> None:
    """Download files. After a broken connection, a crash or Ctrl-C the same command continues.

    Bytes of two versions of a file are never mixed.
    """
    if archive and (folder or to == "-"):
        raise click.UsageError(f"--archive goes with neither --folder nor --to -. Name a file: --to FOLDER.{archive}")
    if to == "-":
        _to_stdout(context, names, folder, limit)
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
            if archive:
                more = {**options, "segments": segments, "format": archive}
                begin: Begin = partial(client.files.download_archive, name, to, **more)
            elif folder or name.endswith("/"):
                begin = partial(client.files.download_folder, name, to, **options)
            else:
                begin = partial(client.files.download, name, to, segments=segments, **options)
            print_result(context, run_transfer(context, begin))


def _to_stdout(context: Context, names: tuple[str, ...], folder: bool, limit: float | None) -> None:
    """Write the files to standard output, for `download --to -`."""
    if folder or any(name.endswith("/") for name in names):
        raise click.UsageError("a folder can't be written to standard output. Name files")
    with context.client() as client:
        for name in names:
            write_to_stdout(context, client, name, limit)


@click.command()
@click.argument("prefix", default="", shell_complete=file_names)
@click.option("-n", "--limit", "most", type=click.IntRange(min=1), help="Most files to list.")
@click.option("--level", is_flag=True, help="One level: the files in the folder PREFIX, and its folders with a slash.")
@command
def ls(context: Context, prefix: str, most: int | None, level: bool) -> None:
    """List the server's files whose names begin with PREFIX."""
    with context.client() as client:
        found = islice(client.files.list_folder(prefix) if level else client.files.list(prefix), most)
        if not write_records(context.out, _records.FILES, found, as_json=context.json):
            context.note("No file matches.")


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=file_names)
@click.option("-r", "--recursive", is_flag=True, help="The names are folders: remove all files in them.")
@command
def rm(context: Context, names: tuple[str, ...], recursive: bool) -> None:
    """Remove files from the server. If one can't be removed, the others are removed nevertheless."""
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
                    if isinstance(error, (Unauthorized, Forbidden, ServerError)):  # the others would fail too
                        raise
                    codes.append(report(context, error, name=each))
                    if not recursive and next(iter(client.files.list(_as_folder(name), page_size=1)), None):
                        context.note(f"{name} is a folder. To remove all files in it: holdfast rm -r {name}")
                else:
                    print_result(context, {"name": each})
    if codes:
        raise click.exceptions.Exit(codes[0])


def _as_folder(name: str) -> str:
    return name.rstrip("/") + "/"


def _in_folder(client: Client, name: str) -> list[str]:
    """Return the names of all files in a folder. Raises `NotFound` if there are none."""
    prefix = _as_folder(name)
    if prefix == "/":
        raise click.UsageError("rm -r needs the name of a folder: without one it would remove all files")
    found = [file.name for file in client.files.list(prefix)]
    if not found:
        raise NotFound(404, "No such folder", f"there is no file in {prefix}")
    return found


COMMANDS = (upload, download, ls, rm)
