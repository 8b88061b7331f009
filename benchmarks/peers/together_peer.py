"""Many workflows at once on dbos or huey, each of some steps that wait: seconds on the clock and of CPU as JSON.

python -m benchmarks.peers.together_peer FOLDER dbos|huey COUNT STEPS MILLISECONDS
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable


def main(folder: str, which: str, count: int, steps: int, seconds: float) -> None:
    """Measure and print."""
    logging.disable(logging.ERROR)
    start, stop = {"dbos": dbos, "huey": huey}[which](folder, count, steps, seconds)
    start(1)
    begin, cpu = time.perf_counter(), time.process_time()
    start(count)
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    stop()
    print(json.dumps({"wall": wall, "cpu": cpu}))


def dbos(folder: str, count: int, steps: int, seconds: float) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Every step is durable."""
    from dbos import DBOS  # type: ignore[import-not-found, unused-ignore]  # of the extra bench

    url = f"sqlite:///{folder}/dbos.sqlite"
    DBOS(config={"name": "peer", "system_database_url": url, "run_admin_server": False, "max_executor_threads": count})

    @DBOS.step()
    def step() -> None:
        time.sleep(seconds)

    @DBOS.workflow()
    def stepping() -> None:
        for _ in range(steps):
            step()

    def start(number: int) -> None:
        for handle in [DBOS.start_workflow(stepping) for _ in range(number)]:
            handle.get_result()

    DBOS.launch()
    return start, DBOS.destroy


def huey(folder: str, count: int, steps: int, seconds: float) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Only the end of a task is kept."""
    from huey import SqliteHuey  # type: ignore[import-not-found, unused-ignore]  # of the extra bench

    queue = SqliteHuey(filename=f"{folder}/huey.sqlite")

    @queue.task()
    def stepping() -> int:
        for _ in range(steps):
            time.sleep(seconds)
        return 1

    consumer = queue.create_consumer(workers=count, periodic=False, initial_delay=0.01, backoff=1.0, max_delay=0.01)
    consumer.start()

    def start(number: int) -> None:
        for result in [stepping() for _ in range(number)]:
            result.get(blocking=True, backoff=1.0, max_delay=0.005)

    def stop() -> None:
        stopper = threading.Thread(target=consumer.stop, kwargs={"graceful": True})
        stopper.start()
        stopper.join(10)

    return start, stop


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]) / 1000)
