"""The record on the pages: what was done, by whom, of what, when; and the proof that the logs behind it are whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from joserfc.jwk import OKPKey
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...policies.engine import Engine
from ...policies.errors import Busy, Denied, Invalid, Refused
from ...policies.model import INSTALLATION, Action, Caller
from ...tools.record import RecordQuery, Records
from ...tools.records.searching import check_event, list_things, search_as
from ...tools.times import read_moment
from ..gate import Recorder
from ..log_files import group_files
from ..proof import Proof, prove
from .entrance import Entrance
from .looking import require
from .sessions import Session

MOST_BYTES = 512 * 1024 * 1024
"""The longest logs that a page proves: more is for the terminal, which shows how far it is."""

_PAGE = 50
_LONGEST = 300
_FILTERS = ("person", "agent", "app", "proposal", "event", "decision", "since", "until")
_DECISIONS = ("allow", "deny")


@dataclass(frozen=True, slots=True)
class RecordPages:
    """The pages, behind their entrance. `logs` is this replica's folder, `key` the public half of what signs the log of
    `replica` there; None: nothing does."""

    entrance: Entrance
    engine: Callable[[], Engine]
    records: Records
    recorder: Recorder
    clock: Callable[[], float]
    logs: Path
    replica: str = ""
    key: OKPKey | None = None
    _proving: asyncio.Lock = field(default_factory=asyncio.Lock)

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/record", self.entrance.closed(self._search)),
            Route("/record/verify", self.entrance.form(self._verify), methods=["POST"]),
        ]

    async def _search(self, request: Request, session: Session) -> Response:
        await self._require(session.caller, Action.RECORD_SEARCH)
        error, query, filters = None, RecordQuery(limit=_PAGE), _read_filters(request.query_params)
        try:
            query = self._read(session.caller, filters, request.query_params.get("before", ""))
            page = await search_as(session.caller, self.records, query, everyone=self._sees_all(session.caller))
        except Invalid as invalid:
            error, page = invalid, None
        following = urlencode({**filters, "before": page.next}) if page and page.next else ""
        return self._show(
            session, status=400 if error else 200, page=page, filters=filters, error=error, more=following
        )

    async def _verify(self, _request: Request, session: Session, _form: dict[str, str]) -> Response:
        await self._require(session.caller, Action.RECORD_SEARCH_ALL)
        if self._proving.locked():
            raise Busy("The logs are being proven for somebody right now.", hint="Try again in a moment.")
        async with self._proving:
            proofs = await asyncio.to_thread(self._prove)
        return self._show(session, proofs=proofs, filters={}, page=None, error=None, more="")

    def _show(self, session: Session, *, status: int = 200, **values: object) -> Response:
        masks = self.entrance.render.begin(session, self.entrance.reads_personal(session.caller))
        return self.entrance.render.page(
            "record.html",
            session,
            status=status,
            masks=masks,
            **{"proofs": None, **values},
            everyone=self._sees_all(session.caller),
            things=list_things(),
            signs_here=self.key is not None,
        )

    def _prove(self) -> Sequence[Proof]:
        """Looks at every line of every log in the folder. Raises `Refused` for more than a page should take on."""
        paths = sorted(self.logs.glob("*.jsonl"))
        if not paths:
            raise Refused("There is no log in this replica's folder.")
        if sum(path.stat().st_size for path in paths) > MOST_BYTES:
            raise Refused(
                "The logs here are too long to be proven on a page.", hint="In the terminal: arborgate record verify."
            )
        own = {self.key.thumbprint(): self.key} if self.key else {}
        return [
            prove(files, own if replica == self.replica else {}, (), part=True, growing=True)
            for replica, files in group_files(paths).items()
        ]

    def _read(self, caller: Caller, filters: Mapping[str, str], before: str) -> RecordQuery:
        """What the form asks for. Raises `Invalid`, naming the field."""
        now, decision = self.clock(), filters.get("decision", "")
        if decision not in ("", *_DECISIONS):
            raise Invalid("A decision is allow or deny.", field="decision")
        person = filters.get("person", "")
        return RecordQuery(
            caller=caller.key if person == "me" else person,
            agent=filters.get("agent", ""),
            event=check_event(filters.get("event", "")),
            resource=filters.get("app", ""),
            proposal=filters.get("proposal", ""),
            decision=decision,
            since=read_moment(filters.get("since", ""), now, field="since"),
            until=read_moment(filters.get("until", ""), now, field="until"),
            before=before,
            limit=_PAGE,
        )

    def _sees_all(self, caller: Caller) -> bool:
        return self.engine().decide(caller, Action.RECORD_SEARCH_ALL, INSTALLATION).allowed

    async def _require(self, caller: Caller, action: Action) -> None:
        """Raises `Denied`; looking at the record is on record too."""
        refusal = Denied("You may not search the record.", hint="Ask the platform team which group you need.")
        await require(self.engine(), self.recorder, caller, action, self.clock(), refusal)


def _read_filters(query: QueryParams) -> dict[str, str]:
    return {name: text for name in _FILTERS if (text := query.get(name, "").strip()[:_LONGEST])}
