"""Completions: ids, work types, parameters and names, from the server if it answers within a second; flags."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import click
from click.shell_completion import CompletionItem

from holdfast._client.parameters import fields
from holdfast._client.verbs import VERBS, possible_verbs
from holdfast._sync.client import Client
from holdfast.cli._printing._output import escaped
from holdfast.errors import HoldfastError

MAX_ITEMS = 200

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _offer(find: Callable[[Client, str, click.Context], Iterable[str]]) -> Completer:
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        root = context.find_root().params
        try:
            with Client(root.get("url"), root.get("token"), timeout=1, retries=0) as client:
                found = find(client, incomplete, context)
                offered = [name for name in islice(found, MAX_ITEMS) if name.startswith(incomplete)]
                return [name for name in offered if escaped(name) == name]  # no control characters
        except (HoldfastError, ValueError, OSError):
            return []  # completion must not print errors

    return complete


def _process_ids(client: Client, incomplete: str, context: click.Context) -> Iterable[str]:
    """Yield ids; for a verb only those of processes in which it is legal."""
    verb = context.command.name
    for process in client.processes.list(page_size=MAX_ITEMS):
        if verb not in VERBS or verb in possible_verbs(process.info):
            yield process.id


def _parameters(client: Client, incomplete: str, context: click.Context) -> Iterable[str]:
    """Yield `NAME=` for each parameter of the work type, or the values of the parameter before the cursor."""
    known = {work.name: work for work in client.work_types()}
    work = known.get(str(context.params.get("work_type")))
    schemas = {} if work is None else fields(work)
    name, begun, value = incomplete.partition("=")
    if not begun:
        return (f"{name}=" for name in schemas)
    return (f"{name}={each}" for each in _values(client, name, schemas.get(name, {}), value))


def _values(client: Client, name: str, schema: dict[str, Any], start: str) -> Iterable[str]:
    if "enum" in schema:
        return map(str, schema["enum"])
    if schema.get("type") == "boolean":
        return ("true", "false")
    if re.fullmatch(r"(.*_)?(file|file_name|prefix)", name):
        return (file.name for file in client.files.list(start, page_size=MAX_ITEMS))
    return ()


process_ids = _offer(_process_ids)
work_types = _offer(lambda client, start, context: (work.name for work in client.work_types()))
file_names = _offer(
    lambda client, start, context: (file.name for file in client.files.list(start, page_size=MAX_ITEMS))
)
pending_names = _offer(lambda client, start, context: (record.name for record in client.transfers.pending()))
parameter_values = _offer(_parameters)


# -- the flags of the server, which this package does not import

_ASK = """
import argparse, json, sys
from tornado_app import settings
parser = argparse.ArgumentParser(add_help=False)
settings.add_flags(parser)
flags = ((text, action) for action in parser._actions for text in action.option_strings)
print(json.dumps([[text, action.nargs != 0, action.help] for text, action in flags]))
"""


def _flags() -> dict[str, tuple[bool, str]]:
    """Return each flag, with whether it takes a value, and its help. Empty if the server is not installed."""
    try:
        run = subprocess.run([sys.executable, "-P", "-c", _ASK], capture_output=True, text=True, timeout=5, check=True)
        return {text: (takes, help) for text, takes, help in json.loads(run.stdout)}
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}


def server_flags(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Return flags of `serve`, or a path after a flag that takes one."""
    known = _flags()
    given: tuple[str, ...] = context.params.get("flags") or ()
    before = given[-1] if given else ""
    if known.get(before, (False, ""))[0]:
        if before.endswith("-dir"):
            return [CompletionItem(incomplete, type="dir")]
        return [CompletionItem(incomplete, type="file")] if before.endswith(("-file", "--socket")) else []
    if context.command.name == "backup" and not incomplete.startswith("-"):
        return [CompletionItem(incomplete, type="file")]
    return _flag_items(known, incomplete)


def _flag_items(known: dict[str, tuple[bool, str]], incomplete: str) -> list[CompletionItem[str]]:
    return [CompletionItem(text, help=help) for text, (_, help) in known.items() if text.startswith(incomplete)]


class ServerCommand(click.Command):
    """Command that passes its flags to the server."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete the flags that click does not know."""
        return [*server_flags(ctx, self.params[0], incomplete), *super().shell_complete(ctx, incomplete)]
