"""Folders of many small files: `holdfast` beside `curl --parallel` with 8 connections, against the same server.

python -m benchmarks.folders --only memory

Every run uploads under a prefix of its own, so that none replaces what another has left.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

from benchmarks.harness import Bench, Sample, alternate, figure, main, tool
from benchmarks.sdk import by, by_program, records_in, tell
from benchmarks.transfers import holdfast as server_of
from benchmarks.transfers import running

SIZE = 200  # bytes of each file
CONNECTIONS = 8


@figure("memory", "5,000 files of 200 bytes, up and down, the server's files in memory")
def memory(bench: Bench) -> None:
    """The time of the programs alone: syncing costs nothing there."""
    up_and_down(bench, bench.folder)


@figure("disk", "5,000 files of 200 bytes, up and down, the server's files on a disk")
def disk(bench: Bench) -> None:
    """The same with what a disk takes to make each file durable."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        up_and_down(bench, Path(folder))


def up_and_down(bench: Bench, place: Path) -> None:
    """Measure both directions with the server's files in `place`."""
    many = filled(bench.folder / "many", bench.size(5000, 500))
    ours = server_of(place)
    with running(ours), records_in(bench.folder):
        up = {
            "holdfast up": lambda prefix: by("holdfast_folder_up", url=ours.url, path=str(many), prefix=prefix)(),
            "holdfast up, async": lambda prefix: by(
                "holdfast_async_folder_up", url=ours.url, path=str(many), prefix=prefix
            )(),
            "curl --parallel up": lambda prefix: curl(
                bench.folder,
                ((file, Path("/dev/null"), f"{ours.url}/v1/files/{prefix}/{file.name}") for file in each(many)),
            ),
        }
        taken = alternate(numbered(up, "up"), bench.runs)
        by("holdfast_folder_up", url=ours.url, path=str(many), prefix="down")()
        out = bench.folder / "out"
        down = {
            "holdfast down": by("holdfast_folder_down", url=ours.url, path=str(out), prefix="down"),
            "holdfast down, async": by("holdfast_async_folder_down", url=ours.url, path=str(out), prefix="down"),
            "curl --parallel down": lambda: curl(
                bench.folder, ((None, out / file.name, f"{ours.url}/v1/files/down/{file.name}") for file in each(many))
            ),
        }
        taken |= alternate({name: emptied(out, many, run) for name, run in down.items()}, bench.runs)
    tell(bench, taken)
    for way in ("up", "down"):
        theirs = taken[f"curl --parallel {way}"].wall
        bench.at_most(f"{way}: wall, share of curl --parallel's", taken[f"holdfast {way}"].wall / theirs, 0.5)
        bench.at_most(
            f"{way}, async: wall, share of curl --parallel's", taken[f"holdfast {way}, async"].wall / theirs, 0.5
        )


def filled(folder: Path, files: int) -> Path:
    """Return a folder of small files with contents of their own."""
    folder.mkdir()
    for number in range(files):
        (folder / f"part-{number:05d}.bin").write_bytes((b"%016d" % number * SIZE)[:SIZE])
    return folder


def each(folder: Path) -> list[Path]:
    """Return the files of a folder, by name."""
    return sorted(folder.iterdir())


def curl(folder: Path, transfers: Iterable[tuple[Path | None, Path, str]]) -> Sample:
    """Run one curl for all transfers: what to upload, where the answer goes, and the URL."""
    config, lines = folder / "curl.conf", []
    for source, target, url in transfers:
        lines += [f'upload-file = "{source}"'] if source is not None else []
        lines += [f'output = "{target}"', f'url = "{url}"']
    config.write_text("\n".join(lines))
    options = "-fsS", "--no-progress-meter", "--parallel", "--parallel-max", CONNECTIONS
    return by_program(tool("curl"), *options, "-K", config)()


def numbered(contenders: dict[str, Callable[[str], Sample]], prefix: str) -> dict[str, Callable[[], Sample]]:
    """Return the contenders with a prefix of its own for each run."""
    numbers = count()
    return {name: (lambda run=run: run(f"{prefix}-{next(numbers)}")) for name, run in contenders.items()}


def emptied(out: Path, like: Path, run: Callable[[], Sample]) -> Callable[[], Sample]:
    """Return a contender that begins with an empty folder, and has to leave what `like` has."""

    def sample() -> Sample:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        taken = run()
        if [file.name for file in each(out)] != [file.name for file in each(like)]:
            raise RuntimeError(f"{len(each(out))} files came")
        return taken

    return sample


if __name__ == "__main__":
    sys.exit(main(__name__, "Folders"))
