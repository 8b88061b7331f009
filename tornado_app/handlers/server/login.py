"""`/oauth_callback`: where a hub sends browsers back after a login. Only with `--auth jupyterhub`."""

from __future__ import annotations

import hmac
from typing import Annotated, cast

import msgspec
from msgspec import Meta

from tornado_app import problems
from tornado_app.handlers.base import PublicHandler
from tornado_app.handlers.openapi.operation import operation
from tornado_app.identity.hub.admission import HubAdmission


class CallbackQuery(msgspec.Struct):
    """Parameters of the end of a login (RFC 6749, section 4.1.2)."""

    code: Annotated[str, Meta(description="For which the hub gives a token.")] = ""
    state: Annotated[str, Meta(description="As the login began with it.")] = ""
    error: Annotated[str, Meta(description="Why there is no login.")] = ""


class OAuthCallbackHandler(PublicHandler):
    """`GET /oauth_callback`."""

    MAY_BE_VISITED = True

    @operation("oauth_callback", {302: None}, problems.BAD_REQUEST, problems.FORBIDDEN, problems.UNAVAILABLE)
    async def get(self, query: CallbackQuery) -> None:
        """End a login: keep the hub's token in a cookie, and lead to the page that was opened."""
        admission = cast(HubAdmission, self.services.admission)
        sessions = admission.sessions
        login = sessions.pending_login(self.request.headers)
        if query.error or not query.code:
            raise problems.BAD_REQUEST(f"the hub did not log in: {query.error[:200] or 'there is no code'}. Try again")
        if login is None or not hmac.compare_digest(login.state.encode(), query.state.encode()):
            raise problems.FORBIDDEN("this login did not begin in this browser. Open the page again")
        token = await admission.hub.finish_login(query.code, login.verifier)
        secure = self.request.protocol == "https"
        self.set_status(302)
        self.clear_header("Content-Type")
        self.add_header("Set-Cookie", sessions.session(token, secure=secure))
        self.add_header("Set-Cookie", sessions.end_login(secure=secure))
        self.set_header("Location", login.next)
        self.finish()
