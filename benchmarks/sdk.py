"""The client in Python: `holdfast` beside curl, aria2c, requests, naive httpx, tuspy and s3transfer, in the same run.

python -m benchmarks.sdk --only download

Each Python client runs in a process of its own (`benchmarks/peers/clients.py`), which says what the transfer took; of
curl and aria2c it is the whole process. Every one of them writes what it gets into a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import holdfast
from benchmarks.harness import (
    GIB,
    KIB,
    MEMORY_DISK,
    MIB,
    ROOT,
    Bench,
    MissingError,
    Sample,
    Server,
    alternate,
    figure,
    free_port,
    main,
    tool,
)
from benchmarks.peers import servers
from benchmarks.transfers import fill, running
from benchmarks.transfers import holdfast as server_of
from tests.support.faults import there_and_back
from tests.support.proxy import Fault, FaultyProxy

ONE_WAY = 0.025  # seconds: a round trip of 50 ms
CUT_EVERY = 20_000_000


def told_by(name: str, **options: Any) -> dict[str, float]:
    """Run a client of `peers/clients.py`; what it says."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.clients", name, json.dumps(options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def by(name: str, told: Callable[[dict[str, float]], object] | None = None, **options: Any) -> Callable[[], Sample]:
    """A contender; `cpu` is the client's. `told` gets all that it says."""

    def run() -> Sample:
        said = told_by(name, **options)
        if told is not None:
            told(said)
        return Sample(said["wall"], said["cpu"])

    return run


def by_program(*command: object, quiet: bool = False) -> Callable[[], Sample]:
    """A program as a contender; `cpu` is its own (wait4(2)). `quiet`: what it says on standard error is not shown."""

    def run() -> Sample:
        error = subprocess.DEVNULL if quiet else None
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=error)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        return Sample(time.perf_counter() - start, used.ru_utime + used.ru_stime)

    return run


def onto(path: Path, contenders: dict[str, Callable[[], Sample]]) -> dict[str, Callable[[], Sample]]:
    """The same, each beginning without `path`: none has to find room for a second file while the first is there."""

    def cleared(run: Callable[[], Sample]) -> Callable[[], Sample]:
        def sample() -> Sample:
            path.unlink(missing_ok=True)
            return run()

        return sample

    return {name: cleared(run) for name, run in contenders.items()}


def tell(bench: Bench, samples: dict[str, Sample]) -> None:
    """The wall and client CPU seconds of every contender."""
    for name, sample in samples.items():
        bench.tell(f"{name}: wall", sample.wall, "s")
        bench.tell(f"{name}: client CPU", sample.cpu, "s")


@contextmanager
def records_in(folder: Path) -> Iterator[None]:
    """Resume records of this benchmark stay out of the user's own folder."""
    with mock.patch.dict(os.environ, HOLDFAST_STATE_DIR=str(folder / "state")):
        yield


def bytes_written(server: Server) -> int:
    """Bytes that a server has written to files so far; what it sends by sockets is not among them (proc(5), wchar)."""
    lines = Path(f"/proc/{server.pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


# -- down and up


@figure("download", "download 1 GiB over loopback into a file")
def download(bench: Bench) -> None:
    """Ours is verified by the block digest, as it comes. The peers check nothing by themselves."""
    ours, out = server_of(bench.folder), bench.folder / "out.bin"
    source = fill(bench.folder / "source.bin", bench.size(GIB, 256 * MIB))
    lags: list[dict[str, float]] = []
    with running(ours), records_in(bench.folder):
        told_by("holdfast_up", url=f"{ours.url}/v1/files/up.bin", path=str(source))
        source.unlink()
        file: dict[str, Any] = {"url": f"{ours.url}/v1/files/up.bin", "path": str(out)}
        contenders = {
            "holdfast": by("holdfast_down", **file),
            "holdfast, async": by("holdfast_async_down", told=lags.append, **file),
            "requests": by("requests_down", **file),
            "naive httpx": by("httpx_down", **file),
            "curl": by_program(tool("curl"), "-sf", "-o", out, file["url"]),
        }
        taken = alternate(onto(out, contenders), bench.runs)
    tell(bench, taken)
    mine, asynchronous = taken["holdfast"], taken["holdfast, async"]
    bench.at_most("wall, share of curl's, which checks nothing", mine.wall / taken["curl"].wall, 1.15)
    bench.at_most("client CPU, share of requests', which checks nothing", mine.cpu / taken["requests"].cpu, 1.5)
    bench.tell("client CPU, share of naive httpx's", mine.cpu / taken["naive httpx"].cpu)
    bench.at_most("async: wall, share of the sync client's", asynchronous.wall / mine.wall, 1.2)
    lag = statistics.median(told["lag"] for told in lags)
    bench.at_most("async: lag of the loop, 99th percentile", 1000 * lag, 5, "ms")
    bench.tell("async: lag of the loop, longest", 1000 * max(told["longest_lag"] for told in lags), "ms")


@figure("upload", "upload 1 GiB over loopback to the same server")
def upload(bench: Bench) -> None:
    ours = server_of(bench.folder)
    source = fill(bench.folder / "source.bin", bench.size(GIB, 256 * MIB))
    with running(ours), records_in(bench.folder):
        url = f"{ours.url}/v1/files/up.bin"
        contenders = {
            "holdfast": by("holdfast_up", url=url, path=str(source)),
            "curl -T": by_program(tool("curl"), "-sf", "-T", source, url),
            "tuspy": by("tuspy_up", url=f"{ours.url}/v1/uploads", path=str(source), file_name="up.bin"),
        }
        taken = alternate(onto(bench.folder / "files" / "up.bin", contenders), bench.runs)
    tell(bench, taken)
    bench.at_most("wall, share of curl -T's", taken["holdfast"].wall / taken["curl -T"].wall, 1.1)
    bench.at_most("wall, share of tuspy's at its default", taken["holdfast"].wall / taken["tuspy"].wall, 0.75)


@figure("u2c", "upload 1 GiB: the command `holdfast upload`, and copyparty's own client u2c to copyparty")
def u2c(bench: Bench) -> None:
    """Both verify every block. u2c hashes the whole file (SHA-512) before the first byte is sent."""
    ours, party = server_of(bench.folder), servers.copyparty(bench.folder)
    source, there = fill(bench.folder / "source.bin", bench.size(GIB, 256 * MIB)), bench.folder / "copyparty/source.bin"
    theirs = [sys.executable, "-m", "copyparty.web.a.u2c", "-ns", "--ow", f"{party.url}/", source]
    own = [sys.executable, "-m", "holdfast", "--url", ours.url, "upload", "--overwrite", "--to", "up.bin", source]

    def fresh(run: Callable[[], Sample]) -> Callable[[], Sample]:
        def sample() -> Sample:
            with source.open("r+b") as file:
                for at in range(0, source.stat().st_size, MIB):  # or it is known already, or one block from the next
                    file.seek(at)
                    file.write(os.urandom(16))
            return run()

        return sample

    with running(ours, party), records_in(bench.folder):
        taken = alternate(
            {
                "holdfast": fresh(onto(bench.folder / "files" / "up.bin", {"": by_program(*own, quiet=True)})[""]),
                "u2c": fresh(
                    onto(bench.folder / "copyparty" / "source.bin", {"": by_program(*theirs, quiet=True)})[""]
                ),
            },
            bench.runs,
        )
        same = _sha256(source) == _sha256(there)
    tell(bench, taken)
    bench.at_most("wall, share of u2c's", taken["holdfast"].wall / taken["u2c"].wall, 1)
    bench.at_most("files of u2c that differ", 0 if same else 1, 0)


@figure("delta", "10 GiB of which 1 % has changed in one run, against the version that is published")
def delta(bench: Bench) -> None:
    """The file is sparse where it is read, and not where it is written: room for two of them is needed."""
    ours, source = server_of(bench.folder), bench.folder / "source.bin"
    size = bench.size(10 * GIB, GIB)
    free = shutil.disk_usage(bench.folder).free
    if bench.folder.is_relative_to(MEMORY_DISK):
        free = min(free, _available())
    if free < 2 * size + 2 * GIB:
        raise MissingError(f"{free / GIB:.1f} GiB are free in {bench.folder}, too little for 2 of {size / GIB:.0f} GiB")
    with source.open("wb") as file:
        file.truncate(size)
    with running(ours), records_in(bench.folder):
        url = f"{ours.url}/v1/files/up.bin"
        whole = told_by("holdfast_up", url=url, path=str(source))
        with source.open("r+b") as file:
            file.seek(size // 3)
            for _ in range(size // 100 // MIB):
                file.write(os.urandom(MIB))
        changes = told_by("holdfast_up", url=url, path=str(source), delta=True)
        same = _sha256(source) == _sha256(bench.folder / "files" / "up.bin")
    bench.tell("whole: wall", whole["wall"], "s")
    bench.tell("delta: wall", changes["wall"], "s")
    bench.at_most("bytes sent, percent of the file's", 100 * changes["sent"] / size, 1.1, "%")
    bench.at_most("time, share of a whole upload's", changes["wall"] / whole["wall"], 0.15)
    bench.at_most("files that differ", 0 if same else 1, 0)


@figure("known", "upload of 1 GiB that the server has under another name")
def known(bench: Bench) -> None:
    ours = server_of(bench.folder)
    size = bench.size(GIB, 256 * MIB)
    source = fill(bench.folder / "source.bin", size)
    taken: list[dict[str, float]] = []
    with running(ours), records_in(bench.folder):
        told_by("holdfast_up", url=f"{ours.url}/v1/files/first.bin", path=str(source))
        for number in range(bench.runs):
            taken.append(told_by("holdfast_up", url=f"{ours.url}/v1/files/again-{number}.bin", path=str(source)))
        same = _sha256(source) == _sha256(bench.folder / "files" / "again-0.bin")
    bench.at_most("bytes sent, percent of the file's", 100 * max(told["sent"] for told in taken) / size, 0.1, "%")
    bench.at_most("wall", statistics.median(told["wall"] for told in taken), 0.3, "s")
    bench.at_most("files that differ", 0 if same else 1, 0)


@figure("s3", "s3transfer against moto, a far peer: another protocol, another server")
def s3(bench: Bench) -> None:
    try:
        import moto  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: F401 - of the extra bench
    except ImportError:
        raise MissingError("moto is missing: pip install -e '.[bench]'") from None
    ours, port = server_of(bench.folder), free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    theirs = Server("moto", command, port, bench.folder)
    size = bench.size(256 * MIB, 64 * MIB)
    source, out = fill(bench.folder / "source.bin", size), str(bench.folder / "out.bin")
    with running(ours, theirs), records_in(bench.folder):
        taken = alternate(
            {
                "holdfast up": by("holdfast_up", url=f"{ours.url}/v1/files/big.bin", path=str(source)),
                "s3transfer up": by("s3_up", url=theirs.url, path=str(source)),
                "holdfast down": by("holdfast_down", url=f"{ours.url}/v1/files/big.bin", path=out),
                "s3transfer down": by("s3_down", url=theirs.url, path=out),
            },
            max(1, bench.runs // 2),
        )
    for name, sample in taken.items():
        bench.tell(f"{name}: rate", size / MIB / sample.wall, "MiB/s")
        bench.tell(f"{name}: client CPU", sample.cpu, "s")


# -- a line that is far away, or bad


@figure("far", "50 ms of round trip, 8 segments: the faulty proxy delays every 64 KiB by 25 ms each way")
def far(bench: Bench) -> None:
    """One connection gets 2.5 MiB/s on this line, so segments are what fills it. It is the same for everyone."""
    ours, out = server_of(bench.folder), bench.folder / "out.bin"
    size = bench.size(128 * MIB, 32 * MIB)
    source = fill(bench.folder / "files" / "plain.bin", size)
    segments = ["-x8", "-s8", "-k1M", "--file-allocation=none", "--allow-overwrite=true", "--auto-file-renaming=false"]
    with running(ours), records_in(bench.folder):
        told_by("holdfast_up", url=f"{ours.url}/v1/files/known.bin", path=str(source))
        with FaultyProxy(ours.port, *[Fault(delay=ONE_WAY)] * 10_000) as line:
            url = f"{line.url}/v1/files"
            down = {"url": f"{url}/known.bin", "path": str(out)}
            program = [tool("aria2c"), "-q", *segments, "-d", out.parent, "-o", out.name, down["url"]]
            taken = alternate(
                {
                    "holdfast, 8 segments": by("holdfast_down", **down, segments=8),
                    "aria2c -x8": by_program(*program),
                    "holdfast, by measuring": by("holdfast_down", **down),
                },
                max(1, bench.runs // 2),
                warm=False,
            )
            written = bytes_written(ours)
            up = by("holdfast_up", url=f"{url}/up.bin", path=str(source), segments=8)()
            written = bytes_written(ours) - written
    for name, sample in [*taken.items(), ("holdfast, upload in 8 segments", up)]:
        bench.tell(f"{name}: rate", size / MIB / sample.wall, "MiB/s")
    share = taken["aria2c -x8"].wall / taken["holdfast, 8 segments"].wall
    bench.at_least("speed, share of aria2c's with -x8", share, 0.9)
    bench.at_most("upload in 8 segments: bytes written, of the file's", written / size, 1.05)


@figure("cuts", "every connection is cut after 20 MB")
def cuts(bench: Bench) -> None:
    ours, out = server_of(bench.folder), bench.folder / "out.bin"
    size = bench.size(512 * MIB, 128 * MIB)
    source = fill(bench.folder / "source.bin", size)
    with running(ours), records_in(bench.folder):
        with (
            FaultyProxy(ours.port, *[Fault(cut_up=CUT_EVERY)] * 1000) as line,
            holdfast.Client(line.url) as client,
        ):
            client.files.upload(source, "cut.bin").wait()
            bench.tell("up: cuts", line.happened)
            bench.at_most("up: bytes on the line, share of the file's", line.bytes_up / size, 1.05)
        with (
            FaultyProxy(ours.port, *[Fault(cut_down=CUT_EVERY)] * 1000) as line,
            holdfast.Client(line.url) as client,
        ):
            client.files.download("cut.bin", out).wait()
            bench.tell("down: cuts", line.happened)
            bench.at_most("down: bytes on the line, share of the file's", line.bytes_down / size, 1.05)
        same = all(_sha256(path) == _sha256(source) for path in (out, bench.folder / "files" / "cut.bin"))
        bench.at_most("files that differ", 0 if same else 1, 0)


@figure("faults", "1,000 small files over connections with random faults")
def faults(bench: Bench) -> None:
    ours, count = server_of(bench.folder), bench.size(1000, 100)
    wrong, failed, happened = 0, 0, 0
    with running(ours), records_in(bench.folder):
        for number in range(count):
            try:
                right, there_were = there_and_back(number, ours.port, bench.folder)
            except holdfast.HoldfastError as error:
                print(f"  run {number}: {error!r}")
                failed += 1
            else:
                wrong += not right
                happened += there_were
    bench.tell("cuts, stalls, lost answers and duplicates", happened)
    bench.at_most(f"wrong digests in {count} runs", wrong, 0)
    bench.at_most(f"runs of {count} that gave up", failed, 0)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- what it costs to have


@figure("import", "import holdfast in a fresh interpreter")
def imports(bench: Bench) -> None:
    begin = "import sys, time; before = time.perf_counter()\n"
    end = "\nprint(1000 * (time.perf_counter() - before), *sys.modules)"
    programs = {
        "import holdfast": "import holdfast",
        "import holdfast, and a client": "import holdfast; holdfast.Client('http://127.0.0.1:8000').close()",
        "import requests": "import requests",
        "import httpx": "import httpx",
        "import boto3": "import boto3",
    }
    taken: dict[str, list[float]] = {name: [] for name in programs}
    loaded: set[str] = set()
    for _ in range(bench.size(15, 3)):
        for name, program in programs.items():
            command = [sys.executable, "-W", "ignore", "-c", begin + program + end]
            seconds, *modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            taken[name].append(float(seconds))
            loaded |= set(modules) if "holdfast" in name else set()
    for name, times in taken.items():
        bench.tell(name, statistics.median(times), "ms")
    bench.at_most("import holdfast", statistics.median(taken["import holdfast"]), 150, "ms")
    heavy = {"ipywidgets", "tornado", "tornado_app", "pandas", "fsspec", "rich", "click"} & loaded
    bench.at_most("of ipywidgets, tornado, pandas, ... imported", len(heavy), 0)


@figure("memory", "memory of the client for 10 GiB")
def memory(bench: Bench) -> None:
    """Of the sparse file only what is written of it again takes room, once at a time."""
    ours, out, source = server_of(bench.folder), bench.folder / "out.bin", bench.folder / "source.bin"
    small, large = 100 * MIB, bench.size(10 * GIB, GIB)
    free = min(shutil.disk_usage(bench.folder).free, _available())
    if free < large + 2 * GIB:
        raise MissingError(f"{free / GIB:.1f} GiB are free in {bench.folder}, too little for {large / GIB:.0f} GiB")
    most: dict[tuple[str, int], float] = {}
    with running(ours), records_in(bench.folder):
        for size in (small, large):
            with source.open("wb") as file:
                file.truncate(size)
            most["up", size] = told_by("holdfast_up", url=f"{ours.url}/v1/files/up.bin", path=str(source))["memory"]
            (bench.folder / "files" / "up.bin").unlink()
            source.rename(bench.folder / "files" / "down.bin")
            most["down", size] = told_by("holdfast_down", url=f"{ours.url}/v1/files/down.bin", path=str(out))["memory"]
            out.unlink()
    for way in ("up", "down"):
        bench.tell(f"{way}: most with 100 MiB", most[way, small] / MIB, "MiB")
        bench.tell(f"{way}: most with {large / GIB:.0f} GiB", most[way, large] / MIB, "MiB")
        bench.at_most(f"{way}: growth", (most[way, large] - most[way, small]) / MIB, 8, "MiB")


def _available() -> int:
    """Bytes of memory that can be had without swapping: files in /dev/shm take it."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * KIB
    return 0


if __name__ == "__main__":
    sys.exit(main(__name__, "The client in Python"))
