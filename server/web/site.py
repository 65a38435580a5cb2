"""What people read and decide in a browser: the pages of proposals and of the app tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ...policies.errors import ArborgateError, Invalid
from ...policies.model import Caller
from ...tools.cuts import shorten
from ...tools.promotion.ladder import PromotionSettings
from ...tools.proposal import GLASS_REASON_LEAST, Finding, ProposalQuery, ProposalState, Verdict, touched
from ...tools.risk import HIGH_FROM
from ..enrolment import read_assertion
from .account import Account
from .checks import COMMENT_LIMIT
from .entrance import Entrance, FormHandler, redirect
from .guard import HEADERS
from .login import Wanted
from .moved import Lookout
from .passkey_pages import prepare_signing, read_moment
from .progress import view_progress
from .proposal_page import view_proposal
from .render import STATIC
from .review import Review
from .rulings import Seen
from .sessions import Draft, Session
from .tree_page import TreeFilter, environments_of, view_tree

_LOOKS = 0.15
"""How many seconds a page waits to learn whether targets have moved; asked for by itself it may take longer."""

_LOOKS_LONGER = 3.0
_WAITING_SHOWN = 50
_PAGE = 30
_OPEN = (
    ProposalState.DRAFTED,
    ProposalState.PROPOSED,
    ProposalState.APPROVED,
    ProposalState.APPLYING,
    ProposalState.FAILED,
)


@dataclass(frozen=True, slots=True)
class Site:
    """The pages, behind their entrance."""

    entrance: Entrance
    account: Account
    review: Review
    clean: Callable[[str], str]
    clock: Callable[[], float]
    lookout: Lookout
    ladder: PromotionSettings

    def routes(self) -> list[BaseRoute]:
        entrance = self.entrance
        return [
            Route("/", entrance.open(self._to_inbox)),
            *self.account.routes(),
            Route("/proposals", entrance.closed(self._inbox)),
            Route("/proposals/{id}", entrance.closed(self._proposal)),
            Route("/proposals/{id}/moved", entrance.closed(self._moved)),
            Route("/proposals/{id}/approve", entrance.form(self._decide(Verdict.APPROVE)), methods=["POST"]),
            Route("/proposals/{id}/reject", entrance.form(self._decide(Verdict.REJECT)), methods=["POST"]),
            Route("/proposals/{id}/break-glass", entrance.form(self._decide(Verdict.BREAK_GLASS)), methods=["POST"]),
            Route("/proposals/{id}/review", entrance.form(self._review), methods=["POST"]),
            Route("/proposals/{id}/login", entrance.form(self._log_in_again), methods=["POST"]),
            Route("/glass", entrance.closed(self._glass)),
            Route("/apps", entrance.closed(self._apps)),
            Mount("/static", _Static(directory=STATIC)),
        ]

    async def _to_inbox(self, _request: Request) -> Response:
        return redirect("/proposals")

    async def _inbox(self, request: Request, session: Session) -> Response:
        query, caller = request.query_params, session.caller
        wanted = self._query(query, caller)
        waiting: list[Seen] = []
        if not query:
            proposed = ProposalQuery(states=(ProposalState.PROPOSED,), limit=_WAITING_SHOWN)
            found, _ = await self.review.find(caller, proposed)
            waiting = [seen for seen in found if seen.approve.open]
        shown = {seen.proposal.id for seen in waiting}
        rest, position = await self.review.find(caller, wanted)
        more = f"/proposals?{urlencode({**query, 'before': position})}" if position else ""
        return self.entrance.render.page(
            "inbox.html",
            session,
            waiting=waiting,
            rest=[seen for seen in rest if seen.proposal.id not in shown],
            more=more,
            filters=dict(query),
            states=list(ProposalState),
            touched=touched,
        )

    def _query(self, query: QueryParams, caller: Caller) -> ProposalQuery:
        state, app = query.get("state", ""), query.get("app", "").strip()
        states = _OPEN if state == "open" else (ProposalState(state),) if state in set(ProposalState) else ()
        named = self.review.named(caller, app) if app else []
        return ProposalQuery(
            states=states,
            requester=caller.key if "mine" in query else "",
            app=str(named[0].app.id) if len(named) == 1 else app,
            before=query.get("before", ""),
            limit=_PAGE,
        )

    async def _proposal(self, request: Request, session: Session) -> Response:
        seen = await self.review.get(session.caller, request.path_params["id"])
        masks = self.entrance.render.begin(session, seen.personal)
        view = await view_proposal(self.review, session.caller, seen, masks.clean, self.ladder)
        draft = session.draft.comment if session.draft and session.draft.proposal == seen.proposal.id else ""
        enrolment, until = self.review.enrolment, round(self.clock() + self.review.glass_lasts, 3)
        signing = await prepare_signing(enrolment, session.caller, seen, until, masks) if enrolment else None
        return self.entrance.render.page(
            "proposal.html",
            session,
            masks=masks,
            signing=signing,
            view=view,
            look=await self.lookout.look(seen.proposal, _LOOKS),
            progress=view_progress(seen.proposal, seen.hold),
            steer=seen.steer,
            comment_limit=COMMENT_LIMIT,
            reason_least=GLASS_REASON_LEAST,
            lasts=self.review.glass_lasts,
            high_from=HIGH_FROM,
            draft=draft,
        )

    async def _moved(self, request: Request, session: Session) -> Response:
        """What the page says of targets that moved, by itself."""
        seen = await self.review.get(session.caller, request.path_params["id"])
        masks = self.entrance.render.begin(session, seen.personal)
        look = await self.lookout.look(seen.proposal, _LOOKS_LONGER)
        return self.entrance.render.page("proposal/moved.html", session, masks=masks, look=look)

    def _decide(self, verdict: Verdict) -> FormHandler:
        async def answer(request: Request, session: Session, form: dict[str, str]) -> Response:
            proposal_id, digest = request.path_params["id"], form.get("digest", "")
            comment = self.clean(form.get("comment", ""))
            try:
                await self.review.decide(
                    session.caller,
                    proposal_id,
                    verdict,
                    digest=digest,
                    comment=comment,
                    app=form.get("app", ""),
                    assertion=read_assertion(form.get("credential", "")),
                    until=read_moment(form.get("until", "")),
                )
            except ArborgateError:
                # What was typed waits on the page of the proposal, for when what was in the way is gone.
                await self._keep(session, proposal_id, comment)
                raise
            await self.entrance.sessions.keep(session, None)
            return redirect(_page_of(proposal_id))

        return answer

    async def _review(self, request: Request, session: Session, form: dict[str, str]) -> Response:
        """What somebody finds about broken glass, afterwards."""
        proposal_id, comment = request.path_params["id"], self.clean(form.get("comment", ""))
        try:
            finding = Finding(form.get("finding", ""))
        except ValueError as error:
            raise Invalid("Say whether it was justified.", field="finding") from error
        try:
            await self.review.review_glass(session.caller, proposal_id, finding, comment=comment)
        except ArborgateError:
            await self._keep(session, proposal_id, comment)
            raise
        await self.entrance.sessions.keep(session, None)
        return redirect(_page_of(proposal_id))

    async def _glass(self, _request: Request, session: Session) -> Response:
        broken = await self.review.unreviewed(session.caller)
        return self.entrance.render.page("glass.html", session, broken=broken, touched=touched)

    async def _log_in_again(self, request: Request, session: Session, form: dict[str, str]) -> Response:
        """To the provider for the login that policy asks for, and back to the proposal."""
        proposal_id = request.path_params["id"]
        seen = await self.review.get(session.caller, proposal_id)
        await self._keep(session, proposal_id, self.clean(form.get("comment", "")))
        rulings = {"break_glass": seen.break_glass, "review": seen.review, "steer": seen.steer}
        wanted_for = rulings.get(form.get("for", ""))
        needed = wanted_for.login if wanted_for else seen.approve.login or seen.reject.login
        page = _page_of(proposal_id)
        if needed is None:
            return redirect(page)
        wanted = Wanted(page, again=True, max_age=needed.max_age, acr_values=needed.acr_values)
        return await self.account.step_up(request, session, wanted)

    async def _keep(self, session: Session, proposal_id: str, comment: str) -> None:
        draft = Draft(proposal=shorten(proposal_id, 64), comment=comment[:COMMENT_LIMIT]) if comment.strip() else None
        await self.entrance.sessions.keep(session, draft)

    async def _apps(self, request: Request, session: Session) -> Response:
        query = request.query_params
        wanted = TreeFilter(query.get("text", "").strip(), query.get("environment", ""), "unhealthy" in query)
        visible = await self.review.apps(session.caller)
        view = view_tree(self.review.tree, visible, wanted, self.review.find_personal(session.caller, visible))
        return self.entrance.page(
            "apps.html", session, view=view, wanted=wanted, environments=environments_of(visible), count=len(visible)
        )


class _Static(StaticFiles):
    """Our own few files; their URLs change with their content, so a browser may keep them."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update({**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"})
        return response


def _page_of(proposal_id: str) -> str:
    return f"/proposals/{quote(proposal_id, safe='')}"
