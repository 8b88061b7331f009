"""`sha256`: the digests of the server's files, in the format of sha256sum."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from holdfast import wire
from holdfast._sync.client import Client
from holdfast.cli._completion._offers import file_names
from holdfast.cli._context import Context, Exit, command, report
from holdfast.cli._printing._output import escaped, is_terminal
from holdfast.digests.checksum_lines import checksum_line
from holdfast.errors import APIError, Forbidden, HoldfastError, NotFound, ServerError, Unauthorized


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=file_names)
@click.option("-r", "--recursive", is_flag=True, help="The names are folders: print the digests of all files in them.")
@command
def sha256(context: Context, names: tuple[str, ...], recursive: bool) -> None:
    """Print the SHA-256 of files, as sha256sum does: sha256sum -c reads it. The server makes what it does not have.

    A name that ends in a slash is a folder, too.
    """
    codes: list[Exit] = []
    with context.client() as client:
        for name in names:
            try:
                for file in _files(client, name, recursive or name.endswith("/")):
                    codes += _print(context, client, file)
            except APIError as error:
                if isinstance(error, (Unauthorized, Forbidden, ServerError)):  # the others would fail too
                    raise
                codes.append(report(context, error, name=name))
    if codes:
        raise click.exceptions.Exit(codes[0])


def _files(client: Client, name: str, is_folder: bool) -> Iterator[wire.FileInfo]:
    """Iterate over a file, or all files in a folder. Raises `NotFound` if there is none."""
    if not is_folder:
        yield client.files.info(name, sha256=True)
        return
    folder = name.rstrip("/")
    prefix = folder and f"{folder}/"  # "/" is the top
    found = False
    for file in client.files.list(prefix):
        found = True
        yield file
    if not found:
        raise NotFound(404, "No such folder", f"there is no file in {prefix or '/'}")


def _print(context: Context, client: Client, file: wire.FileInfo) -> list[Exit]:
    """Print one line, for which the server may have to make the digest; return the exit code if there is none."""
    try:
        if file.sha256 is None:
            file = client.files.info(file.name, sha256=True)
        if file.sha256 is None:
            raise HoldfastError(
                f"the SHA-256 of {file.name} is not made. "
                "Start the server without --no-digest-uploads, or see in its log why it can't read the file"
            )
    except (NotFound, HoldfastError) as error:
        if isinstance(error, APIError) and not isinstance(error, NotFound):
            raise
        return [report(context, error, name=file.name)]
    if context.json:
        context.print_json(file)
        return []
    line = checksum_line(file.sha256, file.name)
    text = escaped(line[:-1]) + "\n" if is_terminal() else line
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()
    return []


COMMANDS = (sha256,)
