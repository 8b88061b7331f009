"""The server through Jupyter, as any client of it sees it."""

from __future__ import annotations

import socket
import threading

import httpx
import pytest

from tests.support.jupyter_server import BASE_URL, TOKEN, FakeServer, JupyterServer, pieces_of, read_head
from tests.support.servers import PATIENCE, wait_until

pytestmark = pytest.mark.slow

MIB = 1 << 20
PREFIX = f"{BASE_URL}holdfast"
TUS = {"Tus-Resumable": "1.0.0"}


def connected(jupyter: JupyterServer) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", jupyter.port), timeout=PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def head(jupyter: JupyterServer, method: str, path: str, **headers: object) -> bytes:
    """The head of a request with Jupyter's token; underscores in names are hyphens."""
    lines = [f"{method} {PREFIX}/{path} HTTP/1.1", f"Host: 127.0.0.1:{jupyter.port}", f"Authorization: token {TOKEN}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


# -- what passes


def test_a_file_goes_up_and_down_with_what_http_has_for_it(through: httpx.Client, jupyter: JupyterServer) -> None:
    content = bytes(range(256)) * 5000
    put = through.put("v1/files/sub/a b.bin", content=content)
    assert put.status_code == 201
    assert (jupyter.root / "sub/a b.bin").read_bytes() == content  # in Jupyter's file browser
    assert put.headers["location"] == f"{PREFIX}/v1/files/sub/a%20b.bin"

    whole = through.get("v1/files/sub/a b.bin")
    assert (whole.status_code, whole.content) == (200, content)
    assert through.head("v1/files/sub/a b.bin").headers["content-length"] == str(len(content))
    tag = whole.headers["etag"]
    assert through.get("v1/files/sub/a b.bin", headers={"If-None-Match": tag}).status_code == 304
    part = through.get("v1/files/sub/a b.bin", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert through.delete("v1/files/sub/a b.bin").status_code == 204
    missing = through.get("v1/files/sub/a b.bin")
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"


def test_one_policy_of_content_security_goes_out_and_it_is_the_servers(through: httpx.Client) -> None:
    page = through.get("", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "<title>Holdfast</title>" in page.text
    assert [v for name, v in page.headers.multi_items() if name == "content-security-policy"] == [
        page.headers["content-security-policy"]
    ]
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'nonce-")


def test_a_process_is_started_through_it(through: httpx.Client) -> None:
    started = through.post("v1/processes", json={"work_type": "manifest", "params": {}})
    assert started.status_code in (201, 202)
    assert started.headers["location"].startswith(f"{PREFIX}/v1/processes/")


def test_a_chunked_body_goes_up(through: httpx.Client, jupyter: JupyterServer) -> None:
    pieces = [b"a" * 70_000, b"b" * 3, b"c" * 1_500_000]
    assert through.put("v1/files/chunked.bin", content=iter(pieces)).status_code == 201
    assert (jupyter.root / "chunked.bin").read_bytes() == b"".join(pieces)


def test_interim_responses_come_through(jupyter: JupyterServer) -> None:
    size = 4 * MIB
    with connected(jupyter) as connection:
        fields = {"Upload_Draft_Interop_Version": 8, "Upload_Complete": "?1", "Content_Length": size}
        connection.sendall(head(jupyter, "POST", "v1/uploads?name=interim.bin", **fields) + bytes(size))
        first = read_head(connection)
        assert first.startswith(b"HTTP/1.1 104 ")
        assert f"location: {PREFIX}/v1/uploads/".encode() in first.lower()
        while (answer := read_head(connection)).startswith(b"HTTP/1.1 104 "):
            pass
    assert answer.startswith(b"HTTP/1.1 20"), answer


# -- who is admitted


def test_jupyters_login_is_the_login(jupyter: JupyterServer) -> None:
    program = httpx.get(f"{jupyter.holdfast}/v1/files")
    assert program.status_code == 403
    assert program.headers["content-type"] == "application/problem+json"
    assert "Authorization: token" in program.json()["detail"]
    person = httpx.get(f"{jupyter.holdfast}/", headers={"Accept": "text/html"})
    assert person.status_code == 302
    assert person.headers["location"].startswith(f"{BASE_URL}login")
    assert httpx.put(f"{jupyter.holdfast}/v1/files/x", content=b"x").status_code == 403
    assert httpx.get(f"{jupyter.url}/holdfast-info").status_code == 403
    assert not (jupyter.root / "x").exists()


def test_a_cookie_counts_only_with_the_xsrf_token(jupyter: JupyterServer) -> None:
    with httpx.Client(base_url=jupyter.url, timeout=PATIENCE) as page:
        page.get(f"{jupyter.url}/login")
        page.get(f"{jupyter.url}/api/status", params={"token": TOKEN})
        assert page.get(f"{jupyter.holdfast}/v1/files").status_code == 200
        assert page.put(f"{jupyter.holdfast}/v1/files/cookie.bin", content=b"x").status_code == 403
        token = {"X-XSRFToken": page.cookies["_xsrf"]}
        assert page.put(f"{jupyter.holdfast}/v1/files/cookie.bin", content=b"x", headers=token).status_code == 201
        own = {"Origin": f"http://127.0.0.1:{jupyter.port}"}
        assert page.get(f"{jupyter.holdfast}/v1/files", headers=own).status_code == 200
        foreign = page.get(f"{jupyter.holdfast}/v1/files", headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
        assert "evil.example" in foreign.json()["detail"]
        included = page.get(f"{jupyter.holdfast}/v1/files", headers={"Sec-Fetch-Site": "cross-site"})
        assert included.status_code == 403


def test_the_slash_at_the_end_may_be_left_out(through: httpx.Client, jupyter: JupyterServer) -> None:
    answer = httpx.get(jupyter.holdfast, headers=jupyter.headers)
    assert (answer.status_code, answer.headers["location"]) == (302, f"{PREFIX}/")


def test_info_says_where_the_server_is_and_starts_it(own_jupyter: JupyterServer) -> None:
    nonce = "n" * 32
    info = httpx.get(f"{own_jupyter.url}/holdfast-info", params={"nonce": nonce}, headers=own_jupyter.headers).json()
    assert info["url"].startswith("unix:/")
    transport = httpx.HTTPTransport(uds=info["url"].removeprefix("unix:"))
    with httpx.Client(transport=transport, base_url="http://localhost") as straight:
        proof = straight.get("/v1/identity", params={"nonce": nonce}).json()
    assert (info["instance"], info["identity"]) == (proof["instance"], proof["proof"])


# -- cuts and pressure


def test_a_cut_upload_keeps_what_has_come(through: httpx.Client, jupyter: JupyterServer) -> None:
    size, sent = 8 * MIB, 4 * MIB
    fields = {"Upload-Length": str(size), "Upload-Metadata": "filename Y3V0LmJpbg=="}
    upload = through.post("v1/uploads", headers={**TUS, **fields})
    assert upload.headers["location"].startswith(f"{PREFIX}/v1/uploads/")
    path = upload.headers["location"].removeprefix(f"{PREFIX}/")
    kind = {"Tus_Resumable": "1.0.0", "Content_Type": "application/offset+octet-stream", "Upload_Offset": 0}
    with connected(jupyter) as connection:
        connection.sendall(head(jupyter, "PATCH", path, Content_Length=size, **kind) + bytes(sent))
        connection.shutdown(socket.SHUT_WR)
        list(pieces_of(connection))

    def offset() -> int:
        return int(through.head(path, headers=TUS).headers["upload-offset"])

    assert wait_until(lambda: offset() == sent and sent) == sent
    rest = through.patch(path, headers={**TUS, "Upload-Offset": str(sent), "Content-Type": kind["Content_Type"]},
                         content=bytes(size - sent))  # fmt: skip
    assert rest.status_code == 204
    assert (jupyter.root / "cut.bin").stat().st_size == size


def behind(tmp_path_factory: pytest.TempPathFactory, server: FakeServer) -> JupyterServer:
    return JupyterServer(tmp_path_factory.mktemp("j"), f"--HoldfastExtension.url=http://127.0.0.1:{server.port}")


def ok(connection: socket.socket, rest: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n" + rest)


def test_the_wire_behind_jupyter(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Against a server that does what it is told, one connection after another."""
    go_on, closed = threading.Event(), threading.Event()

    def plain(connection: socket.socket, _: bytes) -> None:
        ok(connection, b"Content-Length: 2\r\nSet-Cookie: a=b\r\nContent-Type: text/plain\r\n\r\nok")

    def event(connection: socket.socket, _: bytes) -> None:
        ok(connection, b"Content-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        go_on.wait(PATIENCE)
        connection.sendall(b"data: 2\n\n")

    def endless(connection: socket.socket, _: bytes) -> None:
        ok(connection, b"Content-Type: text/plain\r\n\r\n")
        try:
            while True:
                connection.sendall(bytes(1 << 16))
        except OSError:
            closed.set()

    def refuses(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")

    def admits(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = connection.recv(4, socket.MSG_WAITALL)
        ok(connection, b"Content-Length: 4\r\n\r\n" + body)

    def patient(connection: socket.socket, _: bytes) -> None:
        for n in range(40):  # Tornado's own client bears ten
            connection.sendall(b"HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Offset: %d\r\n\r\n" % n)
        ok(connection, b"Content-Length: 0\r\n\r\n")

    def half(connection: socket.socket, _: bytes) -> None:
        ok(connection, b"Content-Length: 10\r\n\r\nhalf")

    def silent(connection: socket.socket, _: bytes) -> None:
        pass

    answers = (plain, event, endless, refuses, refuses, admits, patient, half, silent)
    with FakeServer(*answers) as server, behind(tmp_path_factory, server) as jupyter:
        with httpx.Client(base_url=f"{jupyter.holdfast}/", headers=jupyter.headers, timeout=PATIENCE) as client:
            page = client.get(f"x?token={TOKEN}&b=1", headers={"Cookie": "a=secret", "Accept-Encoding": "br"})
            assert page.text == "ok"
            assert "a=b" not in page.headers.get("set-cookie", "")
            seen = server.heads[0].decode().lower()
            assert seen.startswith("get /x?b=1 http/1.1\r\n")
            assert "secret" not in seen
            assert TOKEN not in seen
            assert "\r\naccept-encoding: br\r\n" in seen
            assert f"\r\nx-forwarded-prefix: {PREFIX}\r\n" in seen

            with client.stream("GET", "events", headers={"Accept": "application/json"}) as stream:
                events = stream.iter_raw()
                assert next(events) == b"data: 1\n\n"  # while the server waits
                go_on.set()
                assert next(events) == b"data: 2\n\n"

            with client.stream("GET", "endless") as stream:
                next(stream.iter_raw())
            assert closed.wait(PATIENCE)  # a download that is cut ends behind Jupyter too

        with connected(jupyter) as connection:  # refused before the body is sent
            connection.sendall(head(jupyter, "PUT", "y", Expect="100-continue", Content_Length=1 << 40))
            answer = b"".join(pieces_of(connection))
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert answer.endswith(b"\r\n\r\nbig")

        with connected(jupyter) as connection:  # refused while the body is sent
            connection.sendall(head(jupyter, "PUT", "y", Content_Length=1 << 20) + bytes(1000))
            answer = read_head(connection)
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"\r\nConnection: close\r\n" in answer
            assert connection.recv(3, socket.MSG_WAITALL) == b"big"

        with connected(jupyter) as connection:  # admitted, and then sent
            connection.sendall(head(jupyter, "PUT", "z", Expect="100-continue", Content_Length=4))
            assert read_head(connection).startswith(b"HTTP/1.1 100 ")
            connection.sendall(b"body")
            assert read_head(connection).startswith(b"HTTP/1.1 200 ")
            assert connection.recv(4, socket.MSG_WAITALL) == b"body"

        with connected(jupyter) as connection:
            connection.sendall(head(jupyter, "GET", "z"))
            interim = [read_head(connection) for _ in range(40)]
            assert all(each.startswith(b"HTTP/1.1 104 ") for each in interim)
            assert b"\r\nUpload-Offset: 39\r\n" in interim[-1]
            assert read_head(connection).startswith(b"HTTP/1.1 200 ")

        with pytest.raises(httpx.RemoteProtocolError):  # a response that is cut is not taken for a whole one
            httpx.get(f"{jupyter.holdfast}/half", headers=jupyter.headers)

        gone = httpx.post(f"{jupyter.holdfast}/z", headers=jupyter.headers)
        assert gone.status_code == 502
        assert "Send the request again" in gone.json()["detail"]
    with jupyter:
        down = httpx.get(f"{jupyter.holdfast}/z", headers=jupyter.headers)
        assert down.status_code == 503
        assert f"127.0.0.1:{server.port}" in down.json()["detail"]
        assert down.headers["retry-after"] == "1"
