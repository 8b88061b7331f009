"""Text from a server can't control the terminal that shows it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from holdfast.cli._app import holdfast as group
from holdfast.cli._printing._output import escaped

pytestmark = pytest.mark.slow

HOSTILE = "a\x1b]0;owned\x07b\x9b31mc\u202ed\re\x7ff"
STEERING = ("\x1b]0;owned", "\x07", "\x9b", "\u202e", "\x7f")
PROCESS = {
    "id": "x",
    "work_type": HOSTILE,
    "state": "succeeded",
    "version": 1,
    "attempt": 1,
    "params": {"p": HOSTILE},
    "progress": {"done": 1, "total": 2, "note": HOSTILE},
    "labels": {HOSTILE: HOSTILE},
    "result": {"r": HOSTILE},
    "checkpoint": None,
    "place": "thread",
    "priority": 0,
    "stalled": False,
    "error": None,
    "deadline": None,
    **dict.fromkeys(("created", "updated", "started", "ended", "changed"), "2026-01-01T00:00:00Z"),
}
ANSWERS: dict[str, Any] = {
    "/v1/processes/x": PROCESS,
    "/v1/processes": {"items": [PROCESS], "next": None},
    "/v1/processes/x/log": {
        "items": [{"seq": 1, "time": "2026-01-01T00:00:00Z", "level": "info", "message": HOSTILE, "attempt": 1}],
        "next": None,
    },
    "/v1/files": {
        "items": [
            {
                "name": HOSTILE,
                "size": 1,
                "etag": "e",
                "modified": "2026-01-01T00:00:00Z",
                "sha256": None,
                "content_type": "text/plain",
            }
        ],
        "prefixes": [],
        "next": None,
    },
    "/v1/work-types": {
        "items": [{"name": HOSTILE, "doc": HOSTILE, "params_schema": {}, "place": "thread", "retries": 0}],
        "default": HOSTILE,
    },
}
REFUSED = {"type": "/problems/not-found", "title": HOSTILE, "status": 404, "detail": HOSTILE}


class Hostile(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = ANSWERS.get(self.path.partition("?")[0])
        body = json.dumps(REFUSED if found is None else found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "application/problem+json" if found is None else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def said(url: str, words: str, tmp_path: Path, *, terminal: bool) -> str:
    """Everything that a command writes, to a terminal or into pipes."""
    command = [sys.executable, "-m", "holdfast.cli", "--url", url, *words.split()]
    environment = os.environ | {"HOLDFAST_STATE_DIR": str(tmp_path), "TERM": "xterm-256color", "COLUMNS": "200"}
    if not terminal:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, timeout=60)
        return done.stdout.decode()
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 65536):
                text += piece
        except OSError:  # Linux's sign that the other side is closed
            pass
        os.close(ours)
        process.wait(60)
    return text.decode()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("words", ["show x", "ps", "log x", "ls", "work-types", "show other", "rm other", "watch x"])
def test_no_text_of_a_server_steers_the_terminal(url: str, words: str, terminal: bool, tmp_path: Path) -> None:
    for flags in ("", " --json"):
        text = said(url, words + flags, tmp_path, terminal=terminal)
        assert "owned" in text, text
        assert not [sign for sign in STEERING if sign in text], text


@pytest.mark.parametrize("command", ["ls", "start"])
def test_nothing_that_could_steer_is_offered_to_the_shell(url: str, command: str) -> None:
    complete = ShellComplete(group, {}, "holdfast", "_HOLDFAST_COMPLETE")
    offered = [item.value for item in complete.get_completions(["--url", url, command], "")]
    assert not [value for value in offered if escaped(value) != value]
