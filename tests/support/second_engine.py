"""An engine on a journal that others share, in a process of its own: `python -m tests.support.second_engine ...`.

It prints its server id when it is open, and runs until it is killed. Arguments: data directory, files directory, lease.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import work
from tests.support.processes import engine_on, quick, shared_journal
from tornado_app.processes.registry import Registry
from tornado_app.settings import Settings


async def main(data_dir: Path, files_dir: Path, lease: float) -> None:
    """Open the engine and serve its share of the queue."""
    logging.basicConfig(level=logging.WARNING)
    settings = quick(Settings(data_dir=data_dir, files_dir=files_dir))
    registry = Registry()
    registry.add_module(work)
    engine = engine_on(settings, registry, journal=shared_journal(settings), lease=lease)
    await engine.open()
    print(engine.lease.id, flush=True)
    await asyncio.Event().wait()


@contextmanager
def second_engine(settings: Settings, lease: float) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run one while the block lasts; the process, and the server id."""
    arguments = [str(settings.data_dir), str(settings.files_dir), str(lease)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.second_engine", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    try:
        id = process.stdout.readline().strip()
        assert id, process.stderr.read() if process.stderr else ""
        yield process, id
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
