"""dbos on SQLite, as `benchmarks.processes` measures it: seconds of each thing as JSON on stdout.

python -m benchmarks.peers.dbos_peer FOLDER STEPS ONE_AFTER_ANOTHER TOGETHER
"""

from __future__ import annotations

import json
import logging
import sys
import time

from dbos import DBOS  # type: ignore[import-not-found, unused-ignore]  # of the extra bench


def main(folder: str, steps: int, single: int, together: int) -> None:
    """Measure and print."""
    logging.disable(logging.WARNING)
    DBOS(config={"name": "peer", "system_database_url": f"sqlite:///{folder}/dbos.sqlite", "run_admin_server": False})

    @DBOS.step()
    def step() -> int:
        return 1

    @DBOS.workflow()
    def stepping(count: int) -> int:
        return sum(step() for _ in range(count))

    @DBOS.workflow()
    def empty() -> int:
        return 1

    DBOS.launch()
    DBOS.start_workflow(stepping, 3).get_result()

    begin = time.perf_counter()
    DBOS.start_workflow(stepping, steps).get_result()
    each_step = (time.perf_counter() - begin) / steps

    singles = []
    for _ in range(single):
        begin = time.perf_counter()
        DBOS.start_workflow(empty).get_result()
        singles.append(time.perf_counter() - begin)

    begin = time.perf_counter()
    handles = [DBOS.start_workflow(empty) for _ in range(together)]
    for handle in handles:
        handle.get_result()
    rate = together / (time.perf_counter() - begin)
    DBOS.destroy()
    print(json.dumps({"step": each_step, "singles": singles, "rate": rate}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
