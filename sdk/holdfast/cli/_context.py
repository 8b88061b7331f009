"""Shared by all commands: the address of the server, `--json`, the consoles, and exit codes for errors."""

from __future__ import annotations

import functools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.markup import escape

from holdfast import errors
from holdfast._client.core import core_of
from holdfast._http import Connection
from holdfast._sync.client import Client
from holdfast.cli._printing._output import PlainConsole, compact

C = TypeVar("C", bound=Callable[..., Any])


class Exit(IntEnum):
    """Exit codes, documented in docs/command.md."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    NOT_ALLOWED = 6
    TIMEOUT = 124
    INTERRUPTED = 130


@dataclass
class Context:
    """One run of the command."""

    url: str | None = None
    token: str | None = None
    json: bool = False
    notice: Callable[[str], None] | None = None
    """Receives notices of retries in place of stderr, while a full-screen view is shown."""
    out: Console = field(default_factory=lambda: PlainConsole(highlight=False))
    err: Console = field(default_factory=lambda: PlainConsole(stderr=True, highlight=False))

    def client(self, **options: Any) -> Client:
        """Return a client of the server of this run."""
        try:
            client = Client(self.url, self.token, **options)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        connection = core_of(client).connection
        connection.on_retry = RetryPolicy(self, connection).on_retry
        return client

    def print_json(self, value: Any) -> None:
        """Print one line of JSON on stdout, never wrapped."""
        sys.stdout.write(compact(value) + "\n")
        sys.stdout.flush()

    def print_problem(self, problem: dict[str, Any]) -> None:
        """Print one line of JSON on stderr."""
        sys.stderr.write(compact(problem) + "\n")

    def retrying(self, error: errors.HoldfastError, seconds: float) -> None:
        """Report on stderr what failed and when the next attempt is."""
        if self.json:
            self.print_problem({"error": type(error).__name__, "message": str(error), "retrying_in": round(seconds, 3)})
        else:
            (self.notice or self.note)(f"{errors.in_words(error)}; retrying in {math.ceil(seconds)} s")

    def note(self, text: str) -> None:
        """Print a text for a person on stderr. With --json, print nothing."""
        if not self.json:
            self.err.print(text, markup=False, soft_wrap=True)  # names may look like markup


AT_THE_TERMINAL = {
    "overwrite=True": "--overwrite",
    "restart=True": "--restart",
    "allow_dangerous=True": "--allow-dangerous",
    "client.files.list()": "holdfast ls",
    "client.processes.list()": "holdfast ps",
    "client.work_types()": "holdfast work-types",
    "as token=": "with --token",
}
"""Advice of the client and of the server, in the terms of the command."""

FIRST_TRIES = 3
"""Most attempts while the server has never answered; one only, if it accepts no connection."""


class RetryPolicy:
    """Ends the retries of a server that never answered, and reports the retries of one that did."""

    def __init__(self, context: Context, connection: Connection) -> None:
        self._context = context
        self._connection = connection
        self._failures = 0
        self._reported = -math.inf
        self._lock = threading.Lock()

    def on_retry(self, error: errors.HoldfastError, seconds: float) -> None:
        """Report that a retry follows after so many seconds, or raise `error` to end the retries."""
        with self._lock:
            if not self._connection.reached:
                self._failures += 1
                if isinstance(error, errors.ConnectFailed) or self._failures >= FIRST_TRIES:
                    raise error
            now = time.monotonic()
            if now - self._reported < 1:  # several connections may fail together, and the first retries are quick
                return
            self._reported = now
        self._context.retrying(error, seconds)


pass_context = click.make_pass_decorator(Context, ensure=True)


def _take_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Context).json = True


json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_take_json, help="Print JSON, for programs."
)


def command(function: C) -> C:
    """Add `--json` to a command, and pass the context as its first argument."""

    @functools.wraps(function)
    @pass_context
    def call(context: Context, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(context, *args, **kwargs)
        except BrokenPipeError:
            # The reader has closed the pipe. The rest of the buffer goes to null when the interpreter flushes it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(Exit.OK) from None

    return json_option(call)  # type: ignore[return-value]  # click's decorators keep the function a function


def exit_code(error: BaseException) -> Exit:
    """Return the exit code of an error."""
    kinds: Iterable[tuple[type[BaseException] | tuple[type[BaseException], ...], Exit]] = (
        (errors.WaitTimeout, Exit.TIMEOUT),
        (errors.TransportError, Exit.UNREACHABLE),
        ((errors.Unauthorized, errors.Forbidden), Exit.NOT_ALLOWED),
        (errors.NoSpace, Exit.REFUSED),
        (errors.ServerError, Exit.UNREACHABLE),
        ((errors.NotFound, errors.Gone, FileNotFoundError), Exit.NOT_FOUND),
        (errors.APIError, Exit.REFUSED),
        ((errors.LocalExists, errors.RemoteChanged, errors.LocalChanged, errors.DangerousName), Exit.REFUSED),
        (KeyboardInterrupt, Exit.INTERRUPTED),
    )
    return next((code for kind, code in kinds if isinstance(error, kind)), Exit.FAILED)


def report(context: Context, error: BaseException, **about: str) -> Exit:
    """Report an error on stderr and return its exit code. `about` adds members to the JSON."""
    code = exit_code(error)
    if context.json:
        problem = {"error": type(error).__name__, "message": str(error), "exit_code": int(code), **about}
        if isinstance(error, errors.APIError):
            problem |= {"status": error.status, "type": error.type, "members": error.members}
        context.print_problem(problem)
        return code
    words = errors.in_words(error)
    for foreign, own in AT_THE_TERMINAL.items():
        words = words.replace(foreign, own)
    if isinstance(error, errors.Unauthorized) and context.token:
        words = "the token of --token or HOLDFAST_TOKEN was not accepted. Give the token of this server"
    context.err.print(f"[red]holdfast:[/] {escape(words)}", soft_wrap=True)
    if isinstance(error, errors.ConnectFailed):
        context.err.print("Start a server with [bold]holdfast serve[/], or name another one with --url.")
    if isinstance(error, errors.Unauthorized) and not context.token:
        context.err.print("Give the server's token with --token or HOLDFAST_TOKEN.")
    return code
