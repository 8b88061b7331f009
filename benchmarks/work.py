"""Work types for the benchmarks: `--import benchmarks.work`."""

from __future__ import annotations

import time
from collections.abc import Generator

import msgspec

from holdfast.work import Job, Progress, work_type


class Steps(msgspec.Struct):
    """Number of yields, and the seconds that each step takes."""

    steps: int
    seconds: float = 0.0


@work_type("bench-empty")
def empty(job: Job[object]) -> Generator[Progress, None, None]:
    """Nothing at all."""
    yield from ()


@work_type("bench-steps", params=Steps)
def steps(job: Job[Steps]) -> Generator[Progress, None, float]:
    """Yield that often; the seconds that a yield took, less the step itself, is the result."""
    pause, total = job.params.seconds, job.params.steps
    begin = time.perf_counter()
    for i in range((job.checkpoint or {"i": 0})["i"], total):
        if pause:
            time.sleep(pause)
        yield Progress(i + 1, total, {"i": i + 1})
    return (time.perf_counter() - begin) / total - pause
