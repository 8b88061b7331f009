"""All descendants: whatever leaves its process group, its session or its parent is found, stopped and ended."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import wait_until
from tests.support.work_runs import Run, gone, stands, state
from tests.tornado_app.work_types.test_notebook import first_words, made
from tornado_app.processes.supervision import cgroups, claims, supervisor
from tornado_app.work_types.programs.program import Program

LOOP = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP, signal.SIGUSR1})
with open(sys.argv[1] + f".{os.getpid()}", "a", buffering=1) as trail:
    while True:
        trail.write(".")
        trail.flush()
        time.sleep(0.005)
"""

DOUBLE_FORK = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    os._exit(0)
os.wait()
time.sleep(1000)
"""

ESCAPES = {
    "a group of its own": "sh -c 'timeout 1000 {loop}; true'",
    "job control": "bash -c 'set -m; {loop} & {loop}; wait'",
    "a session of its own": "sh -c 'setsid {loop} & sleep 1000'",
    "a daemon": "{python} {double_fork} {loop_file} {trail}",
    "a session in a session": "sh -c 'setsid sh -c \"setsid {loop} & {loop}\" & sleep 1000'",
}

pytestmark = pytest.mark.slow


@pytest.fixture
def escape(tmp_path: Path) -> Callable[[str], str]:
    """A command line that starts `LOOP` somewhere out of reach of its group."""
    (tmp_path / "loop.py").write_text(LOOP)
    (tmp_path / "double.py").write_text(DOUBLE_FORK)
    trail = tmp_path / "trail"
    names = {
        "loop": f"{sys.executable} {tmp_path / 'loop.py'} {trail}",
        "python": sys.executable,
        "double_fork": tmp_path / "double.py",
        "loop_file": tmp_path / "loop.py",
        "trail": trail,
    }
    return lambda how: ESCAPES[how].format(**names)


def loops(tmp_path: Path) -> dict[int, int]:
    """Return all loops that were ever started, each with its count."""
    return {int(path.suffix[1:]): path.stat().st_size for path in tmp_path.glob("trail.*")}


def all_gone(pids: dict[int, int]) -> bool:
    return all(map(gone, pids))


def each_way_with(names: str, *values: Any) -> pytest.MarkDecorator:
    """Every way, with these values in turn: all of both are tried, not all pairs."""
    return pytest.mark.parametrize(f"how, {names}", [*zip(ESCAPES, itertools.cycle(values), strict=False)])


@each_way_with("place", "thread", "thread", "process")
def test_paused_and_cancelled_are_true_of_all_that_a_program_started(
    run: Run, escape: Callable[[str], str], tmp_path: Path, how: str, place: str
) -> None:
    running = run("--command", f"c={escape(how)}", "--kill-grace", "0.3", work_type="command", place=place, name="c")
    started = wait_until(lambda: loops(tmp_path))
    if place == "thread":
        running.ask("pause")
        running.until("paused")
        started = loops(tmp_path)
        assert all(state(pid) == "T" for pid in started)
        time.sleep(0.1)
        assert loops(tmp_path) == started, "nothing runs while it is paused"
        running.ask("resume")
        wait_until(lambda: all(loops(tmp_path)[pid] > done for pid, done in started.items()))
    running.ask("cancel")
    running.until("cancelled")
    assert all_gone(loops(tmp_path)), "cancelled is said when none runs"


@each_way_with("first", "", "pause")
def test_a_killed_server_leaves_none_of_it_and_starts_it_once(
    run: Run, escape: Callable[[str], str], tmp_path: Path, how: str, first: str
) -> None:
    running = run("--command", f"c={escape(how)}", work_type="command", name="c")
    wait_until(lambda: loops(tmp_path))
    if first:
        running.ask(first)
        running.until("paused")
    running.server.kill()
    before = loops(tmp_path)
    running.server.restart()
    if first:
        running.ask("resume")
    wait_until(lambda: len(loops(tmp_path)) > len(before))
    assert all_gone(before), "it is started over when nothing of it is left"
    running.ask("cancel")
    running.until("cancelled")
    assert all_gone(loops(tmp_path))


@each_way_with("verb", "kill", "pause", "cancel")
def test_in_the_process_place_all_that_the_work_started_ends_with_it(
    run: Run, escape: Callable[[str], str], tmp_path: Path, how: str, verb: str
) -> None:
    running = run("--import", "tests.support.work", work_type="shells", place="process", command=escape(how))
    wait_until(lambda: loops(tmp_path))
    running.ask(verb)
    running.until({"kill": "failed", "pause": "paused", "cancel": "cancelled"}[verb])
    assert all_gone(loops(tmp_path))


@pytest.mark.parametrize("how", ["job control", "a daemon"])
def test_in_the_process_place_a_killed_server_leaves_none_of_it(
    run: Run, escape: Callable[[str], str], tmp_path: Path, how: str
) -> None:
    running = run("--import", "tests.support.work", work_type="shells", place="process", command=escape(how))
    started = wait_until(lambda: loops(tmp_path))
    running.server.kill()
    wait_until(lambda: all_gone(started))


# -- without a cgroup, and with one


WITHOUT_A_CGROUP = f"""
import sys
sys.path.append({str(Path(supervisor.__file__).parents[3])!r})
from tornado_app.processes.supervision import cgroups, supervisor
cgroups.Cgroup.make = classmethod(lambda cls: None)
supervisor.main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
"""


@pytest.fixture(params=["cgroup", "none"])
def started(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., Program]]:
    """Starts programs whose supervisors may use a cgroup, or may not.

    Coverage is not to measure them: it would work for longer at each fork and each end, until nothing moves any more.
    """
    if request.param == "cgroup":
        made = cgroups.Cgroup.make()
        if made is None:
            pytest.skip("no cgroup can be made here")
        made.remove()
    else:
        script = tmp_path / "supervisor.py"
        script.write_text(WITHOUT_A_CGROUP)
        monkeypatch.setattr(supervisor, "__file__", str(script))
    programs: list[Program] = []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS_")}

    def start(*arguments: str) -> Program:
        programs.append(Program(arguments, grace=0.2, environment=environment))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


BOMB = """
import os, sys, time
def trail():
    with open(sys.argv[1], "a") as file:
        file.write(".")
while True:
    trail()
    if len(os.listdir("/proc")) < int(sys.argv[2]):
        os.fork()
    time.sleep(0.001)
"""

COMET = """
import os, sys
while True:
    if os.fork():
        os._exit(0)
    with open(sys.argv[1], "a") as file:
        file.write(".")
"""


@pytest.mark.parametrize("code", [BOMB, COMET], ids=["multiplies", "never stays the same process"])
def test_what_forks_all_the_time_is_stopped_goes_on_and_is_ended(
    started: Callable[..., Program], tmp_path: Path, code: str
) -> None:
    trail = tmp_path / "trail"
    most = len(os.listdir("/proc")) + 60
    inner = f"""
import subprocess, sys, time
subprocess.run([sys.executable, "-c", {code!r}, *sys.argv[1:]])
time.sleep(1000)
"""
    program = started(sys.executable, "-c", inner, str(trail), str(most))

    def size() -> int:
        return trail.stat().st_size if trail.exists() else 0

    wait_until(lambda: size() > 100)
    program.stop()
    stood = size()
    time.sleep(0.2)
    assert size() == stood
    program.resume()
    wait_until(lambda: size() > stood)
    program.end()
    stood = size()
    time.sleep(0.2)
    assert size() == stood


def test_what_had_stopped_itself_goes_on_standing(started: Callable[..., Program]) -> None:
    program = started("sh", "-c", "sleep 1000 & kill -STOP $!; echo $!; wait")
    pid = int(wait_until(lambda: program.lines(0.1))[0])
    wait_until(lambda: state(pid) == "T")
    program.stop()
    program.resume()
    wait_until(lambda: state(program.pid) == "S")
    assert state(pid) == "T"


def test_a_shell_with_job_control_does_not_notice_a_pause(started: Callable[..., Program], tmp_path: Path) -> None:
    program = started("bash", "-c", f"set -m; echo begun; sleep 1; echo over > {tmp_path}/over")
    assert wait_until(lambda: program.lines(0.1)) == ["begun"]
    for _ in range(3):
        program.stop()
        program.resume()
    asked = time.monotonic()
    wait_until(lambda: (tmp_path / "over").exists())
    assert time.monotonic() - asked > 0.3, "it waits for its program, which goes on"


# -- when those who would end it are killed


def test_what_outlives_its_supervisor_is_ended(escape: Callable[[str], str], tmp_path: Path) -> None:
    claim = claims.path_of(tmp_path, "command", "p#1")
    program = Program(["sh", "-c", escape("a daemon")], grace=0.2, claim=claim)
    started = wait_until(lambda: loops(tmp_path))
    program._supervisor.kill()
    wait_until(lambda: program.has_ended or program.lines(0.05) is None)
    wait_until(lambda: all_gone(started))
    program.close()
    assert not claim.exists()


def test_what_outlived_server_and_supervisor_is_ended_before_it_is_started_again(
    escape: Callable[[str], str], tmp_path: Path
) -> None:
    claim = claims.path_of(tmp_path, "command", "p#1")
    code = f"""
import os, signal
from pathlib import Path
from tornado_app.work_types.programs.program import Program
program = Program(["sh", "-c", {escape("a daemon")!r}], grace=0.2, claim=Path({str(claim)!r}))
while not list(Path({str(tmp_path)!r}).glob("trail.*")):
    program.lines(0.01)
os.kill(program._supervisor.pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    started = loops(tmp_path)
    assert started
    again = Program(["true"], grace=0.2, claim=claim)
    assert all_gone(started)
    again.end()


# -- a notebook's kernel


@pytest.mark.usefixtures("kernel_home")
def test_what_a_cell_has_started_stands_while_paused_and_ends_with_the_kernel(run: Run, tmp_path: Path) -> None:
    gate, trail = tmp_path / "gate", tmp_path / "trail"
    loop = f"while true; do echo . >> {trail}; sleep 0.01; done"
    cell = f"""import os, subprocess
child = subprocess.Popen(["sh", "-c", {loop!r}], start_new_session=True)
print(os.getpid(), child.pid)"""
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.02)"
    data = made(cell, wait, "import time\ntime.sleep(1000)")
    running = run("--allow-code", work_type="notebook", files={"n.ipynb": data}, file_name="n.ipynb")
    kernel, child = first_words(running)
    wait_until(trail.exists)
    running.ask("pause")
    gate.touch()
    running.until("paused")
    size = trail.stat().st_size
    assert state(kernel) == "T"
    assert stands(int(child))
    time.sleep(0.1)
    assert trail.stat().st_size == size, "nothing runs while it is paused"
    running.ask("resume")
    wait_until(lambda: trail.stat().st_size > size)
    running.ask("kill")
    running.until("failed")
    assert gone(kernel)
    assert gone(int(child)), "it left the session of the kernel, and ends with it"
