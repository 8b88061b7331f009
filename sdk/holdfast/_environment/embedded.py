"""`python -m holdfast._environment.embedded`: the server as a child that ends with its parent.

It takes the server's own flags. The parent holds the other end of stdin and never writes: end of file means that the
parent is gone, however it ended. A parent-death signal (prctl) would not do: it is sent when the *thread* ends that
started the child.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading


def _end_with_parent() -> None:
    # os.read, not sys.stdin: a thread that holds stdin's lock at exit aborts the interpreter.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # By name, in a process of its own: the SDK does not import the server.
    runpy.run_module("tornado_app", run_name="__main__", alter_sys=True)
