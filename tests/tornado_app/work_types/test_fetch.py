"""`fetch`: the whole file, of one version, from where it may be fetched from and from nowhere else."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from holdfast.work import Job, WorkError
from holdfast.work.testing import Workshop, check
from tests.support.executor_conformance import RecordingSink, attempt_of
from tests.support.origin import KEY_AND_CERTIFICATE, Origin, held
from tests.support.servers import PATIENCE, ServerProcess, wait_until
from tests.support.work_runs import Run
from tornado_app.processes.executors.attempt import Failed
from tornado_app.processes.executors.driver import AttemptDriver
from tornado_app.settings import SettingsError, read
from tornado_app.work_types import fetch as fetch_module
from tornado_app.work_types import url_policy
from tornado_app.work_types.fetch import Fetch, TryAgain, fetch

DATA = random.Random(3).randbytes(700_000)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin(DATA) as made:
        yield made


@pytest.fixture
def workshop(origin: Origin) -> Iterator[Workshop]:
    with Workshop({"fetch_allow": (origin.url,), "fetch_private": True}) as made:
        yield made


def job(workshop: Workshop, url: str, checkpoint: Any = None, **params: Any) -> Job[Fetch]:
    wanted = msgspec.convert({"url": url, **params}, Fetch)
    assert fetch.check_function is not None
    fetch.check_function(wanted, workshop.setting)
    return Job("p", wanted, checkpoint, services=workshop, log=workshop.log.append)


def finish(running: Any) -> Any:
    while True:
        try:
            next(running)
        except StopIteration as end:
            return end.value


def run(workshop: Workshop, url: str, **params: Any) -> Any:
    return finish(fetch.function(job(workshop, url, **params)))


def ranges(origin: Origin) -> list[tuple[str | None, str | None]]:
    return [(asked.get("range"), asked.get("if-range")) for asked in origin.asked]


def test_the_file_is_published_under_the_last_part_of_its_path(origin: Origin, workshop: Workshop) -> None:
    result = run(workshop, origin.url + "/sets/d%C3%A9j%C3%A0.bin?version=2#part")
    assert workshop.files.read("déjà.bin") == DATA
    assert result == {"file_name": "déjà.bin", "bytes": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}
    assert origin.asked[0]["path"] == "/sets/d%C3%A9j%C3%A0.bin?version=2"
    assert origin.asked[0]["accept-encoding"] == "identity"
    run(workshop, origin.url, file_name="a/b.bin")
    assert workshop.files.read("a/b.bin") == DATA


def test_a_cut_answer_is_gone_on_from_where_it_was_cut(origin: Origin, workshop: Workshop) -> None:
    origin.cut_after = [100_000, 200_001, 3]
    run(workshop, origin.url + "/f")
    assert workshop.files.read("f") == DATA
    expected = [None, "bytes=100000-", "bytes=300001-", "bytes=300004-"]
    assert ranges(origin) == [(wanted, '"v1"' if wanted else None) for wanted in expected]
    assert workshop.log[0].startswith("cut at byte 100000 (")


def test_parts_shorter_than_asked_for_are_put_together(origin: Origin, workshop: Workshop) -> None:
    origin.cut_after = [1]
    origin.most_of_a_range = 250_000
    run(workshop, origin.url + "/f")
    assert workshop.files.read("f") == DATA


def half(origin: Origin, workshop: Workshop) -> Any:
    """The checkpoint of a fetch that was stopped with 300,000 bytes."""
    origin.cut_after = [300_000, 0]
    running = fetch.function(job(workshop, origin.url + "/f"))
    with pytest.raises(TryAgain):
        finish(running)
    origin.cut_after = []
    origin.asked.clear()
    at = {"byte": 300_000, "total": len(DATA), "validator": origin.etag or origin.dates.get("Last-Modified", "")}
    assert fetch.checkpoint is not None
    return msgspec.convert(at, fetch.checkpoint)


def go_on(origin: Origin, workshop: Workshop, checkpoint: Any) -> None:
    finish(fetch.function(job(workshop, origin.url + "/f", checkpoint)))


def test_a_resumed_fetch_asks_for_the_rest_alone(origin: Origin, workshop: Workshop) -> None:
    go_on(origin, workshop, half(origin, workshop))
    assert workshop.files.read("f") == DATA
    assert ranges(origin) == [("bytes=300000-", '"v1"')]


@pytest.mark.parametrize("if_range", [True, False], ids=["told by If-Range", "told by its ETag"])
def test_another_version_is_never_spliced_on(origin: Origin, workshop: Workshop, if_range: bool) -> None:
    checkpoint = half(origin, workshop)
    origin.etag, origin.data, origin.if_range = '"v2"', DATA[::-1], if_range
    go_on(origin, workshop, checkpoint)
    assert workshop.files.read("f") == DATA[::-1]
    assert "has changed" in workshop.log[-1]


def test_a_version_of_another_size_is_noticed_without_a_tag(origin: Origin, workshop: Workshop) -> None:
    origin.etag = None
    origin.dates = {"Last-Modified": "Mon, 05 Jan 2026 00:00:00 GMT", "Date": "Mon, 05 Jan 2026 00:01:00 GMT"}
    checkpoint = half(origin, workshop)
    origin.data, origin.if_range = DATA + b"more", False
    go_on(origin, workshop, checkpoint)
    assert workshop.files.read("f") == DATA + b"more"


def test_a_date_that_is_old_enough_tells_versions_apart(origin: Origin, workshop: Workshop) -> None:
    origin.etag = None
    modified = "Mon, 05 Jan 2026 00:00:00 GMT"
    origin.dates = {"Last-Modified": modified, "Date": "Mon, 05 Jan 2026 00:01:00 GMT"}
    origin.cut_after = [300_000]
    run(workshop, origin.url + "/f")
    assert ranges(origin)[1] == ("bytes=300000-", modified)
    assert workshop.files.read("f") == DATA


@pytest.mark.parametrize("validator", ['W/"v1"', None, "young date"])
def test_what_can_not_be_told_apart_is_started_over(origin: Origin, workshop: Workshop, validator: str | None) -> None:
    origin.etag = None if validator == "young date" else validator
    if validator == "young date":
        origin.dates = {"Last-Modified": "Mon, 05 Jan 2026 00:00:00 GMT", "Date": "Mon, 05 Jan 2026 00:00:59 GMT"}
    origin.cut_after = [300_000]
    running = fetch.function(job(workshop, origin.url + "/f"))
    with pytest.raises(TryAgain, match="can't be fetched now"):
        finish(running)
    assert fetch.checkpoint is not None
    checkpoint = msgspec.convert({"byte": 300_000, "total": len(DATA)}, fetch.checkpoint)
    go_on(origin, workshop, checkpoint)
    assert ranges(origin) == [(None, None), (None, None)]
    assert workshop.log == ["the server names no version of the file to continue at byte 300000; starting over"]
    assert workshop.files.read("f") == DATA


def test_a_server_without_ranges_is_started_over(origin: Origin, workshop: Workshop) -> None:
    origin.ranges = False
    origin.cut_after = [300_000]
    run(workshop, origin.url + "/f")
    assert workshop.log[-1] == "the server sends no ranges; starting over at byte 0"
    assert workshop.files.read("f") == DATA


def test_a_file_of_unknown_length_ends_with_its_last_chunk(origin: Origin, workshop: Workshop) -> None:
    origin.length = False
    origin.cut_after = [300_000]
    assert run(workshop, origin.url + "/f")["bytes"] == len(DATA)
    assert ranges(origin)[1][0] == "bytes=300000-"


def test_a_cut_at_the_very_end_of_an_unknown_length_is_whole(origin: Origin, workshop: Workshop) -> None:
    origin.length = False
    origin.cut_after = [len(DATA)]
    run(workshop, origin.url + "/f")
    assert ranges(origin)[1][0] == f"bytes={len(DATA)}-"
    assert workshop.files.read("f") == DATA


def test_a_file_that_ends_earlier_now_is_started_over(origin: Origin, workshop: Workshop) -> None:
    checkpoint = half(origin, workshop)
    origin.data = DATA[:1000]
    go_on(origin, workshop, checkpoint)
    assert workshop.files.read("f") == DATA[:1000]


def test_staged_bytes_that_are_gone_are_fetched_again(origin: Origin, workshop: Workshop) -> None:
    checkpoint = half(origin, workshop)
    workshop.files.drop("fetch-p")
    go_on(origin, workshop, checkpoint)
    assert ranges(origin) == [(None, None)]
    assert workshop.log[-1] == "the 300000 bytes that were fetched before are gone; starting over"


@pytest.mark.parametrize(("status", "again"), [(404, False), (403, False), (204, False), (429, True), (503, True)])
def test_a_refusal_is_told_and_tried_again_where_that_may_help(
    origin: Origin, workshop: Workshop, status: int, again: bool
) -> None:
    origin.statuses["/f"] = status
    attempt = attempt_of("fetch", url=origin.url + "/f")
    outcome = AttemptDriver(fetch, attempt, RecordingSink(), workshop).run()
    assert isinstance(outcome, Failed)
    assert (outcome.message, outcome.retry) == (f"{origin.url}/f answered with status {status}", again)


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changes_with_every_request_is_left_for_later(
    origin: Origin, workshop: Workshop, if_range: bool
) -> None:
    """2,826 requests in 8 seconds were seen."""
    origin.changes, origin.if_range = True, if_range
    origin.cut_after = [300_000] * 1000
    with pytest.raises(TryAgain, match="can't be fetched now"):
        run(workshop, origin.url + "/f")
    assert len(origin.asked) <= 4


def test_requests_that_bring_little_come_slower_and_slower(
    origin: Origin, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(fetch_module, "_pause", lambda at, seconds: iter(waits.append(seconds) or ()))
    origin.data = DATA[:200]
    origin.most_of_a_range, origin.cut_after = 20, [1]
    run(workshop, origin.url + "/f")
    assert workshop.files.read("f") == DATA[:200]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0, 5.0]


def test_it_can_be_paused_while_it_waits(origin: Origin, workshop: Workshop) -> None:
    origin.data = DATA[:200]
    origin.most_of_a_range, origin.cut_after = 20, [1]
    running = fetch.function(job(workshop, origin.url + "/f"))
    for _ in range(3):
        next(running)
    running.close()
    assert len(origin.asked) < 10


@pytest.mark.parametrize("length", [True, False], ids=["with its length", "chunked"])
def test_a_part_that_is_longer_than_it_says_is_refused(origin: Origin, workshop: Workshop, length: bool) -> None:
    checkpoint = half(origin, workshop)
    origin.more_than_the_range, origin.length = 5, length
    with pytest.raises(WorkError, match="Content-Range") as caught:
        go_on(origin, workshop, checkpoint)
    assert not isinstance(caught.value, TryAgain)
    assert workshop.files.list() == []
    assert workshop.files.stage("f", "fetch-p").tell() == 300_000


@pytest.mark.parametrize("coding", ["gzip", "BR", "identity, gzip"])
def test_a_coded_answer_is_not_stored(origin: Origin, workshop: Workshop, coding: str) -> None:
    origin.coding = coding
    with pytest.raises(WorkError, match=f"Content-Encoding {coding.lower()}, though it was asked for none"):
        run(workshop, origin.url + "/f")
    origin.coding = ""
    checkpoint = half(origin, workshop)
    origin.coding = coding
    with pytest.raises(WorkError, match="Content-Encoding"):
        go_on(origin, workshop, checkpoint)
    assert workshop.files.list() == []
    origin.coding = "identity"
    run(workshop, origin.url + "/f")
    assert workshop.files.read("f") == DATA


@pytest.mark.slow
def test_nothing_is_fetched_for_which_there_is_no_room(request: pytest.FixtureRequest, origin: Origin) -> None:
    flags = ("--fetch-allow", origin.url, "--fetch-private", "--reserve-space", str(1 << 60))
    start: Run = request.getfixturevalue("run")
    running = start(*flags, work_type="fetch", url=origin.url + "/f")
    error = running.until("failed")["error"]
    assert error["type"] == "WorkError"
    assert f"f needs {len(DATA)} bytes more, and " in error["message"]
    assert "(--reserve-space). Make room, then resume" in error["message"]


def test_nobody_there_is_tried_again(workshop: Workshop, origin: Origin) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/f"
        workshop._settings["fetch_allow"] = (url,)
        with pytest.raises(TryAgain, match=r"can't be fetched now: .*refused"):
            run(workshop, url)


def test_a_wrong_digest_publishes_nothing(origin: Origin, workshop: Workshop) -> None:
    with pytest.raises(WorkError, match=r"has the SHA-256 .*: nothing was published"):
        run(workshop, origin.url + "/f", sha256="0" * 64)
    assert workshop.files.list() == []
    run(workshop, origin.url + "/f", sha256=hashlib.sha256(DATA).hexdigest().upper())
    assert workshop.files.list() == ["f"]


@pytest.mark.parametrize("sha256", ["0" * 63, "g" * 64, "0" * 64 + "\n", "\n"])
def test_a_digest_that_is_none_is_refused_before_anything_is_fetched(
    origin: Origin, workshop: Workshop, sha256: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match="sha256"):
        job(workshop, origin.url + "/f", sha256=sha256)


def test_pause_is_heard_while_nothing_arrives(origin: Origin, workshop: Workshop) -> None:
    gate = threading.Event()
    origin.gate = held(gate, 131_072)
    sink = RecordingSink()
    driver = AttemptDriver(fetch, attempt_of("fetch", url=origin.url + "/f"), sink, workshop)
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(driver.run()))
    thread.start()
    try:
        wait_until(lambda: workshop.files.stage("f", "fetch-p").tell() == 131_072)
        driver.request_stop("pause")
        thread.join(PATIENCE)
        assert not thread.is_alive()
    finally:
        gate.set()
        thread.join()
    assert sink.latest is not None
    assert msgspec.json.decode(sink.latest.data)["byte"] == 131_072


@pytest.mark.slow
def test_it_can_be_stopped_anywhere(origin: Origin) -> None:
    origin.data = random.Random(4).randbytes(5_000_000)
    origin.cut_after = [1_500_000]
    checked = check(fetch, {"url": origin.url + "/f"}, settings={"fetch_allow": (origin.url,), "fetch_private": True})
    assert checked.yields >= 4
    assert checked.snapshot == {"file f": origin.data}


# -- where it may fetch from


def test_redirects_are_followed_where_they_may_be(origin: Origin, workshop: Workshop) -> None:
    origin.redirects = {"/a": "/b/c", "/b/c": "d?x=1", "/loop": "/loop"}
    run(workshop, origin.url + "/a", file_name="f")
    assert [asked["path"] for asked in origin.asked] == ["/a", "/b/c", "/b/d?x=1"]
    with pytest.raises(WorkError, match="redirects more than 10 times"):
        run(workshop, origin.url + "/loop", file_name="g")


@pytest.mark.parametrize("target", ["http://[::1/", "http://a:b/", "//x\x7fy/"])
def test_a_redirect_to_what_is_no_url_is_told(origin: Origin, workshop: Workshop, target: str) -> None:
    origin.redirects = {"/a": target}
    with pytest.raises(WorkError, match=r"/a redirects to .* which is not a URL: "):
        run(workshop, origin.url + "/a")


@pytest.mark.parametrize(
    "target", ["/elsewhere/f", "http://localhost:{port}/open/f", "file:///etc/passwd", "//[::1]/x"]
)
def test_a_redirect_to_what_is_not_allowed_is_not_followed(origin: Origin, target: str) -> None:
    origin.redirects = {"/open/a": target.format(port=origin.port)}
    with Workshop({"fetch_allow": (origin.url + "/open/",), "fetch_private": True}) as workshop:
        with pytest.raises(WorkError, match=r"may not be fetched|not a URL that can be fetched"):
            run(workshop, origin.url + "/open/a")
        assert len(origin.asked) == 1
        assert workshop.files.list() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1"])
def test_no_private_address_is_connected_to(origin: Origin, host: str) -> None:
    url = f"http://{host}:{origin.port}/f"
    with (
        Workshop({"fetch_allow": (f"http://{host}:{origin.port}/",), "fetch_private": False}) as workshop,
        pytest.raises(WorkError, match=r"is not a public address; .* only with --fetch-private"),
    ):
        run(workshop, url)
    assert origin.asked == []


def test_a_redirect_to_a_private_address_is_not_followed(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    origin.redirects = {"/a": f"http://inside.example:{origin.port}/f"}
    found = {"outside.example": "93.184.215.14", "inside.example": "127.0.0.1"}
    resolve_as(monkeypatch, lambda host: found[host], origin)
    allow = (f"http://outside.example:{origin.port}/", f"http://inside.example:{origin.port}/")
    with (
        Workshop({"fetch_allow": allow, "fetch_private": False}) as workshop,
        pytest.raises(WorkError, match=r"inside.example is at 127.0.0.1, which is not a public address"),
    ):
        run(workshop, f"http://outside.example:{origin.port}/a")
    assert len(origin.asked) == 1


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that stands for a public address when asked first and for a private one when asked again."""
    answers = ["93.184.215.14", "127.0.0.1", "127.0.0.1"]
    connected = resolve_as(monkeypatch, lambda host: answers.pop(0), origin)
    allow = (f"http://rebinding.example:{origin.port}/",)
    with Workshop({"fetch_allow": allow, "fetch_private": False}) as workshop:
        run(workshop, allow[0] + "f")
        assert workshop.files.read("f") == DATA
    assert connected == ["93.184.215.14"]
    assert len(answers) == 2
    assert origin.asked[0]["host"] == f"rebinding.example:{origin.port}"


def resolve_as(monkeypatch: pytest.MonkeyPatch, lookup: Callable[[str], str], origin: Origin) -> list[str]:
    """Names stand for what `lookup` says, and public addresses lead to `origin`; the list of those connected to."""
    connected: list[str] = []
    connect = url_policy.httpcore.SyncBackend.connect_tcp

    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *kinds: Any, **more: Any) -> list[Any]:
        if host == "127.0.0.1":  # asked by the connection itself
            return list(real(host, port, *kinds, **more))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (lookup(host), port))]

    def connect_tcp(self: Any, host: str, port: int, *rest: Any) -> Any:
        connected.append(host)
        return connect(self, "127.0.0.1", port, *rest)

    monkeypatch.setattr(url_policy.socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(url_policy.httpcore.SyncBackend, "connect_tcp", connect_tcp)
    return connected


def test_certificates_are_checked_against_the_name_in_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with Origin(DATA, tls=True) as origin:
        settings = {"fetch_allow": (origin.url, f"https://127.0.0.1:{origin.port}"), "fetch_private": True}
        with Workshop(settings) as workshop:
            with pytest.raises(TryAgain, match="CERTIFICATE_VERIFY_FAILED"):
                run(workshop, origin.url + "/f")
            monkeypatch.setenv("SSL_CERT_FILE", str(KEY_AND_CERTIFICATE))
            with pytest.raises(TryAgain, match="CERTIFICATE_VERIFY_FAILED"):
                run(workshop, f"https://127.0.0.1:{origin.port}/f")
            run(workshop, origin.url + "/f")
            assert workshop.files.read("f") == DATA


@pytest.mark.parametrize("prefix", ["data.example", "ftp://data.example/", "https://", "https://u@h/", "https://h/?q"])
def test_a_setting_that_is_no_beginning_of_a_url_is_refused(prefix: str) -> None:
    with pytest.raises(SettingsError, match="give the beginning of a URL"):
        read(["--fetch-allow", prefix], {})


# -- on a server


@pytest.mark.slow
def test_a_killed_server_goes_on_where_it_was(origin: Origin, spawn_server: Callable[..., ServerProcess]) -> None:
    gate = threading.Event()
    origin.data = random.Random(5).randbytes(3_000_000)
    origin.gate = held(gate, 2_000_000)
    server = spawn_server("--fetch-allow", origin.url, "--fetch-private", "--journal-interval", "0")
    refused = httpx.get(f"{server.url}/a/process/", params={"work_type": "fetch", "url": "http://127.0.0.1:1/f"})
    assert refused.status_code == 400
    assert "may not be fetched. This server fetches URLs that begin with" in refused.json()["detail"]
    assert httpx.get(f"{server.url}/a/process/", params={"work_type": "fetch", "url": origin.url + "/f"}).is_success

    def process() -> dict[str, Any]:
        return dict(httpx.get(f"{server.url}/v1/processes/a").json())

    wait_until(lambda: (process()["progress"]["done"] or 0) > 1_000_000)
    server.kill()
    gate.set()
    server.restart()
    wait_until(lambda: process()["state"] == "succeeded")
    assert (server.files_dir / "f").read_bytes() == origin.data
    wanted, version = ranges(origin)[1]
    assert wanted is not None
    assert int(wanted.removeprefix("bytes=").rstrip("-")) > 1_000_000
    assert version == '"v1"'
