"""The resumable loops, driven by hand: no socket, no clock, no chance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

import holdfast
from holdfast import calls, errors, plans
from holdfast._endpoints.call import Call, CallResponse
from holdfast._http import Connection, SyncDriver
from holdfast.plans import Plan, Retries, Sleep
from holdfast.wire import Process, ProgressInfo, State


def drive(plan: Plan[Any], *answers: Any) -> tuple[Any, list[Any]]:
    """The plan's result and its effects, when each effect but sleeps is answered in turn (exceptions are thrown in)."""
    script, effects = list(answers), []
    value: Any = None
    try:
        while True:
            effect = plan.throw(value) if isinstance(value, BaseException) else plan.send(value)
            effects.append(effect)
            value = None if isinstance(effect, Sleep) else script.pop(0)
    except StopIteration as end:
        assert not script, f"never asked for: {script}"
        return end.value, effects


def process(state: str, id: str = "p") -> Process:
    return Process(id, "t", {}, State(state), ProgressInfo(), datetime.now(UTC))


def refusal(status: int, type: str = "about:blank", **members: Any) -> errors.APIError:
    cls = errors.from_answer(status, {}, b'{"type": "/problems/%s"}' % type.encode()).__class__
    return cls(status, "no", "", type, members)


GET = calls.get_process("p")
POST = calls.seed_upload("f", 0, b"x")
CUT, REFUSED = errors.ConnectionBroken("cut"), errors.ConnectFailed("nobody there")


def test_what_may_be_repeated_is_repeated_until_it_works() -> None:
    result, effects = drive(
        plans.request(GET, Retries()), CUT, refusal(503), errors.RequestTimeout(), process("running")
    )
    assert result.state is State.RUNNING
    assert [type(e) for e in effects] == [Call, Sleep, Call, Sleep, Call, Sleep, Call]


@pytest.mark.parametrize("error", [CUT, errors.RequestTimeout("slow"), refusal(500), refusal(502)])
def test_a_lost_answer_to_what_is_not_repeatable_is_an_error(error: Exception) -> None:
    with pytest.raises(type(error)):
        drive(plans.request(POST, Retries()), error)


@pytest.mark.parametrize("error", [REFUSED, refusal(408), refusal(423), refusal(429), refusal(503)])
def test_what_was_not_carried_out_is_repeated_whatever_it_is(error: Exception) -> None:
    assert drive(plans.request(POST, Retries()), error, "answer")[0] == "answer"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 413, 416, 501, 505, 507])
def test_what_another_attempt_would_not_change_is_not_repeated(status: int) -> None:
    with pytest.raises(errors.APIError) as raised:
        drive(plans.request(GET, Retries()), refusal(status))
    assert raised.value.status == status


def test_the_attempts_are_counted() -> None:
    with pytest.raises(errors.ConnectFailed):
        drive(plans.request(GET, Retries(attempts=2)), REFUSED, REFUSED, REFUSED)
    with pytest.raises(errors.ConnectFailed):
        drive(plans.request(GET, Retries.of(0, Retries())), REFUSED)


def waits(jitter: Callable[[], float], count: int, **policy: Any) -> list[float]:
    backoff = plans.Backoff(Retries(**policy), jitter)
    return [backoff.after(REFUSED, True).seconds for _ in range(count)]


def test_waits_grow_exponentially_with_full_jitter_up_to_the_cap() -> None:
    assert waits(lambda: 1.0, 5, base=1, cap=5) == [1, 2, 4, 5, 5]
    assert waits(lambda: 0.25, 3, base=1, cap=5) == [0.25, 0.5, 1]


def test_something_gained_starts_the_count_anew() -> None:
    backoff = plans.Backoff(Retries(attempts=1, base=1), lambda: 1.0)
    assert backoff.after(CUT, True).seconds == 1
    backoff.reset()
    assert backoff.after(CUT, True).seconds == 1


def test_the_servers_hint_is_the_least_wait_and_a_long_one_ends_it() -> None:
    busy = errors.TooMany(429, "wait", retry_after=9)
    assert plans.Backoff(Retries(), lambda: 0.0).after(busy, False).seconds == 9
    with pytest.raises(errors.TooMany):
        plans.Backoff(Retries(longest=5)).after(busy, False)


def test_a_verb_whose_answer_was_lost_is_not_refused_for_being_done() -> None:
    plan = plans.verb("pause", calls.pause_process("p"), GET, Retries())
    result, _ = drive(plan, CUT, refusal(409, "illegal-state", state="paused"), process("paused"))
    assert result.state is State.PAUSED


def test_a_verb_that_is_not_legal_is_refused() -> None:
    for script in (
        [refusal(409, "illegal-state", state="paused")],
        [CUT, refusal(409, "illegal-state", state="failed")],
    ):
        with pytest.raises(errors.IllegalState):
            drive(plans.verb("pause", calls.pause_process("p"), GET, Retries()), *script)


def test_a_deletion_whose_answer_was_lost_is_done() -> None:
    assert drive(plans.forget(calls.forget_process("p"), Retries()), CUT, refusal(404))[0] is None
    with pytest.raises(errors.NotFound):
        drive(plans.forget(calls.forget_process("p"), Retries()), refusal(404))


def test_the_result_of_a_process_or_why_there_is_none() -> None:
    assert plans.result_of(process("succeeded")) is None
    with pytest.raises(errors.ProcessCancelled):
        plans.result_of(process("cancelled"))
    with pytest.raises(errors.ProcessFailed) as raised:
        plans.result_of(process("failed"))
    assert raised.value.process.id == "p"


def test_a_driver_is_told_what_it_does_not_understand() -> None:
    def plan() -> Plan[None]:
        yield object()

    driver = SyncDriver(Connection("http://127.0.0.1:1"))
    with pytest.raises(TypeError, match="not an effect"):
        driver.run(plan())
    driver.close()


def test_a_redirect_is_not_followed() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(307, headers={"location": "http://elsewhere/"}))
    with (
        holdfast.Client("http://127.0.0.1:1", transport=transport) as client,
        pytest.raises(errors.ProtocolError, match=r"the server redirects to http://elsewhere/\. If you trust it"),
    ):
        client.processes.get("p")


def test_a_watcher_that_was_too_slow_comes_back_where_it_stood() -> None:
    asked: list[int | None] = []

    def call(last: int | None) -> Call[Any]:
        asked.append(last)
        return calls.process_events("p", last_event_id=last)

    def event(**fields: Any) -> bytes:
        data = msgspec.json.encode({"id": "p", "time": "2024-05-06T07:08:09Z", **fields})
        return b"id: %d\ndata: %s\n\n" % (fields["seq"], data) if "seq" in fields else b"data: %s\n\n" % data

    first = event(type="state", state="running", seq=7) + event(type="dropped")
    last = event(type="state", state="succeeded", seq=8, attempt=process("succeeded").attempt)
    stream: Any = object()
    _, effects = drive(
        plans.events(call, None, "p", Retries(base=0)),
        *(stream, first, None, b""),
        *(stream, last, None, process("succeeded"), None),
    )
    assert asked == [None, 7]
    assert [effect.value.state for effect in effects if isinstance(effect, plans.Emit)] == ["running", "succeeded"]


def test_the_events_of_one_process_end_with_its_deletion() -> None:
    data = msgspec.json.encode({"type": "deleted", "id": "p", "seq": 9, "time": "2024-05-06T07:08:09Z"})
    plan = plans.events(lambda last: calls.process_events("p", last_event_id=last), None, "p", Retries())
    _, effects = drive(plan, object(), b"id: 9\ndata: %s\n\n" % data, None, None)
    assert [effect.value.type for effect in effects if isinstance(effect, plans.Emit)] == ["deleted"]


def test_the_events_of_a_process_that_was_deleted_meanwhile_end() -> None:
    def plan() -> Plan[None]:
        return plans.events(lambda last: calls.process_events("p", last_event_id=last), None, "p", Retries(base=0))

    drive(plan(), object(), b"", refusal(404))
    ended = msgspec.json.encode({"type": "state", "state": "failed", "id": "p", "time": "2024-05-06T07:08:09Z"})
    drive(plan(), object(), b"data: %s\n\n" % ended, None, refusal(404))
    with pytest.raises(errors.NotFound):
        drive(plan(), refusal(404))


def test_who_waits_outlives_a_restart_but_not_the_time_given() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1
        return now[0]

    gone = errors.ConnectFailed("nobody there")
    waited, _ = drive(
        plans.wait(process("running"), [], None, plans.PERSISTENT), *[gone] * 30, process("running"), process("failed")
    )
    assert waited.state is State.FAILED
    _, effects = drive(plans.wait(process("running"), [], 100, Retries(base=0), clock), gone, process("succeeded"))
    assert len(effects) == 3
    with pytest.raises(errors.WaitTimeout, match="was running at the last response; since then: nobody there"):
        drive(plans.wait(process("running"), [], 5, plans.PERSISTENT, clock), *[gone] * 9)
    with pytest.raises(errors.WaitTimeout, match="is still running after 0 s"):
        drive(plans.wait(process("running"), [], 0, plans.PERSISTENT, clock))
    with pytest.raises(errors.ConnectFailed):
        drive(plans.wait(process("running"), [], 100, Retries(attempts=1), clock), gone, gone)
    with pytest.raises(errors.NotFound):
        drive(plans.wait(process("running"), [], None, plans.PERSISTENT), refusal(404))


def test_an_event_that_can_not_be_read_is_a_protocol_error() -> None:
    plan = plans.events(lambda last: calls.process_events("p", last_event_id=last), None, "p", Retries())
    with pytest.raises(errors.ProtocolError, match="no Holdfast server sends"):
        drive(plan, object(), b"data: {}\n\n")


def headers(**fields: str) -> CallResponse:
    known = {"content-length": "5", "etag": '"tag"', "last-modified": "Sat, 28 Nov 2026 00:00:00 GMT"}
    return CallResponse(200, known | {name.replace("_", "-"): value for name, value in fields.items()})


def test_a_digest_is_asked_for_until_it_is_there() -> None:
    call = plans.info("a", Retries(), sha256=True).send(None)
    assert isinstance(call, Call)
    assert call.headers["Want-Repr-Digest"] == "sha-256=10"
    assert call.wait >= 30
    made = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:"
    not_yet, there = call.read(headers(retry_after="7")), call.read(headers(repr_digest=made))
    file, effects = drive(plans.info("a", Retries(), sha256=True), not_yet, CUT, there)
    assert file.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert [type(each) for each in effects] == [Call, Sleep, Call, Sleep, Call]
    assert effects[1].seconds == 7


def test_a_long_digest_is_asked_for_often_enough_to_keep_its_place() -> None:
    call = plans.info("a", Retries(), sha256=True).send(None)
    assert isinstance(call, Call)
    not_yet, never = call.read(headers(retry_after="3600")), call.read(headers())
    file, effects = drive(plans.info("a", Retries(), sha256=True), not_yet, never)
    assert file.sha256 is None  # the server makes none
    assert effects[1].seconds <= 30


def test_who_does_not_need_a_digest_does_not_ask_for_one() -> None:
    for plan in (plans.info("a", Retries()), plans.read("a", 0, None, None, Retries())):
        call = plan.send(None)
        assert isinstance(call, Call)
        assert "Want-Repr-Digest" not in call.headers
        assert call.wait == 0
