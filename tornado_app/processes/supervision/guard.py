"""Over an attempt in an OS process of its own: a small process between the server and the work.

It outlives the work, however that ends, to end all that the work has started; then it ends as the work did, so that
whoever waits for it sees how that was. It is single-threaded and does nothing but wait.
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
from tornado_app.processes.supervision.supervisor import Watch, die_with_parent, keep_to_ourselves

PID = struct.Struct("!I")
_LEFT = 64 * 1024


def guard(control: socket.socket, channel: socket.socket, output: int, claim: Path, grace: float) -> None:
    """Fork. Returns in the child, which is to do the work; the parent stays here until nothing of it is left.

    `control` takes the wishes of `supervisor`, and its end is that of the server. It gets the process id of the work
    (`PID`), and at the end what the work wrote to the pipe `output` and did not read itself before it died. The work
    begins when nothing is left that was started under `claim` before.
    """
    keep_to_ourselves()
    held = _take(claim, control)
    tree, wake = Descendants(), Wake()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        os.setsid()  # so that an interrupt reaches the work with what it started
        die_with_parent()
        if os.getppid() != parent:  # it died before we could ask to be told
            os._exit(1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        control.close()
        for fd in (held, *wake.fds):
            os.close(fd)
        return
    tree.group = pid
    with contextlib.suppress(OSError):  # the server has gone, which is seen below
        control.send(PID.pack(pid))
    channel.close()  # so that its end is seen when the work's is
    how = Watch(tree, wake, pid, grace).until_all_is_over(control.fileno())
    _send_back(control, output)
    claims.drop(claim)
    _end_as(how)


def _take(claim: Path, control: socket.socket) -> int:
    def is_wanted() -> bool:
        return not select.select([control], [], [], 0)[0]  # it is killed, or the server has gone

    try:
        return claims.take(claim, math.inf, is_wanted)
    except TimeoutError:
        os.kill(os.getpid(), signal.SIGKILL)
        raise


def _send_back(control: socket.socket, output: int) -> None:
    with contextlib.suppress(OSError):  # there is nothing, or nobody to read it
        os.set_blocking(output, False)
        control.setblocking(False)
        control.send(os.read(output, _LEFT))


def _end_as(how: int) -> None:
    if os.WIFSIGNALED(how):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would be ours, and of no use
        with contextlib.suppress(OSError):  # SIGKILL
            signal.signal(os.WTERMSIG(how), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(how))
    os._exit(os.waitstatus_to_exitcode(how))
