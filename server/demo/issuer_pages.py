"""The sandbox issuer over HTTP: its endpoints, and the page where one chooses who to be."""

from __future__ import annotations

import time
from dataclasses import replace
from html import escape
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import orjson
from authlib.oauth2.rfc6749 import OAuth2Error
from joserfc import jwt
from joserfc.errors import JoseError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..identity.flaws import Flaw, Unauthenticated
from ..identity.presenting import Presented, Scheme
from ..identity.proofs import Proofs
from ..identity.settings import DpopSettings
from .configuration import TERMINAL
from .issuer import PROOF_ALGORITHMS, Issuer, Received
from .logins import ALGORITHM, PEOPLE, Session

_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 34rem; padding: 2rem 1rem; }
.demo { background: #7a3b00; border-radius: .4rem; color: #fff; padding: .5rem 1rem; }
button { border: 1px solid; border-radius: .4rem; cursor: pointer; display: block; font: inherit; margin: .75rem 0;
  padding: .75rem 1rem; text-align: left; width: 100%; }
button:focus-visible, input:focus-visible { outline: .2rem solid #1b6ac9; outline-offset: .15rem; }
input { font: inherit; padding: .4rem; }
strong { display: block; }
"""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    # Not `no-referrer`: with that a browser sends `Origin: null` with our own forms (Fetch standard, section 3.2).
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_LIMIT = 65_536


class IssuerPages:
    """Serves an `Issuer`; `app` is what a server runs."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._proofs = Proofs(DpopSettings(algorithms=PROOF_ALGORITHMS), _Spent(), _NoNonces())
        known_as = urlsplit(issuer.issuer).hostname or ""
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._tell_metadata),
                Route("/.well-known/oauth-authorization-server", self._tell_metadata),
                Route("/jwks", self._tell_keys),
                Route("/userinfo", self._tell_user),
                Route("/authorize", self._ask, methods=["GET"]),
                Route("/authorize", self._authorize, methods=["POST"]),
                Route("/device", self._ask_device, methods=["GET"]),
                Route("/device", self._grant_device, methods=["POST"]),
                Route("/token", self._issue, methods=["POST"]),
                Route("/register", self._register, methods=["POST"]),
                Route("/device_authorization", self._begin_device, methods=["POST"]),
                Route("/style.css", _style),
            ],
            # Another name for this address would be another site's, with its scripts (DNS rebinding).
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[known_as])],
        )

    async def _tell_metadata(self, _request: Request) -> Response:
        return JSONResponse(self._issuer.metadata())

    async def _tell_keys(self, _request: Request) -> Response:
        return JSONResponse(self._issuer.keys.as_dict(private=False))

    async def _tell_user(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            claims = jwt.decode(token, self._issuer.keys, algorithms=[ALGORITHM]).claims
            jwt.JWTClaimsRegistry(exp={"essential": True}).validate(claims)
        except (JoseError, ValueError):
            return JSONResponse({"error": "invalid_token"}, 401, headers={"WWW-Authenticate": "Bearer"})
        return JSONResponse({key: claims[key] for key in ("sub", "name", "groups")})

    async def _ask(self, request: Request) -> Response:
        """Whether the request is one that could be granted, and then: who do you want to be?"""
        try:
            grant = self._issuer.get_consent_grant(await _receive(request))
        except OAuth2Error as error:
            return self._refuse(error)
        client = grant.client
        return _show_people(f"Log in to {client.name or client.client_id}")

    async def _authorize(self, request: Request) -> Response:
        received = await _receive(request)
        person = PEOPLE.get(received.form.get("role", ""))
        if person is None or self._is_foreign(request):
            return PlainTextResponse("Choose one of the people on the page.", 400)
        asked = self._issuer.create_oauth2_request(received)
        try:
            grant = self._issuer.get_consent_grant(asked)
            resource = self._issuer.check_resource(received.args.get("resource"), grant.client)
        except OAuth2Error as error:
            return self._refuse(error)
        session = Session(person, resource, int(time.time()))
        return cast("Response", self._issuer.create_authorization_response(asked, session, grant))

    async def _ask_device(self, request: Request) -> Response:
        code = escape(request.query_params.get("user_code", ""))
        field = (
            "<p><label>The code that your terminal shows "
            f'<input name="user_code" value="{code}" required autocomplete="off"></label></p>'
        )
        return _show_people("Log in to the terminal", field)

    async def _grant_device(self, request: Request) -> Response:
        form = (await _receive(request)).form
        person, code = PEOPLE.get(form.get("role", "")), form.get("user_code", "").strip().upper()
        known = any(device.get_user_code() == code for device in self._issuer.devices.values())
        if person is None or not known or self._is_foreign(request):
            return _page("That did not work", "<p>This code is not, or no longer, one of a terminal's.</p>", 400)
        resource = self._issuer.clients[TERMINAL].resource
        self._issuer.granted[code] = Session(person, resource, int(time.time()))
        return _page(f"You are {escape(person.name)}", "<p>Your terminal goes on by itself. Close this page.</p>")

    async def _issue(self, request: Request) -> Response:
        received = await _receive(request)
        if proof := request.headers.get("dpop"):
            shown = Presented(Scheme.DPOP, proof, request.method, f"{self._issuer.issuer}{request.url.path}")
            try:
                holder = await self._proofs.check(shown, "", bound_to=None, nonce=False)
            except Unauthenticated as error:
                told = {"error": "invalid_dpop_proof", "error_description": error.message}
                return JSONResponse(told, 400, headers={"Cache-Control": "no-store"})
            received = replace(received, holder=holder)
        return cast("Response", self._issuer.create_token_response(received))

    async def _register(self, request: Request) -> Response:
        try:
            return cast(
                "Response", self._issuer.create_endpoint_response("client_registration", await _receive(request))
            )
        except OAuth2Error as error:
            return self._refuse(error)

    async def _begin_device(self, request: Request) -> Response:
        return cast("Response", self._issuer.create_endpoint_response("device_authorization", await _receive(request)))

    def _is_foreign(self, request: Request) -> bool:
        """Whether another site's page sent this form."""
        return request.headers.get("origin", self._issuer.issuer) != self._issuer.issuer

    def _refuse(self, error: OAuth2Error) -> Response:
        return self._issuer.handle_response(*error())


class _Spent:
    """The proofs that were used, for as long as the demo runs: it issues few tokens, and ends."""

    def __init__(self) -> None:
        self._used: set[tuple[str, str]] = set()

    async def spend(self, thumbprint: str, proof_id: str) -> None:
        if (thumbprint, proof_id) in self._used:
            raise Unauthenticated(Flaw.PROOF_REPLAY)
        self._used.add((thumbprint, proof_id))


class _NoNonces:
    """No nonces: nobody is between the demo's processes."""

    async def check(self, nonce: object) -> str:  # noqa: ARG002  # the checker's signature
        return ""


async def _receive(request: Request) -> Received:
    """The request with its body read: a form, or JSON. An empty body where neither can be read."""
    body = await request.body()
    type_ = request.headers.get("content-type", "").partition(";")[0]
    form: dict[str, str] = {}
    content: Any = {}
    if len(body) <= _LIMIT and type_ == "application/x-www-form-urlencoded":
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    elif len(body) <= _LIMIT and type_ == "application/json":
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError:
            content = {}
    return Received(
        request.method,
        str(request.url),
        {key.title(): value for key, value in request.headers.items()},
        dict(request.query_params),
        form,
        content if isinstance(content, dict) else {},
    )


def _show_people(title: str, fields: str = "") -> Response:
    buttons = "".join(
        f'<button name="role" value="{person.role}"><strong>{escape(person.name)}</strong>'
        f"{person.role}: {escape(person.may)}</button>"
        for person in PEOPLE.values()
    )
    form = f'<form method="post">{fields}<p id="who">Who do you want to be?</p><div role="group" aria-labelledby="who">'
    return _page(escape(title), f"{form}{buttons}</div></form>")


def _page(title: str, body: str, status: int = 200) -> Response:
    """`title` and `body` are HTML."""
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} · Arborgate demo</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/style.css"></head><body>'
        '<p class="demo" role="note">This is the sandbox login of a demo: no password, and nobody here is real.</p>'
        f"<main><h1>{title}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(html, status, headers=_HEADERS)


async def _style(_request: Request) -> Response:
    return PlainTextResponse(_STYLE, media_type="text/css")
