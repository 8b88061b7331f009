"""The group of all commands."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

from holdfast import __version__
from holdfast.cli import _cat, _files, _links, _processes, _server, _sha256, _transfers, _watch
from holdfast.cli._completion import _bash
from holdfast.cli._context import Context, Exit, command, report
from holdfast.errors import HoldfastError

EPILOG = "Every command takes --json. Exit codes: " + ", ".join(
    f"{code.value} {code.name.lower().replace('_', ' ')}" for code in Exit
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=EPILOG)
@click.option("--url", envvar="HOLDFAST_URL", help="The server.  [HOLDFAST_URL, else http://127.0.0.1:8000]")
@click.option("--token", envvar="HOLDFAST_TOKEN", help="Its token. Prefer the variable: other users can see flags.")
@click.option("--json", is_flag=True, help="Print JSON, for programs.")
@click.version_option(__version__, prog_name="holdfast")
@click.pass_context
def holdfast(context: click.Context, url: str | None, token: str | None, json: bool) -> None:
    """Run long processes and big transfers that can be paused, resumed and cancelled, and that survive a crash."""
    shared = context.ensure_object(Context)
    shared.url, shared.token, shared.json = url, token, shared.json or json


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@command
def completion(context: Context, shell: str) -> None:
    """Print a script that completes commands, ids and file names: eval "$(holdfast completion bash)"."""
    source = get_completion_class(shell)
    if source is None:
        raise click.UsageError(f"there is no completion for {shell}")
    script = source(holdfast, {}, "holdfast", "_HOLDFAST_COMPLETE").source()
    if context.json:
        context.print_json({"shell": shell, "script": script})
    else:
        click.echo(script)


_bash.register()

for each in (
    *_server.COMMANDS,
    *_processes.COMMANDS,
    *_watch.COMMANDS,
    *_files.COMMANDS,
    *_transfers.COMMANDS,
    *_cat.COMMANDS,
    *_sha256.COMMANDS,
    *_links.COMMANDS,
    completion,
):
    holdfast.add_command(each)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    shared = Context()
    try:
        code = holdfast.main(arguments, prog_name="holdfast", standalone_mode=False, obj=shared)
        return code if isinstance(code, int) else Exit.OK  # None unless the command exits with a code
    except click.Abort:
        return Exit.INTERRUPTED
    except click.ClickException as error:
        # The error in the command line may come before --json.
        if shared.json or "--json" in (sys.argv[1:] if arguments is None else arguments):
            problem = {"error": type(error).__name__, "message": error.format_message(), "exit_code": error.exit_code}
            shared.print_problem(problem)
        else:
            error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except (HoldfastError, OSError, ValueError) as error:
        return report(shared, error)
