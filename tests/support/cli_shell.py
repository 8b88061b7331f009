"""The command `holdfast` as tests run it: in this process, in one of its own, on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.cli._app import run

COMMAND = [sys.executable, "-m", "holdfast.cli"]

Started = Callable[..., "subprocess.Popen[bytes]"]


def read_until(number: int, wanted: bytes) -> bytes:
    said = b""
    while wanted not in said:
        piece = os.read(number, 10_000)
        assert piece, said
        said += piece
    return said


def on_terminal(*arguments: str, columns: int = 80) -> list[str]:
    """The lines that the command writes on a terminal of so many columns, without their colours."""
    main, side = pty.openpty()
    try:
        environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
        child = subprocess.Popen([*COMMAND, *arguments], stdin=side, stdout=side, stderr=side, env=environment)
        os.close(side)
        said = b""
        while True:
            try:
                piece = os.read(main, 10_000)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            said += piece
        child.wait(60)
    finally:
        os.close(main)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()).splitlines()


class Shell:
    """Runs commands in this process: exit code, standard output, standard error."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        found = run(["--url", self._url, *arguments])
        self.out, self.err = self._capsys.readouterr()
        assert found == code, f"exit code {found}: {self.out}{self.err}"
        return self.out

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The one record that it prints."""
        [record] = self.lines(*arguments, code=code)
        return record

    def lines(self, *arguments: str, code: int = 0) -> list[Any]:
        """The records that it prints, as JSON Lines."""
        return [json.loads(line) for line in self(*arguments, "--json", code=code).splitlines()]
