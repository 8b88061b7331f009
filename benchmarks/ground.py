"""The ground floor: processes and the seed's transfers over HTTP, beside what others and a first draft take.

python -m benchmarks.ground --quick
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.harness import MIB, Bench, Sample, Server, alternate, figure, free_port, main, percentile, timed
from benchmarks.peers import servers
from benchmarks.processes import Api, disk, holdfast, peer
from benchmarks.work import Steps, steps
from holdfast.work import Job


@figure("first-progress", "GET /{id}/process/ to the first progress seen over HTTP")
def measure_first_progress(bench: Bench) -> None:
    count = bench.size(500, 50)
    answered, polled, told = [], [], []
    with disk() as folder, holdfast(folder) as server:
        api = Api(server.port)
        for i in range(2 * count):
            begin = time.perf_counter()
            process = api("GET", f"/first-{i}/process/?work_type=bench-steps&steps=1000000&seconds=0.001")
            answered.append(time.perf_counter() - begin)
            while process["progress"]["done"] is None:
                if i % 2:
                    time.sleep(0.001)
                    process = api("GET", f"/first-{i}/process/")
                else:
                    process = api("GET", f"/v1/processes/{process['id']}?wait=5&after={process['version']}")
            (polled if i % 2 else told).append(time.perf_counter() - begin)
            api.until(api("POST", f"/first-{i}/process/cancel/"), "cancelled")
    for what, taken in (
        ("start answered", answered),
        ("start to first progress, asked every ms; its step takes 1 ms", polled),
        ("start to first progress, by long poll (told 10 times a second)", told),
    ):
        bench.tell(f"{what}, p50", statistics.median(taken) * 1e3, "ms")
        bench.tell(f"{what}, p99", percentile(taken, 0.99) * 1e3, "ms")
    with disk() as folder:
        theirs = peer("dbos_peer", folder / "dbos", 1, count, 1)["singles"]
        bench.tell("dbos, start to result of nothing, no HTTP, p50", statistics.median(theirs) * 1e3, "ms")
        bench.tell("dbos p99", percentile(theirs, 0.99) * 1e3, "ms")
        theirs = peer("huey_peer", folder / "huey", count, 1)["singles"]
        bench.tell("huey, start to result of nothing, no HTTP, p50", statistics.median(theirs) * 1e3, "ms")
        bench.tell("huey p99", percentile(theirs, 0.99) * 1e3, "ms")


@figure("yield", "overhead of a yield in the thread place, as the server starts by default")
def measure_yield(bench: Bench) -> None:
    count = bench.size(500_000, 50_000)
    with disk() as folder, holdfast(folder) as server:
        api = Api(server.port)
        each = [api.succeed(api.start("bench-steps", params={"steps": count}))["result"] for _ in range(bench.runs)]
    bench.at_most("overhead of a yield", statistics.median(each) * 1e6, 20, "us")
    bench.tell("the generator alone, in a for loop", statistics.median(map(_alone, [count] * bench.runs)) * 1e6, "us")
    with disk() as folder:
        step = peer("dbos_peer", folder, bench.size(500, 50), 1, 1)["step"]
        bench.tell("dbos, a step (durable each)", step * 1e6, "us")


def _alone(count: int) -> float:
    begin = time.perf_counter()
    for _ in steps(Job("alone", Steps(count))):
        pass
    return (time.perf_counter() - begin) / count


@figure("together", "100 processes at once, each of 20 steps of 5 ms")
def measure_together(bench: Bench) -> None:
    count, step_count, milliseconds = 100, 20, 5

    def ours() -> Sample:
        with disk() as folder, holdfast(folder, "--max-running", str(count)) as server:
            api = Api(server.port)
            params = {"steps": step_count, "seconds": milliseconds / 1000}
            api.succeed(api.start("bench-steps", params=params))

            def run() -> None:
                for process in [api.start("bench-steps", params=params) for _ in range(count)]:
                    api.succeed(process)

            return timed(run, server)

    def theirs(which: str) -> Sample:
        with disk() as folder:
            return Sample(**peer("together_peer", folder, which, count, step_count, milliseconds))

    samples = alternate({"holdfast": ours, "dbos": lambda: theirs("dbos"), "huey": lambda: theirs("huey")}, bench.runs)
    bench.samples(samples)
    bench.at_most("wall as a share of dbos", samples["holdfast"].wall / samples["dbos"].wall, 1)


class Seed:
    """A literal client of the seed's transfers on one kept-alive connection; its own cost is the same for all."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/octet-stream"} if body is not None else {}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return json.loads(text)

    def download(self, name: str) -> None:
        """Piece by piece to the end."""
        piece = {"bytes_read": 0, "is_complete": False}
        while not piece["is_complete"]:
            piece = self._ask("GET", f"/download/?file_name={quote(name)}&bytes_read={piece['bytes_read']}")

    def upload(self, source: Path, name: str, extra: str) -> None:
        """In pieces of 1 MiB."""
        read = 0
        with source.open("rb") as file:
            while data := file.read(MIB):
                read = self._ask("POST", f"/upload/?file_name={quote(name)}&bytes_read={read}{extra}", data)[
                    "bytes_read"
                ]


def naive(folder: Path) -> Server:
    """The seed's transfers as a first draft has them."""
    port = free_port()
    script = Path(servers.HERE / "seed_server.py")
    return Server("first draft", [sys.executable, str(script), str(port), str(folder)], port, folder)


@figure("seed-transfers", "100 MB down and up through the seed's endpoints")
def measure_seed_transfers(bench: Bench) -> None:
    size = bench.size(100, 10) * 1_000_000
    ours_dir = bench.folder / "ours"
    source = bench.folder / "text.csv"
    source.write_bytes((b"1,2,3,some text of a table\n" * (size // 27 + 1))[:size])
    with holdfast(ours_dir) as ours, naive(bench.folder) as draft, servers.static(bench.folder) as static:
        (ours_dir / "files").mkdir(exist_ok=True)
        (ours_dir / "files" / "text.csv").write_bytes(source.read_bytes())

        def whole() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", static.port, timeout=60)
            connection.request("GET", "/files/text.csv")
            connection.getresponse().read()

        down = {
            "holdfast down": lambda: timed(lambda: Seed(ours).download("text.csv"), ours),
            "first draft down": lambda: timed(lambda: Seed(draft).download("text.csv"), draft),
            "StaticFileHandler down, in one piece": lambda: timed(whole, static),
        }
        up = {
            "holdfast up, digested and fsynced": lambda: timed(
                lambda: Seed(ours).upload(source, "up.csv", f"&file_size={size}&overwrite=true"), ours
            ),
            "first draft up": lambda: timed(lambda: Seed(draft).upload(source, "up.csv", ""), draft),
        }
        samples = alternate({**down, **up}, bench.runs)
    bench.samples(samples)
    bench.tell("holdfast down", size / 1e6 / samples["holdfast down"].wall, "MB/s")
    bench.tell("holdfast up", size / 1e6 / samples["holdfast up, digested and fsynced"].wall, "MB/s")


if __name__ == "__main__":
    sys.exit(main(__name__, "The ground floor"))
