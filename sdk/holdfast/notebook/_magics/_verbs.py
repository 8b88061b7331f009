"""The verbs of `%holdfast`: a table, with a few calls of the client for each."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from IPython.core.error import UsageError

from holdfast._client import parameters
from holdfast._client.verbs import VERBS as PROCESS_VERBS
from holdfast._client.verbs import possible_verbs
from holdfast._sync.client import Client
from holdfast.errors import HoldfastError
from holdfast.notebook._html._appearance import clock

Offer = Literal["ids", "work types", ""]
MAX_COMPLETIONS = 200

Argument = tuple[str, dict[str, Any]]
ID: Argument = ("id", {"metavar": "ID", "help": "a process"})
IDS: Argument = ("ids", {"metavar": "ID", "nargs": "+", "help": "processes"})


@dataclass(frozen=True, slots=True)
class LineVerb:
    """One verb of `%holdfast`. `run` returns the value of the cell, and `offer` says what completes its arguments."""

    help: str
    run: Callable[[Client, argparse.Namespace], Any]
    arguments: tuple[Argument, ...] = ()
    offer: Offer = ""


def pair(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _start(client: Client, arguments: argparse.Namespace) -> Any:
    params = parameters.typed(client.work_types(), arguments.work_type, arguments.parameters)
    return client.processes.start(arguments.work_type, id=arguments.id, **params)


def _log(client: Client, arguments: argparse.Namespace) -> None:
    for line in deque(client.processes.get(arguments.id).log(), maxlen=arguments.last):
        print(f"{clock(line.time)}  {line.message}")  # noqa: T201 - the output of the line


def _print_work_types(client: Client, arguments: argparse.Namespace) -> None:
    for name, params, does in map(parameters.summary, client.work_types()):
        print(f"{name}  {params}\n    {does}")  # noqa: T201 - columns would be too wide for a cell


def _each(verb: str) -> Callable[[Client, argparse.Namespace], Any]:
    def run(client: Client, arguments: argparse.Namespace) -> Any:
        done = [getattr(client.processes, verb)(id) for id in arguments.ids]
        return done[0] if len(done) == 1 else done

    return run


_PARAMETERS: tuple[Argument, ...] = (
    ("work_type", {"metavar": "WORK_TYPE", "help": "a work type of the server; work-types lists them"}),
    ("parameters", {"metavar": "NAME=VALUE", "nargs": "*", "type": pair, "help": "its parameters"}),
    ("--id", {"metavar": "ID", "help": "its id; the same id again starts nothing twice"}),
)
_LAST: Argument = ("--last", {"metavar": "N", "type": int, "default": 100, "help": "most lines to print (100)"})

VERBS: dict[str, LineVerb] = {
    "ps": LineVerb("all processes, live", lambda client, arguments: client.processes),
    "ls": LineVerb("files and uploads, live", lambda client, arguments: client.files),
    "start": LineVerb("start a process and show its card", _start, _PARAMETERS, "work types"),
    "show": LineVerb(
        "the card of a process", lambda client, arguments: client.processes.get(arguments.id), (ID,), "ids"
    ),
    "pause": LineVerb("stop at the next yield and keep the checkpoint", _each("pause"), (IDS,), "ids"),
    "resume": LineVerb("continue from the checkpoint; retry what failed", _each("resume"), (IDS,), "ids"),
    "cancel": LineVerb("stop and roll back", _each("cancel"), (IDS,), "ids"),
    "kill": LineVerb("end a process that does not yield", _each("kill"), (IDS,), "ids"),
    "log": LineVerb("print what the work logged", _log, (ID, _LAST), "ids"),
    "work-types": LineVerb("print the work types of the server", _print_work_types),
}
CONNECT: tuple[Argument, ...] = (
    ("url", {"metavar": "URL", "nargs": "?", "help": "the server; without it, the one that holdfast.connect() finds"}),
    ("--as", {"metavar": "NAME", "dest": "name", "default": "client", "help": "the variable for the client (client)"}),
)


_MISSING = "the following arguments are required: "


def _is_needed(flag: str, options: dict[str, Any]) -> bool:
    return not flag.startswith("-") and options.get("nargs") not in ("?", "*")


class LineParser(argparse.ArgumentParser):
    """Parser of the rest of a magic's line. Options may be anywhere in it."""

    def __init__(self, name: str, arguments: Iterable[Argument]) -> None:
        super().__init__(name, add_help=False, allow_abbrev=False)
        self._arguments = tuple(arguments)
        for flag, options in self._arguments:
            self.add_argument(flag, **options)

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` in place of an exit."""
        if message.startswith(_MISSING):  # argparse lists optional ones too
            given = message.removeprefix(_MISSING).split(", ")
            needed = [options["metavar"] for flag, options in self._arguments if _is_needed(flag, options)]
            names = " and ".join(name for name in needed if name in given)
            line = f"{self.prog}{spelled(self._arguments)}"
            optional = ", where brackets mean optional" if "[" in line else ""
            message = f"{names} is missing. Write {line}{optional}"
        raise UsageError(f"{self.prog}: {message}")


ARGUMENTS = {**{name: verb.arguments for name, verb in VERBS.items()}, "connect": CONNECT}
PARSERS = {name: LineParser(f"%holdfast {name}", arguments) for name, arguments in ARGUMENTS.items()}
"""Parsers of the rest of the line, by verb."""


def usage() -> str:
    """Return the help of `%holdfast`, one line for each verb."""
    help = {**{name: verb.help for name, verb in VERBS.items()}, "connect": "use another server, and set a variable"}
    lines = [(f"{name}{spelled(ARGUMENTS[name])}", text) for name, text in help.items()]
    return "\n".join(f"    %holdfast {line:42} {text}" for line, text in lines)


def explained(arguments: Iterable[Argument]) -> str:
    """Return one line for each argument that says what it is for."""
    lines = [
        (f"{flag} {options.get('metavar', '')}".strip() if flag.startswith("-") else options["metavar"], options)
        for flag, options in arguments
    ]
    return "\n".join(f"    {word:22} {options['help']}" for word, options in lines)


def spelled(arguments: Iterable[Argument]) -> str:
    """Return the arguments as help has them; those in brackets are optional."""
    words = []
    for flag, options in arguments:
        word, many = options.get("metavar", ""), options.get("nargs")
        if flag.startswith("-"):
            word = f"[{flag} {word}]" if word else f"[{flag}]"
        elif many in ("?", "*"):
            word = f"[{word}]" + ("..." if many == "*" else "")
        elif many == "+":
            word = f"{word}..."
        words.append(word)
    return "".join(f" {word}" for word in words)


def complete(client: Client, words: list[str], begun: str) -> list[str]:
    """Return the completions after `words`, the first of which is the verb. Requests ids and names from the server."""
    if not words:
        return list(ARGUMENTS)
    verb = VERBS.get(words[0])
    if begun.startswith("-"):
        return [flag for flag, _ in ARGUMENTS.get(words[0], ()) if flag.startswith("-")]
    try:
        return _server_completions(client, words, verb.offer) if verb is not None else []
    except HoldfastError:
        return []  # completion reports no errors


def _server_completions(client: Client, words: list[str], offer: Offer) -> list[str]:
    if offer == "work types":
        types = client.work_types()
        if len(words) == 1:
            return [work.name for work in types]
        return [f"{name}=" for work in types if work.name == words[1] for name in parameters.fields(work)]
    if offer == "ids":
        infos = [process.info for process in client.processes.list(page_size=MAX_COMPLETIONS)][:MAX_COMPLETIONS]
        if words[0] in PROCESS_VERBS:
            infos = [info for info in infos if words[0] in possible_verbs(info)]
        return [info.id for info in infos if info.id not in words]
    return []
