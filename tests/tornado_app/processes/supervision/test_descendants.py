"""Descendants of a process are found, stopped, resumed and ended; signals reach no other process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.support.servers import wait_until
from tests.support.work_runs import gone
from tornado_app.processes.supervision import claims, descendants

FIXTURE = """
import os, signal, subprocess, sys, time
from tornado_app.processes.supervision.descendants import Descendants, Wake, read_process

def state(pid):
    found = read_process(pid)
    return found and found.state

def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)

def start(*command):
    pid = tree.fork()
    if pid == 0:
        os.setsid()
        os.execvp(command[0], command)
    return pid

wake = Wake()
tree = Descendants()
ended = []
def take(pid, status):
    ended.append((pid, status))
"""


def run(code: str) -> None:
    """Run code in a process of its own: a subreaper adopts every orphan below it."""
    done = subprocess.run(
        [sys.executable, "-c", FIXTURE + textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_orphan_in_another_session_is_found_stopped_resumed_and_ended() -> None:
    run("""
        pid = start("sh", "-c", "setsid sleep 1000 & sleep 1000 & exit 3")
        until(lambda: [take(*one) for one in tree.reap()[0]] or ended)
        assert [(one, os.waitstatus_to_exitcode(status)) for one, status in ended] == [(pid, 3)]
        until(lambda: [p.state for p in tree.find()] == ["S", "S"])
        pids = [p.pid for p in tree.find()]
        assert tree.stop(5, take) == []
        assert [state(p) for p in pids] == ["T", "T"]
        tree.resume()
        until(lambda: [state(p) for p in pids] == ["S", "S"])
        tree.end(lambda timeout: wake.wait(timeout), take)
        assert tree.find() == []
        assert {pid for pid, status in ended} >= set(pids)
    """)


@pytest.mark.slow
def test_resume_leaves_a_process_stopped_that_was_stopped_before() -> None:
    run("""
        pid = start("sleep", "1000")
        os.kill(pid, signal.SIGSTOP)
        until(lambda: state(pid) == "T")
        other = start("sleep", "1000")
        assert tree.stop(5, take) == []
        tree.resume()
        until(lambda: state(other) == "S")
        assert state(pid) == "T"
        tree.end(lambda timeout: wake.wait(timeout), take)
    """)


@pytest.mark.slow
def test_terminate_reaches_a_stopped_process() -> None:
    run("""
        pid = start("sleep", "1000")
        assert tree.stop(5, take) == []
        tree.terminate()
        until(lambda: [take(*one) for one in tree.reap()[0]] or ended)
        assert ended == [(pid, signal.SIGTERM)]
        tree.end(lambda timeout: wake.wait(timeout), take)
    """)


@pytest.mark.slow
def test_the_exit_status_of_each_child_is_reaped_once() -> None:
    run("""
        pid = start("sh", "-c", "exit 3")
        found, more = [], True
        while more:
            wake.wait(1.0)
            new, more = tree.reap()
            found += new
        assert [(one, os.waitstatus_to_exitcode(status)) for one, status in found] == [(pid, 3)]
        tree.end(lambda timeout: None, take)
    """)


def test_a_signal_does_not_reach_a_process_that_got_the_id_since() -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    found = descendants.read_process(sleeper.pid)
    assert found is not None
    assert not descendants.send(found._replace(started="1"), signal.SIGKILL)
    assert not gone(sleeper.pid)
    assert descendants.send(found, signal.SIGKILL)
    sleeper.wait()


def test_where_there_is_no_proc_children_are_found_by_ps() -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        found = {process.pid: process for process in descendants._processes_by_ps()}
        assert found[sleeper.pid].parent == os.getpid()
    finally:
        sleeper.kill()
        sleeper.wait()


def test_orphans_are_found_by_the_marker_in_their_environment() -> None:
    marker = f"{claims.VARIABLE}=/nowhere/{os.getpid()}"
    name, _, value = marker.partition("=")
    marked = subprocess.Popen(["sleep", "1000"], env={**os.environ, name: value})
    other = subprocess.Popen(["sleep", "1000"])
    try:
        wait_until(lambda: descendants.read_process(marked.pid))
        if not descendants.LINUX:
            pytest.skip("needs /proc")
        descendants.end_orphans(None, marker)
        assert marked.wait(10) == -signal.SIGKILL
        assert not gone(other.pid)
    finally:
        for process in (marked, other):
            process.kill()
            process.wait()


def test_a_process_that_does_not_exist_has_no_state() -> None:
    assert descendants.read_process(1 << 30) is None
