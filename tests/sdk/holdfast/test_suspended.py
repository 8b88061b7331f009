"""A laptop that sleeps: the client stands still, its connections die, and it goes on when it wakes up."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess

MIB = 1 << 20
CODE = """
import sys, holdfast
url, way, here, name = sys.argv[1:]
with holdfast.Client(url) as client:
    transfer = client.files.upload(here, name) if way == "up" else client.files.download(name, here)
    transfer.wait(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_transfer_outlives_the_sleep_of_its_client(
    served: ServerProcess, faulty: Callable[..., FaultyProxy], tmp_path: Path, way: str
) -> None:
    name, size = f"slept-{way}.bin", 4 * MIB
    there, here = served.files_dir / name, tmp_path / name
    source, target = (here, there) if way == "up" else (there, here)
    source.write_bytes(random.Random(way).randbytes(size))
    slow = {f"rate_{way}": 4 * MIB}
    proxy = faulty(*[Fault(**slow)] * 3)  # type: ignore[arg-type]
    child = subprocess.Popen([sys.executable, "-c", CODE, proxy.url, way, str(here), name])
    try:
        proxy.wait_for(lambda p: p.bytes_up + p.bytes_down > MIB)
        child.send_signal(signal.SIGSTOP)
        proxy.cut_all()
        child.send_signal(signal.SIGCONT)
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()
    assert target.read_bytes() == source.read_bytes()
    assert proxy.bytes_up + proxy.bytes_down < 2 * size, "it went on, and did not begin again"
