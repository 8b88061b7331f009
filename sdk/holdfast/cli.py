"""The command `holdfast`: processes and transfers from a terminal or a script.

Exit status: 0 done; 1 it failed or was cancelled; 2 wrong usage; 3 not found; 4 refused; 5 the server can't be reached
or has failed; 130 interrupted (a transfer is paused then, and the same command goes on).
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version as version_of
from typing import Any, TypeVar

try:
    import click
    from rich.live import Live

    from holdfast import _terminal as show
except ImportError as error:  # the client alone was installed
    sys.exit(f"holdfast: {error.name} is missing; install the command with: pip install 'holdfast[cli]'")

import msgspec

from holdfast import errors
from holdfast.client import Client, Process
from holdfast.transfers import Transfer
from holdfast.wire import State

T = TypeVar("T")

FAILED, NOT_FOUND, REFUSED, UNREACHABLE, INTERRUPTED = 1, 3, 4, 5, 130

_STATUS: tuple[tuple[type[errors.HoldfastError], int], ...] = (
    (errors.NotFound, NOT_FOUND),
    (errors.ServerError, UNREACHABLE),
    (errors.APIError, REFUSED),
    (errors.TransportError, UNREACHABLE),
)


class _Group(click.Group):
    """Every error of the SDK as one line on standard error, with an exit status that tells its kind."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except errors.HoldfastError as error:
            click.echo(f"holdfast: {error}", err=True)
            ctx.exit(next((status for kind, status in _STATUS if isinstance(error, kind)), FAILED))
        except OSError as error:
            click.echo(f"holdfast: {error}", err=True)
            ctx.exit(FAILED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", envvar="HOLDFAST_URL", default="http://127.0.0.1:8000", show_default=True, help="the server")
@click.option("--token", envvar="HOLDFAST_TOKEN", help="the server's token; better in HOLDFAST_TOKEN")
@click.option("--json", "as_json", is_flag=True, help="answer in JSON, one value a line")
@click.pass_context
def main(ctx: click.Context, url: str, token: str | None, as_json: bool) -> None:
    """Long processes and big transfers that can be paused, resumed and cancelled."""
    ctx.obj = _Session(url, token, as_json)
    ctx.call_on_close(ctx.obj.close)


class _Session:
    """What every command works with; connects when first asked to."""

    def __init__(self, url: str, token: str | None, as_json: bool) -> None:
        self.url = url
        self.token = token
        self.as_json = as_json
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            try:
                self._client = Client(self.url, self.token)
            except ValueError as error:
                raise click.UsageError(str(error)) from None
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def tell(self, value: Any, shown: Any) -> None:
        """The value as JSON where that is wanted, else as `shown` has it."""
        if self.as_json:
            show.json(value)
        else:
            show.console().print(shown)


pass_session = click.make_pass_decorator(_Session)


# -- the server


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def serve(flags: tuple[str, ...]) -> None:
    """Start a server; takes every flag of `python -m tornado_app`."""
    os.execv(sys.executable, [sys.executable, "-m", "tornado_app", *flags])  # noqa: S606 - the server takes our place


@main.command()
@click.pass_context
def demo(ctx: click.Context) -> None:
    """The tour on real data: cut, paused, killed, resumed, and nothing lost."""
    ctx.exit(subprocess.run([sys.executable, "-m", "holdfast.demo"], check=False).returncode)


@main.command()
@pass_session
def version(session: _Session) -> None:
    """The version of this command."""
    session.tell({"version": version_of("holdfast")}, f"holdfast {version_of('holdfast')}")


@main.command("work-types")
@pass_session
def work_types(session: _Session) -> None:
    """What the server can run."""
    found = session.client.work_types()
    session.tell(found, "\n".join(f"{one.name:<16} {one.doc.partition(chr(10))[0]}" for one in found))


# -- processes


@main.command()
@click.argument("work_type")
@click.argument("params", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--id", "id_", help="what it is found by; the same start again starts nothing twice")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="for filters; may be repeated")
@click.option("--place", type=click.Choice(["loop", "thread", "process"]), help="where it runs")
@click.option("--priority", type=int, default=0, help="higher ones leave the queue first")
@click.option("--retries", type=int, help="how often a failed attempt is tried again")
@click.option("--deadline", type=float, help="seconds from now after which it fails")
@click.option("--wait", is_flag=True, help="show its progress until it ends")
@pass_session
def start(
    session: _Session, /, work_type: str, params: tuple[str, ...], id_: str | None, wait: bool, **options: Any
) -> None:
    """Start a process. Values are JSON where they can be (10, true), else text."""
    labels = dict(_pair(one) for one in options.pop("label"))
    given = {name: _value(value) for name, value in map(_pair, params)}
    process = session.client.processes.start(work_type, id=id_, labels=labels, **options, **given)
    if wait:
        _follow(session, process)
    else:
        session.tell(process.info, process.id)


@main.command()
@click.option("--state", multiple=True, type=click.Choice([str(state) for state in State]), help="may be repeated")
@click.option("--work-type", help="of this work type")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="with this label; may be repeated")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="at most so many")
@pass_session
def ps(session: _Session, state: tuple[str, ...], work_type: str | None, label: tuple[str, ...], limit: int) -> None:
    """Processes, newest first."""
    labels = dict(_pair(one) for one in label)
    found = session.client.processes.list(state=state or None, work_type=work_type, labels=labels or None)
    infos = [process.info for process, _ in zip(found, range(limit), strict=False)]
    session.tell(infos, show.processes(infos))


@main.command("show")
@click.argument("id_", metavar="ID")
@pass_session
def show_(session: _Session, id_: str) -> None:
    """One process in full."""
    process = session.client.processes.get(id_)
    session.tell(process.info, show.details(process.info))


@main.command()
@click.argument("id_", metavar="[ID]", required=False)
@pass_session
def watch(session: _Session, id_: str | None) -> None:
    """One process until it ends, or all of them live until Ctrl-C."""
    if id_ is not None:
        _follow(session, session.client.processes.get(id_))
        return
    if session.as_json:
        for event in session.client.events():
            show.json(event)
        return
    infos = {process.id: process.info for process, _ in zip(session.client.processes.list(), range(50), strict=False)}
    with Live(show.processes(infos.values()), auto_refresh=False) as live:
        for event in session.client.events():
            if event.type not in ("state", "progress"):
                continue
            if event.type == "progress" and event.id in infos and event.progress is not None:
                infos[event.id] = msgspec.structs.replace(infos[event.id], progress=event.progress)
            else:
                infos = {event.id: session.client.processes.get(event.id).info} | infos
            live.update(show.processes(infos.values()), refresh=True)


@main.command()
@click.argument("id_", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="go on until the process ends")
@pass_session
def log(session: _Session, id_: str, follow: bool) -> None:
    """What the work logged."""
    process = session.client.processes.get(id_)
    last = 0
    while True:
        ended = process.refresh().has_ended
        for line in process.log(after=last):
            last = line.seq
            session.tell(line, f"{line.time:%H:%M:%S} {line.message}")
        if ended or not follow:
            return
        _wait_change(process)


def _verb(name: str, doc: str) -> None:
    """A command that does the same to every process named."""

    @main.command(name, help=doc)
    @click.argument("ids", metavar="ID...", nargs=-1, required=True)
    @pass_session
    def verb(session: _Session, ids: tuple[str, ...]) -> None:
        for id in ids:
            process: Process = getattr(session.client.processes, name)(id)
            session.tell(process.info, f"{process.id} is {process.state}")


for _name, _doc in (
    ("pause", "Stop at the next yield and keep the checkpoint."),
    ("resume", "Go on from the last checkpoint; a failed process tries again."),
    ("cancel", "Stop at the next yield, then undo what was done."),
    ("kill", "End an attempt that does not yield, where that can be done."),
):
    _verb(_name, _doc)


# -- files


@main.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--name", help="the file's name on the server (with one PATH)")
@click.option("--overwrite", is_flag=True, help="replace another file of that name")
@click.option("--limit", type=float, metavar="BYTES", help="bytes a second at most")
@pass_session
def upload(session: _Session, paths: tuple[str, ...], name: str | None, overwrite: bool, limit: float | None) -> None:
    """Send files. Ctrl-C pauses; the same command goes on, and Ctrl-C twice ends at once."""
    if name is not None and len(paths) > 1:
        raise click.UsageError("--name goes with one PATH")
    for path in paths:
        transfer = session.client.files.upload(path, name, overwrite=overwrite, limit=limit)
        info = _carry(transfer)
        session.tell(info, f"{info.name}  {show.size(info.size)}  sha256 {info.sha256}")


@main.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--to", type=click.Path(), help="a file, or a folder that is there; else the working directory")
@click.option("--overwrite", is_flag=True, help="replace another file that is there")
@click.option("--limit", type=float, metavar="BYTES", help="bytes a second at most")
@pass_session
def download(session: _Session, names: tuple[str, ...], to: str | None, overwrite: bool, limit: float | None) -> None:
    """Fetch files. Ctrl-C pauses; the same command goes on, and Ctrl-C twice ends at once."""
    if to is not None and len(names) > 1 and not os.path.isdir(to):
        raise click.UsageError("with several NAMEs, --to is a folder that is there")
    for name in names:
        path = _carry(session.client.files.download(name, to, overwrite=overwrite, limit=limit))
        session.tell({"name": name, "path": str(path)}, str(path))


@main.command()
@click.argument("prefix", default="")
@pass_session
def ls(session: _Session, prefix: str) -> None:
    """Files on the server whose names begin with PREFIX."""
    for info in session.client.files.list(prefix):
        session.tell(info, f"{show.size(info.size):>10}  {info.modified:%Y-%m-%d %H:%M}  {info.name}")


@main.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@pass_session
def rm(session: _Session, names: tuple[str, ...]) -> None:
    """Delete files on the server."""
    for name in names:
        session.client.files.delete(name)
        session.tell({"name": name, "deleted": True}, f"{name} is deleted")


@main.command()
@pass_session
def transfers(session: _Session) -> None:
    """Transfers of this machine that have begun and can be gone on with."""
    found = session.client.transfers.pending()
    session.tell(found, "\n".join(f"{one.kind:<9} {one.name}  {show.size(one.size)}  {one.path}" for one in found))


# -- what commands share


def _follow(session: _Session, process: Process) -> None:
    """Show a process until it ends; the exit status tells how."""
    if session.as_json:
        process.wait()
        show.json(process.info)
    else:
        with Live(show.processes([process.info]), auto_refresh=False) as live:
            while not process.has_ended:
                _wait_change(process)
                live.update(show.processes([process.info]), refresh=True)
        if process.state is State.SUCCEEDED:
            click.echo()
            show.json(process.result())
    if process.state is not State.SUCCEEDED:
        if process.error is not None:
            click.echo(f"holdfast: {process.id} failed: {process.error.message}", err=True)
        click.get_current_context().exit(FAILED)


def _wait_change(process: Process) -> None:
    """Until it ends, or for a moment: what a person wants to see change."""
    try:
        process.wait(0.5)
    except errors.WaitTimeout:
        process.refresh()


def _carry(transfer: Transfer[T]) -> T:
    """Show a transfer until it is done. Ctrl-C pauses it and says how to go on."""
    try:
        with show.transfer_bar() as bar:
            task = bar.add_task(transfer.name, total=None)
            while True:
                try:
                    return transfer.wait(0.1)
                except errors.WaitTimeout:
                    continue
                finally:
                    bar.update(task, completed=transfer.progress.done, total=transfer.progress.total)
    except KeyboardInterrupt:
        transfer.pause()
        done = show.size(transfer.progress.done)
        click.echo(f"holdfast: {transfer.name} is paused at {done}; the same command goes on from there", err=True)
        raise


def _pair(text: str) -> tuple[str, str]:
    name, sep, value = text.partition("=")
    if not sep or not name:
        raise click.UsageError(f"{text!r} should be NAME=VALUE")
    return name, value


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


if __name__ == "__main__":
    main()
