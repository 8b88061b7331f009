"""`start`, `ps`, `show`, `log`, `pause`, `resume`, `cancel`, `kill`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import Any

import click

from holdfast import wire
from holdfast._client.parameters import typed
from holdfast._sync.client import Client, Process
from holdfast.cli._completion._offers import parameter_values, process_ids, work_types
from holdfast.cli._context import Context, Exit, command, report
from holdfast.cli._printing import _records
from holdfast.cli._printing._output import escaped, is_terminal, tabbed, write_line, write_records
from holdfast.cli._watch import print_process, until_ended, verdict
from holdfast.errors import Forbidden, HoldfastError, NotFound, TransportError, Unauthorized, WaitTimeout
from holdfast.wire import ENDED, State


class ParameterPair(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases
    """Parameter of the form NAME=VALUE."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, sep, text = str(value).partition("=")
        if not sep or not name:
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        return name, text


PAIR = ParameterPair()
STATE = click.Choice([state.value for state in State])


@click.command()
@click.argument("work_type", shell_complete=work_types)
@click.argument("parameters", nargs=-1, type=PAIR, metavar="[NAME=VALUE]...", shell_complete=parameter_values)
@click.option("--id", help="Its id. The same id again starts nothing twice.  [made from the work type]")
@click.option("--label", "labels", type=PAIR, multiple=True, help="A label to filter by; may be repeated.")
@click.option("--place", type=click.Choice(["thread", "process", "loop"]), help="Where it runs.")
@click.option("--priority", type=int, default=0, help="A higher number leaves the queue first.")
@click.option("--retries", type=int, help="Most retries after a failed attempt.")
@click.option("--deadline", type=float, help="Seconds from now after which it fails.")
@click.option("--wait/--no-wait", "-w", help="Show its progress until it has ended. Exit with 1 if it failed.")
@click.option("--timeout", type=float, help="Wait at most so many seconds. Exit with 124 if it has not ended by then.")
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
    """Start a process.

    Example: holdfast start import-csv file_name=flights.csv table=flights batch_rows=5000
    """
    with context.client() as client:
        values = typed(client.work_types(), work_type, parameters)
        process = client.processes.start(work_type, labels=dict(labels), **options, **values)
        if wait or timeout is not None:
            until_ended(context, process, timeout)
        elif context.json:
            context.print_json(process.info)
        else:
            _print_state(process.info)
            if not process.info.has_ended:
                context.note(f"To see its progress: holdfast watch {process.id}")


@click.command()
@click.option("--state", "states", type=STATE, multiple=True, help="Only in this state; may be repeated.")
@click.option("--work-type", shell_complete=work_types, help="Only of this work type.")
@click.option("--label", "labels", type=PAIR, multiple=True, help="Only with this label; may be repeated.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most processes to list."
)
@command
def ps(
    context: Context, states: tuple[str, ...], work_type: str | None, labels: tuple[tuple[str, str], ...], limit: int
) -> None:
    """List processes, newest first."""
    with context.client() as client:
        found = client.processes.list(
            state=states or None, work_type=work_type, labels=dict(labels) or None, page_size=min(limit, 1000)
        )
        infos = (process.info for process in islice(found, limit))
        if not write_records(context.out, _records.PROCESSES, infos, as_json=context.json):
            context.note("No process matches.")


@click.command()
@click.argument("id", shell_complete=process_ids)
@command
def show(context: Context, id: str) -> None:
    """Show all details of one process."""
    with context.client() as client:
        print_process(context, client.processes.get(id).info)


@click.command()
@click.argument("id", shell_complete=process_ids)
@click.option("-f", "--follow", is_flag=True, help="Print new lines until the process has ended.")
@click.option("--after", type=int, default=0, help="Only lines with a higher number.")
@command
def log(context: Context, id: str, follow: bool, after: int) -> None:
    """Print the log of a process. With --follow it exits with 1 unless the process succeeded."""
    person = is_terminal()
    with context.client() as client:
        process = client.processes.get(id)
        for line in _lines(process, after, follow):
            if context.json:
                context.print_json(line)
            elif person:
                write_line(f"{_records.moment(line.time)}  {escaped(line.message)}")
            else:
                write_line(tabbed([_records.stamp(line.time), line.message]))
        if follow and (code := verdict(context, process.wait().info)):
            raise click.exceptions.Exit(code)


def _lines(process: Process, after: int, follow: bool) -> Iterator[wire.LogLine]:
    """Yield log lines as they arrive. It reads the log at each event, because the stream may miss lines."""
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


def _print_state(info: wire.ProcessInfo) -> None:
    """Print the id and the state of a process."""
    write_line(f"{escaped(info.id)} {info.state}" if is_terminal() else tabbed([info.id, info.state]))


def _verb(
    name: str, doc: str, every: Callable[[Client], Callable[..., wire.BulkAnswer]], wanted: Collection[State]
) -> click.Command:
    """Return the command of a verb for named processes, or for all that match."""

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
            raise click.UsageError("give either process ids or a filter (--state, --work-type, --label)")
        with context.client() as client:
            run = _VerbRun(context, client, wanted, wait or timeout is not None, timeout)
            if filters:
                run.add_bulk(every(client)(**filters))
            else:
                run.add_each(ids, getattr(client.processes, name))
            run.finish()

    run.__name__, run.__doc__ = name, doc
    built: Any = command(run)
    built = click.option("--label", "labels", type=PAIR, multiple=True, help="All with this label.")(built)
    built = click.option("--work-type", shell_complete=work_types, help="All of this work type.")(built)
    built = click.option("--state", "states", type=STATE, multiple=True, help="All in this state.")(built)
    until = "have ended" if wanted == ENDED else f"are {', '.join(wanted)}"
    help = f"Wait until they {until}. Exit with 1 if one ends otherwise."
    built = click.option("--wait/--no-wait", "-w", help=help)(built)
    built = click.option(
        "--timeout", type=float, help="Wait at most so many seconds for all of them. Exit with 124 if the time is up."
    )(built)
    built = click.argument("ids", nargs=-1, shell_complete=process_ids)(built)
    return click.command(name)(built)


class _VerbRun:
    """Run of one verb on several processes. If one is refused, the others go on."""

    def __init__(
        self, context: Context, client: Client, wanted: Collection[State], wait: bool, timeout: float | None
    ) -> None:
        self._context, self._client = context, client
        self._wanted, self._wait = wanted, wait
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._done: list[Process] = []
        self._codes: list[Exit] = []

    def add_each(self, ids: Iterable[str], verb: Callable[[str], Process]) -> None:
        """Send one request for each id."""
        for id in ids:
            try:
                self._done.append(verb(id))
            except HoldfastError as error:
                if isinstance(error, (TransportError, Unauthorized, Forbidden)):  # the others would fail too
                    raise
                self._codes.append(report(self._context, error, id=id))

    def add_bulk(self, answer: wire.BulkAnswer) -> None:
        """Take the answer to a request for all that match."""
        for id, why in answer.refused.items():
            self._codes.append(Exit.REFUSED)
            if self._context.json:
                self._context.print_problem(
                    {"error": "Conflict", "message": why, "exit_code": int(Exit.REFUSED), "id": id}
                )
            else:
                self._context.note(f"{id}: {why}")
        if not answer.changed and not answer.refused:
            self._context.note("No process matches, or none in a state that allows this.")
        for id in answer.changed:
            try:
                self._done.append(self._client.processes.get(id))
            except NotFound:  # deleted since
                self._context.note(f"{id} was deleted")

    def finish(self) -> None:
        """Wait if requested, print the state of each, and exit with the worst code."""
        for process in self._done:
            if self._wait:
                self._await(process)
            if self._context.json:
                self._context.print_json(process.info)
            else:
                _print_state(process.info)
            if self._wait and (process.has_ended or process.state in self._wanted):
                self._codes.append(verdict(self._context, process.info, self._wanted))
        # A refusal is worse than a wrong end, and that is worse than a timeout.
        mild = (Exit.FAILED, Exit.TIMEOUT, Exit.OK)
        codes = sorted(self._codes, key=lambda code: mild.index(code) if code in mild else -1)
        if codes and codes[0] is not Exit.OK:
            raise click.exceptions.Exit(codes[0])

    def _await(self, process: Process) -> None:
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        try:
            process.wait(left, until=self._wanted)
        except WaitTimeout as error:
            self._codes.append(report(self._context, error, id=process.id))


pause = _verb(
    "pause",
    "Stop processes at their next yield and keep their checkpoints.",
    lambda c: c.processes.pause_all,
    {State.PAUSED},
)
resume = _verb(
    "resume",
    "Continue processes from their last checkpoints. A failed one is retried.",
    lambda c: c.processes.resume_all,
    {State.SUCCEEDED},
)
cancel = _verb(
    "cancel", "Stop processes and roll back their work.", lambda c: c.processes.cancel_all, {State.CANCELLED}
)
kill = _verb("kill", "End processes that do not yield.", lambda c: c.processes.kill_all, ENDED)

COMMANDS = (start, ps, show, log, pause, resume, cancel, kill)
