"""`/v1/identity`: the same server has the same proof over every address, also after a restart; another has not."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode
from pathlib import Path

import httpx
import pytest

import holdfast
from tests.tornado_app.handlers.test_base import assert_problem
from tornado_app.app import App
from tornado_app.settings import Settings

ORIGIN = "https://notebooks.example"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, token="s3cret", allow_origin=(ORIGIN,))


async def test_the_proof_is_a_signature_of_the_nonce_and_needs_no_token(server: App, http: httpx.AsyncClient) -> None:
    nonce = secrets.token_urlsafe()
    answer = await http.get("/v1/identity", params={"nonce": nonce}, headers={"Origin": ORIGIN})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    found = answer.json()
    assert set(found) == {"instance", "proof"}
    path = server.settings.data_dir / "identity-key"
    assert path.stat().st_mode & 0o777 == 0o600
    key = path.read_text().strip()
    assert key not in answer.text
    expected = hmac.digest(key.encode(), b"holdfast identity v1\0" + nonce.encode(), hashlib.sha256)
    assert urlsafe_b64decode(found["proof"] + "=") == expected
    assert "=" not in found["proof"]


async def test_it_outlives_a_restart_but_the_instance_does_not(settings: Settings, tmp_path: Path) -> None:
    nonce = secrets.token_urlsafe()
    server = await App.open(settings)
    server.listen()
    async with holdfast.AsyncClient(server.url) as client:
        before = await client.identity(nonce)
        assert (await client.identity(nonce)) == before
        assert (await client.identity(secrets.token_urlsafe())).proof != before.proof
    await server.close()
    again = await App.open(settings)
    other = await App.open(dataclasses.replace(settings, data_dir=tmp_path / "another", store="memory"))
    after, others = again.services.identity.prove(nonce), other.services.identity.prove(nonce)
    assert after.proof == before.proof
    assert after.instance != before.instance
    assert others.proof != before.proof
    await again.close()
    await other.close()


@pytest.mark.parametrize(
    "query", ["", "nonce=", f"nonce={'a' * 21}", f"nonce={'a' * 129}", f"nonce={'a' * 30}%2B", f"nonce={'a' * 30}%0A"]
)
async def test_a_nonce_that_is_none_is_refused(http: httpx.AsyncClient, query: str) -> None:
    problem = assert_problem(await http.get(f"/v1/identity?{query}"), 400, "bad-parameters")
    assert "nonce" in str(problem["detail"])


async def test_pages_of_other_origins_and_other_hosts_get_none(http: httpx.AsyncClient) -> None:
    query = {"nonce": secrets.token_urlsafe()}
    foreign = await http.get("/v1/identity", params=query, headers={"Origin": "https://other.example"})
    assert_problem(foreign, 403, "cross-site")
    rebound = await http.get("/v1/identity", params=query, headers={"Host": "other.example"})
    assert_problem(rebound, 421, "misdirected")
