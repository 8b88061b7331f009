"""The magics: how they parse their lines, which client they use, and how they report errors."""

from __future__ import annotations

import os
import shlex
import textwrap
import weakref
from collections.abc import Callable
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.error import UsageError

from holdfast import calls
from holdfast._async.client import AsyncClient
from holdfast._client.process_view import new_id
from holdfast._client.sent_code import code_request
from holdfast._connect.connecting import connect
from holdfast._sync.client import Client, Process
from holdfast.errors import ConnectFailed, HoldfastError, IdTaken, NotFound, NotSendable, in_words
from holdfast.notebook._magics._cell import digest_of, function_of, value_of
from holdfast.notebook._magics._verbs import (
    PARSERS,
    VERBS,
    Argument,
    LineParser,
    complete,
    explained,
    pair,
    spelled,
    usage,
)

CELL: tuple[Argument, ...] = (
    ("name", {"metavar": "NAME", "help": "name of the process, and of the variable for it"}),
    ("parameters", {"metavar": "PARAMETER=VALUE", "nargs": "*", "type": pair, "help": "variables of the cell"}),
    ("--id", {"metavar": "ID", "help": "its id, in place of one made from the cell"}),
    ("--new", {"action": "store_true", "help": "start it, even if this cell was started before"}),
    (
        "--label",
        {"metavar": "NAME=VALUE", "type": pair, "action": "append", "default": [], "help": "a label to filter by"},
    ),
    ("--retries", {"metavar": "N", "type": int, "help": "most retries after a failed attempt"}),
    ("--deadline", {"metavar": "SECONDS", "type": float, "help": "seconds from now after which it fails"}),
    ("--priority", {"metavar": "N", "type": int, "default": 0, "help": "a higher number leaves the queue first"}),
)
CELL_PARSER = LineParser("%%process", CELL)


class Magics:
    """`%holdfast` and `%%process`."""

    def __init__(self, shell: Any) -> None:
        self._names: dict[str, Any] = shell.user_ns
        self._name = "client"
        self._sync_clients: weakref.WeakKeyDictionary[AsyncClient, Client] = weakref.WeakKeyDictionary()

    def line(self, line: str) -> Any:
        verb, _, rest = line.strip().partition(" ")
        if not verb:
            return self._report_errors(self._client)
        if verb not in PARSERS:
            raise UsageError(f"%holdfast {verb}: there is no such verb. Use one of {', '.join(PARSERS)}")
        arguments = _parse(PARSERS[verb], rest)
        if verb == "connect":
            return self._report_errors(lambda: self._connect(arguments.url, arguments.name))
        return self._report_errors(lambda: VERBS[verb].run(self._client(), arguments))

    def cell(self, line: str, cell: str) -> Any:
        arguments = _parse(CELL_PARSER, line)
        return self._report_errors(lambda: self._start(arguments, cell))

    def _start(self, arguments: Any, cell: str) -> Process:
        parameters = {name: value_of(text) for name, text in arguments.parameters}
        function = function_of(arguments.name, cell, list(parameters), self._names)
        # Not a digest of the pickle, which differs from kernel to kernel.
        digest = digest_of(arguments.name, cell, parameters)
        id = arguments.id or (new_id(arguments.name) if arguments.new else f"{arguments.name}-{digest}")
        client = self._client()
        try:
            request = code_request(
                function,
                (),
                parameters,
                id=id,
                labels={"cell": digest, **dict(arguments.label)},
                retries=arguments.retries,
                deadline=arguments.deadline,
                priority=arguments.priority,
            )
            process = Process(client._core, client._core.request(calls.start_process(request)))
            existed = process.has_ended
        except (NotSendable, IdTaken):
            # In a new kernel the names that the cell uses need not be there to show what it started.
            found = _started_before(client, id, digest)
            if found is None:
                raise
            process, existed = found, True
        if existed:
            again = f"%%process {arguments.name} --new"
            print(f"This cell was started before, as {process.id}. To start it again, use {again}.")  # noqa: T201
        self._names[arguments.name] = process
        return process

    # -- the client

    def _client(self) -> Client:
        """Return the client in the variable, or a new one by `holdfast.connect()` if there is none."""
        found = self._names.get(self._name)
        if isinstance(found, Client):
            return found
        if isinstance(found, AsyncClient):
            if found not in self._sync_clients:
                self._sync_clients[found] = Client(found.base_url, found.token)
            return self._sync_clients[found]
        self._connect(None, self._name)
        client: Client = self._names[self._name]
        return client

    def _connect(self, url: str | None, name: str) -> None:
        present = self._names.get(name)
        if present is not None and not isinstance(present, Client | AsyncClient):
            raise UsageError(
                f"the variable {name} is of type {type(present).__name__}, not a Holdfast client. "
                "Use another variable: %holdfast connect URL --as NAME"
            )
        self._names[name] = connect(url)
        self._name = name

    # -- errors

    @staticmethod
    def _report_errors(work: Callable[[], Any]) -> Any:
        """Return the result of `work`. Turn its errors into a `UsageError`, which IPython shows without a traceback."""
        try:
            return work()
        except ConnectFailed as error:
            raise UsageError(f"{in_words(error)}. Use %holdfast connect URL for another server") from None
        except (HoldfastError, ValueError) as error:
            raise UsageError(in_words(error)) from None

    # -- completion

    @context_matcher(identifier="holdfast", priority=100)  # type: ignore[untyped-decorator] # IPython gives it no type
    def complete(self, context: CompletionContext) -> SimpleMatcherResult:
        """Return the completions of a `%holdfast` or `%%process` line, and suppress all others there."""
        words, begun = context.text_until_cursor.removesuffix(context.token).split(), context.token
        found: list[str] = []
        if words[:1] == ["%%process"] and begun.startswith("-"):
            found = [flag for flag, _ in CELL if flag.startswith("-")]
        elif words[:1] == ["%holdfast"]:
            found = self._completions(words[1:], begun)
        fitting = [SimpleCompletion(text=text, type="holdfast") for text in found if text.startswith(begun)]
        return {"completions": fitting, "ordered": True, "suppress": True}

    def _completions(self, words: list[str], begun: str) -> list[str]:
        known = self._names.get(self._name)
        # Without a client and a URL, no token is sent: nobody has said who listens there.
        where: tuple[Any, ...] = () if "HOLDFAST_URL" in os.environ else (None, "")
        if isinstance(known, Client | AsyncClient):
            where = known.base_url, known.token
        try:
            with Client(*where, timeout=1, retries=0) as client:
                return complete(client, words, begun)
        except ValueError:
            return []  # HOLDFAST_URL is not a URL; running the line reports it


def _started_before(client: Client, id: str, digest: str) -> Process | None:
    """Return the process that this cell has started, or None."""
    try:
        process = client.processes.get(id)
    except NotFound:
        return None
    return process if process.info.labels.get("cell") == digest else None


def _parse(parser: LineParser, line: str) -> Any:
    """Return the arguments of a line. Raises `UsageError`."""
    try:
        return parser.parse_intermixed_args(shlex.split(line))
    except ValueError as error:
        raise UsageError(f"{parser.prog}: {error}") from None


Magics.line.__doc__ = f"""Show what runs on a Holdfast server, and pause, resume or cancel it.

{usage()}

Without a verb it shows everything on the server, live. The server is that of the variable `client`, or of the last
`connect`. If there is no client, it makes one by `holdfast.connect()`. A verb returns a value: `p = %holdfast show ID`.
"""
Magics.cell.__doc__ = f"""Run a cell on the server, as a process that can be paused, resumed and cancelled.

    %%process count to=1000
    for i in range((job.checkpoint or {{"i": 0}})["i"], to):
        yield Progress(i + 1, to, {{"i": i + 1}}, note=f"counted to {{i + 1}}")
    return to

Each `yield` is a checkpoint. After a pause, a crash or a restart the cell starts again with the last one in
`job.checkpoint` (None at first). The cell is sent with the variables, functions and imports of the notebook that it
uses, as they are now. `job`, `Progress` and `WorkError` are defined. The variable `count` is the process. The same cell
shows the same process again, also in a new kernel; a changed cell starts a new one. The server needs `--allow-code` and
the same minor version of Python.

    %%process{textwrap.fill(spelled(CELL), 100, subsequent_indent=" " * 14)}

NAME is needed, and what is in brackets is optional:

{explained(CELL)}
"""
