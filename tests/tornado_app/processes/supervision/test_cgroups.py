"""Cgroups: made where the host allows it, frozen, thawed, killed and removed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import wait_until
from tornado_app.processes.supervision import cgroups
from tornado_app.processes.supervision.cgroups import Cgroup


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """A cgroup; skipped where none can be made."""
    made = Cgroup.make()
    if made is None:
        pytest.skip("no cgroup can be made here")
    yield made
    made.remove()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def folders() -> list[Path]:
    own = cgroups.own_cgroup()
    return [] if own is None else list(Path(own).glob("holdfast-*"))


def test_all_in_it_are_killed_at_once(cgroup: Cgroup, sleeper: subprocess.Popen[bytes]) -> None:
    cgroup.take_in(sleeper.pid)
    cgroup.take_in(sleeper.pid)
    cgroup.kill()
    assert sleeper.wait(10) == -signal.SIGKILL


def test_what_is_frozen_runs_on_after_thaw(cgroup: Cgroup, tmp_path: Path) -> None:
    """A signal that it handles waits until then; one that kills would not (Linux, cgroup-v2, cgroup.freeze)."""
    said = tmp_path / "said"
    with said.open("a") as output:
        script = "trap 'echo got it' USR1; echo ready; while :; do sleep 0.01; done"
        with subprocess.Popen(["sh", "-c", script], stdout=output) as process:
            wait_until(lambda: said.read_text() == "ready\n")
            cgroup.take_in(process.pid)
            assert cgroup.freeze()
            process.send_signal(signal.SIGUSR1)
            print("thaw", file=output, flush=True)
            cgroup.thaw()
            wait_until(lambda: said.read_text() == "ready\nthaw\ngot it\n")
            process.kill()


def test_a_fork_is_born_in_it(cgroup: Cgroup) -> None:
    pid = cgroup.fork()
    if pid is None:
        pytest.skip("the kernel can't fork into a cgroup")
    if pid == 0:
        signal.pause()
        os._exit(0)
    cgroup.kill()
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_it_is_removed(cgroup: Cgroup) -> None:
    before = len(folders())
    cgroup.remove()
    wait_until(lambda: len(folders()) == before - 1)


def test_sweep_leaves_a_cgroup_whose_maker_runs(cgroup: Cgroup) -> None:
    before = folders()
    cgroups.sweep()
    assert set(before) <= set(folders())


def test_where_this_process_has_no_cgroup_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "own_cgroup", lambda: None)
    assert Cgroup.make() is None
    cgroups.sweep()


def test_a_folder_that_can_not_be_written_makes_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as a plain folder: it has no `cgroup.procs`."""
    monkeypatch.setattr(cgroups, "own_cgroup", lambda: str(tmp_path))
    assert Cgroup.make() is None
    assert list(tmp_path.iterdir()) == []


def test_own_cgroup_is_a_folder_where_there_is_one() -> None:
    own = cgroups.own_cgroup() if Path("/proc/self/cgroup").exists() else None
    assert own is None or Path(own, "cgroup.procs").exists()
