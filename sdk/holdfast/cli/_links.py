"""`link create` and `link revoke`."""

from __future__ import annotations

import click

from holdfast.cli._completion._offers import file_names
from holdfast.cli._context import Context, command, json_option
from holdfast.cli._printing._output import escaped, write_line


@click.group()
@json_option
def link() -> None:
    """Create and revoke links that let anyone read a file without the token."""


@link.command()
@click.argument("name", shell_complete=file_names)
@click.option("--expires", type=float, default=3600.0, show_default=True, help="Seconds until the link expires.")
@command
def create(context: Context, name: str, expires: float) -> None:
    """Print a link to a file. Anyone who has the link can read the file."""
    with context.client() as client:
        found = client.files.download_link(name, expires=expires)
    if context.json:
        context.print_json({"name": found.name, "url": found.url, "expires": found.expires})
    else:
        write_line(escaped(found.url))


@link.command()
@command
def revoke(context: Context) -> None:
    """Revoke all links that were created so far."""
    with context.client() as client:
        client.files.revoke_links()
    if context.json:
        context.print_json({"revoked": True})
    else:
        context.note("All links were revoked.")


COMMANDS = (link,)
