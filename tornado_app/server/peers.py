"""The user who holds the other end of a connection on this machine, according to the kernel.

A loopback address identifies a machine, not a user. The kernel knows the owner of the peer's socket: netlink
(sock_diag(7)) finds one pair of addresses, the tables in /proc/net are read as a whole. A Unix socket carries the
credentials of its peer.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

_SOCK_DIAG_BY_FAMILY = 20
_NETLINK_SOCK_DIAG = 4
_NLMSG_ERROR = 2
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_REQUEST = struct.Struct("=IHHII BBBxI 2s2s16s16s III")
"""The header; family, protocol, extensions, states; both ports and addresses; interface and cookie."""
_PORT = struct.Struct(">H")
_FOUND = struct.Struct("=BBBB48xIIIII")  # family, state, timer, retransmits, (id), expires, queues, uid, inode
_ANY_COOKIE = (0xFFFFFFFF, 0xFFFFFFFF)
_ALL_STATES = 0xFFFFFFFF
_REPLY_BYTES = 4096

_IPV4_BYTES = 4
_IPV4_LOOPBACK = 127  # the first byte of its addresses
_IPV6_LOOPBACK = bytes(15) + b"\x01"
_MAPPED = bytes(10) + b"\xff\xff"
"""How the IPv6 form of an IPv4 address begins (RFC 4291, section 2.5.5.2)."""

_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT = 1, 4, 5, 8
_HELD = frozenset({_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2})
"""States of the peer's socket in which a process may still hold it. In FIN_WAIT it has shut down its sending side."""
_OURS = frozenset({_ESTABLISHED, _CLOSE_WAIT})
"""States of our own socket in which the pair of addresses can't belong to another connection."""

_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1  # <sys/un.h> of macOS and the BSDs


class End(NamedTuple):
    """One end of a connection in the kernel's tables."""

    state: int
    uid: int
    inode: int


class SocketPair(NamedTuple):
    """The addresses of a connection as its peer sees them, each of 4 or 16 bytes in network order."""

    local: bytes
    local_port: int
    remote: bytes
    remote_port: int

    @classmethod
    def of_peer(cls, sock: socket.socket) -> SocketPair:
        """Return the pair of a connected TCP socket's peer. Raises `OSError` when it is not connected any more."""
        peer, own = sock.getpeername(), sock.getsockname()
        if sock.family is socket.AF_INET:
            return cls(socket.inet_aton(peer[0]), peer[1], socket.inet_aton(own[0]), own[1])
        return cls(_packed(peer[0]), peer[1], _packed(own[0]), own[1])

    @property
    def is_local_loopback(self) -> bool:
        """Return whether the peer's address is a loopback address."""
        return self.local[:1] == b"\x7f" if len(self.local) == _IPV4_BYTES else self.local == _IPV6_LOOPBACK


def _packed(text: str) -> bytes:
    """Return an address as bytes; an IPv4 one also where a dual-stack socket maps it into IPv6."""
    if ":" not in text:
        return socket.inet_pton(socket.AF_INET, text)
    packed = socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    return packed.removeprefix(_MAPPED)


Lookup = Callable[[SocketPair], End | None]
"""Returns the peer's end of a connection; None when there is none. Raises `OSError` when the kernel does not say."""


class Netlink:
    """Asks the kernel for one socket by its addresses. One request takes tens of microseconds."""

    _loopback = 0

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        self._socket.setblocking(False)  # the reply is there when the request has been sent
        self._sequence = 0
        with suppress(OSError):
            self._loopback = socket.if_nametoindex("lo")

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()

    def __call__(self, pair: SocketPair) -> End | None:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        family = socket.AF_INET if len(pair.local) == _IPV4_BYTES else socket.AF_INET6
        # With the interface, sockets that are bound to it are found too, as by `curl --interface lo`.
        is_loopback = pair.local[0] == _IPV4_LOOPBACK if family == socket.AF_INET else pair.is_local_loopback
        interface = self._loopback if is_loopback else 0
        self._socket.send(
            _REQUEST.pack(
                *(_REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._sequence, 0),
                *(family, socket.IPPROTO_TCP, 0, _ALL_STATES),
                *(_PORT.pack(pair.local_port), _PORT.pack(pair.remote_port), pair.local, pair.remote),
                *(interface, *_ANY_COOKIE),
            )
        )
        while True:
            reply = self._socket.recv(_REPLY_BYTES)
            _, kind, _, sequence, _ = _HEADER.unpack_from(reply)
            if sequence != self._sequence:
                continue  # the reply to an earlier request that failed on the way
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", reply, _HEADER.size)[0]
                if number == errno.ENOENT:
                    return None
                raise OSError(number, os.strerror(number))
            _, state, _, _, _, _, _, uid, inode = _FOUND.unpack_from(reply, _HEADER.size)
            return End(state, uid, inode)


class Tables:
    """Reads /proc/net/tcp and tcp6, which takes longer the more sockets are open."""

    def __init__(self, folder: Path = Path("/proc/net")) -> None:
        self._folder = folder

    def close(self) -> None:
        """Do nothing: no resource is held."""

    def __call__(self, pair: SocketPair) -> End | None:
        for name, addresses in self._candidates(pair):
            with suppress(FileNotFoundError):
                for line in (self._folder / name).read_text("ascii").splitlines()[1:]:
                    fields = line.split()
                    if (fields[1], fields[2]) == addresses:
                        return End(int(fields[3], 16), int(fields[7]), int(fields[9]))
        return None

    def _candidates(self, pair: SocketPair) -> Iterator[tuple[str, tuple[str, str]]]:
        """Iterate over the tables that may have the pair, each with the pair as that table writes it."""
        local, remote = pair.local, pair.remote
        if len(local) == _IPV4_BYTES and len(remote) == _IPV4_BYTES:
            yield "tcp", (_hex(local, pair.local_port), _hex(remote, pair.remote_port))
            local, remote = _MAPPED + local, _MAPPED + remote
        yield "tcp6", (_hex(local, pair.local_port), _hex(remote, pair.remote_port))


def _hex(packed: bytes, port: int) -> str:
    """Return an address as /proc/net writes it: words of four bytes in the machine's order."""
    words = (int.from_bytes(packed[i : i + 4], sys.byteorder) for i in range(0, len(packed), 4))
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


class Peers:
    """Recognizes connections whose other end belongs to the user of this process, or to root."""

    def __init__(self, lookup: Lookup | None) -> None:
        """`lookup` is for TCP; None where the system has no way to find the owner."""
        self._lookup = lookup
        self._uid = os.geteuid()

    @classmethod
    def open(cls) -> Peers:
        """Return peers with the first lookup that works on this system. Each is tried on a connection to itself."""
        if not _is_ambiguous(os.geteuid()):
            for kind in (Netlink, Tables):
                with suppress(OSError, AttributeError):  # AttributeError: a system without netlink
                    lookup = kind()
                    if _works(lookup):
                        return cls(lookup)
                    lookup.close()
        return cls(None)

    @property
    def knows_tcp_owners(self) -> bool:
        """Return whether this system reports the owners of TCP connections."""
        return self._lookup is not None

    def close(self) -> None:
        """Close the lookup."""
        close = getattr(self._lookup, "close", None)
        if close is not None:
            close()

    def is_own(self, sock: socket.socket) -> bool:
        """Return whether this user or root holds the other end *now*. False if it is closed, orphaned or unknown."""
        try:
            uid = self._unix_uid(sock) if sock.family == socket.AF_UNIX else self._tcp_uid(sock)
        except (OSError, ValueError):
            return False
        return uid is not None and uid in (self._uid, 0)

    def _tcp_uid(self, sock: socket.socket) -> int | None:
        if self._lookup is None:
            return None
        end = self._lookup(SocketPair.of_peer(sock))
        # A closed socket has neither owner nor inode: its uid 0 is not root's.
        if end is None or end.state not in _HELD or end.inode == 0:
            return None
        # Checked last: the addresses of a connection that has ended may belong to another user's by now.
        return end.uid if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _OURS else None

    def _unix_uid(self, sock: socket.socket) -> int | None:
        if _is_ambiguous(self._uid):
            return None
        if hasattr(socket, "SO_PEERCRED"):
            return int(struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])
        return int(struct.unpack_from("=II", sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76))[1])


def _works(lookup: Lookup) -> bool:
    """Return whether a lookup finds this process at the other end of a connection to itself."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        stack.enter_context(socket.create_connection(listener.getsockname(), timeout=5))
        listener.settimeout(5)
        accepted, _ = listener.accept()
        with accepted:
            end = lookup(SocketPair.of_peer(accepted))
            return end is not None and end.uid == os.geteuid() and end.inode > 0 and end.state == _ESTABLISHED


def _is_ambiguous(uid: int) -> bool:
    """Return whether this uid also stands for every unknown user (user_namespaces(7), overflowuid)."""
    try:
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
        mapped = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
    except (OSError, ValueError):
        return False
    return uid == overflow and mapped != [["0", "0", "4294967295"]]
