"""The rule that an unmarked test takes at most a quarter of a second, as the run itself measures it.

Processor time counts, that of the test's own children too, so that a busy machine changes nothing; the clock counts
only on a machine that is quick at the moment. A machine that is slower than the one the rule was made on has more time:
a fixed computation at the start tells how much. A test that takes too long is named at the end of the run, and in the
file that `HOLDFAST_LONG_TESTS` names when it takes twice as long as that: `.ci/retry.py` measures it again, alone,
before it fails the run.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

LIMIT = 0.25  # seconds of the processor
BY_THE_CLOCK = 0.5  # seconds: a test also waits for the disk, and for whoever else is at work
REFERENCE = 0.019  # seconds that `computation` takes on the machine the rule was made on
MARGIN = 2.0  # a test that takes longer than the limit is named; one that takes twice as long fails the run
QUICK = 1.5  # times the reference, by the clock: up to here the clock says something about the test


def computation() -> None:
    """Work of one kind with what tests do: interpreted code, small objects, a library in C."""
    found: dict[str, int] = {}
    for number in range(40_000):
        found[hashlib.sha256(b"%d" % number).hexdigest()[:2]] = number
    assert len(found) == 256


@dataclass(frozen=True)
class Took:
    """Time that something took: of the processor, and by the clock."""

    processor: float
    clock: float


class Stopwatch:
    """Measures from its making to `took`."""

    def __init__(self) -> None:
        self._processor, self._clock = processor_time(), time.perf_counter()

    def took(self) -> Took:
        """Return the time since the stopwatch was made."""
        return Took(processor_time() - self._processor, time.perf_counter() - self._clock)


def processor_time() -> float:
    """Return the seconds that this process and its children that have ended have used of the processor."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def calibrate() -> Took:
    """Return how many times longer than on the reference machine a fixed computation takes; at least 1."""
    tries: list[Took] = []
    for _ in range(3):
        watch = Stopwatch()
        computation()
        tries.append(watch.took())
    processor, clock = min(took.processor for took in tries), min(took.clock for took in tries)
    return Took(max(1.0, processor / REFERENCE), max(1.0, clock / REFERENCE))


def too_long(took: Took, machine: Took, margin: float = 1.0) -> str:
    """Return what was too long about a test on a machine that `calibrate` measured, or ""."""
    if took.processor > LIMIT * margin * machine.processor:
        return f"{took.processor:.2f} s of the processor"
    if machine.clock <= QUICK and took.clock > BY_THE_CLOCK * margin * machine.clock:
        return f"{took.clock:.2f} s"
    return ""


class QuarterSecond:
    """Pytest plugin that measures the call of every test without the mark `slow`."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._machine = calibrate()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        watch = Stopwatch()
        yield
        took = watch.took()
        if item.get_closest_marker("slow") is None and (text := too_long(took, self._machine)):
            item.user_properties.append(("too long", text))
            if self._file and too_long(took, self._machine, MARGIN):
                with open(self._file, "a", encoding="utf-8") as file:
                    file.write(f"{item.nodeid}\t{text}\n")


class Report:
    """Pytest plugin that names the tests that took too long at the end of a run."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self._lines += [f"{report.nodeid}: {text}" for name, text in report.user_properties if name == "too long"]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._lines:
            terminalreporter.section("unmarked tests that took over a quarter of a second")
            for line in self._lines:
                terminalreporter.line(line)


def register(config: pytest.Config) -> None:
    """Measure in the process that runs the tests, and report in the one that hears of them all.

    Under coverage everything takes longer by a factor of its own, and nothing is measured.
    """
    coverage = sys.modules.get("coverage")
    if coverage is not None and coverage.Coverage.current() is not None:
        return
    is_worker = hasattr(config, "workerinput")
    if is_worker or not getattr(config.option, "numprocesses", None):
        # taken away, so that a pytest that a test starts adds nothing to the file
        config.pluginmanager.register(QuarterSecond(os.environ.pop("HOLDFAST_LONG_TESTS", "")))
    if not is_worker:
        config.pluginmanager.register(Report())
