"""The path before every address: the base URL, and before it the prefix of a trusted proxy, if it is a plain path."""

from __future__ import annotations

import pytest

from tornado_app.server import addresses
from tornado_app.settings import Settings


@pytest.mark.parametrize(
    ("forwarded", "prefix"),
    [
        ("/holdfast", "/holdfast"),
        ("/a/b/", "/a/b"),
        ("/user/jo%40lab/x", "/user/jo%40lab/x"),
        ("/user/jo@lab/~x", "/user/jo@lab/~x"),
        ("/first, /second", "/first"),
        ("", ""),
        ("/", ""),
        ("a", ""),
        ("//evil.example", ""),
        ("/a//b", ""),
        ("/a//", ""),
        ("/../x", ""),
        ("/a/..", ""),
        ("/a/./b", ""),
        ("/..a", "/..a"),
        ("/x y", ""),
        ("/x%0ay", ""),
        ("/x%7F", ""),
        ("/x%2", ""),
        ("/x\x7f", ""),
        ("/ü", ""),
        ("/a?b", ""),
        ("/a#b", ""),
        ("/a\\b", ""),
        ("https://evil.example/", ""),
        ('/"><script>', ""),
    ],
)
def test_only_a_plain_path_of_a_trusted_proxy_counts(forwarded: str, prefix: str) -> None:
    headers = {"X-Forwarded-Prefix": forwarded}
    assert addresses.root(Settings(trust_proxy=True), headers) == prefix
    assert addresses.root(Settings(trust_proxy=True, base_url="/below/"), headers) == f"{prefix}/below"
    assert addresses.root(Settings(base_url="/below/"), headers) == "/below"
    assert addresses.root(Settings(), headers) == ""


@pytest.mark.parametrize(
    ("forwarded", "host"), [("hub.example", "hub.example"), ("a:1, b", "a:1"), ("", "given"), (" , b", "given")]
)
def test_the_host_is_the_first_that_a_trusted_proxy_names(forwarded: str, host: str) -> None:
    headers = {"X-Forwarded-Host": forwarded}
    assert addresses.host(Settings(trust_proxy=True), headers, "given") == host
    assert addresses.host(Settings(), headers, "given") == "given"
