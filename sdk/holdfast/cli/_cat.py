"""The bytes of a file on the standard output: `cat`, and `download --to -`."""

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


def write_out(context: Context, client: Client, name: str, limit: float | None = None) -> None:
    """Write a file on the standard output, going on where it stood after every cut.

    Raises:
        RemoteChanged: it was replaced meanwhile; what has been written is of the version that was there.
        DigestMismatch: what was written is not what the server has.
    """
    if context.json:
        raise click.UsageError("the bytes go to the standard output, where --json would, too: give one of them")
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
        raise DigestMismatch(f"what was written of {name!r} has SHA-256 {digest.hexdigest()}, and not {sha256}")


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=file_names)
@command
def cat(context: Context, names: tuple[str, ...]) -> None:
    """Write files on the standard output, one after the other; a cut costs nothing that has come."""
    with context.client() as client:
        for name in names:
            write_out(context, client, name)


COMMANDS = (cat,)
