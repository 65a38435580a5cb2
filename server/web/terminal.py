"""The JSON endpoints of `arborgate proposals`: the same review as the pages, with a person's bearer token."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from ...policies.errors import ArborgateError, Denied, Invalid
from ...policies.model import Caller, Channel
from ...tools.proposal import Finding, Hold, Proposal, ProposalQuery, ProposalState, Requester, Verdict
from ...tools.record import Entry, Event
from ..errors import as_json, explain_validation
from ..identity.settings import PagesSettings
from ..scope import NONCE, leave_place
from ..steering import Command
from .checks import COMMENT_LIMIT
from .entrance import STATUS
from .masks import Masking, Masks
from .progress import view_progress
from .review import Review
from .rulings import Budget, Ruling, Seen
from .signing import tell_terminal
from .words import reveal_clean

METADATA_PATH = "/.well-known/arborgate-terminal"
_PAGE = 20
_WAITS = 10.0
"""Seconds after which who follows a proposal is answered, whatever happens: well under what proxies and clients wait."""

Handler = Callable[[Request, Caller], Awaitable[BaseModel]]
M = TypeVar("M", bound=BaseModel)


class VerdictBody(BaseModel):
    """What approve and reject take. `digest` is the whole digest of what was read."""

    model_config = ConfigDict(extra="forbid")

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    comment: str = Field(default="", max_length=COMMENT_LIMIT)


class GlassBody(VerdictBody):
    """What breaking the glass takes: `comment` is why, `app` the name of the first app that is touched, typed out."""

    app: str = Field(max_length=253)


class ReviewBody(BaseModel):
    """What somebody finds about broken glass."""

    model_config = ConfigDict(extra="forbid")

    finding: Finding
    comment: str = Field(max_length=COMMENT_LIMIT)


class SteerBody(BaseModel):
    """What pause, resume and abort take; an abort needs a `comment`."""

    model_config = ConfigDict(extra="forbid")

    comment: str = Field(default="", max_length=COMMENT_LIMIT)


class RulingBody(BaseModel):
    """Whether the caller may give a verdict, as `Ruling`; with `login_helps`, by which login (RFC 9470); `signs`: only on
    the page, with their passkey."""

    allowed: bool
    why: str
    policies: tuple[str, ...]
    login_helps: bool
    acr_values: tuple[str, ...] = ()
    signs: bool = False

    @classmethod
    def of(cls, ruling: Ruling) -> RulingBody:
        return cls(
            allowed=ruling.allowed,
            why=ruling.why,
            policies=ruling.policies,
            login_helps=ruling.login_helps,
            acr_values=ruling.login.acr_values if ruling.login else (),
            signs=ruling.signs,
        )


class Shown(BaseModel):
    """One proposal with what the caller may do about it; text is redacted, and nothing in it is hidden."""

    proposal: Proposal
    approve: RulingBody
    reject: RulingBody
    break_glass: RulingBody
    review: RulingBody
    steer: RulingBody
    hold: Hold | None
    budgets: tuple[Budget, ...]
    personal: bool = False
    """Whether the caller may see the personal data in it; it is masked otherwise."""

    @classmethod
    def of(cls, seen: Seen) -> Shown:
        return cls(
            proposal=seen.proposal,
            approve=RulingBody.of(seen.approve),
            reject=RulingBody.of(seen.reject),
            break_glass=RulingBody.of(seen.break_glass),
            review=RulingBody.of(seen.review),
            steer=RulingBody.of(seen.steer),
            hold=seen.hold,
            budgets=seen.budgets,
            personal=seen.personal,
        )


class Listed(BaseModel):
    """Proposals newest first, and the position to go on from (`""` at the end)."""

    proposals: tuple[Shown, ...]
    next: str


class Followed(BaseModel):
    """A proposal, and the mark of where it stands."""

    mark: str
    shown: Shown


class Door(BaseModel):
    """Where and as whom the terminal logs in. No secret: the client is public (RFC 8252 section 8.4)."""

    issuer: str
    client_id: str
    audience: str
    scope: str


@dataclass(frozen=True, slots=True)
class Terminal:
    """`authenticate` finds the caller of a request by a token with the audience `<public_url>/approvals`, or says what to
    answer instead."""

    settings: PagesSettings
    url: str
    review: Review
    authenticate: Callable[[Scope], Awaitable[Caller | Response]]
    masking: Masking

    def routes(self) -> list[BaseRoute]:
        return [
            Route(METADATA_PATH, self._describe),
            Route("/approvals", self._endpoint(self._list)),
            Route("/approvals/{id}", self._endpoint(self._show)),
            Route("/approvals/{id}/changes", self._endpoint(self._follow)),
            Route("/approvals/{id}/approve", self._endpoint(self._decide(Verdict.APPROVE)), methods=["POST"]),
            Route("/approvals/{id}/reject", self._endpoint(self._decide(Verdict.REJECT)), methods=["POST"]),
            Route("/approvals/{id}/break_glass", self._endpoint(self._break_glass), methods=["POST"]),
            Route("/approvals/{id}/review", self._endpoint(self._review), methods=["POST"]),
            *(
                Route(f"/approvals/{{id}}/{command}", self._endpoint(self._steer(command)), methods=["POST"])
                for command in Command
            ),
        ]

    def _endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            caller: Caller | None = None
            try:
                found = await self.authenticate(request.scope)
                if isinstance(found, Response):
                    return found
                caller = found
                await self._check_client(caller)
                body = await handler(request, caller)
                shows = isinstance(body, Proposal) and self.review.reads_personal(caller, body)
                nonce = {"DPoP-Nonce": request.scope[NONCE]} if NONCE in request.scope else None
                return _json(_write(body, self.masking.begin(caller, shows)), headers=nonce)
            except ArborgateError as error:
                shows = caller is not None and self.review.reads_personal(caller)
                told = _write(as_json(error), self.masking.begin(caller, shows))
                return _json({"error": told}, STATUS.get(error.reason, 500))

        return answer

    async def _check_client(self, caller: Caller) -> None:
        """Raises `Denied` unless a person at the terminal asks. A token that an agent got, or got passed on, is refused
        whatever its audience."""
        if (
            caller.channel is Channel.TERMINAL
            and caller.agent == self.settings.terminal_client_id
            and not caller.actors
        ):
            return
        await self.review.audit.write(
            Entry(
                event=Event.CALLER_REJECTED,
                channel=Channel.TERMINAL,
                caller=caller.key,
                agent=caller.agent,
                outcome="client",
                detail=f"a token of the client {caller.agent!r}",
            )
        )
        raise Denied("Only `arborgate proposals` may use this, for the person who runs it.")

    async def _describe(self, _request: Request) -> Response:
        settings = self.settings
        door = Door(
            issuer=settings.issuer,
            client_id=settings.terminal_client_id,
            audience=settings.terminal_audience or f"{self.url}/approvals",
            scope=settings.scope,
        )
        return _json(door.model_dump())

    async def _list(self, request: Request, caller: Caller) -> BaseModel:
        if "unreviewed" in request.query_params:
            return Listed(proposals=tuple(map(Shown.of, await self.review.unreviewed(caller))), next="")
        state = request.query_params.get("state", ProposalState.PROPOSED)
        if state not in {*ProposalState, "all"}:
            raise Invalid("There is no such state.", field="state", hint=f"One of: all, {', '.join(ProposalState)}.")
        states = () if state == "all" else (ProposalState(state),)
        before = request.query_params.get("before", "")
        found, position = await self.review.find(caller, ProposalQuery(states=states, before=before, limit=_PAGE))
        return Listed(proposals=tuple(Shown.of(seen) for seen in found), next=position)

    async def _show(self, request: Request, caller: Caller) -> BaseModel:
        seen = await self.review.get(caller, request.path_params["id"])
        return Shown.of(await tell_terminal(self.review.enrolment, caller, seen))

    async def _follow(self, request: Request, caller: Caller) -> BaseModel:
        """The proposal as soon as it stands elsewhere than at the mark `after`, or as it is after a while."""
        proposal_id, after = request.path_params["id"], request.query_params.get("after", "")
        seen = await self.review.get(caller, proposal_id)
        leave_place(request.scope)
        ends = time.monotonic() + _WAITS
        async with self.review.book.follower.watch(proposal_id, caller.key) as watch:
            while True:
                mark = view_progress(seen.proposal, seen.hold).mark
                left = ends - time.monotonic()
                if mark != after or seen.proposal.state.final or left <= 0 or watch.ended:
                    return Followed(mark=mark, shown=Shown.of(seen))
                await watch.wait(left)
                seen = await self.review.look_again(caller, proposal_id)

    def _decide(self, verdict: Verdict) -> Handler:
        async def answer(request: Request, caller: Caller) -> BaseModel:
            body = _parse(VerdictBody, await request.body())
            return await self.review.decide(
                caller, request.path_params["id"], verdict, digest=body.digest, comment=self.masking.clean(body.comment)
            )

        return answer

    async def _break_glass(self, request: Request, caller: Caller) -> BaseModel:
        body = _parse(GlassBody, await request.body())
        return await self.review.decide(
            caller,
            request.path_params["id"],
            Verdict.BREAK_GLASS,
            digest=body.digest,
            comment=self.masking.clean(body.comment),
            app=body.app,
        )

    def _steer(self, command: Command) -> Handler:
        async def answer(request: Request, caller: Caller) -> BaseModel:
            body = _parse(SteerBody, await request.body())
            comment = self.masking.clean(body.comment)
            return await self.review.steer(caller, request.path_params["id"], command, comment=comment)

        return answer

    async def _review(self, request: Request, caller: Caller) -> BaseModel:
        body = _parse(ReviewBody, await request.body())
        comment = self.masking.clean(body.comment)
        return await self.review.review_glass(caller, request.path_params["id"], body.finding, comment=comment)


def _write(value: Any, masks: Masks) -> Any:
    """The value as JSON, with its texts as the pages show them: line by line, so that a long diff is not cut. Personal
    data is masked but for who asked and who decided, and in proposals of which the caller may see it."""
    if isinstance(value, BaseModel | Budget):
        return _write_fields(value, masks)
    if isinstance(value, str):
        return "\n".join(reveal_clean(line, masks.clean) for line in value.split("\n"))
    if isinstance(value, Mapping):
        return {masks.hide(name): _write(inner, masks) for name, inner in value.items()}
    return [_write(inner, masks) for inner in value] if isinstance(value, list | tuple) else value


def _write_fields(model: BaseModel | Budget, masks: Masks) -> dict[str, Any]:
    def write() -> dict[str, Any]:
        fields = asdict(model) if isinstance(model, Budget) else dict(model)
        return {name: _write(inner, masks) for name, inner in fields.items()}

    if isinstance(model, Shown):
        return masks.of(model.personal, write)
    if isinstance(model, Requester):  # but for their groups, which are others too
        return {**masks.of(True, write), "groups": _write(model.groups, masks)}
    return write()


def _parse(model: type[M], body: bytes) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise explain_validation(error, model) from error


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(body),
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})},
    )
