"""What all commands share: the server's address, `--json`, where output goes, and how errors become exit codes."""

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
    """Exit codes, for scripts. They are documented in docs/command.md."""

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
    """Takes what is said of a retry in place of stderr, where a screen is drawn."""
    out: Console = field(default_factory=lambda: PlainConsole(highlight=False))
    err: Console = field(default_factory=lambda: PlainConsole(stderr=True, highlight=False))

    def client(self, **options: Any) -> Client:
        """A client of the server that was asked for."""
        try:
            client = Client(self.url, self.token, **options)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        connection = core_of(client).connection
        connection.on_retry = Patience(self, connection).take
        return client

    def print_json(self, value: Any) -> None:
        """One line of JSON on stdout, whole, whatever the terminal's width."""
        sys.stdout.write(compact(value) + "\n")
        sys.stdout.flush()

    def print_problem(self, problem: dict[str, Any]) -> None:
        """One line of JSON on stderr."""
        sys.stderr.write(compact(problem) + "\n")

    def retrying(self, error: errors.HoldfastError, seconds: float) -> None:
        """Say on stderr what failed and when it is tried again."""
        if self.json:
            self.print_problem({"error": type(error).__name__, "message": str(error), "retrying_in": round(seconds, 3)})
        else:
            (self.notice or self.note)(f"{errors.in_words(error)}; retrying in {math.ceil(seconds)} s")

    def note(self, text: str) -> None:
        """Something for a person: on stderr, and not with --json."""
        if not self.json:
            self.err.print(text, markup=False, soft_wrap=True)  # names may look like markup


FIRST_TRIES = 3
"""How often a server that has not answered yet is asked; one that takes no connection is asked once."""


class Patience:
    """A server that never answered is not waited for; of one that did, the reader is told what is waited for."""

    def __init__(self, context: Context, connection: Connection) -> None:
        self._context = context
        self._connection = connection
        self._failures = 0
        self._told = -math.inf
        self._lock = threading.Lock()

    def take(self, error: errors.HoldfastError, seconds: float) -> None:
        """Something failed and would be tried again after so many seconds. Raises `error` where it is not to be."""
        with self._lock:
            if not self._connection.reached:
                self._failures += 1
                if isinstance(error, errors.ConnectFailed) or self._failures >= FIRST_TRIES:
                    raise error
            now = time.monotonic()
            if now - self._told < 1:  # several connections fail together, and the first attempts follow quickly
                return
            self._told = now
        self._context.retrying(error, seconds)


pass_context = click.make_pass_decorator(Context, ensure=True)


def _take_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Context).json = True


json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_take_json, help="Print JSON, for programs."
)


def command(function: C) -> C:
    """Give a command `--json` (also before the command's name) and the context as its first argument."""

    @functools.wraps(function)
    @pass_context
    def call(context: Context, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(context, *args, **kwargs)
        except BrokenPipeError:
            # Whoever read has enough; what is left in the buffer goes nowhere when the interpreter flushes it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(Exit.OK) from None

    return json_option(call)  # type: ignore[return-value]  # click's decorators keep the function a function


def exit_code(error: BaseException) -> Exit:
    """What a script sees of an error."""
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
    """Say what went wrong, on stderr; the exit code. `about` says of what, for programs."""
    code = exit_code(error)
    if context.json:
        problem = {"error": type(error).__name__, "message": str(error), "exit_code": int(code), **about}
        if isinstance(error, errors.APIError):
            problem |= {"status": error.status, "type": error.type, "members": error.members}
        context.print_problem(problem)
        return code
    words = errors.in_words(error)
    for name in ("overwrite", "restart", "allow_dangerous"):
        words = words.replace(f"{name}=True", f"--{name.replace('_', '-')}")
    if isinstance(error, errors.Unauthorized) and context.token:
        words = "the token of --token or HOLDFAST_TOKEN was not accepted"
    context.err.print(f"[red]holdfast:[/] {escape(words)}", soft_wrap=True)
    if isinstance(error, errors.ConnectFailed):
        context.err.print("Is the server running? [bold]holdfast serve[/] starts one; --url names another.")
    if isinstance(error, errors.Unauthorized) and not context.token:
        context.err.print("Give the server's token by --token or HOLDFAST_TOKEN.")
    return code
