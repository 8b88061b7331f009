"""Transfers: this server beside nginx, StaticFileHandler, @tus/server, tuspyserver and the floor, in the same run.

python -m benchmarks.transfers --only download-1g

They stay in one module, though it is long: the figures share servers, peers and the way of sending by tus.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import raw
from benchmarks.harness import (
    GIB,
    KIB,
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
    memory,
    reset_peak,
    room,
    timed,
    tool,
)
from benchmarks.peers import servers

PATCH_TYPE = "application/offset+octet-stream"
NO_CHECK = ("--no-check-uploads", "--no-digest-uploads")


def holdfast(folder: Path, *flags: str, name: str = "holdfast") -> Server:
    """This server on `folder`, which is made if missing; its published files are in `folder`/files."""
    port = free_port()
    (folder / "files").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tornado_app", "--port", str(port), "--log-level", "warning"]
    command += ["--files-dir", str(folder / "files"), "--data-dir", str(folder / "data"), *flags]
    return Server(name, command, port, folder, cwd=ROOT)


@contextlib.contextmanager
def running(*several: Server) -> Iterator[None]:
    """All of them, from start to stop."""
    with contextlib.ExitStack() as stack:
        for server in several:
            stack.enter_context(server)
        yield


def fill(path: Path, size: int) -> Path:
    """A file of that size with bytes that differ."""
    piece = bytes(range(256)) * (MIB // 256)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(piece)
        file.write(piece[: size % MIB])
    return path


# -- down


@figure("download-1g", "download 1 GiB, one stream (curl)")
def download_1g(bench: Bench) -> None:
    ours, nginx, static = holdfast(bench.folder), servers.nginx(bench.folder), servers.static(bench.folder)
    party = servers.copyparty(bench.folder)
    size = bench.size(GIB, 256 * MIB)
    fill(bench.folder / "files" / "big.bin", size)
    (bench.folder / "copyparty" / "big.bin").hardlink_to(bench.folder / "files" / "big.bin")
    curl = tool("curl")

    def fetch(server: Server, path: str) -> Callable[[], Sample]:
        command = [curl, "-sf", "-o", "/dev/null", server.url + path]
        return lambda: timed(lambda: subprocess.run(command, check=True), server)

    with running(ours, nginx, static, party):
        taken = alternate(
            {
                "holdfast": fetch(ours, "/v1/files/big.bin"),
                "nginx": fetch(nginx, "/files/big.bin"),
                "StaticFileHandler": fetch(static, "/files/files/big.bin"),
                "copyparty": fetch(party, "/big.bin"),
            },
            bench.runs,
        )
    bench.samples(taken)
    bench.at_most("CPU, share of nginx's", taken["holdfast"].cpu / taken["nginx"].cpu, 1.1)
    bench.at_most("wall, share of nginx's", taken["holdfast"].wall / taken["nginx"].wall, 1.1)
    bench.at_most("CPU, share of StaticFileHandler's", taken["holdfast"].cpu / taken["StaticFileHandler"].cpu, 0.5)


@figure("download-64", "download, 64 streams at once")
def download_64(bench: Bench) -> None:
    ours, nginx = holdfast(bench.folder), servers.nginx(bench.folder)
    fill(bench.folder / "files" / "part.bin", bench.size(64 * MIB, 8 * MIB))

    def fetch(server: Server, path: str) -> Callable[[], Sample]:
        return lambda: timed(lambda: raw.fetch_all(server.port, [path] * 64), server)

    with running(ours, nginx):
        taken = alternate(
            {"holdfast": fetch(ours, "/v1/files/part.bin"), "nginx": fetch(nginx, "/files/part.bin")}, bench.runs
        )
    bench.samples(taken)
    bench.at_most("wall, share of nginx's", taken["holdfast"].wall / taken["nginx"].wall, 1.2)


@figure("small-files", "1 KiB files, keep-alive, wrk with 8 connections")
def small_files(bench: Bench) -> None:
    ours, nginx, static = holdfast(bench.folder), servers.nginx(bench.folder), servers.static(bench.folder)
    fill(bench.folder / "files" / "small.bin", KIB)
    party = servers.copyparty(bench.folder)
    (bench.folder / "copyparty" / "small.bin").hardlink_to(bench.folder / "files" / "small.bin")
    wrk = tool("wrk")

    def rate(server: Server, path: str) -> Callable[[], Sample]:
        command = [wrk, "-t1", "-c8", f"-d{bench.size(5, 1)}s", server.url + path]

        def run() -> Sample:
            before = server.cpu()
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            if "Non-2xx" in said:
                raise RuntimeError(said)
            found = re.search(r"Requests/sec:\s+([0-9.]+)", said)
            total = re.search(r"(\d+) requests in", said)
            assert found is not None
            assert total is not None
            return Sample(1 / float(found[1]), (server.cpu() - before) / int(total[1]))

        return run

    with running(ours, nginx, static, party):
        taken = alternate(
            {
                "holdfast": rate(ours, "/v1/files/small.bin"),
                "StaticFileHandler": rate(static, "/files/files/small.bin"),
                "copyparty": rate(party, "/small.bin"),
                "nginx": rate(nginx, "/files/small.bin"),
            },
            bench.runs,
        )
    for name, sample in taken.items():
        bench.tell(f"{name}: rate", 1 / sample.wall, "/s")
        bench.tell(f"{name}: server CPU a request", 1e6 * sample.cpu, "us")
    bench.at_least("rate, share of StaticFileHandler's", taken["StaticFileHandler"].wall / taken["holdfast"].wall, 2.0)
    bench.at_least("rate, share of copyparty's", taken["copyparty"].wall / taken["holdfast"].wall, 1.4)


# -- up


@figure("upload-1g", "upload 1 GiB, one PATCH")
def upload_1g(bench: Bench) -> None:
    ours = holdfast(bench.folder)
    unchecked = holdfast(bench.folder / "unchecked", *NO_CHECK, name="holdfast without check")
    floor, node, python = servers.floor(bench.folder), *_tus_peers(bench)
    size = bench.size(GIB, 256 * MIB)
    source = fill(bench.folder / "source.bin", size)

    with running(*filter(None, (ours, unchecked, floor, node, python))):
        contenders = {
            "floor": _floor_upload(floor, source),
            "holdfast": _tus_upload(ours, "/v1/uploads", source),
            "holdfast, no check": _tus_upload(unchecked, "/v1/uploads", source),
        }
        if node is not None:
            contenders["@tus/server, no check"] = _tus_upload(node, "/files", source)
        if python is not None:
            contenders["tuspyserver, no check"] = _tus_upload(python, "/files", source)
        taken = alternate(contenders, bench.runs)
    bench.samples(taken)
    cpu = taken["holdfast"].cpu
    bench.at_most("CPU, share of the floor's", cpu / taken["floor"].cpu, 1.7)
    bench.at_most("CPU, share of ours without check", cpu / taken["holdfast, no check"].cpu, 1.25)
    if node is not None:
        bench.at_most("CPU, share of @tus/server's", cpu / taken["@tus/server, no check"].cpu, 0.5)
    if python is not None:
        bench.at_most("CPU, share of tuspyserver's", cpu / taken["tuspyserver, no check"].cpu, 0.7)


@figure("put-1g", "PUT 1 GiB with curl -T; copyparty with and without its check (SHA-512)")
def put_1g(bench: Bench) -> None:
    ours, party = holdfast(bench.folder), servers.copyparty(bench.folder)
    size = bench.size(GIB, 256 * MIB)
    source = fill(bench.folder / "source.bin", size)
    curl = tool("curl")

    def put(server: Server, url: str, folder: Path) -> Callable[[], Sample]:
        def sample() -> Sample:
            name = f"put-{time.monotonic_ns()}.bin"
            command = [curl, "-sf", "-o", "/dev/null", "-T", str(source), server.url + url.format(name)]
            taken = timed(lambda: subprocess.run(command, check=True), server)
            (folder / name).unlink()
            return taken

        return sample

    with running(ours, party):
        taken = alternate(
            {
                "holdfast": put(ours, "/v1/files/{}", bench.folder / "files"),
                "copyparty, no check": put(party, "/{}?ck=no", bench.folder / "copyparty"),
                "copyparty": put(party, "/{}", bench.folder / "copyparty"),
            },
            bench.runs,
        )
    bench.samples(taken)
    wall = taken["holdfast"].wall
    bench.at_most("wall, share of copyparty's without its check", wall / taken["copyparty, no check"].wall, 1.4)
    bench.at_most("wall, share of copyparty's", wall / taken["copyparty"].wall, 0.4)


@figure("patches-10k", "10,000 PATCHes of 1 KiB on one upload")
def patches_10k(bench: Bench) -> None:
    ours, (node, python) = holdfast(bench.folder), _tus_peers(bench)
    static = servers.static(bench.folder)
    count = bench.size(10_000, 1_000)
    piece = bytes(KIB)

    def patches(server: Server, path: str) -> Callable[[], Sample]:
        def run() -> None:
            with raw.Connection(server.port) as connection:
                upload = raw.tus_create(connection, path, count * KIB, f"patched-{time.monotonic_ns()}.bin")
                for number in range(count):
                    status, _ = connection.ask("PATCH", upload, raw.patch_headers(number * KIB, KIB), piece)
                    raw.check(status, [204], "PATCH")

        return lambda: timed(run, server)

    def nothing() -> Sample:
        def run() -> None:
            with raw.Connection(static.port) as connection:
                for number in range(count):
                    connection.ask("PATCH", "/nothing", raw.patch_headers(number * KIB, KIB), piece)

        return timed(run, static)

    with running(*filter(None, (ours, static, node, python))):
        contenders = {"holdfast": patches(ours, "/v1/uploads"), "a handler that does nothing": nothing}
        if node is not None:
            contenders["@tus/server"] = patches(node, "/files")
        if python is not None:
            contenders["tuspyserver"] = patches(python, "/files")
        taken = alternate(contenders, max(1, bench.runs // 2), warm=False)
    for name, sample in taken.items():
        bench.tell(f"{name}: rate", count / sample.wall, "/s")
    for name, aim in (("@tus/server", 2.2), ("tuspyserver", 2.0)):
        if name in taken:
            bench.at_least(f"rate, share of {name}'s", taken[name].wall / taken["holdfast"].wall, aim)


@figure("uploads-200", "200 uploads at once, 10 MiB each")
def uploads_200(bench: Bench) -> None:
    ours = holdfast(bench.folder)
    count, size = bench.size(200, 50), 10 * MIB
    source = fill(bench.folder / "source.bin", size)
    failed: list[BaseException] = []

    def upload(number: int) -> None:
        try:
            with raw.Connection(ours.port) as connection:
                path = raw.tus_create(connection, "/v1/uploads", size, f"upload-{number}.bin")
                ready.wait()
                with source.open("rb") as file:
                    connection.send_head("PATCH", path, raw.patch_headers(0, size))
                    connection.send_file(file, size)
                    status, _ = connection.read_head()
                    raw.check(status, [204], "PATCH")
        except BaseException as error:
            failed.append(error)

    with running(ours):
        ready = threading.Barrier(count + 1)
        threads = [threading.Thread(target=upload, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        ready.wait(60)
        reset_peak(ours.pid)
        before = loop_lags(ours)
        sample = timed(lambda: [thread.join() for thread in threads], ours)
        after = loop_lags(ours)
        peak = memory(ours.pid)
    for error in failed[:3]:
        print(f"  {error!r}")
    bench.tell("wall", sample.wall, "s")
    bench.tell("server CPU", sample.cpu, "s")
    bench.at_most("uploads that failed", len(failed), 0)
    bench.at_most("loop lag p99 (upper bound of its bucket)", 1000 * bucket_p99(before, after), 50, "ms")
    bench.at_most("peak memory", peak / MIB, 150, "MiB")


@figure("growth", "time a GiB, of 1 GiB and of as many as fit (50 at most)")
def growth(bench: Bench) -> None:
    ours = holdfast(bench.folder)
    free = room(bench.folder) - GIB
    many = bench.size(min(50, free // GIB), 2)
    if many < 2 or free < many * GIB:
        raise MissingError(f"{bench.folder} has {free / GIB:.1f} GiB free, too little to compare sizes")
    source, name = bench.folder / "source.bin", "sized.bin"
    walls: dict[str, dict[int, list[float]]] = {"up": {1: [], many: []}, "down": {1: [], many: []}}
    cpus: dict[str, dict[int, list[float]]] = {"up": {1: [], many: []}, "down": {1: [], many: []}}
    with running(ours):
        for _ in range(max(1, bench.runs // 2)):
            for count in (1, many):
                with source.open("wb") as file:
                    file.truncate(count * GIB)  # holes take no room; what the server writes does
                up = _tus_upload(ours, "/v1/uploads", source, name=name)()
                down = timed(lambda: raw.fetch_all(ours.port, [f"/v1/files/{name}"]), ours)
                for way, sample in (("up", up), ("down", down)):
                    walls[way][count].append(sample.wall / count)
                    cpus[way][count].append(sample.cpu / count)
                (bench.folder / "files" / name).unlink()
    for way, taken in walls.items():
        one, each = statistics.median(taken[1]), statistics.median(taken[many])
        bench.tell(f"{way}: 1 GiB", one, "s")
        bench.tell(f"{way}: each of {many} GiB", each, "s")
        bench.at_most(f"{way}: growth of the time a GiB", each / one, 1.05)
        one, each = statistics.median(cpus[way][1]), statistics.median(cpus[way][many])
        bench.tell(f"{way}: server CPU of 1 GiB", one, "s")
        bench.tell(f"{way}: server CPU of each of {many} GiB", each, "s")


@figure("memory-10g", "10 GiB up and down: does memory grow with size?")
def memory_10g(bench: Bench) -> None:
    ours = holdfast(bench.folder)
    small, large = 100 * MIB, bench.size(10 * GIB, GIB)
    free = shutil.disk_usage(bench.folder).free
    if free < large + GIB:
        raise MissingError(f"{bench.folder} has {free / GIB:.1f} GiB free, too little for {large / GIB:.0f} GiB")
    source = bench.folder / "source.bin"
    peaks = {}
    with running(ours):
        for size in (small, large):
            with source.open("wb") as file:
                file.truncate(size)
            reset_peak(ours.pid)
            _tus_upload(ours, "/v1/uploads", source, name="sized.bin")()
            raw.fetch_all(ours.port, ["/v1/files/sized.bin"])
            peaks[size] = memory(ours.pid)
            (bench.folder / "files" / "sized.bin").unlink()
    bench.tell("peak with 100 MiB", peaks[small] / MIB, "MiB")
    bench.tell(f"peak with {large / GIB:.0f} GiB", peaks[large] / MIB, "MiB")
    bench.at_most("growth", (peaks[large] - peaks[small]) / MIB, 16, "MiB")


def _tus_peers(bench: Bench) -> tuple[Server | None, Server | None]:
    """The tus servers of others; one that can't be had here is a line that falls short."""
    found: list[Server | None] = []
    for name, make in (("@tus/server", servers.tus_node), ("tuspyserver", servers.tuspyserver)):
        try:
            found.append(make(bench.folder))
        except MissingError as error:
            bench.missing(name, str(error))
            found.append(None)
    return found[0], found[1]


def _tus_upload(server: Server, path: str, source: Path, name: str = "") -> Callable[[], Sample]:
    """Create an upload and send the whole file in one PATCH."""
    size = source.stat().st_size

    def run() -> None:
        with raw.Connection(server.port) as connection:
            upload = raw.tus_create(connection, path, size, name or f"upload-{time.monotonic_ns()}.bin")
        raw.send(server.port, "PATCH", upload, source, raw.patch_headers(0, size))

    def sample() -> Sample:
        taken = timed(run, server)
        for left in [*server.folder.rglob("upload-*.bin"), *server.folder.glob("t*/*")]:
            if left.is_file():
                left.unlink(missing_ok=True)  # many GiB in memory otherwise
        return taken

    return sample


def _floor_upload(floor: Server, source: Path) -> Callable[[], Sample]:
    """Into a new file each time, as everybody else: pages that have just been freed cost half of what others do."""

    def sample() -> Sample:
        taken = timed(lambda: raw.send(floor.port, "PUT", "/floor", source, {}), floor)
        (floor.folder / "floor.bin").unlink()
        return taken

    return sample


def loop_lags(server: Server) -> dict[float, float]:
    """Return the number of turns of the loop that were late by at most so many seconds, from /metrics."""
    import urllib.request

    with urllib.request.urlopen(server.url + "/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = re.findall(r'holdfast_loop_lag_seconds_bucket\{le="([^"]+)"\} ([0-9.e+]+)', text)
    return {float(bound): float(count) for bound, count in found}


def bucket_p99(before: dict[float, float], after: dict[float, float]) -> float:
    """The bound of the bucket that holds the 99th percentile of what came between two readings."""
    counts = {bound: after[bound] - before.get(bound, 0.0) for bound in after}
    total = max(counts.values())
    return min((bound for bound, count in counts.items() if count >= 0.99 * total), default=0.0)


if __name__ == "__main__":
    sys.exit(main(__name__, "Transfers"))
