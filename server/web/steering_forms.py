"""The forms that pause, resume and abort what the applier is doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..steering import Command
from .entrance import Entrance, FormHandler, redirect
from .review import Review
from .sessions import Session


@dataclass(frozen=True, slots=True)
class SteeringForms:
    """What stands on the page of a proposal while it is applied. `clean` takes secrets out of text."""

    entrance: Entrance
    review: Review
    clean: Callable[[str], str]

    def routes(self) -> list[BaseRoute]:
        return [
            Route(f"/proposals/{{id}}/{command}", self.entrance.form(self._steer(command)), methods=["POST"])
            for command in Command
        ]

    def _steer(self, command: Command) -> FormHandler:
        async def answer(request: Request, session: Session, form: dict[str, str]) -> Response:
            proposal_id, comment = request.path_params["id"], self.clean(form.get("comment", ""))
            await self.review.steer(session.caller, proposal_id, command, comment=comment)
            return redirect(f"/proposals/{quote(proposal_id, safe='')}")

        return answer
