"""The users whose programs listen on a port of this machine, by the tables of Linux."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"  # state, include/net/tcp_states.h


def is_own(port: int) -> bool | None:
    """Return whether every program that listens on a TCP port is this user's; None where the system does not say."""
    users = set(_users(port))
    return users == {os.geteuid()} if users else None


def _users(port: int) -> Iterator[int]:
    """Iterate over the user ids of those who listen (proc_pid_net(5), the fields `local_address`, `st` and `uid`)."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/self/net", table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 7 and fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield int(fields[7])
