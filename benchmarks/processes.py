"""Processes: this server over HTTP, beside dbos and huey on SQLite without HTTP, in the same run.

python -m benchmarks.processes --quick
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert

from benchmarks.harness import ROOT, Bench, Server, figure, free_port, main, percentile
from tornado_app.processes.journal import schema


class Api:
    """One kept-alive connection: the client should cost little beside the server."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def __call__(self, method: str, path: str, body: object = None) -> Any:
        self._connection.request(method, path, None if body is None else json.dumps(body))
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status < 300, (answer.status, text)
        return json.loads(text) if text.startswith((b"{", b"[")) else text.decode()

    def start(self, work_type: str, **request: Any) -> Any:
        """Start a process."""
        return self("POST", "/v1/processes", {"work_type": work_type, **request})

    def until(self, process: Any, *states: str) -> Any:
        """Long-poll until the process is in one of these states."""
        while process["state"] not in states:
            process = self("GET", f"/v1/processes/{process['id']}?wait=30&after={process['version']}")
        return process

    def succeed(self, process: Any) -> Any:
        """Long-poll until it has succeeded."""
        process = self.until(process, "succeeded", "failed", "cancelled")
        assert process["state"] == "succeeded", process
        return process


@contextlib.contextmanager
def disk() -> Iterator[Path]:
    """A folder on a disk, where journals live: on a file system in memory a peer's fsync would cost nothing."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        yield Path(folder)


def holdfast(folder: Path, *flags: str) -> Server:
    """A server of ours with the benchmarks' work types."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tornado_app", "--port", str(port), "--import", "benchmarks.work"]
    command += ["--files-dir", str(folder / "files"), "--data-dir", str(folder / "data"), "--log-level", "warning"]
    return Server("holdfast", [*command, *flags], port, folder, cwd=ROOT)


def peer(module: str, folder: Path, *arguments: object) -> Any:
    """Run a peer in a process of its own; what it measured."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.peers.{module}", str(folder), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


@figure("yield", "overhead of a yield, thread place, journal interval 0.2 s")
def measure_yield(bench: Bench) -> None:
    with disk() as folder, holdfast(folder) as server:
        api = Api(server.port)
        count = bench.size(1_000_000, 100_000)
        each = [api.succeed(api.start("bench-steps", params={"steps": count}))["result"] for _ in range(bench.runs)]
    bench.at_most("overhead of a yield", statistics.median(each) * 1e6, 10, "us")


@figure("checkpoint", "one durable checkpoint, journal interval 0, and a dbos step")
def measure_checkpoint(bench: Bench) -> None:
    count = bench.size(5000, 500)
    ours, fsynced, theirs = [], [], []
    for _ in range(bench.runs):
        with disk() as folder:
            ours.append(_checkpoint(folder / "ours", count))
            fsynced.append(_checkpoint(folder / "fsynced", count // 10, "--durable"))
            theirs.append(peer("dbos_peer", folder / "dbos", count // 10, 1, 1)["step"])
    mine, step = statistics.median(ours), statistics.median(theirs)
    bench.at_most("one durable checkpoint", mine * 1e6, 300, "us")
    bench.tell("one checkpoint with --durable (fsync, survives a power cut)", statistics.median(fsynced) * 1e6, "us")
    bench.tell("one dbos step", step * 1e6, "us")
    bench.at_least("a dbos step in durable checkpoints", step / mine, 20, "x")


def _checkpoint(folder: Path, count: int, *flags: str) -> float:
    """Seconds of one checkpoint that is durable before the work goes on."""
    with holdfast(folder, "--journal-interval", "0", *flags) as server:
        api = Api(server.port)
        seconds: float = api.succeed(api.start("bench-steps", params={"steps": count}))["result"]
        return seconds


@figure("empty", "empty processes over HTTP, one after another and from 16 connections; dbos and huey without HTTP")
def measure_empty(bench: Bench) -> None:
    single, together = bench.size(300, 50), bench.size(1000, 200)
    p50: list[float] = []
    p99: list[float] = []
    polled: list[float] = []
    rate: list[float] = []
    dbos, huey = [], []
    with disk() as folder, holdfast(folder / "ours") as server:
        for run in range(bench.runs):
            api = Api(server.port)
            singles, twos = [], []
            for _ in range(single):
                begin = time.perf_counter()
                process = api("POST", "/v1/processes?wait=30", {"work_type": "bench-empty"})
                assert process["state"] == "succeeded", process
                singles.append(time.perf_counter() - begin)
            for _ in range(single):
                begin = time.perf_counter()
                api.succeed(api.start("bench-empty"))
                twos.append(time.perf_counter() - begin)
            p50.append(statistics.median(singles))
            p99.append(percentile(singles, 0.99))
            polled.append(statistics.median(twos))
            rate.append(_rate(server.port, together))
            dbos.append(peer("dbos_peer", folder / f"dbos{run}", 1, single, together))
            huey.append(peer("huey_peer", folder / f"huey{run}", single, together))
    ours, ours_rate = statistics.median(p50), statistics.median(rate)
    theirs = statistics.median(statistics.median(one["singles"]) for one in dbos)
    theirs_rate = statistics.median(one["rate"] for one in dbos)
    bench.at_most("start to succeeded p50, one POST that waits", ours * 1e3, 5, "ms")
    bench.tell("start to succeeded p99, one POST that waits", statistics.median(p99) * 1e3, "ms")
    bench.tell("start to succeeded p50, a POST and then a long poll", statistics.median(polled) * 1e3, "ms")
    bench.tell("dbos start to result p50", theirs * 1e3, "ms")
    bench.tell(
        "huey start to result p50", statistics.median(statistics.median(one["singles"]) for one in huey) * 1e3, "ms"
    )
    bench.at_most("start to succeeded as a share of dbos", ours / theirs, 0.6)
    bench.at_least("processes a second, 16 connections", ours_rate, 400, "1/s")
    bench.tell("dbos workflows a second", theirs_rate, "1/s")
    bench.tell("huey tasks a second", statistics.median(one["rate"] for one in huey), "1/s")
    bench.at_least("processes a second as a multiple of dbos", ours_rate / theirs_rate, 3, "x")


def _rate(port: int, count: int) -> float:
    """Processes a second from 16 connections, each started and seen to succeed."""

    def some(number: int) -> None:
        api = Api(port)
        for process in [api.start("bench-empty") for _ in range(number)]:
            api.succeed(process)

    begin = time.perf_counter()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(some, [count // 16 + (i < count % 16) for i in range(16)]))
    return count / (time.perf_counter() - begin)


@figure("pause", "pause asked to paused durable, beyond the step in hand of 1 ms")
def measure_pause(bench: Bench) -> None:
    step = 0.001
    with disk() as folder, holdfast(folder) as server:
        api = Api(server.port)
        for place, aim in (("thread", 10), ("process", 25)):
            taken = []
            process = api.start("bench-steps", params={"steps": 10**7, "seconds": step}, place=place)
            for _ in range(bench.size(200, 30)):
                process = api.until(process, "running")
                attempt = process["attempt"]
                while (
                    process["progress"]["done"] is None
                    or process["attempt"] != attempt
                    or not process["version"] % 2**24
                ):
                    process = api("GET", f"/v1/processes/{process['id']}?wait=5&after={process['version']}")
                begin = time.perf_counter()
                process = api.until(api("POST", f"/v1/processes/{process['id']}/pause"), "paused")
                taken.append(time.perf_counter() - begin - step)
                process = api("POST", f"/v1/processes/{process['id']}/resume")
            api.until(api("POST", f"/v1/processes/{process['id']}/cancel"), "cancelled")
            bench.tell(f"pause, {place} place, p50", statistics.median(taken) * 1e3, "ms")
            bench.at_most(f"pause, {place} place, p99", percentile(taken, 0.99) * 1e3, aim, "ms")


@figure("many", "500 running processes at 10 yields a second each")
def measure_many(bench: Bench) -> None:
    count = bench.size(500, 100)
    with disk() as folder, holdfast(folder, "--max-running", str(count)) as server:
        api = Api(server.port)
        for _ in range(count):
            api.start("bench-steps", params={"steps": 10**6, "seconds": 0.1}, labels={"of": "many"})
        time.sleep(2)
        before, cpu, begin = _lag(api), server.cpu(), time.perf_counter()
        time.sleep(bench.size(10, 3))
        after = _lag(api)
        cores = (server.cpu() - cpu) / (time.perf_counter() - begin)
        api("POST", "/v1/processes/cancel", {"label": {"of": "many"}})
    bench.at_most(f"cores for {count} running processes", cores, 1.0)
    bench.at_most("loop lag p99", _quantile(before, after, 0.99) * 1e3, 20, "ms")


def _lag(api: Api) -> dict[float, float]:
    """The cumulative buckets of the loop's lag."""
    found = re.findall(r'holdfast_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', api("GET", "/metrics"))
    return {float(bound.replace("+Inf", "inf")): float(count) for bound, count in found}


def _quantile(before: dict[float, float], after: dict[float, float], share: float) -> float:
    """The upper bound of the bucket that the quantile is in."""
    counts = {bound: after[bound] - before.get(bound, 0) for bound in sorted(after)}
    wanted = share * counts[float("inf")]
    return next(bound for bound, count in counts.items() if count >= wanted)


@figure("million", "start, get and list with 1,000,000 ended processes in the journal, and with 1,000")
def measure_million(bench: Bench) -> None:
    much = bench.size(1_000_000, 50_000)
    taken: dict[int, dict[str, float]] = {}
    for count in (1000, much):
        with disk() as folder:
            _fill(folder, count)
            with holdfast(folder, "--keep-ended", "0") as server:
                taken[count] = _usual(Api(server.port), bench.size(200, 50))
    for what, few in taken[1000].items():
        bench.tell(f"{what} with 1,000, p50", few * 1e3, "ms")
        bench.at_most(f"{what} with {much:,} as a multiple", taken[much][what] / few, 2, "x")


def _fill(folder: Path, count: int) -> None:
    """A journal with that many processes that have succeeded, each with its events."""
    with holdfast(folder):
        pass  # it makes the schema
    engine = create_engine(f"sqlite:///{folder / 'data' / 'journal.sqlite'}")
    row = {
        "params": b"{}", "request": b"", "state": "succeeded", "place": "thread", "priority": 0, "labels": b"{}",
        "retries": 0, "failures": 0, "attempt": 1, "version": 3, "created": 1.0, "started": 1.0, "ended": 1.0,
        "note": "", "result": b"null",
    }  # fmt: skip
    changes = (("queued", None), ("running", "queued"), ("succeeded", "running"))
    with engine.begin() as connection:
        for first in range(0, count, 10_000):
            ids = [f"p{i}" for i in range(first, min(count, first + 10_000))]
            types = ("bench-empty", "bench-steps")
            connection.execute(
                insert(schema.processes), [{**row, "id": id, "work_type": types[i % 2]} for i, id in enumerate(ids)]
            )
            connection.execute(
                insert(schema.events),
                [
                    {"id": id, "time": 1.0, "state": state, "before": before, "attempt": 1, "version": 1}
                    for id in ids
                    for state, before in changes
                ],
            )
    engine.dispose()


def _usual(api: Api, rounds: int) -> dict[str, float]:
    """The median seconds of the usual requests."""
    requests = {
        "start": lambda i: api.start("bench-empty", id=f"new{i}"),
        "get": lambda i: api("GET", f"/v1/processes/p{i * 3 % 1000}"),
        "list": lambda i: api("GET", "/v1/processes?limit=50"),
        "list by state": lambda i: api("GET", "/v1/processes?limit=50&state=succeeded"),
        "list by work type": lambda i: api("GET", "/v1/processes?limit=50&work_type=bench-steps"),
    }
    medians = {}
    for what, ask in requests.items():
        taken = []
        for i in range(rounds):
            begin = time.perf_counter()
            ask(i)
            taken.append(time.perf_counter() - begin)
        medians[what] = statistics.median(taken)
    return medians


if __name__ == "__main__":
    sys.exit(main(__name__, "Processes"))
