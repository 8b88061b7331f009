"""Parts that the benchmarks share: peers started and stopped by pid, CPU and memory by pid, medians, tables, results.

A benchmark is a module of functions marked `@figure(name, what)` that get a `Bench`, measure this server and its peers
in the same run, and state their lines with an aim each. `main` runs them:

    python -m benchmarks.transfers --list
    python -m benchmarks.transfers --only download-1g --quick
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

MEMORY_DISK = Path("/dev/shm")

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class MissingError(Exception):
    """A peer or tool that is not on this machine; says how to get it."""


# -- processes


def free_port() -> int:
    """A port of loopback that was free just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def tool(name: str, package: str = "") -> str:
    """The path of a program. Raises `MissingError`."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        raise MissingError(f"{name} is missing: run tests/tools.sh (Debian package {package or name})")
    return path


def family(pid: int) -> list[int]:
    """A process and all its descendants that live."""
    found = [pid]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in tasks.read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants, all their threads, so far."""
    total = 0.0
    for member in family(pid):
        with contextlib.suppress(OSError):
            # The process's own CPU clock (clock_getcpuclockid(3)): nanoseconds, where /proc/PID/stat has ticks.
            total += time.clock_gettime((~member << 3) | 2)
    return total


def memory(pid: int, which: str = "VmHWM") -> int:
    """Bytes of resident memory of a process and its descendants: the peak (`VmHWM`), or now (`VmRSS`)."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith(which + ":"):
                    total += int(line.split()[1]) * KIB
    return total


def reset_peak(pid: int) -> None:
    """Let the peak of resident memory start again from what it is now."""
    for member in family(pid):
        with contextlib.suppress(OSError):
            Path(f"/proc/{member}/clear_refs").write_text("5")


class Server:
    """A server process on a port of loopback, from `start` to `stop`, or as a context manager."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder
        self._command = list(command)
        self._log = folder / f"{name.replace('/', '-')}.log"
        self._environment = {**os.environ, **(environment or {})}
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started; its workers are found from there."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    def start(self, within: float = 20) -> Server:
        """Start it and wait until it takes connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, cwd=self._cwd, start_new_session=True
            )
        deadline = time.monotonic() + within
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to whatever of it still lives after five seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        members = family(process.pid)
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            for member in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
            process.wait(5)

    def cpu(self) -> float:
        """CPU seconds so far."""
        return cpu_seconds(self.pid)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


# -- measuring


@dataclass(frozen=True)
class Sample:
    """One run: seconds on the clock, and the server's CPU seconds."""

    wall: float
    cpu: float = 0.0


def timed(work: Callable[[], object], server: Server | None = None) -> Sample:
    """Measure how long a piece of work takes, and what it costs the server."""
    cpu = server.cpu() if server else 0.0
    start = time.perf_counter()
    work()
    wall = time.perf_counter() - start
    return Sample(wall, server.cpu() - cpu if server else 0.0)


def alternate(contenders: Mapping[str, Callable[[], Sample]], runs: int, warm: bool = True) -> dict[str, Sample]:
    """The median of several runs of each, taken in turn so that the machine's moods meet all of them alike."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for turn in range(runs + warm):
        for name, run in contenders.items():
            sample = run()
            if turn or not warm:
                samples[name].append(sample)
    return {
        name: Sample(
            statistics.median(sample.wall for sample in taken), statistics.median(sample.cpu for sample in taken)
        )
        for name, taken in samples.items()
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` from 0 to 1."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


# -- lines


@dataclass
class Line:
    """One row of the table: a value and, where there is one, what it should be."""

    figure: str
    what: str
    value: float
    unit: str = ""
    aim: str = ""
    reached: bool | None = None


@dataclass
class Bench:
    """Surroundings of a figure: where to put files, how often to run, and where its lines go."""

    folder: Path
    runs: int
    quick: bool
    figure: str = ""
    lines: list[Line] = field(default_factory=list)

    def size(self, full: int, quick: int) -> int:
        """Return how much to do: less in a quick run."""
        return quick if self.quick else full

    def tell(self, what: str, value: float, unit: str = "") -> None:
        """A value without an aim."""
        self._add(Line(self.figure, what, value, unit))

    def at_most(self, what: str, value: float, aim: float, unit: str = "") -> None:
        """A value that should not be more than `aim`."""
        self._add(Line(self.figure, what, value, unit, f"<= {aim:g}", value <= aim))

    def at_least(self, what: str, value: float, aim: float, unit: str = "") -> None:
        """A value that should not be less than `aim`."""
        self._add(Line(self.figure, what, value, unit, f">= {aim:g}", value >= aim))

    def missing(self, what: str, reason: str) -> None:
        """A line that could not be measured here; it counts as falling short."""
        self._add(Line(self.figure, f"{what}: {reason}", math.nan, reached=False, aim="measured"))

    def samples(self, samples: Mapping[str, Sample]) -> None:
        """The wall and CPU seconds of every contender."""
        for name, sample in samples.items():
            self.tell(f"{name}: wall", sample.wall, "s")
            self.tell(f"{name}: server CPU", sample.cpu, "s")

    def _add(self, line: Line) -> None:
        self.lines.append(line)
        print("  " + row(line), flush=True)


def row(line: Line) -> str:
    """A line of the table as text."""
    value = "n/a" if math.isnan(line.value) else f"{line.value:,.3g}" if line.value < 1000 else f"{line.value:,.0f}"
    verdict = {None: "", True: "reached", False: "FALLS SHORT"}[line.reached]
    return f"{line.what:<58} {value:>10} {line.unit:<6} {line.aim:<10} {verdict}".rstrip()


Figure = Callable[[Bench], None]
_FIGURES: dict[str, dict[str, tuple[str, Figure]]] = {}


def figure(name: str, what: str) -> Callable[[Figure], Figure]:
    """Mark a function as a figure of its module."""

    def mark(function: Figure) -> Figure:
        _FIGURES.setdefault(function.__module__, {})[name] = (what, function)
        return function

    return mark


def room(folder: Path) -> int:
    """Bytes to write there at most: a third of the disk that is free, half of the memory. Others need some, too."""
    free = shutil.disk_usage(folder).free
    if folder.is_relative_to(MEMORY_DISK):
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return min(free, int(line.split()[1]) * KIB // 2)
    return free // 3


@contextlib.contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """A folder that is gone afterwards, in `parent`, else in memory where the machine has such a place."""
    if parent is None and MEMORY_DISK.is_dir() and os.access(MEMORY_DISK, os.W_OK):
        parent = MEMORY_DISK
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=parent) as folder:
        yield Path(folder)


def main(module: str, title: str) -> int:
    """Run the figures of a module as the command line says. Returns 0, or 1 when `--strict` and a line falls short."""
    figures = _FIGURES[module]
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--only", action="append", metavar="NAME", help="run this figure alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer: to see that it works")
    parser.add_argument("--runs", type=int, help="measured runs of each contender [5, with --quick 1]")
    parser.add_argument("--folder", type=Path, help="where files are put for the time [in memory, if there is room]")
    parser.add_argument("--strict", action="store_true", help="end with status 1 when a line falls short")
    parser.add_argument("--list", action="store_true", help="name the figures")
    options = parser.parse_args()
    if options.list:
        for name, (what, _) in figures.items():
            print(f"{name:<24} {what}")
        return 0
    unknown = set(options.only or ()) - set(figures)
    if unknown:
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {', '.join(figures)}")
    lines: list[Line] = []
    print(f"on {os.cpu_count()} cores of {processor()}", flush=True)
    for name, (what, run) in figures.items():
        if options.only and name not in options.only:
            continue
        print(f"{name}: {what}", flush=True)
        with scratch(options.folder) as folder:
            bench = Bench(folder, options.runs or (1 if options.quick else 5), options.quick, name)
            try:
                run(bench)
            except MissingError as error:
                bench.missing(what, str(error))
            lines += bench.lines
    _write(Path(sys.modules[module].__file__ or module).stem, title, lines, options.quick)
    return _verdict(lines) if options.strict else min(_verdict(lines), 0)


def _verdict(lines: Sequence[Line]) -> int:
    short = [line for line in lines if line.reached is False]
    aimed = [line for line in lines if line.reached is not None]
    print(f"\n{len(aimed) - len(short)} of {len(aimed)} aims reached" + (", these fall short:" if short else ""))
    for line in short:
        print(f"  {line.figure}: {row(line)}")
    return 1 if short else 0


def processor() -> str:
    """Return the name of the processor, and whether it has SHA instructions: SHA-256 costs a fifth with them.

    OPENSSL_ia32cap=:~0x20000000 hides them, from the peers too.
    """
    name, flags = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = value
    has = {"sha_ni", "sha2"} & set(flags.split())
    hidden = " that OpenSSL is told not to use" if has and "OPENSSL_ia32cap" in os.environ else ""
    return f"{name}, {'with' if has else 'without'} SHA instructions{hidden}"


def _write(name: str, title: str, lines: Sequence[Line], quick: bool) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    told = {"title": title, "time": datetime.now(UTC).isoformat(), "quick": quick, "machine": machine}
    rows = [asdict(line) | {"value": None if math.isnan(line.value) else line.value} for line in lines]
    (RESULTS / f"{name}.json").write_text(json.dumps({**told, "lines": rows}, indent=2) + "\n", encoding="utf-8")
    _draw(RESULTS / f"{name}.png", title, [line for line in lines if line.reached is not None])
    print(f"\n{RESULTS.relative_to(ROOT)}/{name}.json and .png")


def _draw(path: Path, title: str, lines: Sequence[Line]) -> None:
    """Every line with an aim as a share of it: left of 1 is better where less is, right of it where more is."""
    import matplotlib  # type: ignore[import-not-found, unused-ignore]  # of the extra bench; only here: it takes a second

    matplotlib.use("Agg")
    from matplotlib import pyplot

    aims = {id(line): float(line.aim.split()[-1]) for line in lines if not math.isnan(line.value)}
    # A share of nothing can't be drawn; the table has the line all the same.
    drawn = [line for line in lines if line.value > 0 and aims[id(line)] > 0]
    shares = [line.value / aims[id(line)] for line in drawn]
    chart, axes = pyplot.subplots(figsize=(10, 1.2 + 0.35 * len(drawn)), layout="constrained")
    axes.barh(
        [f"{line.figure}: {line.what} ({line.aim} {line.unit})".strip() for line in drawn],
        shares,
        color=["#2a7f62" if line.reached else "#b3432b" for line in drawn],
    )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("value as a share of its aim (green: reached)")
    axes.set_title(title)
    chart.savefig(path, dpi=110)
    pyplot.close(chart)
