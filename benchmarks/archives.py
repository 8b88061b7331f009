"""A folder as one archive, beside the plain download of a file of the same size in the same run.

python -m benchmarks.archives --quick
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import GIB, MIB, Bench, Sample, Server, alternate, figure, main, timed, tool
from benchmarks.transfers import fill, running
from benchmarks.transfers import holdfast as server_of

FILES = 10_000


@figure("download", "a folder of 10,000 files as zip and tar, 1 GiB")
def download(bench: Bench) -> None:
    """The first zip reads every file for its CRC-32; it is told by itself, and those after it are compared."""
    ours = server_of(bench.folder)
    size, count = bench.size(GIB, 128 * MIB), bench.size(FILES, FILES // 8)
    fill(bench.folder / "files" / "one.bin", size)
    fill_folder(bench.folder / "files" / "many", count, size // count)
    curl = tool("curl")

    def fetch(path: str) -> Callable[[], Sample]:
        command = [curl, "-sf", "-o", "/dev/null", ours.url + path]
        return lambda: timed(lambda: subprocess.run(command, check=True), ours)

    with running(ours):
        plain, zipped, tarred = (
            fetch("/v1/files/one.bin"),
            fetch("/v1/archives/many.zip"),
            fetch("/v1/archives/many.tar"),
        )
        plain()
        before = memory(ours)
        first = zipped()
        taken = alternate({"one file": plain, "zip": zipped, "tar": tarred}, bench.runs)
        grown = memory(ours) - before
        head = timed(
            lambda: subprocess.run([curl, "-sfI", "-o", "/dev/null", f"{ours.url}/v1/archives/many.zip"]), ours
        )
    bench.samples(taken)
    bench.tell("first zip, with all CRC-32: server CPU", first.cpu, "s")
    bench.tell("HEAD of the zip, the plan alone: server CPU", head.cpu, "s")
    bench.at_most("zip: CPU, share of one file's", taken["zip"].cpu / taken["one file"].cpu, 1.5)
    bench.at_most("tar: CPU, share of one file's", taken["tar"].cpu / taken["one file"].cpu, 1.5)
    bench.at_most("memory of the server: growth", grown, 32, "MiB")


def fill_folder(folder: Path, count: int, size: int) -> None:
    """Write files of one size, a hundred in a folder."""
    content = random.Random(1).randbytes(size)
    for number in range(count):
        path = folder / f"{number // 100:03d}" / f"{number:06d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def memory(server: Server) -> float:
    """MiB that the server has in memory now."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


if __name__ == "__main__":
    sys.exit(main(__name__, "Archives"))
