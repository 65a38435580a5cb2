"""The JSON endpoints of `arborgate proposals`: the same review as the pages, with a person's bearer token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...policies.errors import ArborgateError, Denied, Invalid
from ...policies.model import Caller, Channel
from ...tools.proposal import ProposalQuery, ProposalState, Verdict
from ...tools.record import Entry, Event
from ..errors import as_json, explain_validation
from ..http import bearer_token
from ..identity import Unauthenticated
from ..settings import PagesSettings
from .review import COMMENT_LIMIT, Review, Ruling, Seen
from .site import STATUS

METADATA_PATH = "/.well-known/arborgate-terminal"
_PAGE = 50

Handler = Callable[[Request, Caller], Awaitable[Any]]


class _VerdictBody(BaseModel):
    """What approve and reject take. `digest` is the whole digest of what was read."""

    model_config = ConfigDict(extra="forbid")

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    comment: str = Field(default="", max_length=COMMENT_LIMIT)


@dataclass(frozen=True, slots=True)
class Terminal:
    """`verify` turns a token with the audience `<public_url>/approvals` into a caller, or raises `Unauthenticated`."""

    settings: PagesSettings
    url: str
    review: Review
    verify: Callable[[str], Awaitable[Caller]]

    def routes(self) -> list[BaseRoute]:
        return [
            Route(METADATA_PATH, self._describe),
            Route("/approvals", self._endpoint(self._list)),
            Route("/approvals/{id}", self._endpoint(self._show)),
            Route("/approvals/{id}/approve", self._endpoint(self._decide(Verdict.APPROVE)), methods=["POST"]),
            Route("/approvals/{id}/reject", self._endpoint(self._decide(Verdict.REJECT)), methods=["POST"]),
        ]

    def _endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return _json(await handler(request, await self._caller(request)))
            except Unauthenticated as error:
                challenge = f'Bearer error="invalid_token", error_description="{error.message}"'
                return _json({"error": as_json(error)}, 401, {"WWW-Authenticate": challenge})
            except ArborgateError as error:
                return _json({"error": as_json(error)}, STATUS.get(error.reason, 500))

        return answer

    async def _caller(self, request: Request) -> Caller:
        """The person at the terminal. A token that an agent got, or got passed on, is refused whatever its audience."""
        try:
            caller = await self.verify(bearer_token(request.scope))
        except Unauthenticated as error:
            await self._reject(Entry(event=Event.CALLER_REJECTED, outcome=error.flaw, detail=error.detail))
            raise
        if caller.channel is not Channel.TERMINAL or caller.agent != self.settings.terminal_client_id or caller.actors:
            detail = f"a token of the client {caller.agent!r}"
            await self._reject(
                Entry(
                    event=Event.CALLER_REJECTED, caller=caller.key, agent=caller.agent, outcome="client", detail=detail
                )
            )
            raise Denied("Only `arborgate proposals` may use this, for the person who runs it.")
        return caller

    async def _reject(self, entry: Entry) -> None:
        await self.review.audit.write(replace(entry, channel=Channel.TERMINAL))

    async def _describe(self, _request: Request) -> Response:
        """Where and as whom the terminal logs in. No secret: the client is public (RFC 8252 section 8.4)."""
        settings = self.settings
        return _json(
            {
                "issuer": settings.issuer,
                "client_id": settings.terminal_client_id,
                "audience": settings.terminal_audience or f"{self.url}/approvals",
                "scope": settings.scope,
            }
        )

    async def _list(self, request: Request, caller: Caller) -> Any:
        state = request.query_params.get("state", ProposalState.PROPOSED)
        if state not in {*ProposalState, "all"}:
            raise Invalid("There is no such state.", field="state", hint=f"One of: all, {', '.join(ProposalState)}.")
        states = () if state == "all" else (ProposalState(state),)
        before = request.query_params.get("before", "")
        found, position = await self.review.list(caller, ProposalQuery(states=states, before=before, limit=_PAGE))
        return {"proposals": [_summary(seen) for seen in found], "next": position}

    async def _show(self, request: Request, caller: Caller) -> Any:
        seen = await self.review.get(caller, request.path_params["id"])
        return {**seen.proposal.model_dump(mode="json"), **_rulings(seen)}

    def _decide(self, verdict: Verdict) -> Handler:
        async def answer(request: Request, caller: Caller) -> Any:
            try:
                body = _VerdictBody.model_validate_json(await request.body())
            except ValidationError as error:
                raise explain_validation(error, _VerdictBody) from error
            decided = await self.review.decide(
                caller, request.path_params["id"], verdict, digest=body.digest, comment=body.comment
            )
            return decided.model_dump(mode="json")

        return answer


def _summary(seen: Seen) -> dict[str, Any]:
    proposal, content = seen.proposal, seen.proposal.content
    return {
        "id": proposal.id,
        "title": content.title,
        "state": proposal.state,
        "risk": content.risk,
        "environments": content.environments,
        "requester": content.requester.name,
        "agent": content.requester.agent,
        "created_at": content.created_at,
        "expires_at": content.expires_at,
        "digest": proposal.digest,
        **_rulings(seen),
    }


def _rulings(seen: Seen) -> dict[str, Any]:
    return {"approve": _ruling(seen.approve), "reject": _ruling(seen.reject)}


def _ruling(ruling: Ruling) -> dict[str, Any]:
    return {
        "allowed": ruling.allowed,
        "why": ruling.why,
        "policies": ruling.policies,
        "login_helps": ruling.login_helps,
    }


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(body),
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})},
    )
