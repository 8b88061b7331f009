"""SIGKILL of the server at each named point of its commits: after the next start everything is as it was promised."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from holdfast.wire import Event, Process
from tests.support.histories import check_chain, check_end, check_trail
from tests.support.processes import alive, told
from tests.support.servers import ServerProcess, wait_until

pytestmark = pytest.mark.slow

# So many deaths without progress between them would park a process as failed on a slow machine: no limit here.
FLAGS = ("--import", "tests.support.work", "--journal-interval", "0.01", "--kill-grace", "0.5", "--max-crashes", "0")
SERVICES = Path(__file__).parents[3] / "tornado_app" / "processes"
NAMED = re.compile(r'fault_points\.point\("([\w.-]+)"\)')
POINTS = {
    *(
        name
        for file in SERVICES.rglob("*.py")
        for name in re.findall(r'fault_points\.point\("([\w.-]+)"\)', file.read_text())
    ),
    *(f"{cause}.written" for cause in ("pause", "resume", "cancel")),
}
# Each life dies at these, one after another, in the order in which it passes them; `:3` is the third since the start.
LIVES = {
    "asked": [
        *("start.written", "claim.written", "pause.written", "recover.written", "resume.written", "cancel.written"),
        *("undone.written", "delete.written"),
    ],
    "reported": ["checkpoint.written", "overdue.written", "log.written", "ended.written"],
    "committed": [
        *("journal.after-commit:2", "journal.before-commit:3", "journal.after-commit:1", "journal.before-commit:1"),
        *("journal.before-commit:5", "journal.after-commit:6", "journal.after-commit:9"),
    ],
}


class Life:
    """A client that starts, pauses, resumes, cancels and deletes; when the server dies it starts it again and goes on.

    It keeps every answer, and a watcher beside it keeps every event, to compare them with what is true in the end.
    """

    def __init__(self, server: ServerProcess, folder: Path, points: Sequence[str] = ()) -> None:
        self.server = server
        self.points = list(points)  # where it is yet to die
        self.folder = folder
        self.deaths = 0
        self.answers: list[Process] = []
        self.heard: list[Event] = []
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def trail(self, id: str) -> Path:
        return self.folder / f"trail-{id}"

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask until there is an answer; a client that lost one asks again."""
        while True:
            try:
                return httpx.request(method, self.server.url + path, timeout=20, **options)
            except httpx.TransportError:
                self.server.wait_for_death()
                self._restart()

    def _restart(self) -> None:
        """Start it again, to die at the next point; it may pass that before it serves."""
        while True:
            self.deaths += 1
            self.server.environment = {"HOLDFAST_FAULT": self.points.pop(0)} if self.points else {}
            try:
                self.server.restart()
            except AssertionError as error:
                if "exit -9" not in str(error):
                    raise
            else:
                return

    def start(self, id: str, work_type: str = "steps", **options: Any) -> None:
        request = {"id": id, "work_type": work_type, **options}
        self._keep(self.ask("POST", "/v1/processes", json=request))

    def verb(self, id: str, verb: str, *states: str) -> None:
        """Ask, and wait until the process is in one of `states`; a refusal is right when the answer was lost."""
        deaths = self.deaths
        answer = self.ask("POST", f"/v1/processes/{id}/{verb}")
        if answer.status_code == 409:
            assert self.deaths > deaths, answer.text
        else:
            self._keep(answer)
        self.wait(id, lambda process: process.state in states)

    def wait(self, id: str, true: Callable[[Process], bool]) -> Process:
        deadline = time.monotonic() + 30
        process = self._keep(self.ask("GET", f"/v1/processes/{id}"))
        while not true(process):
            assert time.monotonic() < deadline, process
            process = self._keep(self.ask("GET", f"/v1/processes/{id}?wait=1&after={process.version}"))
        return process

    def _keep(self, answer: httpx.Response) -> Process:
        assert answer.status_code in (200, 201), answer.text
        self.answers.append(msgspec.json.decode(answer.content, type=Process))
        return self.answers[-1]

    def live(self) -> None:
        """Pass through every kind of commit."""
        trail = str(self.trail("p"))
        self.start("p", params={"trail": trail})
        self.start("q", params={"trail": str(self.trail("q")), "to": 100})
        self.start("d", "never", deadline_s=0.2)
        self.wait("d", lambda p: p.state == "failed")
        self.start("t", "talker", params={"to": 3})
        running = self.wait("p", lambda p: p.state == "running" and (p.progress.done or 0) > 0)
        self.verb("p", "pause", "paused")
        self.verb("p", "resume", "running")
        self.wait("p", lambda p: p.attempt > running.attempt and (p.progress.done or 0) > (running.progress.done or 0))
        self.wait("t", lambda p: p.state == "succeeded")
        self.verb("p", "cancel", "cancelled")
        self.wait("q", lambda p: p.state == "succeeded")
        assert self.ask("DELETE", "/v1/processes/t").status_code in (204, 404)
        self.start("mark", "empty")

    def _watch(self) -> None:
        """Hear every event up to the end of `mark`, over all deaths, by Last-Event-ID."""
        while not self.is_marked(self.heard) and not self._over.is_set():
            last = self.heard[-1].seq if self.heard else 0
            try:
                self.heard += self.events_after(last or 0)
            except httpx.TransportError:
                time.sleep(0.02)

    def events_after(self, last: int) -> list[Event]:
        """Events up to the end of `mark`, or of the stream."""
        events: list[Event] = []
        headers = {"Last-Event-ID": str(last)}
        try:
            with httpx.stream("GET", self.server.url + "/v1/events", headers=headers, timeout=20) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        event = msgspec.json.decode(line[6:], type=Event)
                        events += [event] if event.seq is not None else []
                    if self.is_marked(events):
                        break
        except httpx.TransportError:
            if not events:
                raise
        return events

    @staticmethod
    def is_marked(events: list[Event]) -> bool:
        return bool(events) and (events[-1].id, events[-1].state) == ("mark", "succeeded")

    def watched(self) -> list[Event]:
        """All that was heard, up to the end of `mark`."""
        self._watcher.join(30)
        assert self.is_marked(self.heard)
        return self.heard

    def end(self) -> None:
        """Watch no more: for what went wrong before `mark`. After the server's end."""
        self._over.set()
        self._watcher.join(30)

    def check(self) -> None:
        """Check that all answers and events are true, and the invariants of every history."""
        self.watched()
        kept = self.events_after(0)
        numbers = [event.seq or 0 for event in self.heard]
        assert numbers == list(range(1, numbers[-1] + 1)), "heard in order, each once, none left out"
        lasting = [event for event in self.heard if event.id != "t" or event.type == "deleted"]
        assert lasting == kept, "what was heard is what is kept"
        changes = [event for event in self.heard if event.type == "state"]
        so = {(event.id, (event.version or 0) >> 24): event.state for event in changes}
        for answer in self.answers:
            assert so[answer.id, answer.version >> 24] is answer.state, "what was answered is so"
        for id in ("p", "q", "d", "t"):
            check_chain([event for event in changes if event.id == id])
        for id in ("p", "q"):
            events = [event for event in kept if event.id == id]
            check_trail(told(self.trail(id)), killed=True)
            process = self.wait(id, lambda process: process.has_ended)
            check_end(process, events, told(self.trail(id)), killed=True)


NewLife = Callable[..., Life]


@pytest.fixture
def new_life(tmp_path: Path) -> Iterator[NewLife]:
    """Starts a server that is to die at these points, and a client of it."""
    lives: list[Life] = []

    def new_life(*points: str) -> Life:
        server = ServerProcess(tmp_path, FLAGS, {"HOLDFAST_FAULT": points[0]} if points else {})
        server.start()
        lives.append(Life(server, tmp_path, points[1:]))
        return lives[-1]

    yield new_life
    for life in lives:
        life.server.end()
        life.end()


def test_every_fault_point_of_the_processes_is_in_a_life() -> None:
    elsewhere = {"alone.written", "staged.before-drop"}  # in test_poison.py and test_staged.py
    assert {point.partition(":")[0] for life in LIVES.values() for point in life} | elsewhere == POINTS


@pytest.mark.parametrize("points", LIVES.values(), ids=LIVES)
def test_a_server_killed_in_its_commits_keeps_every_promise(new_life: NewLife, points: list[str]) -> None:
    life = new_life(*points)
    life.live()
    life.check()
    assert life.deaths == len(points), "it died at each"


def process_ids(path: Path) -> list[int]:
    """Return the ids that work in the process place has noted: its own, its child's, and that of the fork server."""
    pids = [int(pid) for pid in wait_until(lambda: told(path))[0].split()]
    return [*pids, int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])]


@pytest.mark.parametrize("how", ["leaves_a_child", "spins_deaf"])
def test_a_killed_server_leaves_no_process_of_the_process_place_behind(
    new_life: NewLife, tmp_path: Path, how: str
) -> None:
    life = new_life()
    life.start("p", "bad", place="process", params={"how": how, "path": str(tmp_path / "pids")})
    pids = process_ids(tmp_path / "pids")
    assert all(map(alive, pids))
    life.server.kill()
    wait_until(lambda: not any(map(alive, pids)))


def test_without_its_fork_server_the_server_goes_on(new_life: NewLife, tmp_path: Path) -> None:
    """It was killed, perhaps for want of memory: what it ran fails, and what is started next has a new one."""
    life = new_life()
    life.start("p", "bad", place="process", params={"how": "leaves_a_child", "path": str(tmp_path / "pids")})
    pids = process_ids(tmp_path / "pids")
    os.kill(pids[-1], signal.SIGKILL)
    failed = life.wait("p", lambda process: process.has_ended)
    assert failed.error is not None
    assert failed.error.type == "ProcessDied"
    wait_until(lambda: not any(map(alive, pids)))
    life.start("q", place="process", params={"to": 3})
    assert life.wait("q", lambda process: process.has_ended).result == {"at": 3}
