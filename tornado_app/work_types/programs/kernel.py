"""A Jupyter kernel beside the server: it is reached by its connection file and ends with the server."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.connect import write_connection_file
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import KernelManager

from holdfast.work import WorkError
from tornado_app.work_types.programs.program import Program, own_environment

_STARTUP = 60.0  # seconds
_GOODBYE = 5.0
_RUN_MODULE = (
    "import sys; sys.path[:1] = filter(None, sys.path[:1]); import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
_TAIL = 10  # last lines of its output, for the error when it dies


class Kernel:
    """A kernel that was started. Used by one thread at a time, except that any thread may call `kill`."""

    def __init__(self, name: str, connection_file: Path, *, folder: Path, grace: float, claim: Path) -> None:
        """Start the kernel that is installed as `name`, in `folder`. Raises `WorkError` when it can't be started."""
        manager = KernelManager(kernel_name=name, connection_file=str(connection_file))
        try:
            spec = manager.kernel_spec
        except NoSuchKernel:
            spec = None
        if spec is None:
            there = ", ".join(sorted(KernelSpecManager().find_kernel_specs())) or "none"
            raise WorkError(f"there is no kernel {name!r} on the server; there is {there}")
        connection_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection_file.unlink(missing_ok=True)
        # Not with the manager, which removes the file when it is garbage-collected.
        write_connection_file(str(connection_file), ip="127.0.0.1", key=secrets.token_hex().encode(), kernel_name=name)
        # All kernels would share one history file, and lock it.
        history = ["--HistoryManager.hist_file=:memory:"] if manager.ipykernel else []
        self.language: str = spec.language.lower()
        self.connection_file = connection_file
        self._by_message = spec.interrupt_mode == "message"
        self._tail: list[str] = []
        self._client: AsyncKernelClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pipe = -1
        self._is_ready = False
        # As a Jupyter server does. The inherited values would be of a notebook in which this server runs.
        inherited = {key: value for key, value in own_environment().items() if not key.startswith("JPY_")}
        inherited["JPY_PARENT_PID"] = str(os.getpid())
        try:
            self.program = Program(
                _safe(manager.format_kernel_cmd(extra_arguments=history)),
                grace=grace,
                environment=inherited | spec.env,
                folder=folder,
                claim=claim,
            )
        except WorkError:
            connection_file.unlink()
            raise

    async def connect(self, log: Callable[[str], object]) -> AsyncKernelClient:
        """Return a client once the kernel is ready. `log` gets what its process writes from then until `disconnect`.

        Raises `WorkError` when it dies before it is ready, or takes longer than a minute.
        """
        client = self._client = _Client(self.program)
        self._loop = asyncio.get_running_loop()
        client.load_connection_file(str(self.connection_file))
        client.start_channels(hb=False, stdin=False)
        self._pipe = self.program.output
        if self._pipe >= 0:
            self._loop.add_reader(self._pipe, self._drain, log)
        await self._ready(client)
        self._is_ready = True
        return client

    async def disconnect(self) -> None:
        """Close the client; the kernel runs on."""
        client, loop, self._client, self._loop = self._client, self._loop, None, None
        if client is not None and loop is not None:
            loop.remove_reader(self._pipe)
            client.stop_channels()

    async def _ready(self, client: AsyncKernelClient) -> None:
        ready = asyncio.ensure_future(client.wait_for_ready(timeout=_STARTUP))
        while not ready.done() and self.program.exit_code is None:
            await asyncio.wait([ready], timeout=0.1)
            self.program.poll()
        if ready.done() and ready.exception() is None:
            return
        ready.cancel()
        if self.program.exit_code is not None:
            while self.program.output >= 0:  # it may have died before the loop has read its last lines
                self._drain(lambda line: None)
            raise WorkError(f"the kernel died before it was ready{self.last_words()}")
        try:
            ready.result()
        except RuntimeError as error:
            raise WorkError(f"the kernel is not ready: {error}{self.last_words()}") from None

    def _drain(self, log: Callable[[str], object]) -> None:
        for line in self.program.lines(0):
            if self._is_ready:
                log(line)
            self._tail = [*self._tail[1 - _TAIL :], line]
        if self.program.output < 0 and self._loop is not None:
            self._loop.remove_reader(self._pipe)

    def last_words(self) -> str:
        """Return the end of its output for an error message; "" when there was none."""
        return ". The last it wrote:\n" + "\n".join(self._tail) if self._tail else ""

    def interrupt(self) -> None:
        """Interrupt what it computes, by a signal or a message, as its kernel specification says."""
        if not self._by_message:
            self.program.interrupt()
        elif self._client is not None:
            self._client.control_channel.send(self._client.session.msg("interrupt_request", content={}))

    def kill(self) -> None:
        """Send SIGKILL to the kernel and all that it started."""
        self.program.kill()

    async def shut_down(self) -> None:
        """Request its end, so that it can close what it holds, and wait a few seconds."""
        if self._client is not None:
            self._client.shutdown()
        until = time.monotonic() + _GOODBYE
        while self.program.exit_code is None and time.monotonic() < until:
            await asyncio.sleep(0.02)
            self.program.poll()

    def close(self) -> None:
        """End the kernel and remove its connection file."""
        self.program.end()
        self.connection_file.unlink(missing_ok=True)


def _safe(command: list[str]) -> list[str]:
    """Return the command of a kernel, changed so that Python does not search its folder for the kernel's own modules.

    Not with `-P`, because IPython then leaves the folder out of the path of what the notebook imports.
    """
    if command[0] != sys.executable or "-m" not in command:
        return command
    at = command.index("-m")
    return [*command[:at], "-c", _RUN_MODULE, *command[at + 1 :]]


class _Client(AsyncKernelClient):
    """Client that asks the kernel's process whether it lives, in place of heartbeats."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program

    async def _async_is_alive(self) -> bool:
        self._program.poll()
        return self._program.exit_code is None

    is_alive = _async_is_alive
