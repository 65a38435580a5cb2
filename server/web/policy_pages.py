"""The pages of the policies: the set in force, who can, what somebody can, and why a question is decided as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...policies.errors import Invalid
from ...policies.model import Action, Channel
from ...tools.risk import Risk
from .entrance import Entrance, Handler
from .sessions import Session
from .workbench import Asked, Workbench, read_asked

_MANY = frozenset({"role"})


@dataclass(frozen=True, slots=True)
class PolicyPages:
    """The pages, behind their entrance. They only show: everything is a GET, and nothing changes."""

    entrance: Entrance
    workbench: Workbench

    def routes(self) -> list[BaseRoute]:
        closed = self.entrance.closed
        return [
            Route("/policies", closed(self._show)),
            Route("/policies/who", closed(self._answer("policies_who.html"))),
            Route("/policies/what", closed(self._answer("policies_what.html"))),
            Route("/policies/why", closed(self._answer("policies_why.html"))),
            Route("/policies/record", closed(self._retell)),
        ]

    async def _show(self, _request: Request, session: Session) -> Response:
        engine = await self.workbench.enter(session.caller)
        return self.entrance.page("policies.html", session, view=self.workbench.show(engine))

    async def _retell(self, request: Request, session: Session) -> Response:
        ref = request.query_params.get("ref", "").strip()[:200]
        view = await self.workbench.past(session.caller, ref) if ref else None
        if view is None:
            await self.workbench.enter(session.caller)
        return self.entrance.page("policies_record.html", session, ref=ref, view=view)

    def _answer(self, template: str) -> Handler:
        """The page of one kind of question: a form, and below it the answer to what the form was sent with."""

        async def answer(request: Request, session: Session) -> Response:
            engine = await self.workbench.enter(session.caller)
            ask = {"policies_who.html": self.workbench.who, "policies_why.html": self.workbench.why}.get(template)
            query = request.query_params
            fields: dict[str, object] = {
                name: tuple(query.getlist(name)) if name in _MANY else query[name] for name in query
            }
            asked, found, error = Asked(), None, None
            try:
                asked = read_asked(fields)
                if query:
                    found = (ask or self.workbench.what)(engine, session.caller, asked)
            except Invalid as invalid:
                error = invalid
            values: dict[str, Any] = {
                "asked": asked,
                "view": found,
                "error": error,
                "actions": list(Action),
                "channels": list(Channel),
                "risks": list(Risk),
                "roles": sorted(self.workbench.roles),
            }
            return self.entrance.page(template, session, status=400 if error else 200, **values)

        return answer
