"""`cat`, and `download --to -`: the bytes of a file on standard output."""

from __future__ import annotations

import hashlib
import sys
import time

import click

from holdfast import digests
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
    known = info.etag == reading.etag
    by_blocks = digests.BlockHasher() if known and info.block_digest is not None and digests.AVAILABLE else None
    sha256 = hashlib.sha256() if known and info.sha256 is not None and by_blocks is None else None
    while data := core.run(reading.read(throttle.piece(PIECE))):
        sys.stdout.buffer.write(data)
        if by_blocks is not None:
            by_blocks.feed([data])
        elif sha256 is not None:
            sha256.update(data)
        if wait := throttle.delay(len(data)):
            time.sleep(wait)
    sys.stdout.buffer.flush()
    if by_blocks is not None and by_blocks.result().hex() != info.block_digest:
        raise _wrong(name, "block digest", by_blocks.result().hex(), info.block_digest)
    if sha256 is not None and sha256.hexdigest() != info.sha256:
        raise _wrong(name, "SHA-256", sha256.hexdigest(), info.sha256)


def _wrong(name: str, what: str, found: str, expected: str | None) -> DigestMismatch:
    return DigestMismatch(f"the bytes written of {name!r} have {what} {found}, not {expected}. Run the command again")


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=file_names)
@command
def cat(context: Context, names: tuple[str, ...]) -> None:
    """Write files to standard output, one after the other. A broken connection is resumed at the same byte."""
    with context.client() as client:
        for name in names:
            write_to_stdout(context, client, name)


COMMANDS = (cat,)
