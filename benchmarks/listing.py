"""Listings of a folder of 100,000 files, beside `os.scandir` on the same folder in the same run.

python -m benchmarks.listing --quick
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness import MIB, Bench, Server, figure, main
from benchmarks.transfers import holdfast as server_of
from holdfast import Client
from holdfast.filesystem import HoldfastFileSystem


def seconds(call: Callable[[], object]) -> float:
    """The wall time of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def median(call: Callable[[], object], runs: int) -> float:
    """The median of several calls."""
    return statistics.median(seconds(call) for _ in range(runs))


def memory(server: Server) -> float:
    """MiB that the server has in memory now."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def scanned(folder: Path) -> list[tuple[str, int]]:
    """The least that a listing has to do: names and sizes, sorted."""
    with os.scandir(folder) as entries:
        return sorted((entry.name, entry.stat(follow_symlinks=False).st_size) for entry in entries)


def count(found: Sequence[object], wanted: int) -> None:
    """Refuse a figure of the wrong listing."""
    if len(found) != wanted:
        raise RuntimeError(f"{len(found)} in place of {wanted} names were listed")


@figure("folder", "100,000 files in one folder: walked, and the level above it")
def folder(bench: Bench) -> None:
    """The first walk finds a folder that was just filled, so that its order can't be kept at once."""
    files = bench.size(100_000, 10_000)
    many = bench.folder / "files" / "many"
    many.mkdir(parents=True)
    for number in range(files):
        (many / f"part-{number:06d}.bin").touch()
    with server_of(bench.folder) as server, Client(f"http://127.0.0.1:{server.port}") as client:
        fs = HoldfastFileSystem(client.base_url, skip_instance_cache=True)
        before = memory(server)
        above = seconds(lambda: count(fs.ls(""), 1))
        first = seconds(lambda: count([*client.files.list("many/")], files))
        grown = memory(server) - before
        bench.tell("os.scandir, stat and sort", median(lambda: count(scanned(many), files), bench.runs), "s")
        bench.at_most("fs.ls of the level above, at first", above, 0.2, "s")
        bench.at_most("fs.ls of the level above", median(lambda: count(fs.ls(""), 1), bench.runs), 0.2, "s")
        bench.at_most("files.list, at first", first, 5, "s")
        walked = median(lambda: count([*client.files.list("many/")], files), bench.runs)
        bench.at_most("files.list", walked, 5, "s")
        bench.at_most("fs.ls of the folder", median(lambda: count(fs.ls("many"), files), bench.runs), 5, "s")
        page = median(lambda: next(client.files.list("many/part-0", page_size=100)), 5 * bench.runs)
        bench.at_most("a page of 100", 1000 * page, 100, "ms")
        bench.at_most("memory of the server: growth by one walk", grown, 32, "MiB")
        bench.at_most("memory of the server: growth by all that followed", memory(server) - before - grown, 8, "MiB")


if __name__ == "__main__":
    sys.exit(main(__name__, "Listings"))
