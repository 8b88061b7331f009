"""The hub as the service asks it."""

from __future__ import annotations

import pytest

from tests.support.hub_api import ACCESS, HubApi
from tornado_app.identity.hub.client import HubClient
from tornado_app.problems import ProblemError
from tornado_app.settings import SettingsError


async def test_a_token_is_somebodys_or_nobodys(hub: HubApi) -> None:
    client = HubClient("/", hub.environment())
    model = await client.model_of(hub.add("alice"))
    assert model is not None
    assert model["name"] == "alice"
    assert await client.model_of("guessed") is None
    client.close()


async def test_a_hub_that_fails_or_is_gone_knows_nobody_and_refuses_nobody(hub: HubApi) -> None:
    client = HubClient("/", hub.environment())
    hub.is_broken = True
    with pytest.raises(ProblemError) as raised:
        await client.model_of("x")
    assert raised.value.kind.status == 503
    gone = HubClient("/", {**hub.environment(), "JUPYTERHUB_API_URL": "http://127.0.0.1:9/hub/api"})
    with pytest.raises(ProblemError) as raised:
        await gone.model_of("x")
    assert raised.value.kind.status == 503
    client.close()
    gone.close()


def test_access_to_another_service_is_none_to_this_one(hub: HubApi) -> None:
    client = HubClient("/services/holdfast/", hub.environment())
    assert client.missing_access({"scopes": ["access:services!service=other"]}) == ACCESS
    assert client.missing_access({"scopes": ["access:services"]}) == ""
    assert client.missing_access({"scopes": [ACCESS]}) == ""
    client.close()


def test_a_browser_comes_back_below_the_base_url(hub: HubApi) -> None:
    client = HubClient("/services/holdfast/", hub.environment())
    login = client.begin_login("the-state")
    assert "redirect_uri=%2Fservices%2Fholdfast%2Foauth_callback" in login.url
    assert "state=the-state" in login.url
    client.close()


def test_what_the_environment_lacks_is_named(hub: HubApi) -> None:
    with pytest.raises(
        SettingsError, match="needs JUPYTERHUB_API_TOKEN and JUPYTERHUB_API_URL and JUPYTERHUB_CLIENT_ID"
    ):
        HubClient("/", {})


def test_the_services_token_leaves_the_environment(hub: HubApi) -> None:
    environment = hub.environment()
    HubClient("/", environment).close()
    assert "JUPYTERHUB_API_TOKEN" not in environment
