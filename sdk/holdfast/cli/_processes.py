"""`start`, `ps`, `show`, `log`, `pause`, `resume`, `cancel`, `kill`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import click

from holdfast import wire
from holdfast._work_types import typed
from holdfast.cli import _show
from holdfast.cli._complete import process_ids, work_types
from holdfast.cli._context import Context, Exit, command
from holdfast.cli._watch import until_ended
from holdfast.client import Client, Process
from holdfast.wire import ENDED, State


class Pair(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases
    """NAME=VALUE."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, sep, text = str(value).partition("=")
        if not sep or not name:
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        return name, text


PAIR = Pair()
STATE = click.Choice([state.value for state in State])


@click.command()
@click.argument("work_type", shell_complete=work_types)
@click.argument("parameters", nargs=-1, type=PAIR, metavar="[NAME=VALUE]...")
@click.option("--id", help="What it is found by; one is made up when left out. The same again starts nothing twice.")
@click.option("--label", "labels", type=PAIR, multiple=True, help="For filters; may be repeated.")
@click.option("--place", type=click.Choice(["thread", "process", "loop"]), help="Where it runs.")
@click.option("--priority", type=int, default=0, help="Higher ones leave the queue first.")
@click.option("--retries", type=int, help="How often a failed attempt is tried again.")
@click.option("--deadline", type=float, help="Seconds from now after which it fails.")
@click.option("--wait/--no-wait", "-w", help="Show its progress until it has ended; exit 1 if it failed.")
@click.option("--timeout", type=float, help="Wait at most so many seconds; exit 124 if that was not enough.")
@command
def start(
    context: Context,
    work_type: str,
    parameters: tuple[tuple[str, str], ...],
    labels: tuple[tuple[str, str], ...],
    wait: bool,
    timeout: float | None,
    **options: Any,
) -> None:
    """Start a process: holdfast start import-csv file_name=flights.csv table=flights batch_rows=5000."""
    with context.client() as client:
        values = typed(client.work_types(), work_type, parameters)
        process = client.processes.start(work_type, labels=dict(labels), **options, **values)
        if wait:
            until_ended(context, process, timeout)
        elif context.json:
            context.print_json(process.info)
        else:
            context.out.print(f"{process.id} {process.state}", markup=False, soft_wrap=True)
            context.note(f"holdfast watch {process.id} shows how it goes on")


@click.command()
@click.option("--state", "states", type=STATE, multiple=True, help="Only these; may be repeated.")
@click.option("--work-type", shell_complete=work_types, help="Only of this work type.")
@click.option("--label", "labels", type=PAIR, multiple=True, help="Only with this label; may be repeated.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@command
def ps(
    context: Context, states: tuple[str, ...], work_type: str | None, labels: tuple[tuple[str, str], ...], limit: int
) -> None:
    """List processes, newest first."""
    with context.client() as client:
        found = client.processes.list(
            state=states or None, work_type=work_type, labels=dict(labels) or None, page_size=min(limit, 1000)
        )
        infos = [process.info for process in islice(found, limit)]
    if context.json:
        context.print_json(infos)
    elif infos:
        context.out.print(_show.processes(infos))
    else:
        context.note("There are no processes, or none that match.")


@click.command()
@click.argument("id", shell_complete=process_ids)
@command
def show(context: Context, id: str) -> None:
    """Everything about one process."""
    with context.client() as client:
        info = client.processes.get(id).info
    if context.json:
        context.print_json(info)
    else:
        context.out.print(_show.process(info))


@click.command()
@click.argument("id", shell_complete=process_ids)
@click.option("-f", "--follow", is_flag=True, help="Go on as it logs, until it has ended.")
@click.option("--after", type=int, default=0, help="Only lines after this number.")
@command
def log(context: Context, id: str, follow: bool, after: int) -> None:
    """What the work said."""
    with context.client() as client:
        process = client.processes.get(id)
        for line in _lines(process, after, follow):
            if context.json:
                context.print_json(line)
            else:
                context.out.print(f"{_show.moment(line.time)}  {line.message}", markup=False, soft_wrap=True)


def _lines(process: Process, after: int, follow: bool) -> Iterator[wire.LogLine]:
    """Lines as they come. The log is read again at every event: it is whole, the stream may have been cut."""
    for line in process.log(after=after):
        after = line.seq
        yield line
    if not follow or process.has_ended:
        return
    for event in process.events(after=None):
        if event.type in ("log", "state"):
            for line in process.log(after=after):
                after = line.seq
                yield line


def _verb(name: str, doc: str, every: Callable[[Client], Callable[..., wire.BulkAnswer]]) -> click.Command:
    """A command that does something to processes: those named, or all that match."""

    def run(
        context: Context,
        ids: tuple[str, ...],
        wait: bool,
        timeout: float | None,
        states: tuple[str, ...],
        work_type: str | None,
        labels: tuple[tuple[str, str], ...],
    ) -> None:
        filters: dict[str, Any] = {"state": list(states), "work_type": work_type, "labels": dict(labels)}
        filters = {key: value for key, value in filters.items() if value}
        if bool(ids) == bool(filters):
            raise click.UsageError("name processes, or give a filter (--state, --work-type, --label)")
        with context.client() as client:
            if filters:
                _report_bulk(context, every(client)(**filters))
                return
            done = [getattr(client.processes, name)(id) for id in ids]
            for process in done:
                if wait:
                    process.wait(timeout, until=State.PAUSED if name == "pause" else ENDED)
                if not context.json:
                    context.out.print(f"{process.id} {process.state}", markup=False, soft_wrap=True)
            if context.json:
                context.print_json([process.info for process in done])

    run.__name__, run.__doc__ = name, doc
    built: Any = command(run)
    built = click.option("--label", "labels", type=PAIR, multiple=True, help="All with this label.")(built)
    built = click.option("--work-type", shell_complete=work_types, help="All of this work type.")(built)
    built = click.option("--state", "states", type=STATE, multiple=True, help="All in this state.")(built)
    if name != "resume":
        built = click.option("--wait/--no-wait", "-w", help="Return when it is so.")(built)
    else:
        built = click.option("--wait/--no-wait", "-w", help="Return when it has ended.")(built)
    built = click.option("--timeout", type=float, help="Wait at most so many seconds.")(built)
    built = click.argument("ids", nargs=-1, shell_complete=process_ids)(built)
    return click.command(name)(built)


def _report_bulk(context: Context, answer: wire.BulkAnswer) -> None:
    if context.json:
        context.print_json(answer)
    else:
        for id in answer.changed:
            context.out.print(id, markup=False, soft_wrap=True)
        for id, why in answer.refused.items():
            context.err.print(f"{id}: {why}", markup=False, soft_wrap=True)
        if not answer.changed and not answer.refused:
            context.note("Nothing matched that this could be done to.")
    if answer.refused:
        raise click.exceptions.Exit(Exit.REFUSED)


pause = _verb("pause", "Stop processes at their next yield; resume goes on.", lambda c: c.processes.pause_all)
resume = _verb("resume", "Go on from the last checkpoint; failed ones try again.", lambda c: c.processes.resume_all)
cancel = _verb("cancel", "Stop processes and undo what they did.", lambda c: c.processes.cancel_all)
kill = _verb("kill", "End what does not yield.", lambda c: c.processes.kill_all)

COMMANDS = (start, ps, show, log, pause, resume, cancel, kill)
