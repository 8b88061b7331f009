"""Protocol that a request speaks."""

from __future__ import annotations

import pytest

from tornado_app.handlers.uploads.choice import choose
from tornado_app.handlers.uploads.ietf import ResumableUpload
from tornado_app.handlers.uploads.protocol import UploadProtocol
from tornado_app.handlers.uploads.single_request import SingleRequest
from tornado_app.handlers.uploads.tus import Tus

METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS")
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.mark.parametrize(
    ("method", "headers", "protocol"),
    [
        ("POST", {}, SingleRequest),
        ("POST", TUS, Tus),
        ("POST", {"Upload-Metadata": "filename YQ=="}, Tus),
        ("PATCH", {"Upload-Metadata": "filename YQ=="}, ResumableUpload),
        ("PATCH", {"Content-Type": "Application/Offset+Octet-Stream; x=y"}, Tus),
        ("PATCH", {"Content-Type": "application/partial-upload"}, ResumableUpload),
        ("POST", {"Upload-Complete": "nonsense"}, ResumableUpload),
        ("POST", {"Upload-Complete": "?1", **TUS}, Tus),
        ("HEAD", {}, ResumableUpload),
        ("HEAD", TUS, Tus),
        ("DELETE", {}, ResumableUpload),
        ("OPTIONS", {}, Tus),
    ],
)
def test_the_headers_decide(method: str, headers: dict[str, str], protocol: type[UploadProtocol]) -> None:
    chosen = choose(method, headers, METHODS)
    assert (chosen.protocol, chosen.method, chosen.replaces_head) == (protocol, method, False)


def test_tus_may_name_another_method() -> None:
    for override in ("PATCH", "delete", "HEAD"):
        chosen = choose("POST", {**TUS, "X-HTTP-Method-Override": override}, METHODS)
        assert (chosen.method, chosen.replaces_head) == (override.upper(), override == "HEAD")


@pytest.mark.parametrize("override", ["", "NONSENSE"])
def test_a_method_that_is_not_known_is_not_taken(override: str) -> None:
    assert choose("POST", {**TUS, "X-HTTP-Method-Override": override}, METHODS).method == "POST"


def test_a_head_stays_one_and_so_does_what_is_not_tus() -> None:
    assert choose("HEAD", {**TUS, "X-HTTP-Method-Override": "GET"}, METHODS).method == "HEAD"
    assert choose("GET", {"X-HTTP-Method-Override": "DELETE"}, METHODS).method == "GET"
