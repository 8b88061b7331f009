"""Who holds the other end of a connection on this machine, asked of the kernel.

A loopback address says which machine calls, not which user. The kernel knows the owner of the peer's socket: by netlink
(sock_diag(7)) for exactly one pair of addresses, or by the tables in /proc/net, which are read as a whole. A Unix
socket carries its peer's credentials.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

_SOCK_DIAG_BY_FAMILY = 20
_NETLINK_SOCK_DIAG = 4
_NLMSG_ERROR = 2
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ASKED = struct.Struct("=BBBxI")  # family, protocol, extensions, states
_FOUND = struct.Struct("=BBBB48xIIIII")  # family, state, timer, retransmits, (id), expires, queues, uid, inode
_ANY_COOKIE = (0xFFFFFFFF, 0xFFFFFFFF)
_REPLY = 4096

_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT = 1, 4, 5, 8
_HELD = frozenset({_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2})
"""States of the peer's socket in which a process may still hold it; FIN_WAIT: it has ended its side alone."""
_OURS = frozenset({_ESTABLISHED, _CLOSE_WAIT})
"""States of our own socket in which the pair of addresses can't belong to another connection."""

_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1  # <sys/un.h> of macOS and the BSDs


class End(NamedTuple):
    """A socket as the kernel's tables have it."""

    state: int
    uid: int
    inode: int


class SocketPair(NamedTuple):
    """The addresses of a connection as the other end sees them."""

    local: IPv4Address | IPv6Address
    local_port: int
    remote: IPv4Address | IPv6Address
    remote_port: int

    @classmethod
    def of_peer(cls, sock: socket.socket) -> SocketPair:
        """The pair of a connected TCP socket's peer. Raises `OSError` when it is not connected any more."""
        peer, own = sock.getpeername(), sock.getsockname()
        return cls(_plain(peer[0]), peer[1], _plain(own[0]), own[1])


def _plain(text: str) -> IPv4Address | IPv6Address:
    """An address; an IPv4 one also where a dual-stack socket maps it into IPv6."""
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


Lookup = Callable[[SocketPair], End | None]
"""The socket at one end of a connection; None when there is none. Raises `OSError` when the kernel does not say."""


class Netlink:
    """Asks for one socket by its addresses, whatever else is open. One request takes tens of microseconds."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        self._socket.setblocking(False)  # the answer is there when the request has been sent
        self._sequence = 0
        with suppress(OSError):
            self._loopback = socket.if_nametoindex("lo")

    _loopback = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def __call__(self, pair: SocketPair) -> End | None:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        family = socket.AF_INET if pair.local.version == 4 else socket.AF_INET6
        identity = struct.pack(">HH16s16s", pair.local_port, pair.remote_port, pair.local.packed, pair.remote.packed)
        # With the interface also those are found that are bound to it, as by `curl --interface lo`.
        where = self._loopback if pair.local.is_loopback else 0
        body = _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + identity
        body += struct.pack("=III", where, *_ANY_COOKIE)
        header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._sequence, 0)
        self._socket.send(header + body)
        while True:
            reply = self._socket.recv(_REPLY)
            _, kind, _, sequence, _ = _HEADER.unpack_from(reply)
            if sequence != self._sequence:
                continue  # of a request that failed on the way
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", reply, _HEADER.size)[0]
                if number == errno.ENOENT:
                    return None
                raise OSError(number, os.strerror(number))
            _, state, _, _, _, _, _, uid, inode = _FOUND.unpack_from(reply, _HEADER.size)
            return End(state, uid, inode)


class Tables:
    """Looks into /proc/net/tcp and tcp6: slower the more sockets there are."""

    def __init__(self, folder: Path = Path("/proc/net")) -> None:
        self._folder = folder

    def close(self) -> None:
        """Nothing is held."""

    def __call__(self, pair: SocketPair) -> End | None:
        for name, forms in self._places(pair):
            with suppress(FileNotFoundError):
                for line in (self._folder / name).read_text("ascii").splitlines()[1:]:
                    fields = line.split()
                    if (fields[1], fields[2]) == forms:
                        return End(int(fields[3], 16), int(fields[7]), int(fields[9]))
        return None

    def _places(self, pair: SocketPair) -> Iterator[tuple[str, tuple[str, str]]]:
        local, remote = pair.local, pair.remote
        if isinstance(local, IPv4Address) and isinstance(remote, IPv4Address):
            yield "tcp", (_hex(local.packed, pair.local_port), _hex(remote.packed, pair.remote_port))
            local, remote = IPv6Address(f"::ffff:{local}"), IPv6Address(f"::ffff:{remote}")
        yield "tcp6", (_hex(local.packed, pair.local_port), _hex(remote.packed, pair.remote_port))


def _hex(packed: bytes, port: int) -> str:
    """As these tables write it: words of four bytes in the machine's order."""
    words = (int.from_bytes(packed[i : i + 4], sys.byteorder) for i in range(0, len(packed), 4))
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


class Peers:
    """Tells whether the other end of a connection is held by this process's own user, or by root."""

    def __init__(self, lookup: Lookup | None) -> None:
        """`lookup` is for TCP; None where the system can't tell."""
        self._lookup = lookup
        self._uid = os.geteuid()

    @classmethod
    def open(cls) -> Peers:
        """With the first way that works here: each is tried on a connection of our own."""
        if not _is_ambiguous(os.geteuid()):
            for way in (Netlink, Tables):
                with suppress(OSError, AttributeError):  # AttributeError: a system without netlink
                    lookup = way()
                    if _works(lookup):
                        return cls(lookup)
                    lookup.close()
        return cls(None)

    @property
    def can_tell(self) -> bool:
        """Whether the owners of TCP connections are known here."""
        return self._lookup is not None

    def close(self) -> None:
        """Give back what the look-up holds."""
        close = getattr(self._lookup, "close", None)
        if close is not None:
            close()

    def is_own(self, sock: socket.socket) -> bool:
        """Whether our own user or root holds the other end *now*; False for what is gone, orphaned or unknown."""
        try:
            uid = self._unix_uid(sock) if sock.family == socket.AF_UNIX else self._tcp_uid(sock)
        except (OSError, ValueError):
            return False
        return uid is not None and uid in (self._uid, 0)

    def _tcp_uid(self, sock: socket.socket) -> int | None:
        if self._lookup is None:
            return None
        end = self._lookup(SocketPair.of_peer(sock))
        # A socket that was closed has neither owner nor inode left: its zeros are not root's.
        if end is None or end.state not in _HELD or end.inode == 0:
            return None
        # Asked last: a connection that has ended may have left its addresses to another user's by now.
        return end.uid if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _OURS else None

    def _unix_uid(self, sock: socket.socket) -> int | None:
        if _is_ambiguous(self._uid):
            return None
        if hasattr(socket, "SO_PEERCRED"):
            return int(struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])
        return int(struct.unpack_from("=II", sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76))[1])


def _works(lookup: Lookup) -> bool:
    """Whether it finds this process at the other end of a connection of its own."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        stack.enter_context(socket.create_connection(listener.getsockname(), timeout=5))
        listener.settimeout(5)
        accepted, _ = listener.accept()
        with accepted:
            end = lookup(SocketPair.of_peer(accepted))
            return end is not None and end.uid == os.geteuid() and end.inode > 0 and end.state == _ESTABLISHED


def _is_ambiguous(uid: int) -> bool:
    """Whether our own number also stands for all users that are unknown here (user_namespaces(7), overflowuid)."""
    try:
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
        mapped = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
    except (OSError, ValueError):
        return False
    return uid == overflow and mapped != [["0", "0", "4294967295"]]
