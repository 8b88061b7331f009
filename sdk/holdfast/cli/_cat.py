"""`cat`, and `download --to -`: the bytes of a file on standard output."""

from __future__ import annotations

import hashlib
import sys
import time

import click

from holdfast._sync.client import Client
from holdfast._transfers.pace import Throttle
from holdfast._transfers.reader import Reading
from holdfast.cli._completion._offers import file_names
from holdfast.cli._context import Context, command
from holdfast.errors import DigestMismatch

PIECE = 1 << 20


def write_to_stdout(context: Context, client: Client, name: str, limit: float | None = None) -> None:
    """Write a file to standard output. After a broken connection it continues at the same byte.

    Raises:
        RemoteChanged: the file was replaced meanwhile. The bytes written are from the first version.
        DigestMismatch: the bytes written differ from the file of the server.
    """
    if context.json:
        raise click.UsageError("--json can't be used here: the bytes go to standard output. Leave it out")
    core = client._core
    reading, throttle = Reading(name, core.patience), Throttle(limit)
    core.run(reading.open())
    info = client.files.info(name)
    sha256 = info.sha256 if info.etag == reading.etag else None
    digest = hashlib.sha256()
    while data := core.run(reading.read(throttle.piece(PIECE))):
        sys.stdout.buffer.write(data)
        digest.update(data)
        if wait := throttle.delay(len(data)):
            time.sleep(wait)
    sys.stdout.buffer.flush()
    if sha256 is not None and digest.hexdigest() != sha256:
        found = digest.hexdigest()
        raise DigestMismatch(f"the bytes written of {name!r} have SHA-256 {found}, not {sha256}. Run the command again")


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=file_names)
@command
def cat(context: Context, names: tuple[str, ...]) -> None:
    """Write files to standard output, one after the other. A broken connection is resumed at the same byte."""
    with context.client() as client:
        for name in names:
            write_to_stdout(context, client, name)


COMMANDS = (cat,)
