"""The hub as this server sees it: whose token is this, and which token belongs to a login."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from holdfast._environment.extras import install_hint
from tornado_app import problems
from tornado_app.settings import SettingsError

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("holdfast.server")

API_TOKEN = "JUPYTERHUB_API_TOKEN"  # noqa: S105 - the name of a variable
CALLBACK = "oauth_callback"
"""The last part of the path to which the hub sends browsers back."""

_PATIENCE_S = 20.0
_UNKNOWN = (401, 403, 404)
_NEEDED = ("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_API_URL", "JUPYTERHUB_CLIENT_ID")


@dataclass(frozen=True, slots=True)
class Login:
    """A login that begins: where the browser goes, and what its cookie has to remember."""

    url: str
    verifier: str


class HubClient:
    """Calls of the hub's API. `jupyterhub.services.auth.HubOAuth` knows its addresses, scopes and certificates."""

    def __init__(self, base_url: str, environ: MutableMapping[str, str] = os.environ) -> None:
        """`base_url` is the path at which browsers find this server. Takes the service's token out of the environment.

        Raises:
            SettingsError: jupyterhub is not installed, or the environment does not say where the hub is.
        """
        if importlib.util.find_spec("jupyterhub") is None:
            raise SettingsError(f"--auth jupyterhub needs jupyterhub: {install_hint('hub')}")
        missing = [name for name in _NEEDED if not environ.get(name)]
        if missing:
            raise SettingsError(
                f"--auth jupyterhub needs {' and '.join(missing)} in the environment. A service that the hub starts "
                "has them; give one that you start yourself the same (docs/hub.md)"
            )
        import httpx  # takes a third of a second
        from jupyterhub.services.auth import HubOAuth  # takes half a second

        self._hub: Any = HubOAuth(
            api_token=environ[API_TOKEN],
            api_url=environ["JUPYTERHUB_API_URL"],
            oauth_client_id=environ["JUPYTERHUB_CLIENT_ID"],
            base_url=base_url,
            oauth_redirect_uri=environ.get("JUPYTERHUB_OAUTH_CALLBACK_URL") or f"{base_url}{CALLBACK}",
        )
        self._token = environ.pop(API_TOKEN)  # work and programs get this environment
        self._http = httpx.Client(timeout=_PATIENCE_S, verify=self._certificates())

    def _certificates(self) -> Any:
        """Return the certificates by which hub and services know each other (`internal_ssl`), if there are any."""
        if not self._hub.certfile and not self._hub.keyfile:
            return True
        from jupyterhub.utils import make_ssl_context

        return make_ssl_context(self._hub.keyfile, self._hub.certfile, cafile=self._hub.client_ca)

    @property
    def client_id(self) -> str:
        """Return the name of this service as a client of OAuth."""
        return str(self._hub.oauth_client_id)

    def missing_access(self, model: Mapping[str, Any]) -> str:
        """Return the scope that a principal lacks to use this service at all; "" if it lacks none."""
        wanted: set[str] = self._hub.access_scopes
        if not wanted or self._hub.check_scopes(wanted, model):
            return ""
        return min(wanted)

    async def model_of(self, token: str) -> dict[str, Any] | None:
        """Return the hub's model of whom a token belongs to; None for a token that the hub does not know."""
        answer = await self._call(
            "GET", f"{str(self._hub.api_url).rstrip('/')}/user", headers={"Authorization": f"token {token}"}
        )
        if answer.status_code in _UNKNOWN:
            return None
        model: dict[str, Any] = self._value(answer)
        return model

    def begin_login(self, state: str) -> Login:
        """Return where a browser begins to log in (RFC 6749, section 4.1.1; RFC 7636 where the hub can)."""
        verifier = ""
        query = {"state": state}
        if hasattr(self._hub, "generate_pkce_code_challenge"):
            verifier, challenge, method = self._hub.generate_pkce_code_challenge()
            query |= {"code_challenge": challenge, "code_challenge_method": method}
        return Login(f"{self._hub.login_url}&{urlencode(query)}", verifier)

    async def finish_login(self, code: str, verifier: str) -> str:
        """Return the token for the code with which a browser came back (RFC 6749, section 4.1.3)."""
        form = {
            "client_id": self.client_id,
            "client_secret": self._token,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": str(self._hub.oauth_redirect_uri),
        }
        answer = await self._call(
            "POST",
            str(self._hub.oauth_token_url),
            data=form | ({"code_verifier": verifier} if verifier else {}),
            headers={"Authorization": f"token {self._token}"},
        )
        if answer.is_client_error:
            raise problems.FORBIDDEN("the hub does not accept the code of this login. Open the page again")
        return str(self._value(answer)["access_token"])

    def close(self) -> None:
        """Close the connections to the hub."""
        self._http.close()

    async def _call(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        """Call the hub in a thread. Raises UNAVAILABLE when it does not answer."""
        import httpx

        try:
            return await asyncio.to_thread(self._http.request, method, url, **arguments)
        except httpx.HTTPError as error:
            log.error("the hub at %s does not answer: %s", url, error)
            raise _unavailable() from error

    @staticmethod
    def _value(answer: httpx.Response) -> Any:
        try:
            if answer.is_success:
                return answer.json()
        except ValueError:
            pass
        log.error("the hub answers %d to %s %s", answer.status_code, answer.request.method, answer.request.url)
        raise _unavailable()


def _unavailable() -> problems.ProblemError:
    return problems.UNAVAILABLE(
        "the hub could not say who sends this. Try again in a moment", headers={"Retry-After": "5"}
    )
