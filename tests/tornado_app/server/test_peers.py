"""Loopback is not one person: without a token only the user who runs the server, and root, may call it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

import holdfast
from holdfast._environment import known_servers
from tests.support.servers import ServerProcess, wait_until
from tests.tornado_app.handlers.test_base import GOOD, assert_problem
from tornado_app.app import App
from tornado_app.server import peers
from tornado_app.server.peers import Netlink, Peers, SocketPair, Tables
from tornado_app.settings import Settings

STRANGER = 65534
"""Another user, who has nothing: nobody."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's place, which only root can")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the system does not say who holds a connection")

Ends = tuple[socket.socket, socket.socket]


def as_stranger(code: str, *arguments: object, given: str = "") -> str:
    """Return the output of a program that gives root up first; its modules are loaded by then."""
    ids = f"*[{STRANGER}] * 3"
    drop = "import codecs, os, sys, socket, struct\ncodecs.lookup('idna')\nos.setgroups([])\n"
    drop += f"os.setresgid({ids})\nos.setresuid({ids})\n"
    command = [sys.executable, "-c", drop + code, *map(str, arguments)]
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout


ASK = """
address = sys.argv[1]
family = socket.AF_UNIX if address.startswith("/") else socket.AF_INET
with socket.socket(family) as sock:
    try:
        sock.connect(address if family == socket.AF_UNIX else ("127.0.0.1", int(address)))
        sock.sendall(sys.stdin.buffer.read())
        print(sock.makefile("rb").read().decode())
    except OSError as error:
        print(type(error).__name__)
"""


async def ask_as_stranger(where: object, given: str) -> str:
    """The answer to his request."""
    return await asyncio.to_thread(as_stranger, ASK, where, given=given)


def request(path: str, *headers: str, method: str = "GET") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""])


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6, "mapped", "mapped client"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """A connection's two ends, the accepted one last."""
    with ExitStack() as stack:
        listening, calling = {
            "mapped": (socket.AF_INET6, socket.AF_INET),
            "mapped client": (socket.AF_INET, socket.AF_INET6),
        }.get(request.param, (request.param, request.param))
        listener = stack.enter_context(socket.socket(listening))
        if request.param == "mapped":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::" if request.param == "mapped" else "127.0.0.1" if listening is socket.AF_INET else "::1", 0))
        listener.listen()
        caller = stack.enter_context(socket.socket(calling))
        where = {"mapped": "127.0.0.1", "mapped client": "::ffff:127.0.0.1"}
        own = "127.0.0.1" if calling is socket.AF_INET else "::1"
        caller.connect((where.get(request.param, own), listener.getsockname()[1]))
        yield caller, stack.enter_context(listener.accept()[0])


@pytest.fixture(params=[Netlink, Tables])
def lookup(request: pytest.FixtureRequest) -> Iterator[Netlink | Tables]:
    way = request.param()
    yield way
    way.close()


@on_linux
class TestLookup:
    def test_it_finds_the_owner_while_he_holds_it(self, ends: Ends, lookup: Netlink | Tables) -> None:
        caller, accepted = ends
        assert Peers(lookup).is_own(accepted)
        end = lookup(SocketPair.of_peer(accepted))
        assert end is not None
        assert (end.uid, end.inode) == (os.geteuid(), os.fstat(caller.fileno()).st_ino)

    def test_it_finds_him_when_he_has_ended_his_side_alone(self, ends: Ends, lookup: Netlink | Tables) -> None:
        caller, accepted = ends
        caller.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""
        assert Peers(lookup).is_own(accepted)

    @pytest.mark.parametrize("reset", [False, True])
    def test_what_is_closed_is_nobodys_though_its_numbers_are_roots(
        self, ends: Ends, lookup: Netlink | Tables, reset: bool
    ) -> None:
        caller, accepted = ends
        caller.sendall(b"GET /x/process/ HTTP/1.1")
        if reset:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
        assert not Peers(lookup).is_own(accepted)

    def test_addresses_that_another_connection_has_by_now_are_not_believed(self, lookup: Netlink | Tables) -> None:
        """Sent and reset, and the port is taken by somebody whom the server trusts before it looks."""
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as second:
            second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with socket.socket() as first:
                first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                first.bind(("127.0.0.1", 0))
                port = first.getsockname()[1]
                second.bind(("127.0.0.1", port))  # before anyone else can: the port stays ours
                first.connect(listener.getsockname())
                first.sendall(b"GET /x/process/ HTTP/1.1")
                first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            second.connect(listener.getsockname())
            for believed in (False, True):
                accepted, peer = listener.accept()
                with accepted:
                    assert peer[1] == port
                    assert Peers(lookup).is_own(accepted) is believed

    def test_a_look_up_that_fails_admits_nobody(self, ends: Ends) -> None:
        def broken(pair: SocketPair) -> peers.End:
            raise PermissionError

        assert not Peers(broken).is_own(ends[1])
        assert not Peers(None).is_own(ends[1])

    def test_the_first_way_that_works_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused() -> None:
            raise PermissionError

        monkeypatch.setattr(peers, "Netlink", refused)
        found = Peers.open()
        assert isinstance(found._lookup, Tables)
        monkeypatch.setattr(peers, "Tables", lambda: lambda pair: None)
        assert not Peers.open().knows_tcp_owners

    def test_a_number_that_stands_for_all_unknown_users_is_nobodys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(peers, "_is_ambiguous", lambda uid: True)
        assert not Peers.open().knows_tcp_owners


@on_linux
@needs_root
@pytest.mark.slow
class TestStranger:
    async def test_he_is_told_how_to_give_a_token_and_nothing_happens(self, server: App) -> None:
        for path, method in ((GOOD, "GET"), ("/x/process/", "GET"), ("/v1/processes", "POST"), ("/docs-not", "GET")):
            said = await ask_as_stranger(server.port, request(path, method=method))
            assert "401 Unauthorized" in said
            assert "--token-file" in said
            assert "www-authenticate: bearer" in said.lower()
        assert (await ask_as_ourselves(server)).json()["items"] == []

    async def test_his_uploads_are_refused_at_their_headers(self, server: App) -> None:
        asked = request("/v1/files/x", "Content-Length: 3", method="PUT") + "abc"
        said = await ask_as_stranger(server.port, asked)
        assert "401 Unauthorized" in said
        assert list(server.settings.files_dir.glob("x")) == []

    async def test_to_connect_send_and_close_at_once_starts_nothing(self, server: App) -> None:
        """The socket that is gone has uid 0 in the kernel's tables."""
        code = """
for i in range(200):
    sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    if i % 2:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.sendall(b"GET /raced-%d/process/ HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n" % i)
    if i % 3:
        sock.shutdown(socket.SHUT_WR)
    sock.close()
"""
        await asyncio.to_thread(as_stranger, code, server.port)
        assert (await ask_as_ourselves(server)).json()["items"] == []

    async def test_he_comes_in_with_the_token(self, settings: Settings) -> None:
        for same_user in (False, True):
            app = await App.open(dataclasses.replace(settings, token="s3cret", same_user=same_user))
            app.listen()
            try:
                for given, status in (("s3cret", "200"), ("wrong", "401")):
                    asked = request(GOOD, f"Authorization: Bearer {given}")
                    said = await ask_as_stranger(app.port, asked)
                    assert said.startswith(f"HTTP/1.1 {status}")
                assert (await ask_as_ourselves(app)).status_code == (200 if same_user else 401)
            finally:
                await app.close()

    async def test_a_socket_is_closed_to_him(self, settings: Settings) -> None:
        folder = tempfile.mkdtemp()  # the test's own lies behind folders that only its user can enter
        os.chmod(folder, 0o755)
        path = Path(folder) / "socket"
        app = await App.open(dataclasses.replace(settings, socket=path))
        app.listen()
        try:
            assert path.stat().st_mode & 0o777 == 0o600
            assert "PermissionError" in await ask_as_stranger(path, request(GOOD))
            os.chmod(path, 0o666)  # and he is not let in, either, where somebody has opened it
            assert "401 Unauthorized" in await ask_as_stranger(path, request(GOOD))
        finally:
            await app.close()
        os.rmdir(folder)  # the socket is gone

    def test_root_may_call_the_server_of_another_user(self) -> None:
        """The server's part is played by what it asks."""
        code = f"""
import codecs, os, socket
from tornado_app.server.peers import Netlink, Peers, Tables
[codecs.lookup(name) for name in ("ascii", "idna")]
os.setresuid(*[{STRANGER}] * 3)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
accepted, _ = listener.accept()
print(Peers(Netlink()).is_own(accepted), Peers(Tables()).is_own(accepted), flush=True)
"""
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            with socket.create_connection(("127.0.0.1", int(child.stdout.readline()))):
                assert child.stdout.readline() == "True True\n"


async def ask_as_ourselves(app: App) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.port}") as client:
        return await client.get("/v1/processes")


class TestOurselves:
    async def test_one_connection_is_asked_about_once_and_one_with_the_token_never(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[socket.socket] = []
        was = Peers.is_own
        monkeypatch.setattr(Peers, "is_own", lambda self, sock: asked.append(sock) or was(self, sock))
        app = await App.open(dataclasses.replace(settings, token="s3cret", same_user=True))
        app.listen()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.port}") as client:
            for _ in range(3):
                assert (await client.get(GOOD, headers={"Authorization": "Bearer s3cret"})).status_code == 200
            assert not asked
            for _ in range(3):
                assert (await client.get(GOOD)).status_code == 200
        await app.close()
        assert len(asked) == 1


@pytest.fixture
async def undecided(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[App]:
    """A server where the system does not tell users apart."""
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(Peers, "open", lambda: Peers(None))
    app = await App.open(settings)
    app.listen()
    yield app
    await app.close()


class TestWhereTheSystemCanNotTell:
    async def test_a_token_is_made_that_the_users_own_programs_find(self, undecided: App) -> None:
        url, path = undecided.url, undecided.settings.data_dir / "token"
        assert path.stat().st_mode & 0o777 == 0o600
        async with httpx.AsyncClient(base_url=url) as plain:
            problem = assert_problem(await plain.get(GOOD), 401, "unauthorized")
            assert "data directory" in str(problem["detail"])
            headers = {"Authorization": f"Bearer {path.read_text().strip()}"}
            assert (await plain.get(GOOD, headers=headers)).status_code == 200
        async with holdfast.AsyncClient(url) as client:
            assert await client.work_types()
        async with holdfast.AsyncClient(url, token="wrong") as client:
            with pytest.raises(holdfast.errors.Unauthorized):
                await client.work_types()

    async def test_it_is_the_same_after_a_restart_and_not_sent_to_what_has_the_port_meanwhile(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
        monkeypatch.setattr(Peers, "open", lambda: Peers(None))
        app = await App.open(settings)
        app.listen()
        url, port = app.url, app.port
        [note] = (tmp_path / "state" / "servers").iterdir()
        token = known_servers.token_of(url)
        assert token == (settings.data_dir / "token").read_text().strip()
        kept = note.read_bytes()
        await app.close()
        assert not note.exists()
        note.write_bytes(kept)  # as a server leaves it that was killed
        note.chmod(0o600)
        assert known_servers.token_of(url) is None
        assert not note.exists()
        app = await App.open(dataclasses.replace(settings, port=port))
        app.listen()
        assert known_servers.token_of(url) == token
        await app.close()


@pytest.mark.slow
class TestSocket:
    @pytest.mark.parametrize("form", ["unix:{}", "unix://{}", "http+unix://{}"])
    def test_clients_and_the_command_take_it_as_a_url(
        self, spawn_server: Callable[..., ServerProcess], tmp_path: Path, form: str
    ) -> None:
        path = tmp_path / "a socket"
        server = spawn_server("--socket", str(path))
        assert server.url == f"unix:{path}"
        url = form.format(path if form.startswith("unix") else str(path).replace("/", "%2F"))
        with holdfast.Client(url) as client:
            assert client.base_url == server.url
            client.files.write("x", bytes(1 << 20))
            client.files.download("x", tmp_path / "y").wait(30)
            assert (tmp_path / "y").read_bytes() == bytes(1 << 20)
        command = [sys.executable, "-m", "holdfast.cli", "--url", url, "ls"]
        assert "x" in subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def test_it_is_taken_again_after_a_crash_and_not_from_a_server_that_lives(
        self, spawn_server: Callable[..., ServerProcess], tmp_path: Path
    ) -> None:
        path = tmp_path / "s"
        server = spawn_server("--socket", str(path))
        with pytest.raises(AssertionError, match="another server listens on --socket"):
            spawn_server("--socket", str(path), folder=tmp_path / "other")
        server.kill()
        assert path.exists()
        server = spawn_server("--socket", str(path))
        server.stop()
        wait_until(lambda: not path.exists())
        path.write_text("mine", encoding="utf-8")
        with pytest.raises(AssertionError, match="is no socket"):
            spawn_server("--socket", str(path))
        assert path.read_text(encoding="utf-8") == "mine"

    @pytest.mark.parametrize("url", ["unix:", "unix:relative", "http+unix://", "unix:/"])
    def test_a_url_without_a_path_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="is not the URL of a server"):
            holdfast.Client(url)
