"""What `%holdfast` can do: a table of verbs, each a few calls of the client."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from IPython.core.error import UsageError

from holdfast._client import parameters
from holdfast._sync.client import Client
from holdfast.errors import HoldfastError
from holdfast.notebook._html._appearance import LEGAL, clock

Offer = Literal["ids", "work types", ""]
MOST = 200  # completions

Argument = tuple[str, dict[str, Any]]
ID: Argument = ("id", {"metavar": "ID", "help": "a process"})
IDS: Argument = ("ids", {"metavar": "ID", "nargs": "+", "help": "processes"})


@dataclass(frozen=True, slots=True)
class Verb:
    """What one verb does with a client and its arguments; what it gives is shown as the cell's value."""

    does: str
    run: Callable[[Client, argparse.Namespace], Any]
    arguments: tuple[Argument, ...] = ()
    offer: Offer = ""


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _start(client: Client, said: argparse.Namespace) -> Any:
    params = parameters.typed(client.work_types(), said.work_type, said.parameters)
    return client.processes.start(said.work_type, id=said.id, **params)


def _log(client: Client, said: argparse.Namespace) -> None:
    for line in deque(client.processes.get(said.id).log(), maxlen=said.last):
        print(f"{clock(line.time)}  {line.message}")  # noqa: T201 - it is what the line is for


def _print_work_types(client: Client, said: argparse.Namespace) -> None:
    for name, params, does in map(parameters.summary, client.work_types()):
        print(f"{name}  {params}\n    {does}")  # noqa: T201 - side by side they would not fit into a cell


def _each(verb: str) -> Callable[[Client, argparse.Namespace], Any]:
    def run(client: Client, said: argparse.Namespace) -> Any:
        done = [getattr(client.processes, verb)(id) for id in said.ids]
        return done[0] if len(done) == 1 else done

    return run


_PARAMETERS: tuple[Argument, ...] = (
    ("work_type", {"metavar": "WORK_TYPE", "help": "one of those that work-types lists"}),
    ("parameters", {"metavar": "NAME=VALUE", "nargs": "*", "type": pair, "help": "its parameters"}),
    ("--id", {"metavar": "ID", "help": "what it is found by; the same again starts nothing twice"}),
)
_LAST: Argument = ("--last", {"metavar": "N", "type": int, "default": 100, "help": "at most so many lines (100)"})

VERBS: dict[str, Verb] = {
    "ps": Verb("all processes, live", lambda client, said: client.processes),
    "ls": Verb("files and uploads, live", lambda client, said: client.files),
    "start": Verb("start a process and show its card", _start, _PARAMETERS, "work types"),
    "show": Verb("the card of a process", lambda client, said: client.processes.get(said.id), (ID,), "ids"),
    "pause": Verb("stop at the next yield and keep the checkpoint", _each("pause"), (IDS,), "ids"),
    "resume": Verb("go on from the checkpoint; what failed tries again", _each("resume"), (IDS,), "ids"),
    "cancel": Verb("stop and roll back", _each("cancel"), (IDS,), "ids"),
    "kill": Verb("end what does not yield", _each("kill"), (IDS,), "ids"),
    "log": Verb("what the work logged", _log, (ID, _LAST), "ids"),
    "work-types": Verb("what the server can run", _print_work_types),
}
CONNECT: tuple[Argument, ...] = (
    ("url", {"metavar": "URL", "nargs": "?", "help": "the server; else HOLDFAST_URL, else http://127.0.0.1:8000"}),
    ("--as", {"metavar": "NAME", "dest": "name", "default": "client", "help": "the variable for the client (client)"}),
)


class LineParser(argparse.ArgumentParser):
    """Reads what stands behind a magic; options may stand anywhere."""

    def __init__(self, name: str, arguments: Iterable[Argument]) -> None:
        super().__init__(name, add_help=False, allow_abbrev=False)
        for flag, options in arguments:
            self.add_argument(flag, **options)

    def error(self, message: str) -> NoReturn:
        """Instead of an exit. Raises `UsageError`."""
        raise UsageError(f"{self.prog}: {message}")


ARGUMENTS = {**{name: verb.arguments for name, verb in VERBS.items()}, "connect": CONNECT}
PARSERS = {name: LineParser(f"%holdfast {name}", arguments) for name, arguments in ARGUMENTS.items()}
"""What reads the rest of the line, by verb."""


def usage() -> str:
    """The docstring of `%holdfast`: a line a verb."""
    does = {**{name: verb.does for name, verb in VERBS.items()}, "connect": "use another server, as a variable"}
    lines = [(f"{name}{_spelled(ARGUMENTS[name])}", text) for name, text in does.items()]
    return "\n".join(f"    %holdfast {spelled:42} {text}" for spelled, text in lines)


def _spelled(arguments: Iterable[Argument]) -> str:
    words = []
    for flag, options in arguments:
        word, many = options["metavar"], options.get("nargs")
        if flag.startswith("-"):
            word = f"[{flag} {word}]"
        elif many in ("?", "*"):
            word = f"[{word}]" + ("..." if many == "*" else "")
        elif many == "+":
            word = f"{word}..."
        words.append(word)
    return "".join(f" {word}" for word in words)


def complete(client: Client, words: list[str], begun: str) -> list[str]:
    """What can follow `words`, the first of which is the verb (none: verbs). Asks the server, if it answers quickly."""
    if not words:
        return list(ARGUMENTS)
    verb = VERBS.get(words[0])
    if begun.startswith("-"):
        return [flag for flag, _ in ARGUMENTS.get(words[0], ()) if flag.startswith("-")]
    try:
        return _offered(client, words, verb.offer) if verb is not None else []
    except HoldfastError:
        return []  # who completes wants no words about it


def _offered(client: Client, words: list[str], offer: Offer) -> list[str]:
    if offer == "work types":
        types = client.work_types()
        if len(words) == 1:
            return [work.name for work in types]
        return [f"{name}=" for work in types if work.name == words[1] for name in parameters.fields(work)]
    if offer == "ids":
        infos = [process.info for process in client.processes.list(page_size=MOST)][:MOST]
        if words[0] in ("pause", "resume", "cancel"):
            infos = [info for info in infos if words[0] in LEGAL[info.state]]
        return [info.id for info in infos if info.id not in words]
    return []
