"""`POST /token/exchange`: a parent app's controller gives up its own token for a narrower one (RFC 8693).

What comes out is good for one child app, for a short time, for no more than was asked for, and only with the key that
the request's proof was made with (RFC 9449 section 5). There is no client secret: the token says who asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ...policies.engine import Engine
from ...policies.errors import Busy, Refused, Unavailable, Unrecorded
from ...policies.model import Action, ActionGroup, Caller, Channel, Decision, Question
from ...tools.cuts import shorten
from ...tools.record import Entry, Event, name_caller, name_decision
from ...tools.tree import AppTree, Node
from ..gate import Recorder
from ..limits import Limits
from ..metrics import Metrics
from ..sampling import Sampling
from ..scope import NONCE
from .authentication import Identity, Vouched
from .child_tokens import SCOPES, ChildToken, ChildTokens
from .flaws import Flaw, Unauthenticated
from .presenting import ClientCertificates, Presented, Scheme

EXCHANGE_PATH: Final = "/token/exchange"
GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  # a name, no token

_FORM = "application/x-www-form-urlencoded"
_LONGEST = 32_768
_MOST_FIELDS = 20
_REFUSALS_RECORDED = 20
"""Refused tokens on record each second: anybody can send them."""


class _Declined(Exception):
    """The answer to a request that gets no token: an error of RFC 6749 section 5.2, RFC 8693 section 2.2.2 or RFC 9449
    section 5. `why` is for the record alone, where it says more."""

    def __init__(
        self,
        error: str,
        description: str,
        *,
        status: int = 400,
        why: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.why = why or description
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a well-formed request asks for."""

    token: str
    app: str
    scope: frozenset[ActionGroup]


@dataclass(slots=True)
class _Exchange:
    """One exchange on its way: what the record will say of it."""

    asked: _Asked
    caller: Caller
    resource: str = ""
    question: Question | None = None
    decision: Decision | None = None
    policy_set: str = ""
    made: ChildToken | None = None


class TokenExchange:
    """The endpoint. `url` is the public one, without a slash at its end; `certificates` where trusted proxies pass on
    the clients' (RFC 8705)."""

    def __init__(
        self,
        url: str,
        *,
        identity: Identity,
        tokens: ChildTokens,
        engine: Callable[[], Engine],
        tree: AppTree,
        limits: Limits,
        recorder: Recorder,
        metrics: Metrics,
        certificates: ClientCertificates | None = None,
    ) -> None:
        self._url = url
        self._audience = f"{url}/mcp"
        self._identity = identity
        self._tokens = tokens
        self._engine = engine
        self._tree = tree
        self._limits = limits
        self._recorder = recorder
        self._metrics = metrics
        self._certificates = certificates
        self._recorded = Sampling(_REFUSALS_RECORDED)

    def routes(self) -> list[BaseRoute]:
        return [Route(EXCHANGE_PATH, self._answer, methods=["POST"])]

    async def _answer(self, request: Request) -> Response:
        """Who asks, whether policy lets them, the new token, its record, and only then the answer."""
        try:
            asked = _read(await _read_form(request), self._audience)
            vouched = await self._authenticate(request, asked.token)
            await self._limits.enter(vouched.caller)
            try:
                made = await self._exchange(asked, vouched)
            finally:
                self._limits.leave(vouched.caller)
            scope = " ".join(sorted(asked.scope))
            body: dict[str, object] = {"access_token": made.text, "issued_token_type": ACCESS_TOKEN}
            body |= {"token_type": "DPoP", "expires_in": made.seconds, "scope": scope}
            return _json(request, 200, body)
        except _Declined as no:
            body = {"error": no.error, "error_description": no.description}
            return _json(request, no.status, body, no.headers)
        except Busy as busy:
            retry = {"Retry-After": str(max(1, math.ceil(busy.retry_after)))}
            return _json(request, 429, {"error": "slow_down", "error_description": busy.message}, retry)
        except (Unavailable, Unrecorded) as error:
            body = {"error": "temporarily_unavailable", "error_description": error.message}
            return _json(request, 503, body, {"Retry-After": "1"})

    async def _authenticate(self, request: Request, token: str) -> Vouched:
        proofs = request.headers.getlist("dpop")
        try:
            if len(proofs) > 1:
                raise Unauthenticated(Flaw.PROOF_FORMAT, detail="more than one DPoP header")
            certificate = self._certificates.read(request.scope) if self._certificates else b""
            url = f"{self._url}{EXCHANGE_PATH}"
            presented = Presented(Scheme.DPOP, "".join(proofs), "POST", url, certificate, request.scope)
            return await self._identity.vouch(token, audience=self._audience, presented=presented)
        except Unauthenticated as error:
            self._metrics.observe_refusal(error.flaw)
            if error.flaw is Flaw.NONCE:
                raise _Declined("use_dpop_nonce", error.message, headers={"DPoP-Nonce": error.nonce}) from error
            await self._record_rejected(error)
            # RFC 8693 section 2.2.2: a subject token that is no good makes the request invalid.
            name = "invalid_dpop_proof" if error.flaw.of_proof else "invalid_request"
            raise _Declined(name, error.message) from error

    async def _exchange(self, asked: _Asked, vouched: Vouched) -> ChildToken:
        """The token, on record. Raises `_Declined`, on record too."""
        exchange = _Exchange(asked, vouched.caller)
        try:
            child = self._decide(exchange)
            try:
                exchange.made = await self._tokens.make(
                    vouched.caller,
                    str(child.app.id),
                    asked.scope,
                    thumbprint=vouched.thumbprint,
                    ends=vouched.expires,
                )
            except Refused as refused:
                raise _Declined("invalid_request", refused.message) from refused
        except _Declined as no:
            await self._record(exchange, no.error, no.why)
            raise
        await self._record(exchange, "ok", f"{exchange.made.seconds} s, jti {exchange.made.id}")
        return exchange.made

    def _decide(self, exchange: _Exchange) -> Node:
        """The child app, when the caller may have a token for it. Raises `_Declined`."""
        caller, scope = exchange.caller, exchange.asked.scope
        if caller.within:
            raise _Declined("invalid_request", "A token for a child app can't be exchanged again.")
        if not caller.itself:
            raise _Declined("unauthorized_client", "Only an app that acts for itself can exchange its token.")
        if lacking := scope & {group for group, _ in caller.withheld}:
            raise _Declined("invalid_scope", f"The subject token's scope leaves out: {' '.join(sorted(lacking))}.")
        engine = self._engine()
        exchange.policy_set = engine.digest
        child = self._find(engine, exchange)
        exchange.resource = child.resource.uid
        exchange.question = Question(caller, Action.TOKEN_EXCHANGE, (child.resource,))
        exchange.decision = engine.answer(exchange.question)
        if not exchange.decision.allowed:
            why = exchange.decision.error or f"denied: {exchange.decision.basis}"
            raise _Declined("invalid_target", "Policy gives you no token for that app.", why=why)
        if child.parent is None:
            raise _Declined("invalid_target", "That app has no parent app: tokens are for child apps.")
        return child

    def _find(self, engine: Engine, exchange: _Exchange) -> Node:
        """The one app of this name that the caller may see: one that is hidden and none at all are told apart only in
        the record."""
        candidates = self._tree.named(exchange.asked.app)
        answers = engine.visible(exchange.caller, Action.APP_READ, [node.resource for node in candidates])
        seen = [node for node, visible in zip(candidates, answers, strict=True) if visible]
        if len(seen) > 1:
            raise _Declined("invalid_target", "Several apps have that name: give cluster/namespace/name.")
        if not candidates and not any(True for _ in self._tree.nodes()):
            raise _Declined("temporarily_unavailable", "The tree of apps is not read yet: try again.", status=503)
        if not seen:
            exchange.resource = candidates[0].resource.uid if candidates else ""
            why = "the app is hidden from the caller" if candidates else "there is no such app"
            raise _Declined("invalid_target", "No app of that name is here, or you may not see it.", why=why)
        return seen[0]

    async def _record(self, exchange: _Exchange, outcome: str, detail: str) -> None:
        told = f"scope {' '.join(sorted(exchange.asked.scope))}: {detail}"
        decided = name_decision(exchange.decision, exchange.question, exchange.policy_set, told)
        entry = Entry(
            event=Event.TOKEN_EXCHANGED,
            **name_caller(exchange.caller),
            action=Action.TOKEN_EXCHANGE,
            resource=exchange.resource,
            outcome=outcome,
            **decided,
        )
        # What is declined before any policy is asked is denied all the same.
        await self._recorder.write(entry if exchange.decision else replace(entry, decision="deny"))

    async def _record_rejected(self, error: Unauthenticated) -> None:
        if not self._recorded.take():
            return
        more = self._recorded.tell_missed()
        detail = f"to be exchanged: {error.detail or error.message}{more}"
        await self._recorder.write(
            Entry(event=Event.CALLER_REJECTED, channel=Channel.MCP, outcome=error.flaw, detail=detail)
        )


async def _read_form(request: Request) -> Mapping[str, Sequence[str]]:
    """The fields of the form, those without a value left out (RFC 6749 section 3.2)."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise _Declined("invalid_request", f"The request must be a form ({_FORM}).")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST:
            raise _Declined("invalid_request", "The form is too long.", status=413)
    fields: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise _Declined("invalid_request", "The form can't be read.") from error
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _read(form: Mapping[str, Sequence[str]], resource: str) -> _Asked:
    """What is asked for; raises `_Declined`."""
    if one_of := [name for name in ("audience", "resource") if len(form.get(name, ())) > 1]:
        raise _Declined("invalid_target", f"There can be one {one_of[0]}.")
    if twice := [name for name, values in form.items() if len(values) > 1]:
        raise _Declined("invalid_request", f"{shorten(twice[0], 40)!a} is there more than once.")
    given = {name: values[0] for name, values in form.items()}
    if "grant_type" not in given:
        raise _Declined("invalid_request", "grant_type is needed.")
    if given["grant_type"] != GRANT_TYPE:
        raise _Declined("unsupported_grant_type", f"Here only {GRANT_TYPE} is granted.")
    for name in ("subject_token", "subject_token_type", "audience"):
        if name not in given:
            raise _Declined("invalid_request", f"{name} is needed.")
    for name in ("subject_token_type", "requested_token_type"):
        if given.get(name, ACCESS_TOKEN) != ACCESS_TOKEN:
            raise _Declined("invalid_request", f"{name}: only {ACCESS_TOKEN} is taken and given.")
    if actor := [name for name in given if name in ("actor_token", "actor_token_type")]:
        # To leave it out would hide who acts.
        raise _Declined("invalid_request", f"{actor[0]}: the subject of the token is who acts here.")
    if given.get("resource", resource) != resource:
        raise _Declined("invalid_target", f"The resource can only be {resource}.")
    known = {str(group): group for group in SCOPES}
    names = given.get("scope", ActionGroup.READ).split(" ")
    if unknown := [name for name in names if name not in known]:
        raise _Declined("invalid_scope", f"{shorten(unknown[0], 40)!a} is none of: {' '.join(known)}.")
    return _Asked(given["subject_token"], given["audience"], frozenset(known[name] for name in names))


def _json(
    request: Request, status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> Response:
    told = {"Cache-Control": "no-store", "Pragma": "no-cache", **(headers or {})}
    if nonce := request.scope.get(NONCE):
        told.setdefault("DPoP-Nonce", str(nonce))
    return JSONResponse(dict(body), status_code=status, headers=told)
