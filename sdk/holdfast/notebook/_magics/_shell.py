"""The magics themselves: what reads their lines, which client they use, and how they say what went wrong."""

from __future__ import annotations

import shlex
import weakref
from collections.abc import Callable
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.error import UsageError

from holdfast import calls
from holdfast._async.client import AsyncClient
from holdfast._client.process_view import new_id
from holdfast._client.sent_code import code_request
from holdfast._sync.client import Client, Process
from holdfast.errors import ConnectFailed, HoldfastError, IdTaken, in_words
from holdfast.notebook._magics._cell import digest_of, function_of, value_of
from holdfast.notebook._magics._verbs import PARSERS, VERBS, Argument, LineParser, complete, pair, usage

CELL: tuple[Argument, ...] = (
    ("name", {"metavar": "NAME", "help": "what it is called; also the variable that gets the process"}),
    ("parameters", {"metavar": "PARAMETER=VALUE", "nargs": "*", "type": pair, "help": "names in the cell"}),
    ("--id", {"metavar": "ID", "help": "what it is found by, in place of one made from the cell"}),
    ("--new", {"action": "store_true", "help": "start it even if this cell has been started before"}),
    ("--label", {"metavar": "NAME=VALUE", "type": pair, "action": "append", "default": [], "help": "for filters"}),
    ("--retries", {"metavar": "N", "type": int, "help": "how often a failed attempt is tried again"}),
    ("--deadline", {"metavar": "SECONDS", "type": float, "help": "it fails when it takes longer"}),
    ("--priority", {"metavar": "N", "type": int, "default": 0, "help": "higher ones leave the queue first"}),
)
CELL_PARSER = LineParser("%%process", CELL)


class Magics:
    """`%holdfast` and `%%process`."""

    def __init__(self, shell: Any) -> None:
        self._names: dict[str, Any] = shell.user_ns
        self._name = "client"
        self._twins: weakref.WeakKeyDictionary[AsyncClient, Client] = weakref.WeakKeyDictionary()

    def line(self, line: str) -> Any:
        verb, _, rest = line.strip().partition(" ")
        if not verb:
            return self._clearly(self._client)
        if verb not in PARSERS:
            raise UsageError(f"%holdfast {verb}: there is no such verb; there are {', '.join(PARSERS)}")
        said = _read(PARSERS[verb], rest)
        if verb == "connect":
            return self._clearly(lambda: self._connect(said.url, said.name))
        return self._clearly(lambda: VERBS[verb].run(self._client(), said))

    def cell(self, line: str, cell: str) -> Any:
        said = _read(CELL_PARSER, line)
        return self._clearly(lambda: self._start(said, cell))

    def _start(self, said: Any, cell: str) -> Process:
        parameters = {name: value_of(text) for name, text in said.parameters}
        function = function_of(said.name, cell, list(parameters), self._names)
        # Pickles of one cell differ from kernel to kernel, its text does not.
        digest = digest_of(said.name, cell, parameters)
        request = code_request(
            function,
            (),
            parameters,
            id=said.id or (new_id(said.name) if said.new else f"{said.name}-{digest}"),
            labels={"cell": digest, **dict(said.label)},
            retries=said.retries,
            deadline=said.deadline,
            priority=said.priority,
        )
        client = self._client()
        try:
            process = Process(client._core, client._core.request(calls.start_process(request)))
            before = process.has_ended
        except IdTaken:
            process = client.processes.get(str(request.id))
            if process.info.labels.get("cell") != digest:
                raise
            before = True
        if before:
            print(f"This cell was started before, as {process.id}; %%process {said.name} --new starts it again.")  # noqa: T201
        self._names[said.name] = process
        return process

    # -- the client

    def _client(self) -> Client:
        """The client in the variable; where there is none, a new one, as `holdfast.Client()` makes it."""
        found = self._names.get(self._name)
        if isinstance(found, Client):
            return found
        if isinstance(found, AsyncClient):
            if found not in self._twins:
                self._twins[found] = Client(found.base_url, found.token)
            return self._twins[found]
        self._connect(None, self._name)
        client: Client = self._names[self._name]
        return client

    def _connect(self, url: str | None, name: str) -> None:
        there = self._names.get(name)
        if there is not None and not isinstance(there, Client | AsyncClient):
            raise UsageError(
                f"the variable {name} is a {type(there).__name__} and not a client of Holdfast: "
                "%holdfast connect URL --as NAME makes one of another name"
            )
        client = Client(url)
        client.live()
        self._name, self._names[name] = name, client
        print(f"{name} = {client!r}")  # noqa: T201

    # -- words

    @staticmethod
    def _clearly(work: Callable[[], Any]) -> Any:
        """What `work` gives; its errors as one sentence, which is all that IPython shows of a `UsageError`."""
        try:
            return work()
        except ConnectFailed as error:
            raise UsageError(f"{in_words(error)}; %holdfast connect URL names another server") from None
        except (HoldfastError, ValueError) as error:
            raise UsageError(in_words(error)) from None

    # -- completion

    @context_matcher(identifier="holdfast", priority=100)  # type: ignore[untyped-decorator] # IPython gives it no type
    def complete(self, context: CompletionContext) -> SimpleMatcherResult:
        """What may follow on a line of `%holdfast` and of `%%process`, and nothing else then."""
        words, begun = context.text_until_cursor.removesuffix(context.token).split(), context.token
        found: list[str] = []
        if words[:1] == ["%%process"] and begun.startswith("-"):
            found = [flag for flag, _ in CELL if flag.startswith("-")]
        elif words[:1] == ["%holdfast"]:
            found = self._offered(words[1:], begun)
        fitting = [SimpleCompletion(text=text, type="holdfast") for text in found if text.startswith(begun)]
        return {"completions": fitting, "ordered": True, "suppress": True}

    def _offered(self, words: list[str], begun: str) -> list[str]:
        known = self._names.get(self._name)
        where = (known.base_url, known.token) if isinstance(known, Client | AsyncClient) else ()
        try:
            with Client(*where, timeout=1, retries=0) as client:
                return complete(client, words, begun)
        except ValueError:
            return []  # HOLDFAST_URL is no URL: whoever runs the line is told


def _read(parser: LineParser, line: str) -> Any:
    """The arguments of a line. Raises `UsageError`."""
    try:
        return parser.parse_intermixed_args(shlex.split(line))
    except ValueError as error:
        raise UsageError(f"{parser.prog}: {error}") from None


Magics.line.__doc__ = f"""Appearance at a Holdfast server and steer what runs there.

{usage()}

Without a verb it is everything on the server, live. The server is that of the variable `client`, or as `connect` says;
where there is none, one is made as by `holdfast.Client()`. A verb gives what the client gives: `p = %holdfast show ID`.
"""
Magics.cell.__doc__ = f"""Run a cell on the server, as a process that can be paused, resumed and cancelled.

    %%process count to=1000
    for i in range((job.checkpoint or {{"i": 0}})["i"], to):
        yield Progress(i + 1, to, {{"i": i + 1}}, note=f"counted to {{i + 1}}")
    return to

Each `yield` is a checkpoint: the cell begins again from `job.checkpoint` (None at first) after a pause, a crash or a
restart. It is sent with the variables, functions and imports of the notebook that it uses, as they are then; `job`,
`Progress` and `WorkError` are there. The variable `count` is the process. The same cell again shows the same process,
also in a new kernel; a changed one starts anew. The server needs `--allow-code` and the same minor version of Python.

{CELL_PARSER.format_help()}"""
