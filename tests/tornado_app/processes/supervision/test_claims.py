"""Claims: nothing is started a second time before the first run has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tornado_app.processes.supervision import claims


def test_a_claim_is_waited_for_and_taken_back_by_the_kernel(tmp_path: Path) -> None:
    path = claims.path_of(tmp_path, "process", "p")
    code = "import sys, time; from pathlib import Path; from tornado_app.processes.supervision import claims\n"
    code += "claims.take(Path(sys.argv[1]), 0); print('taken', flush=True); time.sleep(1000)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"taken\n"
    with pytest.raises(TimeoutError):
        claims.take(path, 0.05)
    holder.send_signal(signal.SIGKILL)
    os.close(claims.take(path, 10))
    holder.wait()
    holder.stdout.close()
    claims.wait_until_clear(path, 0)
    assert not path.exists()


def test_a_claim_that_nobody_holds_is_taken_at_once_and_removed(tmp_path: Path) -> None:
    path = claims.path_of(tmp_path, "process", "p")
    assert path != claims.path_of(tmp_path, "process", "q") != claims.path_of(tmp_path, "command", "q")
    os.close(claims.take(path, 0))
    assert path.exists()
    claims.wait_until_clear(path, 0)
    assert not path.exists()
    claims.wait_until_clear(path, 0)


def test_who_may_not_wait_gives_up(tmp_path: Path) -> None:
    path = claims.path_of(tmp_path, "process", "p")
    claim = claims.take(path, 0)
    with pytest.raises(TimeoutError):
        claims.take(path, 60, lambda: False)
    os.close(claim)
