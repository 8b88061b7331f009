"""huey on SQLite with four worker threads, as `benchmarks.processes` measures it: JSON on stdout.

python -m benchmarks.peers.huey_peer FOLDER ONE_AFTER_ANOTHER TOGETHER
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time

from huey import SqliteHuey  # type: ignore[import-not-found, unused-ignore]  # of the extra bench


def main(folder: str, single: int, together: int) -> None:
    """Measure and print."""
    logging.disable(logging.ERROR)
    huey = SqliteHuey(filename=f"{folder}/huey.sqlite")

    @huey.task()
    def empty() -> int:
        return 1

    consumer = huey.create_consumer(workers=4, periodic=False, initial_delay=0.001, backoff=1.0, max_delay=0.001)
    consumer.start()
    singles = []
    for _ in range(single):
        begin = time.perf_counter()
        empty().get(blocking=True, backoff=1.0, max_delay=0.0005)
        singles.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    results = [empty() for _ in range(together)]
    for result in results:
        result.get(blocking=True, backoff=1.0, max_delay=0.0005)
    rate = together / (time.perf_counter() - begin)
    stopper = threading.Thread(target=consumer.stop, kwargs={"graceful": True})
    stopper.start()
    stopper.join(10)
    print(json.dumps({"singles": singles, "rate": rate}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:4]))
