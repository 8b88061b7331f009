"""Guard: a small process between the server and the work of one attempt, which ends all that the work starts.

It outlives the work, then ends with the same exit status or signal, so that the server sees how the work ended. It is
single-threaded and only waits.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import select
import signal
import socket
import struct
from pathlib import Path

from tornado_app.processes.supervision import claims
from tornado_app.processes.supervision.descendants import Descendants, Wake
from tornado_app.processes.supervision.supervisor import Watch, die_with_parent, isolate

PID = struct.Struct("!I")
_LEFT = 64 * 1024


def guard(control: socket.socket, channel: socket.socket, output: int, claim: Path, grace: float) -> None:
    """Fork. Returns in the child, which does the work; the parent stays here until nothing of the work is left.

    `control` takes the requests of `supervisor`; when it ends, the server has gone. It gets the process id of the work
    (`PID`) and, at the end, what the work left in the pipe `output`. The work begins when nothing is left that was
    started under `claim` before.
    """
    isolate()
    claim_fd = _take(claim, control)
    tree, wake = Descendants(), Wake()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        os.setsid()  # so that SIGINT reaches the work and what it started
        die_with_parent()
        if os.getppid() != parent:  # the parent died before prctl
            os._exit(1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        control.close()
        for fd in (claim_fd, *wake.fds):
            os.close(fd)
        return
    tree.group = pid
    with contextlib.suppress(OSError):  # the server has gone; `run` notices that
        control.send(PID.pack(pid))
    channel.close()  # so that the server sees its end when the work ends
    wait_status = Watch(tree, wake, pid, grace).run(control.fileno())
    _send_back(control, output)
    claims.drop(claim)
    _end_as(wait_status)


def _take(claim: Path, control: socket.socket) -> int:
    def is_wanted() -> bool:
        return not select.select([control], [], [], 0)[0]  # a kill is requested, or the server has gone

    try:
        return claims.take(claim, math.inf, is_wanted)
    except TimeoutError:
        os.kill(os.getpid(), signal.SIGKILL)
        raise


def _send_back(control: socket.socket, output: int) -> None:
    with contextlib.suppress(OSError):  # nothing is left, or the server has gone
        os.set_blocking(output, False)
        control.setblocking(False)
        control.send(os.read(output, _LEFT))


def _end_as(wait_status: int) -> None:
    if os.WIFSIGNALED(wait_status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would be of the guard
        with contextlib.suppress(OSError):  # SIGKILL
            signal.signal(os.WTERMSIG(wait_status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(wait_status))
    os._exit(os.waitstatus_to_exitcode(wait_status))
